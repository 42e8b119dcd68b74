"""What agents do all day: sync and report.

A sync with nothing to do touches no database: the host's entry is in memory, the sequence number comes out of a block
that was reserved durably before (so a restarted server never repeats one), and "last seen" is written in batches. A
report is acknowledged after its commit.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from towpath.errors import Refusal
from towpath.holds import Hold
from towpath.manifest import MAX_APPS, NONCE_BYTES, PREFETCH_FEATURE
from towpath.names import check_app
from towpath.reports import MAX_EVENTS_PER_REPORT, AppState, Event, more_came
from towpath.wire import encode_envelope, encode_manifest
from towpath_server.domain import manifests, restoring
from towpath_server.domain.hosts import with_holds
from towpath_server.domain.model import UNKNOWN_REVISION, Host, ReportedApp
from towpath_server.ports import GENERATION
from towpath_server.services.context import Context, HostEntry
from towpath_server.services.restoring import follow

KEPT_EVENTS = 1_000
_PRUNE_EVERY = 200
_MAX_INT = 2**63 - 1
_SEQUENCE = "sequence"
RESERVE_MS = 60_000


class Sequencer:
    """Sequence numbers that grow across restarts: max(previous + 1, Unix ms), never above what is reserved on disk."""

    def __init__(self, context: Context) -> None:
        """Start above everything that an earlier run may have given out."""
        self._context = context
        with context.storage.transaction() as tx:
            self._last = tx.number(_SEQUENCE)
            # Before anything is given out: what hosts have from here on was never given out by this database.
            lost = restoring.gap(self._last, manifests.next_sequence(self._last, context.clock.now_unix_ms()))
            if lost is not None:
                tx.add_gap(lost, restoring.MAX_GAPS)
            follow(context, tx)
        self._ceiling = self._last
        self.reserve()

    def reserve(self) -> None:
        """Reserve the next minute of numbers, durably. On the storage thread."""
        ceiling = max(self._last, self._context.clock.now_unix_ms()) + RESERVE_MS
        with self._context.storage.transaction() as tx:
            # Another server on this database may have reserved more: its hosts must not look as if from a lost one.
            tx.put_number(_SEQUENCE, max(ceiling, tx.number(_SEQUENCE)))
        self._ceiling = ceiling

    def take(self, now_unix_ms: int) -> int | None:
        """Return the next number, or None where `reserve` must come first."""
        number = manifests.next_sequence(self._last, now_unix_ms)
        if number > self._ceiling:
            return None
        self._last = number
        return number


@dataclass(frozen=True, slots=True)
class SyncQuestion:
    """What an agent says when it syncs."""

    nonce: bytes
    state_revision: int
    agent_version: str
    platform: str
    boot_id: str
    holds: tuple[Hold, ...] = ()
    accepted_sequence: int = 0
    features: frozenset[str] = frozenset()


def answer(
    context: Context,
    entry: HostEntry,
    key_sha256: bytes,
    *,
    nonce: bytes,
    sequence: int,
    features: Collection[str] = (),
) -> bytes:
    """Return the serialized envelope of the host's manifest. Reads memory only.

    `features`: the critical features that this very asker knows; an older agent gets nothing that needs another one.
    """
    if len(nonce) != NONCE_BYTES:
        raise Refusal(f"cannot sync: a nonce has {NONCE_BYTES} bytes, not {len(nonce)}", code="garbled")
    host = entry.host
    manifest = manifests.manifest(
        host_id=host.id,
        environment=host.environment,
        key_sha256=key_sha256,
        apps=entry.apps,
        prefetch=entry.prefetch if PREFETCH_FEATURE in features else (),
        nonce=nonce,
        sequence=sequence,
        snapshot_version=context.cache.snapshot_version,
        now_unix_ms=context.clock.now_unix_ms(),
    )
    return encode_envelope(context.keys.sign_manifest(encode_manifest(manifest)))


def told_something_new(host: Host, question: SyncQuestion) -> bool:
    """Return True where the host's row must learn from the question: see `learn`."""
    return question.state_revision < host.state_revision or _taught(host, question, 0) != host


