"""`restore`: a server's folder out of a backup, whole or not at all.

Everything is unpacked and checked in a hidden folder inside of the one that is asked for, which may be a mount: sums,
database, keys against the CA and the repository. Only then it is moved up, the CA's key last: a folder without it is no
server, and none starts there. A folder with anything in it is never touched. The owner of an empty folder (the
package's) becomes the owner of everything in it.
Then the database is told what happened (`services.backups`), so that hosts are not answered with what they have
outlived.
"""

import os
from contextlib import suppress
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
from towpath_server.upkeep.backup import DATABASE, LOST, Progress
from towpath_server.upkeep.scratch import RESTORE, scratch

CA_KEY = "ca.key"


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
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise _taken(folder, "something")
    new = not folder.exists()
    whole = archive.stat().st_size if archive.is_file() else 0
    done = 0

    def said(size: int) -> None:
        nonlocal done
        done += size
        progress(done, max(done, whole))

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with scratch(folder, RESTORE) as part:
            _check_free(folder, part)
            made = part / "server"
            made.mkdir(mode=0o700)
            head = unpack(archive, made, said)
            hosts = _make_fit(made, head, now_unix_ms, actor)
            _settle(made, folder)
        if new:
            sync(folder.absolute().parent)
    except OSError as error:
        raise Broken(f"cannot restore to {folder}: {error.filename or folder}: {error.strerror or error}") from error
    finally:
        if new:
            with suppress(OSError):
                folder.rmdir()  # where nothing came into it
    return Restored(str(folder), head.made_unix_ms, head.schema, head.towpath, hosts)


def _check_free(folder: Path, part: Path) -> None:
    there = sorted(path.name for path in folder.iterdir() if path.name not in (LOST, part.name))
    if there:
        raise _taken(folder, there[0])


def _taken(folder: Path, what: str) -> InputError:
    return InputError(
        f"cannot restore to {folder}: {what} is there; move it away, or choose an empty --dir", code="exists"
    )


def _make_fit(part: Path, head: Head, now_unix_ms: int, actor: str) -> int:
    """Check what was unpacked beyond its sums, and tell the database; return how many hosts it has."""
    database = part / DATABASE
    if not database.is_file():
        raise InputError(f"cannot restore: the backup has no {DATABASE}; take another")
    found = faults(database)
    if found:
        raise Broken(f"cannot restore: the database in the backup is damaged ({found[0]}); take an older backup")
    Authority(read(part / "ca.pem"), pki.key_from_pem(read(part / CA_KEY))).check(now_unix_ms)
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


def _settle(made: Path, folder: Path) -> None:
    """Give everything to the owner of the folder, make it durable, and move it there."""
    owner = folder.stat()
    for place, _, names in os.walk(made, topdown=False):
        for path in (*(Path(place) / name for name in names), Path(place)):
            if os.geteuid() == 0:
                os.chown(path, owner.st_uid, owner.st_gid)
            sync(path)
    if os.geteuid() in (0, owner.st_uid):
        folder.chmod(0o700)
    for path in made.iterdir():
        if path.name != CA_KEY:
            path.rename(folder / path.name)
    sync(folder)
    (made / CA_KEY).rename(folder / CA_KEY)
    sync(folder)
