"""Installers: drivers that put a release's bits in place. A new kind is one file and one row here.

A kind that is to stay outside this code is an executable of kind `exec` (`installers.exec`).
"""

from collections.abc import Callable, Mapping

from towpath_agent.installers.base import Installer
from towpath_agent.installers.exec import ExecInstaller
from towpath_agent.installers.file import FileInstaller
from towpath_agent.installers.tree import TreeInstaller
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files

INSTALLERS: Mapping[str, Callable[[Files], Installer]] = {
    "tree": TreeInstaller,
    "file": FileInstaller,
    "exec": lambda files: ExecInstaller(files, SystemClock()),
}
