"""Runs every check that can be made, in the order in which one rests on the other."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

from towpath.errors import TowpathError
from towpath.findings import Finding, fail, ok, warn
from towpath_server.options import runs
from towpath_server.storage.database import looking
from towpath_server.storage.opening import IN_FOLDER, ObjectStore, open_blobs
from towpath_server.upkeep.backup import DATABASE, Progress
from towpath_server.upkeep.doctor import blobs, files, keys, ports, rows

CA = "ca.pem"


def examine(
    folder: Path,
    listen: Mapping[str, str],
    now_unix_ms: int,
    *,
    full: bool,
    progress: Progress,
    store: ObjectStore = IN_FOLDER,
) -> list[Finding]:
    """Return everything that there is to say about the server of `folder`, which listens where `listen` says.

    `store`: where it keeps its objects.
    """
    findings: list[Finding] = []
    kept = cache(lambda: open_blobs(folder, store, looking=True))  # by the check that needs them first

    def look(check: str, find: Callable[[], Finding | Iterable[Finding]]) -> bool:
        """Add what was found; a check that cannot be made is a finding too. Return whether it could be made."""
        try:
            found = find()
            findings.extend([found] if isinstance(found, Finding) else found)
        except (TowpathError, OSError) as error:
            findings.append(fail(check, " ".join(str(error).split())))
            return False
        return True

    if not folder.is_dir():
        return [fail("folder", f"cannot find {folder}: make it with 'towpath init', or say --dir")]
    try:
        running = runs(folder)
    except OSError as error:
        return [fail("folder", f"cannot read {folder}: {error.strerror}; run it as the server's user, or as root")]
    has_ca = (folder / CA).exists()
    if not has_ca and not (folder / DATABASE).exists():
        return [
            *files.cut_short(folder),
            fail(
                "folder",
                f"cannot find a server in {folder}: neither {CA} nor {DATABASE} is there; --dir must be the server "
                "folder that 'towpath init' made",
            ),
        ]
    findings.append(ok("server", "it runs") if running else warn("server", "it does not run", "towpath server run"))
    look("folder", lambda: files.modes(folder))
    look("folder", lambda: files.cut_short(folder))
    look("disk", lambda: files.disk(folder))
    look("keys", lambda: keys.authority(folder, now_unix_ms))
    database = folder / DATABASE
    if not database.exists():
        findings.append(warn("database", f"no {DATABASE} yet: this server has never run"))
    elif look("database", lambda: rows.whole(database)) and rows.current(database):
        with looking(database) as tx:
            look("clock", lambda: rows.clock(tx, now_unix_ms))
            look("metadata", lambda: keys.repository(folder, tx, now_unix_ms, running=running))
            look("hosts", lambda: rows.hosts(tx, now_unix_ms))
            look("lease", lambda: rows.lease(folder, tx, running=running))
            look("restore", lambda: rows.restored(tx))
            wanted: dict[bytes, int] = {}
            known = look("objects", lambda: blobs.wanted(kept(), tx, wanted))
        if known:
            look("objects", lambda: blobs.check(kept(), wanted, full=full, progress=progress))
    for name, address in sorted(listen.items()) if has_ca else ():  # what is missing was said under keys, once
        option = f"--{name.replace('_', '-')}"
        look("ports", lambda option=option, address=address: ports.port(  # type: ignore[misc]
            folder, option, address, now_unix_ms, running=running))  # fmt: skip
    return findings
