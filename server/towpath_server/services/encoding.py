"""Which deltas are made, and when: at publish and deploy for what hosts run, otherwise when a host asks.

Nobody waits for one. A need is noted in memory and taken up later, one at a time, by whoever runs `make`
(`towpath_server.deltamaker`); while there is none hosts take objects. A host can cause work only by what it is to run
anyway, and each pair costs work once: what came of it is kept, also why there is none. What could not even be kept (the
disk is full) is remembered in memory, and is tried again after some minutes.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from towpath.errors import Broken, TowpathError
from towpath.wire import decode_index
from towpath_server.deltas.pairing import Named, pair, with_archives
from towpath_server.deltas.process import STOPPED, Maker
from towpath_server.domain import deltas as rules
from towpath_server.domain.deltas import Pair
from towpath_server.domain.manifests import KnownRelease
from towpath_server.ports import Blobs, Deltas, Transaction
from towpath_server.services.context import Context, HostEntry, Need

MOST_NEEDS = 1000
RESTING_MS = 10 * 60_000.0


class Needs:
    """`context.Needs`: what is wanted, oldest first, each once. May be used from several threads."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called after each new one; it must not block."""
        self._lock = threading.Lock()
        self._waiting: dict[Need, None] = {}
        self._wake = wake

    def ask(self, need: Need) -> None:
        """See `context.Needs`. What is too much is forgotten: a host asks again with its next release."""
        with self._lock:
            if need in self._waiting or len(self._waiting) >= MOST_NEEDS:
                return
            self._waiting[need] = None
        self._wake()

    def take(self) -> Need | None:
        """Return the oldest one and forget it."""
        with self._lock:
            need = next(iter(self._waiting), None)
            if need is not None:
                del self._waiting[need]
            return need


class Resting:
    """The pairs whose delta could not be made or kept a moment ago: by them nothing is begun. On the event loop."""

    def __init__(self) -> None:
        self._until_ms: dict[Pair, float] = {}

    def failed(self, pair: Pair, now_ms: float) -> None:
        """Let `pair` rest for RESTING_MS from now, in monotonic ms."""
        self._until_ms = {one: until_ms for one, until_ms in self._until_ms.items() if until_ms > now_ms}
        self._until_ms[pair] = now_ms + RESTING_MS

    def rests(self, pair: Pair, now_ms: float) -> bool:
        """Return whether nothing is to be begun for `pair`."""
        return self._until_ms.get(pair, now_ms) > now_ms


def wanted_by(context: Context, entry: HostEntry, asked: Pair) -> None:
    """Note that a host lacks a delta to a release that it is to run or to fetch ahead. On no particular thread.

    The old one must be a release of that app: names that a host invents would leave no room for what others need.
    """
    for app in (*entry.apps, *entry.prefetch):
        known = context.cache.releases.get((app.app, app.version))
        if known is not None and known.release.artifact.index_sha256 == asked.new:
            if context.cache.indexes.get(asked.old) == app.app:
                context.needs.ask(Need(app.app, app.version, asked.old))
            return


def at_start(context: Context) -> None:
    """Note what an earlier run may have needed, and know all releases of these apps. On the storage thread."""
    with context.storage.transaction() as tx:
        under_way = [one for one in tx.assignments() if one.state.active]
        for app in {one.app for one in under_way}:
            context.releases(tx, app)
    for one in under_way:
        context.needs.ask(Need(one.app, one.version))


@dataclass(frozen=True, slots=True)
class Job:
    """A delta to make: its pair, and the releases' names for people."""

    pair: Pair
    old: KnownRelease
    new: KnownRelease


def jobs(context: Context, need: Need) -> list[Job]:
    """Return the deltas that answer a need and are neither here nor hopeless. On the storage thread."""
    here = context.deltas
    if here is None:
        return []
    with context.storage.transaction() as tx:
        new = context.release(tx, need.app, need.version)
        if new is None:
            return []
        known = {one.release.artifact.index_sha256: one for one in context.releases(tx, need.app)}
        index = new.release.artifact.index_sha256
        pairs = [Pair(need.old, index)] if need.old else rules.unasked(_running(context, tx, need.app), index)
    return [
        Job(one, known[one.old], new)
        for plain in pairs
        for one in (replace(plain, opened=True), plain)
        if one.old in known and one.old != one.new and here.size(one) is None
    ]


def _running(context: Context, tx: Transaction, app: str) -> list[bytes]:
    """Return the index of what each host runs of an app."""
    found = (context.release(tx, app, one.state.current_version) for one in tx.app_states(app=app))
    return [one.release.artifact.index_sha256 for one in found if one is not None]


@dataclass(frozen=True, slots=True)
class Budget:
    """`space`: bytes that all deltas may take; `largest`: bytes of both releases of one together, archives opened."""

    space: int
    largest: int


def make(blobs: Blobs, deltas: Deltas, maker: Maker, job: Job, budget: Budget) -> str:
    """Make one delta and keep it; return what came of it in a few words. On a thread of its own.

    TowpathError, OSError: it could not be made or kept, which may pass.
    """
    said = deltas.refusal(job.pair)
    if said:
        return f"none: {said}"
    writer = deltas.begin(job.pair)
    if writer is None:
        return "another server makes it"
    size = 0

    def write(piece: bytes) -> None:
        nonlocal size
        size += len(piece)
        writer.write(piece)

    try:
        old, new = _named(blobs, job.old), _named(blobs, job.new)
        pairing = pair(old, new)
        if job.pair.opened:
            pairing = with_archives(pairing, old, new)
            if not pairing.new_archives:
                return "none: no archive became another one"
        full = sum(blobs.carried_size(digest) or 0 for digest in pairing.new_digests)
        unpacked = sum(it for _, it in pairing.base) + sum(it.size for it in pairing.new)
        why = rules.worthless(full) or rules.too_large(unpacked, budget.largest)
        cap = min(full, budget.space)
        if not why and deltas.room() < unpacked + cap:
            raise Broken(f"it takes up to {unpacked + cap} bytes of disk, and {deltas.room()} are free; make room")
        why = why or maker.make(pairing, write, cap=cap, room=budget.largest - unpacked)
        if why == STOPPED:
            return why
        if why:
            deltas.refuse(job.pair, why)
            return f"none: {why}"
        for gone in rules.surplus(deltas.kept(), size, budget.space):
            deltas.remove(gone)
        writer.publish()
        if rules.outdone(job.pair, size, deltas.size):
            opened = replace(job.pair, opened=True)
            deltas.remove(opened)
            deltas.refuse(opened, f"the one that sees into no archive has only {size} bytes")
        return f"{size} bytes instead of {full}"
    finally:
        writer.abort()


def _named(blobs: Blobs, known: KnownRelease) -> Named:
    artifact = known.release.artifact
    try:
        index = blobs.read(artifact.index_sha256, artifact.index_size)
    except TowpathError as error:
        raise Broken(f"cannot make a delta with {known.release.app} {known.release.version}: {error}") from error
    return Named(decode_index(index), artifact.index_sha256, artifact.index_size)
