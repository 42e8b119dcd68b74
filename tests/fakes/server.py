"""An in-memory `ports.Server`: what a server holds is given to it, what a host tells it is kept for looking at.

It passes the same conformance suite as the real client (`conformance.server_port`). Troubles are switched on by fields:
`unreachable`, `refusal`, `slow`, `lost_reports`, `lies` (other bytes for an object) and `cut_after` (a stream breaks after
that many bytes). Objects travel as one zstandard frame each, like the real server's. Thread-safe as far as the port says.
"""

import hashlib
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

import zstandard

from towpath.errors import Refusal, Unavailable
from towpath.holds import Hold
from towpath.reports import AppState, Event
from towpath_agent.ports import CHUNK_BYTES, Chunk, SyncAnswer, Want


@dataclass
class SyncCall:
    """One Sync that a host made."""

    nonce: bytes
    state_revision: int
    boot_id: str
    holds: tuple[Hold, ...] = ()
    accepted_sequence: int = 0
    features: tuple[str, ...] = ()


@dataclass
class FakeServer:
    """A server of one host. `answer` makes the envelope for a nonce; set it, or `envelope` for a fixed one."""

    envelope: bytes = b""
    answer: Callable[[bytes], bytes] | None = None
    metadata: dict[str, bytes] = field(default_factory=dict)
    targets: dict[str, bytes] = field(default_factory=dict)
    carried: dict[bytes, bytes] = field(default_factory=dict)
    deltas: dict[tuple[bytes, bytes], bytes] = field(default_factory=dict)  # by the digests of old and new index
    knows_deltas: bool = True

    unreachable: bool = False
    refusal: Refusal | None = None
    slow: bool = False
    lost_reports: int = 0
    lies: dict[bytes, bytes] = field(default_factory=dict)
    cut_after: int | None = None
    before_chunk: Callable[[int], None] | None = None

    syncs: list[SyncCall] = field(default_factory=list)
    fetches: list[tuple[Want, ...]] = field(default_factory=list)
    sent_bytes: int = 0
    distrusted: list[bytes] = field(default_factory=list)
    events: dict[str, Event] = field(default_factory=dict)
    report_calls: int = 0
    apps: dict[str, AppState] = field(default_factory=dict)
    known_state_revision: int = 0
    keep: str = ""

    _changed: threading.Condition = field(default_factory=threading.Condition)
    _changes: int = 0
    _watchers: int = 0
    _streams_ended: int = 0

    def add_object(self, content: bytes, *, level: int = 3) -> bytes:
        """Hold `content`, return its digest."""
        digest = hashlib.sha256(content).digest()
        self.carried[digest] = zstandard.ZstdCompressor(level=level).compress(content)
        return digest

    def add_objects(self, contents: Mapping[bytes, bytes]) -> None:
        """Hold contents by digest."""
        for content in contents.values():
            self.add_object(content)

    # --- what a test does ---------------------------------------------------------------------------------------------

    def hint(self) -> None:
        """Tell every watcher that something changed."""
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def end_watches(self) -> None:
        """End every Watch stream, as a server does that stops gracefully."""
        with self._changed:
            self._streams_ended += 1
            self._changed.notify_all()

    def wait_watchers(self, count: int, timeout_s: float = 10.0) -> bool:
        """Return True as soon as `count` streams are open, False at the time-out."""
        with self._changed:
            return self._changed.wait_for(lambda: self._watchers == count, timeout_s)

    # --- the port -----------------------------------------------------------------------------------------------------

    def _answerable(self) -> None:
        if self.unreachable:
            raise Unavailable("cannot reach the server: connection refused")
        if self.refusal is not None:
            raise self.refusal

    def sync(
        self,
        *,
        nonce: bytes,
        state_revision: int,
        boot_id: str,
        holds: Sequence[Hold] = (),
        accepted_sequence: int = 0,
        features: Sequence[str] = (),
    ) -> SyncAnswer:
        """Return the envelope for `nonce`."""
        self._answerable()
        self.syncs.append(SyncCall(nonce, state_revision, boot_id, tuple(holds), accepted_sequence, tuple(features)))
        known = self.known_state_revision
        if state_revision < known:  # it lost its journal: its next report counts
            self.known_state_revision = 0
        if self.keep:
            return SyncAnswer(b"", known, self.keep)
        envelope = self.answer(nonce) if self.answer is not None else self.envelope
        return SyncAnswer(envelope, known)

    def report(self, events: Sequence[Event], apps: Sequence[AppState], state_revision: int) -> list[str]:
        """Keep events by id and the newest state."""
        self._answerable()
        self.report_calls += 1
        for event in events:
            self.events.setdefault(event.id, event)
        if state_revision >= self.known_state_revision:
            self.apps = {state.app: state for state in apps}
            self.known_state_revision = state_revision
        if self.lost_reports:  # committed, but the host never hears of it
            self.lost_reports -= 1
            raise Unavailable("cannot report: the connection broke", code="deadline")
        return [event.id for event in events]

    def distrust(self, digest: bytes) -> bool:
        """Note whose bytes were wrong."""
        self.distrusted.append(digest)
        return False

    def bytes_of(self, want: Want) -> bytes | None:
        """Return the whole carried form, or None where the server lacks it."""
        if want.kind == "object":
            return self.lies.get(want.digest, self.carried.get(want.digest))
        if want.kind == "delta":
            return self.deltas.get((want.base, want.digest))
        return (self.metadata if want.kind == "metadata" else self.targets).get(want.name)

    def fetch(self, wants: Sequence[Want]) -> Generator[Chunk, None, None]:
        """Yield the chunks of each want in order."""
        if not wants:
            return
        self._answerable()
        self.fetches.append(tuple(wants))
        if not self.knows_deltas and any(want.kind == "delta" for want in wants):
            raise Refusal("cannot fetch: a want names nothing", code="garbled")
        sent = 0
        for number, want in enumerate(wants):
            data = self.bytes_of(want)
            if data is None:
                yield Chunk(number, last=True, missing=True)
                continue
            position = min(want.offset, len(data))
            first = True
            while first or position < len(data):
                self._answerable()
                piece = data[position : position + CHUNK_BYTES]
                if self.cut_after is not None and sent + len(piece) > self.cut_after:
                    piece = piece[: self.cut_after - sent]
                    if piece:
                        yield Chunk(number, piece, carried_size=len(data) if first else 0)
                        self.sent_bytes += len(piece)
                    raise Unavailable("cannot fetch: the connection broke")
                if self.before_chunk is not None:
                    self.before_chunk(number)
                if self.slow:
                    raise Unavailable("cannot fetch: the server sends too slowly", code="slow-retrieval")
                position += len(piece)
                sent += len(piece)
                self.sent_bytes += len(piece)
                yield Chunk(number, piece, position >= len(data), carried_size=len(data) if first else 0)
                first = False

    def watch(self, on_hint: Callable[[], None], stop: threading.Event) -> None:
        """Give a hint at once, then one per change, until `end_watches`, `stop`, or the server cannot be reached."""
        if stop.is_set():
            return
        self._answerable()
        with self._changed:
            self._watchers += 1
            self._changed.notify_all()
            seen, ended = self._changes, self._streams_ended
        try:
            on_hint()
            while not stop.is_set():
                with self._changed:
                    self._changed.wait_for(
                        lambda s=seen: (
                            self._changes != s or self._streams_ended != ended or self.unreachable or stop.is_set()
                        ),
                        0.05,
                    )
                    changes = self._changes
                    if self._streams_ended != ended:
                        return
                self._answerable()
                if changes != seen and not stop.is_set():
                    seen = changes
                    on_hint()
        finally:
            with self._changed:
                self._watchers -= 1
                self._changed.notify_all()
