"""Keys and what they sign: the CA, the online roles, and when anything lapses."""

from collections.abc import Iterator
from pathlib import Path

from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from towpath import pki
from towpath.errors import Refusal
from towpath.findings import Finding, fail, ok, warn
from towpath.repository import SNAPSHOT_MS, TIMESTAMP_MS, director_keys, open_repository, to_ms
from towpath_server.domain.metadata import WARN_MS
from towpath_server.options import read
from towpath_server.ports import Transaction
from towpath_server.services.authority import Authority
from towpath_server.services.context import newest
from towpath_server.services.publishing import stored
from towpath_server.upkeep.restore import online_keys

DAY_MS = 86_400_000
CA_WARN_MS = 180 * DAY_MS
_ONLINE = {Snapshot.type: SNAPSHOT_MS, Timestamp.type: TIMESTAMP_MS}


def _days(left_ms: int) -> str:
    days = abs(left_ms) // DAY_MS
    return f"lapsed {days} days ago" if left_ms <= 0 else f"lapses in {days} days"


def authority(folder: Path, now_unix_ms: int) -> Iterator[Finding]:
    """Hold the CA's key against its certificate, and look when that lapses."""
    ca = read(folder / "ca.pem")
    try:
        Authority(ca, pki.key_from_pem(read(folder / "ca.key"))).check(now_unix_ms)
    except Refusal:
        yield fail("keys", "ca.key is not the key of ca.pem: no host can enrol or renew; restore both from a backup")
        return
    left = pki.not_after_ms(ca) - now_unix_ms
    guide = "see docs/server.md, 'The CA lapses'"
    if left <= 0:
        yield fail("keys", f"the CA {_days(left)}: no host can speak to this server any more; {guide}")
    elif left < CA_WARN_MS:
        yield warn("keys", f"the CA {_days(left)}: after that no host can speak to this server; {guide}")
    else:
        yield ok("keys", f"ca.key is the CA's, which {_days(left)}")


def repository(folder: Path, tx: Transaction, now_unix_ms: int, *, running: bool) -> Iterator[Finding]:
    """Hold the online keys against the repository, and look when its roles lapse."""
    found = open_repository(newest(stored(tx)))
    mine = online_keys(folder)
    wrong = [
        role
        for role, signer in ((Snapshot.type, mine.snapshot), (Timestamp.type, mine.timestamp))
        if signer.public_key.keyid not in found.root.roles[role].keyids
    ]
    if mine.director_keyid not in director_keys(found.targets).keys:
        wrong.append("director")
    if wrong:
        yield fail(
            "keys",
            f"keys/{wrong[0]}.pem is not the key that the publisher's root names: hosts refuse what it signs; "
            "restore keys/ from a backup",
        )
    good = True
    for name, role in sorted(found.roles().items()):
        left = to_ms(role.expires) - now_unix_ms
        finding = _online(name, left, running=running) if name in _ONLINE else _offline(name, left)
        if finding is not None:
            good = False
            yield finding
    if good:
        yield ok("metadata", f"{len(found.roles())} roles, none lapses soon")


def _offline(name: str, left: int) -> Finding | None:
    who = "root and targets" if name in (Root.type, Targets.type) else name
    if left <= 0:
        return fail(
            "metadata", f"role {name} {_days(left)}: hosts accept no change; a publisher renews {who} by publishing"
        )
    if left < WARN_MS:
        return warn("metadata", f"role {name} {_days(left)}; a publisher renews {who} by publishing")
    return None


def _online(name: str, left: int, *, running: bool) -> Finding | None:
    if left > _ONLINE[name] * 3 // 2:
        return warn("metadata", f"role {name} was signed in the future: this server's clock was wrong, or is")
    if left >= _ONLINE[name] // 3:
        return None
    if running:
        return fail("metadata", f"role {name} {_days(left)} and is not signed again; look at the server's log")
    return warn("metadata", f"role {name} {_days(left)}; the server signs it again at its start", "towpath server run")
