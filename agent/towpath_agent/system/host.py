"""Facts about the machine that a person is told (`towpath-agent doctor`): filesystems, inodes, programs, owners."""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

# As services and hooks see it, wherever a person's own PATH points.
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


_ID_CHARS = 32


@dataclass(frozen=True, slots=True)
class Space:
    """What an ordinary user may still write: bytes of `total_bytes`, and files; `files` None: no such limit."""

    free_bytes: int
    total_bytes: int
    files: int | None


def space_at(path: Path) -> Space:
    """Return the space of the filesystem that holds `path`, which must exist."""
    facts = os.statvfs(path)
    return Space(
        facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize, facts.f_favail if facts.f_files else None
    )


def filesystem_of(path: Path) -> str:
    """Return the type of the filesystem that holds `path` (ext4, xfs, tmpfs, nfs4 ...), empty where it is unknown."""
    here, best, kind = path.resolve(), -1, ""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        mount = Path(words[1].replace("\\040", " "))
        if here.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), words[2]
    return kind


def has_program(name: str) -> bool:
    """Return whether services and hooks would find the program `name`."""
    return shutil.which(name, path=_SEARCH_PATH) is not None


def machine_mark(path: Path = Path("/etc/machine-id")) -> str:
    """Return what tells this machine from a clone of it, empty where it has no id (yet). The id itself is a secret."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return hashlib.sha256(f"towpath:{text}".encode()).hexdigest() if len(text) == _ID_CHARS else ""


def who_am_i() -> int:
    """Return the number of the user that runs this."""
    return os.geteuid()
