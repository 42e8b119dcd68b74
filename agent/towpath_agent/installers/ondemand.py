"""An installer that is loaded when it is first used: a host that has no release of its kind never pays for it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from towpath_agent.installers.base import Installer, InstallPlan, Materialise


class OnDemand:
    """Passes every call on."""

    def __init__(self, load: Callable[[], Installer]) -> None:
        """Call `load` once, at the first use."""
        self._load = load
        self._loaded: Installer | None = None

    def _installer(self) -> Installer:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def stage(self, plan: InstallPlan, materialise: Materialise) -> None:
        """See Installer."""
        self._installer().stage(plan, materialise)

    def switch(self, plan: InstallPlan, previous_id: str | None) -> None:
        """See Installer."""
        self._installer().switch(plan, previous_id)

    def unswitch(self, plan: InstallPlan) -> None:
        """See Installer."""
        self._installer().unswitch(plan)

    def verify(self, plan: InstallPlan) -> bool:
        """See Installer."""
        return self._installer().verify(plan)

    def witnesses(self, plan: InstallPlan) -> Sequence[Path] | None:
        """See Installer."""
        return self._installer().witnesses(plan)

    def in_place(self, plan: InstallPlan) -> bool | None:
        """See Installer."""
        return self._installer().in_place(plan)

    def prune(self, app_dir: Path, keep: int, keep_bytes: int = 0) -> list[str]:
        """See Installer."""
        return self._installer().prune(app_dir, keep, keep_bytes)
