"""How a release of each kind of installer looks, what its host needs for it, and what its tool itself says is in place.

Real tools work in `machine/`, a folder beside the agent's own that is taken back with it between cases: dpkg, rpm and
podman with databases of their own, and the example driver with a web root. They are real processes and slow (`slow`):
of their cases a part is drawn, see `thinning`. A kind whose tool is missing here is skipped and said.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fakes.host import SimulatedHost
from fakes.images import ImageHost, build_image
from fakes.packages import DebHost, RpmHost, build_deb, build_rpm
from towpath import handover
from towpath.parameters import Parameter
from towpath.release import HOOK_POINTS, HealthPolicy, Hook, Install, Run
from towpath_agent.installers.package import PackageInstaller
from towpath_agent.system.files import Files

if TYPE_CHECKING:
    from collections.abc import Iterator

MACHINE = "machine"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "drivers" / "webroot"
# A hook at every point; the one of a handover only where there is a handover, for it is refused elsewhere.
HOOKS = tuple(
    Hook(point, ("bin/serve", point), timeout_ms=5_000) for point in HOOK_POINTS if point != handover.HOOK_POINT
)
# The usual clocks, but a bad release is given up soon: a deadline of half a minute is sixty looks that are all the same.
HEALTH = HealthPolicy(healthy_for_ms=2_000, deadline_ms=5_000, probation_ms=60_000)
# Calls of a package tool that change the host: the agent can die, and the disk be full, right before and after each.
_CHANGING = ("install", "remove", "mend")
_NO_TOOL: Callable[[], str] = lambda: ""  # noqa: E731 - a value of a field


def machine(host: SimulatedHost) -> Path:
    """Return the folder in which the tools of a host work."""
    return host.folder.parent / MACHINE


def _nothing(_host: SimulatedHost) -> None:
    """Need nothing."""


@dataclass(frozen=True)
class Sample:
    """One kind. `fields` are those of a release of (host, app, version); few are kept, so that each confirm cleans up.

    `equip` makes a new host ready; `there` tells what the tool has in place, "" for nothing. `restless` is what every
    look of the tool may write, below `machine/`. `missing` says why the kind cannot be played here, "" where it can.
    """

    fields: Callable[[SimulatedHost, str, str], dict[str, Any]]
    equip: Callable[[SimulatedHost], None] = _nothing
    there: Callable[[SimulatedHost, str], str] | None = None
    restless: tuple[str, ...] = ()
    slow: bool = False
    missing: Callable[[], str] = _NO_TOOL


def _without(*programs: str) -> Callable[[], str]:
    def missing() -> str:
        absent = [program for program in programs if shutil.which(program) is None]
        return f"there is no {absent[0]} here" if absent else ""

    return missing


# -- tree, file, handover


def _tree(_host: SimulatedHost, _app: str, _version: str) -> dict[str, Any]:
    return {"install": Install("tree", {"shared": ("data/", "bin/serve.conf")}, keep=2)}


def _placed(host: SimulatedHost, app: str) -> Path:
    return host.folder.parent / "outside" / f"{app}.conf"


def _file(host: SimulatedHost, app: str, _version: str) -> dict[str, Any]:
    return {"install": Install("file", {"path": str(_placed(host, app))}, keep=2)}


def _file_there(host: SimulatedHost, app: str) -> str:
    path = _placed(host, app)
    return path.read_text().removeprefix(f"{app} ") if path.exists() else ""


def _handover(host: SimulatedHost, app: str, version: str) -> dict[str, Any]:
    ports = (Parameter("port", "port", 8081), Parameter("spare", "port", 8082))
    run = Run(
        "process", command=("bin/serve", "--port", "${port}"), handover=handover.Handover(("port", "spare"), 1_000)
    )
    hook = Hook(handover.HOOK_POINT, ("bin/serve", "${port}"), timeout_ms=5_000)
    return {
        **_tree(host, app, version),
        "run": run,
        "parameters": ports,
        "critical": (handover.FEATURE,),
        "hooks": (*HOOKS, hook),
    }


# -- deb and rpm


class _ToldTool:
    """A package tool whose changes of the host are told, as those of the disk are."""

    def __init__(self, tool: Any, files: Files) -> None:
        self._tool, self._tell = tool, files._before

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._tool, name)
        if name not in _CHANGING:
            return method

        def told(*args: Any) -> Any:
            with self._told(name):
                return method(*args)

        return told

    @contextmanager
    def _told(self, what: str) -> "Iterator[None]":
        self._tell(f"before {what} by", Path(self._tool.kind))
        yield
        self._tell(f"after {what} by", Path(self._tool.kind))


def _package(kind: str, build: Callable[..., bytes]) -> Callable[[SimulatedHost, str, str], dict[str, Any]]:
    def fields(host: SimulatedHost, app: str, version: str) -> dict[str, Any]:
        folder = machine(host) / "built"
        folder.mkdir(exist_ok=True)
        built = build(folder, version, name=app)
        shutil.rmtree(folder)
        return {"install": Install(kind, {"package": app}, keep=2), "package": built}

    return fields


def _deb_host(host: SimulatedHost) -> DebHost:
    return DebHost(machine(host) / "root", machine(host) / "dpkg")


def _equip_deb(host: SimulatedHost) -> None:
    deb = DebHost.make(machine(host) / "root", machine(host) / "dpkg")
    host.installers["deb"] = lambda files: PackageInstaller(files, _ToldTool(deb.tool(files), files))


def _deb_there(host: SimulatedHost, app: str) -> str:
    state, _, version = _deb_host(host).state(app).partition(" ")
    return version if state == "installed" else "" if state in ("", "not-installed", "config-files") else state


def _equip_rpm(host: SimulatedHost) -> None:
    rpm = RpmHost(machine(host) / "rpm")
    (rpm.root / "var" / "lib" / "rpm").mkdir(parents=True)
    rpm.by_hand("--initdb")
    host.installers["rpm"] = lambda files: PackageInstaller(files, _ToldTool(rpm.tool(), files))


def _rpm_there(host: SimulatedHost, app: str) -> str:
    return RpmHost(machine(host) / "rpm").state(app)


# -- oci and exec


def _oci(_host: SimulatedHost, _app: str, version: str) -> dict[str, Any]:
    return {"install": Install("oci", keep=2), "package": build_image(version)}


def _image_host(host: SimulatedHost) -> ImageHost:
    return ImageHost(machine(host) / "oci")


def _equip_oci(host: SimulatedHost) -> None:
    images = _image_host(host)
    images.folder.mkdir()
    host.installers["oci"] = images.installer


def _oci_there(host: SimulatedHost, app: str) -> str:
    """Return the version of the release whose image `:current` is."""
    rows = _image_host(host).by_hand("images", "--no-trunc", "--format={{.Repository}}:{{.Tag}} {{.Id}}").splitlines()
    ids = dict(row.split() for row in rows if row.startswith(f"localhost/towpath/{app}:"))
    current = ids.pop(f"localhost/towpath/{app}:current", "")
    names = [name.rpartition(":")[2] for name, image in ids.items() if image == current]
    return ", ".join(name.rpartition("-")[0] for name in names)


def _exec(host: SimulatedHost, _app: str, _version: str) -> dict[str, Any]:
    options = {"driver": "webroot", "options": (f"root={machine(host) / 'www'}",)}
    return {"install": Install("exec", options, keep=2)}


def _equip_exec(host: SimulatedHost) -> None:
    (machine(host) / "www").mkdir()
    drivers = host.folder / "drivers"
    drivers.mkdir(parents=True)
    shutil.copy(EXAMPLE, drivers / "webroot")


def _exec_there(host: SimulatedHost, app: str) -> str:
    link = machine(host) / "www" / app
    page = link / "bin" / "serve"
    assert page.exists() == link.is_symlink(), f"{link} leads nowhere"
    return re.sub(rf"^{app} ", "", page.read_text()) if page.exists() else ""


SAMPLES: Mapping[str, Sample] = {
    "tree": Sample(_tree),
    "file": Sample(_file, there=_file_there),
    "exec": Sample(_exec, _equip_exec, _exec_there, slow=True),
    "deb": Sample(
        _package("deb", build_deb), _equip_deb, _deb_there, ("dpkg/",), slow=True, missing=_without("dpkg", "dpkg-deb")
    ),
    "rpm": Sample(
        _package("rpm", build_rpm),
        _equip_rpm,
        _rpm_there,
        ("rpm/var/lib/rpm",),
        slow=True,
        missing=_without("rpm", "rpmbuild"),
    ),
    "oci": Sample(_oci, _equip_oci, _oci_there, ("oci/",), slow=True, missing=_without("podman")),
}
# Not a kind of installer, but a release of kind `tree` that is started beside the old one.
HANDOVER = "tree with a handover"
VARIANTS: Mapping[str, Sample] = {HANDOVER: Sample(_handover)}


def sample_of(kind: str) -> Sample:
    """Return the sample of a kind or a variant."""
    return SAMPLES[kind] if kind in SAMPLES else VARIANTS[kind]
