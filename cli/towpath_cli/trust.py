"""What `towpath trust status` shows: every role with its keys, threshold, version and expiry, and what to do about it.

Not handled here: drawing the table, and fetching the files. They are verified first: a table of unverified metadata
would comfort the wrong person.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tuf.api.metadata import Role, Root, Snapshot, Targets, Timestamp

from towpath.repository import DIRECTOR, delegated_roles, open_repository, to_ms

DAY_MS = 86_400_000
WARN_DAYS = 30
_ONLINE = (Snapshot.type, Timestamp.type)


@dataclass(frozen=True, slots=True)
class RoleRow:
    """One role. `keys` are key ids; `version` and `expires_ms` are None for the director, which is keys alone."""

    role: str
    keys: tuple[str, ...]
    threshold: int
    version: int | None
    expires_ms: int | None
    note: str


def overview(files: Mapping[str, bytes], now_ms: int, root: bytes | None = None) -> list[RoleRow]:
    """Return one row per role, verified from `root` (None: from the first root in `files`); Refusal otherwise."""
    repository = open_repository(files, root)
    rows = []
    for name, signed in repository.roles().items():
        delegator = repository.targets if name in repository.apps else repository.root
        role = delegator.get_delegated_role(name)
        expires_ms = to_ms(signed.expires)
        rows.append(_row(name, role, signed.version, expires_ms, _note(name, role, expires_ms - now_ms)))
    director = delegated_roles(repository.targets)[DIRECTOR]
    rows.insert(_tops(), _row(DIRECTOR, director, None, None, _note(DIRECTOR, director, None)))
    return rows


def _tops() -> int:
    return len((Root.type, Targets.type, *_ONLINE))


def _row(name: str, role: Role, version: int | None, expires_ms: int | None, note: str) -> RoleRow:
    return RoleRow(name, tuple(role.keyids), role.threshold, version, expires_ms, note)


def _note(name: str, role: Role, left_ms: int | None) -> str:
    notes = []
    if left_ms is not None and left_ms <= 0:
        notes.append("expired: hosts accept no change; running apps go on")
    elif left_ms is not None and name not in _ONLINE and left_ms < WARN_DAYS * DAY_MS:
        notes.append(f"expires in {left_ms // DAY_MS} days; publish to renew it")
    if name == DIRECTOR or name in _ONLINE:
        notes.append("on the server")
    elif role.threshold == 1:
        notes.append("one key alone decides; production wants 2 of 3")
    return "; ".join(notes)
