"""Installers: drivers that put a release's bits in place. A new kind is one file and one row here."""

from collections.abc import Callable, Mapping

from towpath_agent.installers.base import Installer
from towpath_agent.installers.file import FileInstaller
from towpath_agent.installers.tree import TreeInstaller
from towpath_agent.system.files import Files

INSTALLERS: Mapping[str, Callable[[Files], Installer]] = {
    "tree": TreeInstaller,
    "file": FileInstaller,
}
