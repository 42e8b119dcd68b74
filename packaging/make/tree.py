"""What a package puts on a host, as a tree of files below one folder.

    /usr/bin/towpath-agent                         starts the agent's command in its own Python
    /usr/lib/towpath-agent/                        that Python, the agent, what it stands on: nothing of the host's
    /usr/lib/systemd/system/towpath-agent.service  not enabled: `towpath-agent setup` does that
    /etc/towpath/agent.toml                        settings, all of them commented out
    /usr/share/{man,bash-completion,zsh,fish,doc}  pages and completion, made from the commands themselves

Rules: the same commit gives the same bytes. So modes are set, times are the commit's, nothing names the folder of the
build, and what pip notes about itself is taken out.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from environment import make_environment
from tools import Failed, run

PREFIX = "usr/lib/towpath-agent"
COMMAND = f"#!/{PREFIX}/bin/python3.11 -I\nfrom towpath_agent.cli import main\n\nmain()\n"
PAGES = {
    "man": "usr/share/man/man1/towpath-agent.1",
    "bash": "usr/share/bash-completion/completions/towpath-agent",
    "zsh": "usr/share/zsh/vendor-completions/_towpath-agent",
    "fish": "usr/share/fish/vendor_completions.d/towpath-agent.fish",
}
MAINTAINER = "The Towpath developers <towpath@localhost>"
SUMMARY = "Towpath's agent: pulls signed releases, proves them, goes back by itself"


@dataclass(frozen=True, slots=True)
class Package:
    """One build: the sources, the folder that the files go to, the time they bear."""

    root: Path
    tree: Path
    time_s: int
    fast: bool = False

    @property
    def version(self) -> str:
        """Return the agent's version."""
        for line in (self.root / "contract/towpath/__init__.py").read_text().splitlines():
            if line.startswith("__version__"):
                return line.split('"')[1]
        raise Failed("cannot tell the version: contract/towpath/__init__.py has no __version__")


def make_tree(package: Package) -> None:
    """Fill `package.tree`."""
    tree = package.tree
    make_environment(package.root, tree / PREFIX, final=f"/{PREFIX}")
    _write(tree / "usr/bin/towpath-agent", COMMAND, 0o755)
    _copy(package.root / "packaging/systemd/towpath-agent.service", tree / "usr/lib/systemd/system")
    _copy(package.root / "packaging/agent/agent.toml", tree / "etc/towpath")
    _copy(package.root / "LICENSE", tree / "usr/share/doc/towpath-agent")
    _write(tree / "usr/share/doc/towpath-agent/copyright", _copyright(package.root))
    python = tree / PREFIX / "bin/python3.11"
    for what, place in PAGES.items():
        page = run(python, "-I", package.root / "packaging/make/pages.py", what, str(package.time_s))
        _write(tree / place, page)
    run("gzip", "-9n", tree / PAGES["man"])
    settle(tree, package.time_s)


def settle(tree: Path, time_s: int) -> None:
    """Give everything below `tree` the modes and times that a package has on every machine."""
    for path in sorted(tree.rglob("*"), reverse=True):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (time_s, time_s), follow_symlinks=False)
    os.utime(tree, (time_s, time_s))


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _copy(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / source.name)


def _copyright(root: Path) -> str:
    lock = (root / "packaging/agent/requirements.lock").read_text()
    names = [line.split()[0] for line in lock.splitlines() if "==" in line]
    carried = "".join(f" {name}\n" for name in names)
    return (
        "Towpath's agent: Apache-2.0, see LICENSE beside this file.\n\n"
        f"Carried below /{PREFIX}, each with its own licence in its .dist-info folder there:\n{carried}"
        "\nCPython and the libraries it links (OpenSSL, SQLite, expat, zlib, bzip2, liblzma, libffi, libuuid) are\n"
        "those of Debian 12; their terms are in /usr/share/doc of the Debian packages of these names.\n"
    )
