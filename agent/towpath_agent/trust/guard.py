"""The guard around the TUF library: durable floors, and expiry at a time that cannot be turned back. Pure.

Why: the library never fsyncs. After a power cut on XFS its cached files were empty and it accepted a rollback from
version 5 to 3; and it reads the wall clock, so a clock that is set back revives what has expired.
Rules: a role never goes below the version that was durable before under one of the keys that still sign it. A floor is
bound to its key ("ROLE@KEYID"): once every key of a role was rotated, a version that a thief pushed far ahead
(fast-forward) no longer counts. Versions that a snapshot lists are facts of their own ("snapshot/ROLE") under the
snapshot's keys, beside those of the roles themselves. Root's floor is bound to nothing: only the next follows a root.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from towpath.errors import Refusal

ROOT = "root"
# How far beyond the clock a manifest may push the time floor: a lying director must not lock a host out for good.
MAX_AHEAD_MS = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class RoleFact:
    """A verified role: its version, the keys that may sign it now, and its expiry (None: only its version is known)."""

    name: str
    version: int
    keyids: frozenset[str]
    expires_unix_ms: int | None = None


def effective_time(clock_unix_ms: int, time_floor_unix_ms: int) -> int:
    """Return T, the time that every expiry is measured at."""
    return max(clock_unix_ms, time_floor_unix_ms)


def raise_time_floor(time_floor_unix_ms: int, clock_unix_ms: int, issued_unix_ms: int) -> int:
    """Return the floor after a manifest that was issued at that time was accepted; it never sinks."""
    return max(time_floor_unix_ms, min(issued_unix_ms, clock_unix_ms + MAX_AHEAD_MS))


def _keys(fact: RoleFact) -> list[str]:
    return [ROOT] if fact.name == ROOT else [f"{fact.name}@{keyid}" for keyid in sorted(fact.keyids)]


def check_floors(facts: Iterable[RoleFact], floors: Mapping[str, int]) -> None:
    """Return where no role is below its floor; Refusal `rollback` otherwise."""
    for fact in facts:
        floor = max((floors.get(key, 0) for key in _keys(fact)), default=0)
        if fact.version < floor:
            raise Refusal(
                f"cannot accept {fact.name} metadata {fact.version}: this host has seen {floor}", code="rollback"
            )


def raise_floors(facts: Iterable[RoleFact], floors: Mapping[str, int]) -> dict[str, int]:
    """Return the floors after `facts` were accepted; those of keys that a role no longer has are dropped."""
    result = dict(floors)
    for fact in facts:
        for key in [key for key in result if key.partition("@")[0] == fact.name]:
            del result[key]
        result |= dict.fromkeys(_keys(fact), fact.version)
    return result


def check_expiry(facts: Iterable[RoleFact], now_unix_ms: int) -> None:
    """Return where every role is still valid at `now_unix_ms`; Refusal `freeze` otherwise."""
    for fact in facts:
        if fact.expires_unix_ms is not None and fact.expires_unix_ms <= now_unix_ms:
            raise Refusal(
                f"cannot accept {fact.name} metadata {fact.version}: it has expired; what runs goes on", code="freeze"
            )


def earliest_expiry(facts: Iterable[RoleFact]) -> int:
    """Return when the first of the roles lapses; 0 where none is known."""
    return min((fact.expires_unix_ms for fact in facts if fact.expires_unix_ms is not None), default=0)
