"""Which deltas between releases are made, and which of them go when the space is used up.

Rules:
- A delta leads from a release that hosts run to the one that they are to run. Of many, those that most hosts run come
  first, and only so many are made unasked: hosts whose release is a rare one ask for theirs.
- It is kept only where it is smaller than the objects that it saves, and where those are worth the work.
- A host that can open archives gets the delta that sees into them where both are ready: it was made first, so a fetch
  that was cut off goes on with the bytes of the same delta. Where it turns out not to be the smaller one, it goes.
- Of what is kept, what was not used for the longest time goes first.

Pure. Not handled here: how deltas are made (`towpath_server.deltas`), who asks for one (`services.encoding`).
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

# What fits in one piece of a fetch costs one round trip in any case.
SMALLEST_FULL_BYTES = 16 * 1024
MOST_UNASKED = 8


@dataclass(frozen=True, slots=True)
class Pair:
    """From which release to which, by the digests of their indexes; `opened`: the one that sees into archives."""

    old: bytes
    new: bytes
    opened: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """A delta that is kept: how many bytes it has and when a host last fetched it."""

    pair: Pair
    size: int
    used_unix_ms: int


def unasked(running: Iterable[bytes], new: bytes) -> list[Pair]:
    """Return the pairs to make before anybody asks; `running` has the index of each host's release."""
    counts = Counter(old for old in running if old != new)
    ranked = sorted(counts, key=lambda old: (-counts[old], old))
    return [Pair(old, new) for old in ranked[:MOST_UNASKED]]


def ready(asked: Pair, size: Callable[[Pair], int | None]) -> tuple[Pair, int] | None:
    """Return the delta that answers `asked`, and its bytes; None where none is ready. `size` says what is kept."""
    for one in (asked, replace(asked, opened=False)) if asked.opened else (asked,):
        found = size(one)
        if found is not None:
            return one, found
    return None


def outdone(made: Pair, size: int, kept: Callable[[Pair], int | None]) -> bool:
    """Return whether `made`, of `size` bytes, leaves the one that sees into archives, made before, without a use."""
    opened = None if made.opened else kept(replace(made, opened=True))
    return opened is not None and opened >= size


def worthless(full: int) -> str:
    """Return why no delta is worth it that saves `full` bytes; empty where one may be."""
    return f"the objects have only {full} bytes" if full < SMALLEST_FULL_BYTES else ""


def too_large(unpacked: int, largest: int) -> str:
    """Return why releases of `unpacked` bytes together are not tried; empty where they are."""
    return "" if unpacked <= largest else f"both releases have {unpacked} bytes, delta_largest is {largest}"


def surplus(kept: Iterable[Kept], more: int, space: int) -> list[Pair]:
    """Return what must go so that `more` bytes fit into `space`."""
    rest = sorted(kept, key=lambda one: (one.used_unix_ms, one.pair.old, one.pair.new, one.pair.opened))
    total = more + sum(one.size for one in rest)
    gone = []
    for one in rest:
        if total <= space:
            break
        total -= one.size
        gone.append(one.pair)
    return gone
