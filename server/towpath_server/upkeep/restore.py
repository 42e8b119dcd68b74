"""`restore`: a server's folder out of a backup, whole or not at all.

Everything is unpacked and checked in a folder beside the one that is asked for: sums, database, keys against the CA and
the repository. Only then it takes its name. A folder with anything in it is never touched. The owner of an empty folder
(the package's) becomes the owner of everything in it.
Then the database is told what happened (`services.backups`), so that hosts are not answered with what they have
outlived.
"""

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from towpath import pki
from towpath.errors import Broken, InputError
from towpath_server.domain.metadata import OnlineKeys
from towpath_server.options import read
from towpath_server.services import backups
from towpath_server.services.authority import Authority
from towpath_server.storage import SqlStorage
from towpath_server.storage.copying import faults, sync
from towpath_server.upkeep.archive import Head, unpack
from towpath_server.upkeep.backup import DATABASE, Progress


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back."""

    folder: str
    made_unix_ms: int
    schema: str
    towpath: str
    hosts: int


def online_keys(folder: Path) -> OnlineKeys:
    """Return the keys that the server of `folder` signs with."""
    return OnlineKeys(**{role: read(folder / "keys" / f"{role}.pem") for role in ("snapshot", "timestamp", "director")})


def restore(archive: Path, folder: Path, *, now_unix_ms: int, actor: str, progress: Progress) -> Restored:
    """Make `folder` the server of the backup; InputError, Broken: then nothing was changed."""
    _check_free(folder)
    part = folder.absolute().with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    whole = archive.stat().st_size if archive.is_file() else 0
    done = 0

    def said(size: int) -> None:
        nonlocal done
        done += size
        progress(done, max(done, whole))

    try:
        part.mkdir(mode=0o700, parents=True)
        head = unpack(archive, part, said)
        hosts = _make_fit(part, head, now_unix_ms, actor)
        _settle(part, folder)
        part.rename(folder.absolute())
        sync(folder.absolute().parent)
    except OSError as error:
        raise Broken(f"cannot restore to {folder}: {error.filename or part}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Restored(str(folder), head.made_unix_ms, head.schema, head.towpath, hosts)


def _check_free(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise InputError(
            f"cannot restore to {folder}: something is there; move it away, or choose an empty --dir", code="exists"
        )


def _make_fit(part: Path, head: Head, now_unix_ms: int, actor: str) -> int:
    """Check what was unpacked beyond its sums, and tell the database; return how many hosts it has."""
    database = part / DATABASE
    if not database.is_file():
        raise InputError(f"cannot restore: the backup has no {DATABASE}; take another")
    found = faults(database)
    if found:
        raise Broken(f"cannot restore: the database in the backup is damaged ({found[0]}); take an older backup")
    Authority(read(part / "ca.pem"), pki.key_from_pem(read(part / "ca.key"))).check(now_unix_ms)
    storage = SqlStorage(database)
    try:
        if storage.upgraded is not None:
            storage.upgraded.copy.unlink()  # the backup itself is that copy
        hosts = backups.mark(
            storage, online_keys(part), made_unix_ms=head.made_unix_ms, now_unix_ms=now_unix_ms, actor=actor
        )
    finally:
        storage.close()
    return hosts


def _settle(part: Path, folder: Path) -> None:
    """Give everything the owner of the folder that it replaces, and make it durable."""
    owner = folder.stat() if folder.exists() else None
    for place, _, names in os.walk(part, topdown=False):
        for path in (*(Path(place) / name for name in names), Path(place)):
            if owner is not None and os.geteuid() == 0:
                os.chown(path, owner.st_uid, owner.st_gid)
            sync(path)