def _taught(host: Host, question: SyncQuestion, now_unix_ms: int) -> Host:
    # A sync that names no boot is not the agent's: a new certificate is being proven, by a process that knows no holds.
    holds = question.holds if question.boot_id else host.holds
    return replace(
        with_holds(host, holds, now_unix_ms),
        agent_version=question.agent_version[:64] or host.agent_version,
        platform=question.platform[:64] or host.platform,
        boot_id=question.boot_id[:64] or host.boot_id,
    )


def learn(context: Context, host_id: str, question: SyncQuestion) -> None:
    """Write down what a host says about itself.

    A state revision below the known one means that the host lost its journal: the known one is forgotten, so that its
    next report counts. A sync is the host's own present word; reports may arrive late and out of order.
    """
    with context.storage.transaction() as tx:
        host = tx.host(host_id)
        if host is None:
            return
        after = _taught(host, question, context.clock.now_unix_ms())
        if question.state_revision < host.state_revision:
            after = replace(after, state_revision=UNKNOWN_REVISION)
        tx.put_host(after)
    context.cache.entries.pop(host_id, None)
    if (host.platform, host.holds) != (after.platform, after.holds):
        context.hints.due(host.environment)


def known_revision(host: Host) -> int:
    """Return the state revision to tell the host that the server knows."""
    return max(0, host.state_revision)


def report(
    context: Context, host_id: str, events: Sequence[Event], apps: Sequence[AppState], state_revision: int
) -> list[str]:
    """Keep a host's events and state; return the ids of all `events`: they are committed. Twice is harmless."""
    take(context, host_id, events, apps, state_revision)
    return [event.id for event in events]


def take(context: Context, host_id: str, events: Sequence[Event], apps: Sequence[AppState], state_revision: int) -> int:
    """Do what `report` does; return how many of the events were new."""
    _check_report(events, apps, state_revision)
    now = context.clock.now_unix_ms()
    with context.storage.transaction() as tx:
        host = tx.host(host_id)
        if host is None:
            raise Refusal("cannot report: this server knows no such host; enrol it", code="unknown-host")
        added = tx.add_events(host_id, events)
        newer = state_revision > host.state_revision
        if newer:
            known = tx.number(GENERATION)
            newest = restoring.after(known, (state.generation for state in apps))
            if newest > known:  # this database was restored: no rollout may get a generation that hosts have heard of
                tx.put_number(GENERATION, newest)
            tx.replace_app_states(host_id, _with_progress(tx.app_states(host_id=host_id), host_id, apps, now))
            tx.put_host(replace(host, state_revision=state_revision))
        unpruned = context.cache.unpruned.get(host_id, 0) + added
        if unpruned >= _PRUNE_EVERY:
            tx.prune_events(host_id, KEPT_EVENTS)
            unpruned = 0
    context.cache.unpruned[host_id] = unpruned
    if newer:
        context.cache.entries.pop(host_id, None)
        context.hints.due(host.environment)
    return added


def _with_progress(
    before: Sequence[ReportedApp], host_id: str, apps: Sequence[AppState], now_unix_ms: int
) -> list[ReportedApp]:
    """Return the new states; the time of progress moves where generation or state did, or more bytes have come.

    So a host behind a thin line is not taken for one that is silent.
    """
    known = {one.state.app: one for one in before}
    result = []
    for state in apps:
        old = known.get(state.app)
        same = old is not None and (old.state.generation, old.state.state) == (state.generation, state.state)
        if old is None or not same or more_came(old.state.transfer, state.transfer):
            result.append(ReportedApp(host_id, state, now_unix_ms))
        else:
            result.append(ReportedApp(host_id, state, old.progress_unix_ms))
    return result


def _check_report(events: Sequence[Event], apps: Sequence[AppState], state_revision: int) -> None:
    if len(events) > MAX_EVENTS_PER_REPORT or len(apps) > MAX_APPS:
        raise Refusal(
            f"cannot take a report of {len(events)} events and {len(apps)} apps: at most {MAX_EVENTS_PER_REPORT} and "
            f"{MAX_APPS}",
            code="endless-data",
        )
    numbers = [state_revision, *(state.generation for state in apps)]
    if any(not 0 <= number <= _MAX_INT for number in numbers):
        raise Refusal("cannot take a report: a number in it is out of range", code="garbled")
    names = [check_app(state.app) for state in apps]
    if len(set(names)) != len(names):
        raise Refusal("cannot take a report: it names an app twice", code="garbled")
