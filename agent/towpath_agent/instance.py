"""A release as it runs on this host: what services, hooks and probes need to know of it, and nothing of how it came.

Rules: an app's environment is clean. It holds what is below, what its release sets, and never a variable of the agent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from towpath.errors import Broken
from towpath.release import Run

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
APP_DIR_VARIABLE = "TOWPATH_APP_DIR"
SLOT_VARIABLE = "TOWPATH_SLOT"


@dataclass(frozen=True, slots=True)
class Instance:
    """One release of one app; absolute folders. `command` and `env` have every `${parameter}` filled.

    `slot` is the one of a release with a handover, which may run beside the release in the other slot; None: alone.
    """

    app: str
    release_id: str
    folder: Path
    app_dir: Path
    command: tuple[str, ...]
    env: Mapping[str, str]
    run: Run
    log: Path
    slot: int | None = None
    health_deadline_ms: int = 0

    def __post_init__(self) -> None:
        """Refuse relative folders: the marker of two agents could be the same, and each would end the other's apps."""
        if not self.folder.is_absolute() or not self.app_dir.is_absolute():
            raise Broken(f"cannot run {self.app} in {self.app_dir}: the agent's folder must be an absolute path")

    @property
    def marker(self) -> str:
        """Return the value of TOWPATH_APP_DIR, by which everything that runs for the app is found again."""
        return str(self.app_dir)


@dataclass(frozen=True, slots=True)
class ServiceState:
    """Whether the unit runs. `restarts` counts since this release was first started; `rss_bytes` is of all of it.

    `why` is what the service knows of the end of one that does not run; it may be empty.
    """

    running: bool
    pid: int
    restarts: int
    rss_bytes: int
    why: str = ""


def app_environment(instance: Instance) -> dict[str, str]:
    """Return the complete environment of everything that runs for an app; what we promise wins over the release."""
    slot = {} if instance.slot is None else {SLOT_VARIABLE: str(instance.slot)}
    return {
        "PATH": SEARCH_PATH,
        "HOME": instance.marker,
        "LANG": "C.UTF-8",
        **instance.env,
        "PWD": str(instance.folder),
        "TOWPATH_APP": instance.app,
        "TOWPATH_RELEASE": instance.release_id,
        APP_DIR_VARIABLE: instance.marker,
        **slot,
    }
