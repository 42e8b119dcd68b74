"""A folder as plain data: taken from disk and put back, so that a case begins where another began, in milliseconds."""

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Node:
    """One name. `kind` is "dir", "file" or "link"; `data` is the content, or the link's target."""

    kind: str
    mode: int
    data: bytes = b""
    inode: int = 0
    mtime_ns: int = 0


Tree = dict[str, Node]  # by path relative to the folder, parents before children


def take(folder: Path) -> Tree:
    """Return all that is below `folder`."""
    return dict(_walk(folder, ""))


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, Node]]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda it: it.name):
            facts = entry.stat(follow_symlinks=False)
            path = f"{prefix}{entry.name}"
            mode = stat.S_IMODE(facts.st_mode)
            if stat.S_ISSOCK(facts.st_mode):
                continue  # made anew by every agent, and no disk keeps what goes through it
            if entry.is_symlink():
                yield path, Node("link", 0o777, os.fsencode(Path(entry.path).readlink()), facts.st_ino)
            elif entry.is_dir(follow_symlinks=False):
                yield path, Node("dir", mode, b"", facts.st_ino, facts.st_mtime_ns)
                yield from _walk(Path(entry.path), f"{path}/")
            else:
                yield path, Node("file", mode, Path(entry.path).read_bytes(), facts.st_ino, facts.st_mtime_ns)


def put(folder: Path, tree: Tree) -> None:
    """Make `folder` hold exactly `tree`."""
    wipe(folder)
    for path, node in tree.items():
        here = folder / path
        if node.kind == "dir":
            here.mkdir()
        elif node.kind == "link":
            here.symlink_to(os.fsdecode(node.data))
        else:
            here.write_bytes(node.data)
            here.chmod(node.mode)
            if node.mtime_ns:  # rpm counts another time as a change
                os.utime(here, ns=(node.mtime_ns, node.mtime_ns))
    # The newest release is kept by its time; written last, for each file that is made sets it anew.
    for path, node in reversed(tree.items()):
        if node.kind == "dir":
            (folder / path).chmod(node.mode)
            if node.mtime_ns:
                os.utime(folder / path, ns=(node.mtime_ns, node.mtime_ns))


def wipe(folder: Path) -> None:
    """Empty `folder`, made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            Path(entry.path).unlink()


def facts(tree: Tree) -> dict[str, tuple[str, int, bytes]]:
    """Return what two trees are compared by: names, kinds, modes, contents."""
    return {path: (node.kind, node.mode, node.data) for path, node in tree.items()}


def digest(tree: Tree) -> bytes:
    """Return one digest of `facts`."""
    sha256 = hashlib.sha256()
    for path, (kind, mode, data) in sorted(facts(tree).items()):
        sha256.update(f"{path}\0{kind}\0{mode}\0{len(data)}\0".encode() + data)
    return sha256.digest()
