"""What is fetched ahead of a release that the server only announced, and what keeps it waiting. Pure.

Rules:
- nothing is fetched ahead while a change is under way on this host, or while a person holds the app: both go first.
- nothing is fetched ahead that would not leave room for its later unpacking and the margin: what runs comes first.
- a host fetches ahead so many bytes a day and no more. A stolen server may announce another signed release with every
  manifest: that costs traffic, so it is bounded here and not there.
- a fleet that hears of a release in the same minute does not begin in the same minute.
- what the server does not announce any more is dropped, unless it is to run by now.

Not handled here: fetching, dropping, and what is kept of it (`runner.prefetch`); whether a release may be fetched at
all (`trust`).
"""

from collections.abc import Collection
from dataclasses import dataclass, replace

from towpath.quantity import format_size

DAY_MS = 86_400_000
DEFAULT_DAY_BYTES = 16 * 2**30
# A beginning is drawn from so many intervals between two syncs: five minutes by default.
SPREAD_SYNCS = 5


@dataclass(frozen=True, slots=True)
class Spent:
    """Bytes that were fetched ahead since a moment, within one day."""

    since_unix_ms: int = 0
    bytes: int = 0

    def at(self, now_unix_ms: int) -> "Spent":
        """Return what counts now: a new day begins with the first look after the old one; so it does in the past."""
        return self if 0 <= now_unix_ms - self.since_unix_ms < DAY_MS else Spent(now_unix_ms)

    def plus(self, count: int) -> "Spent":
        """Return it with so many bytes more."""
        return replace(self, bytes=self.bytes + count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a release that is not complete would meet if it were fetched on now. Sizes in bytes.

    `lacking`: what has to come; `needed`: what must be free for it and its unpacking; `day_bytes`: the host's limit.
    """

    moving: bool
    held: str
    lacking: int
    needed: int
    free: int
    spent: Spent
    day_bytes: int


def bar(outlook: Outlook) -> str:
    """Return why the release is not fetched on now, or an empty text."""
    if outlook.moving:
        return "a change of this host goes first"
    if outlook.held:
        return outlook.held
    if outlook.free < outlook.needed:
        return f"not enough disk: it needs {format_size(outlook.needed)} free, {format_size(outlook.free)} are"
    left = outlook.day_bytes - outlook.spent.bytes
    if outlook.lacking > outlook.day_bytes:
        return f"{format_size(outlook.lacking)} are more than this host fetches ahead: {allowed(outlook.day_bytes)}"
    if outlook.lacking > left:
        return f"this host fetched {format_size(outlook.spent.bytes)} ahead today: {allowed(outlook.day_bytes)}"
    return ""


def allowed(day_bytes: int) -> str:
    """Return the host's limit as people read it."""
    return f"at most {format_size(day_bytes)} a day" if day_bytes else "nothing"


def begin_delay_s(chance: float, interval_s: float) -> float:
    """Return seconds until a release that was just announced is begun; `chance` is uniform in [0, 1)."""
    return chance * SPREAD_SYNCS * interval_s


def to_drop(kept: Collection[bytes], announced: Collection[bytes], due: Collection[bytes]) -> frozenset[bytes]:
    """Return the digests of releases whose prefetched bytes serve nobody any more.

    `kept` may have bytes here, `announced` are by the server, `due` are to run here and do not yet.
    """
    return frozenset(kept) - frozenset(announced) - frozenset(due)
