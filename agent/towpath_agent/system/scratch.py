"""A folder for a while, and what lies in one: for checks that need a place of their own."""

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """Yield a new folder, its real path; it goes at the end with all that is in it."""
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        yield Path(name).resolve()


def contents(folder: Path) -> dict[str, str]:
    """Return path to kind, permission bits and content (a digest, or where a link leads) of all below `folder`."""
    found: dict[str, str] = {}
    for here, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(here, name)
            found[str(path.relative_to(folder))] = _fact(path)
    return found


def _fact(path: Path) -> str:
    facts = path.lstat()
    mode = f"{stat.S_IMODE(facts.st_mode):04o}"
    if stat.S_ISLNK(facts.st_mode):
        return f"link to {path.readlink()}"
    if stat.S_ISDIR(facts.st_mode):
        return f"folder {mode}"
    if stat.S_ISREG(facts.st_mode):
        return f"file {mode} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return f"something else {facts.st_mode:o}"


def copy_folder(source: Path, destination: Path) -> None:
    """Copy a folder with all that is in it, links as links, modes kept."""
    shutil.copytree(source, destination, symlinks=True)
