"""What the server announced to this host, and what was made of it: five small facts of the journal.

    prefetch          the verified releases that are to be fetched ahead
    prefetch_refused  app to why what was announced of it was refused
    prefetch_kept     digests of the releases that may have bytes in the store, written before the first byte comes
    prefetch_spent    when the day of fetching ahead began, and the bytes since
    prefetch_states   app to how far it is with what was announced, for people and reports

The journal's schema does not change: an older agent ignores them. One that is garbled counts as missing: what is lost
is fetched, or dropped, a little later.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping

from towpath.errors import Broken
from towpath.reports import Prefetch, PrefetchState
from towpath_agent.engine.prefetching import Spent
from towpath_agent.journal import Deployed, Journal, wish_from_text, wish_to_text

ANNOUNCED, REFUSED, KEPT, SPENT = "prefetch", "prefetch_refused", "prefetch_kept", "prefetch_spent"
STATES = "prefetch_states"
_GARBLED = (ValueError, KeyError, TypeError, AttributeError, Broken)


def announcement(admitted: Iterable[Deployed], refused: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the facts of one verified manifest, for `Journal.set_meta`."""
    releases = [[wish_to_text(it.wish), b64encode(it.release).decode()] for it in admitted]
    return {ANNOUNCED: json.dumps(releases), REFUSED: json.dumps(refused)}


def announced(journal: Journal) -> tuple[Deployed, ...]:
    """Return what the server announced last and this host verified."""
    try:
        raw = json.loads(journal.meta().get(ANNOUNCED, "[]"))
        return tuple(Deployed(wish_from_text(wish), b64decode(data, validate=True)) for wish, data in raw)
    except _GARBLED:
        return ()


def refused_announcements(journal: Journal) -> dict[str, dict[str, str]]:
    """Return app to why what was announced of it was refused: version, sha256 (hex), code, message."""
    try:
        raw = json.loads(journal.meta().get(REFUSED, "{}"))
        return {
            str(app): {name: str(no[name]) for name in ("version", "sha256", "code", "message")}
            for app, no in raw.items()
        }
    except _GARBLED:
        return {}


def kept(journal: Journal) -> frozenset[bytes]:
    """Return the digests of the releases that may have bytes in the store."""
    try:
        return frozenset(bytes.fromhex(one) for one in json.loads(journal.meta().get(KEPT, "[]")))
    except _GARBLED:
        return frozenset()


def spent(journal: Journal) -> Spent:
    """Return what was fetched ahead lately."""
    try:
        since, count = json.loads(journal.meta().get(SPENT, "[0, 0]"))
        return Spent(int(since), int(count))
    except _GARBLED:
        return Spent()


def states(journal: Journal) -> dict[str, Prefetch]:
    """Return app to how far it is with what was announced of it."""
    try:
        raw = json.loads(journal.meta().get(STATES, "{}"))
        return {
            str(app): Prefetch(
                str(it["version"]), bytes.fromhex(it["sha256"]), PrefetchState(it["state"]), str(it["reason"])
            )
            for app, it in raw.items()
        }
    except _GARBLED:
        return {}


def states_text(states: Mapping[str, Prefetch]) -> dict[str, str]:
    """Return the fact of how far each app is."""
    raw = {
        app: {"version": it.version, "sha256": it.sha256.hex(), "state": it.state.value, "reason": it.reason}
        for app, it in states.items()
    }
    return {STATES: json.dumps(raw, sort_keys=True)}


def kept_text(digests: Iterable[bytes]) -> dict[str, str]:
    """Return the fact that these releases may have bytes in the store."""
    return {KEPT: json.dumps(sorted(one.hex() for one in digests))}


def spent_text(it: Spent) -> dict[str, str]:
    """Return the fact of what was fetched ahead lately."""
    return {SPENT: json.dumps([it.since_unix_ms, it.bytes])}
