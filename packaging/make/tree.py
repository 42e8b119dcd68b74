"""What a package puts on a host, as a tree of files below one folder.

    /usr/bin/towpath-agent                         the launcher: starts the agent that this host should run
    /usr/lib/towpath-agent/                        Python, the agent, what it stands on: nothing of the host's. This
                                                   tree, wherever it lies, is also a release of the agent (ADR 30)
    /usr/lib/towpath-agent/bin/towpath-agent       starts the agent's command in the Python beside it
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
from product import AGENT, Product
from tools import Failed, run

PREFIX = AGENT.prefix
COMMAND = """\
#!/bin/sh
exec "${0%/*}/python3.11" -I -c 'from towpath_agent.cli import main; main()' "$@"
"""
LAUNCHER = f"""\
#!/bin/sh
home=/{PREFIX}
exec "$home/bin/python3.11" -IS "$home/lib/python3.11/dist-packages/towpath_agent/launcher.py" \\
    "$home/bin/towpath-agent" "$@"
"""
PAGES = {
    "man": "usr/share/man/man1/towpath-agent.1",
    "bash": "usr/share/bash-completion/completions/towpath-agent",
    "zsh": "usr/share/zsh/vendor-completions/_towpath-agent",
    "fish": "usr/share/fish/vendor_completions.d/towpath-agent.fish",
}
MAINTAINER = "The Towpath developers <towpath@localhost>"


@dataclass(frozen=True, slots=True)
class Package:
    """One build: the sources, the folder that the files go to, the time they bear."""

    root: Path
    tree: Path
    time_s: int
    fast: bool = False
    product: Product = AGENT

    @property
    def version(self) -> str:
        """Return the version of all of Towpath."""
        for line in (self.root / "contract/towpath/__init__.py").read_text().splitlines():
            if line.startswith("__version__"):
                return line.split('"')[1]
        raise Failed("cannot tell the version: contract/towpath/__init__.py has no __version__")


def make_tree(package: Package) -> None:
    """Fill `package.tree`."""
    tree = package.tree
    make_environment(package.root, tree / PREFIX, AGENT)
    write(tree / PREFIX / "bin/towpath-agent", COMMAND, 0o755)
    write(tree / "usr/bin/towpath-agent", LAUNCHER, 0o755)
    copy(package.root / "packaging/systemd/towpath-agent.service", tree / "usr/lib/systemd/system")
    copy(package.root / "packaging/agent/agent.toml", tree / "etc/towpath")
    copy(package.root / "LICENSE", tree / "usr/share/doc/towpath-agent")
    write(tree / "usr/share/doc/towpath-agent/copyright", copyright_of(package.root, AGENT))
    python = tree / PREFIX / "bin/python3.11"
    for what, place in PAGES.items():
        page = run(
            python, "-I", package.root / "packaging/make/pages.py", what, str(package.time_s), *AGENT.programs[0]
        )
        write(tree / place, page)
    run("gzip", "-9n", tree / PAGES["man"])
    settle(tree, package.time_s)


def settle(tree: Path, time_s: int) -> None:
    """Give everything below `tree` the modes and times that a package has on every machine."""
    for path in sorted(tree.rglob("*"), reverse=True):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (time_s, time_s), follow_symlinks=False)
    os.utime(tree, (time_s, time_s))


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def copy(source: Path, folder: Path) -> None:
    """Copy a file into a folder, made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, folder / source.name)


def copyright_of(root: Path, product: Product) -> str:
    """Return the file that says whose the parts of the package are."""
    lock = (root / product.lock).read_text()
    names = [line.split()[0] for line in lock.splitlines() if "==" in line]
    carried = "".join(f" {name}\n" for name in names)
    return (
        f"{product.name}, a part of Towpath: Apache-2.0, see LICENSE beside this file.\n\n"
        f"Carried below /{product.prefix}, each with its own licence in its .dist-info folder there:\n{carried}"
        "\nCPython and the libraries it links (OpenSSL, SQLite, expat, zlib, bzip2, liblzma, libffi, libuuid) are\n"
        "those of Debian 12; their terms are in /usr/share/doc of the Debian packages of these names.\n"
    )
