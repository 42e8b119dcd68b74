"""Installers: drivers that put a release's bits in place. A new kind is one file and one row here.

A kind that is to stay outside this code is an executable of kind `exec` (`installers.exec`).
"""

from collections.abc import Callable, Mapping

from towpath_agent.installers.base import Installer
from towpath_agent.installers.exec import ExecInstaller
from towpath_agent.installers.file import FileInstaller
from towpath_agent.installers.ondemand import OnDemand
from towpath_agent.installers.tree import TreeInstaller
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files


def _deb(files: Files) -> Installer:
    from towpath_agent.installers.deb import DebTool  # noqa: PLC0415 - an idle agent does without
    from towpath_agent.installers.package import PackageInstaller  # noqa: PLC0415 - an idle agent does without

    return PackageInstaller(files, DebTool(files, SystemClock()))


def _rpm(files: Files) -> Installer:
    from towpath_agent.installers.package import PackageInstaller  # noqa: PLC0415 - an idle agent does without
    from towpath_agent.installers.rpm import RpmTool  # noqa: PLC0415 - an idle agent does without

    return PackageInstaller(files, RpmTool(SystemClock()))


def _oci(files: Files) -> Installer:
    from towpath_agent.installers.oci import OciInstaller  # noqa: PLC0415 - an idle agent does without

    return OciInstaller(files, SystemClock())


# Package and image tools are real processes: their deadlines are the machine's own time.
INSTALLERS: Mapping[str, Callable[[Files], Installer]] = {
    "tree": TreeInstaller,
    "file": FileInstaller,
    "exec": lambda files: ExecInstaller(files, SystemClock()),
    "deb": lambda files: OnDemand(lambda: _deb(files)),
    "rpm": lambda files: OnDemand(lambda: _rpm(files)),
    "oci": lambda files: OnDemand(lambda: _oci(files)),
}
