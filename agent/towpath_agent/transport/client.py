"""The real `ports.Server`: one gRPC channel over mutual TLS, reused by every call, for one identity.

Parties: the agent dials; the server on the agent port knows the host by its certificate alone.
Rules: every call has a deadline and none is retried here; a Watch has no deadline but keepalive (see `channel`), and a
fetch has a least rate (see `rate`). What breaks is Unavailable, what the server denies is Refusal. A new identity is a
new object: grpc cannot change the credentials of a channel, so the caller builds another one and closes this one.
Not handled here: pacing and back-off, verifying what came, certificates (`renew`), enrolment (`enrolment`).
"""

import math
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc

from towpath.errors import InputError, Refusal, TowpathError, Unavailable
from towpath.holds import Hold
from towpath.names import RELAY_NAME, SERVER_NAME
from towpath.reports import MAX_EVENTS_PER_REPORT, MAX_REASON_CHARS, AppState, Event
from towpath.v1 import agent_pb2 as pb
from towpath.v1.agent_pb2_grpc import AgentApiStub
from towpath.wire.holds import to_hold
from towpath.wire.reports import to_app_state, to_event
from towpath_agent.ports import MAX_CHUNK_BYTES, MAX_WANTS, Chunk, Elsewhere, SyncAnswer, Want
from towpath_agent.system.clock import Clock
from towpath_agent.transport.channel import Limits, error_of, open_channel
from towpath_agent.transport.pulling import WAITING_BYTES, Puller
from towpath_agent.transport.rate import RateGuard

if TYPE_CHECKING:
    from towpath_agent.transport.direct import Direct

# How often a fetch looks whether it is too slow, and a watch whether it was told to stop. The agent closes its channel
# when it stops, which ends a watch at once; looking every second all day cost a sixth of an idle agent's CPU.
LOOK_S = 0.9
WATCH_LOOK_S = 5.0
# Who answers within that is near enough for so many bytes on their way to be 20 MiB a second and more.
NEAR_S = 0.05
NEAR_WINDOW_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Certificates:
    """What an issuing call returns: a host's certificate and the CA's, both PEM and unchecked."""

    certificate_pem: bytes
    ca_pem: bytes


@dataclass(slots=True, eq=False)
class _Narrow:
    """A connection on which only so many bytes are on their way, and how many fetches run on it."""

    window: int
    channel: grpc.Channel
    fetches: int = 0


def _want(want: Want) -> pb.Want:
    match want.kind:
        case "metadata":
            return pb.Want(metadata=want.name, offset=want.offset)
        case "target":
            return pb.Want(target=want.name, offset=want.offset)
        case "delta":
            delta = pb.Delta(old_index_sha256=want.base, new_index_sha256=want.digest, opened=want.opened)
            return pb.Want(delta=delta, offset=want.offset)
        case _:
            return pb.Want(object_sha256=want.digest, offset=want.offset)


def _puts_off(answer: pb.FetchResponse) -> bool:
    return not (answer.data or answer.last or answer.missing or answer.whole or answer.url or answer.carried_size)


def _unpacked(answer: pb.FetchResponse, wants: Sequence[pb.Want]) -> Iterator[Chunk]:
    """Yield each of the whole answers of one message."""
    first, data, at = answer.want, answer.data, 0
    if first + len(answer.whole) > len(wants) or sum(answer.whole) != len(data):
        raise Unavailable("cannot fetch: the server sends more or less than it says", code="cut-off")
    for number, length in enumerate(answer.whole, first):
        yield Chunk(number, data[at : at + length], last=True, carried_size=wants[number].offset + length)
        at += length


class GrpcServer:
    """The server at `address`, called as the host that `identity_pem` (key and certificate) names."""

    def __init__(
        self,
        address: str,
        *,
        identity_pem: bytes,
        ca_pem: bytes,
        platform: str,
        agent_version: str,
        clock: Clock,
        limits: Limits | None = None,
        name: str = SERVER_NAME,
        direct: "Direct | None" = None,
    ) -> None:
        """Prepare the channel; the first call dials. InputError for an unusable address or identity.

        `direct`: the way to objects that the server says are elsewhere; without it they all come from the server.
        """
        self.address = address
        self._platform = platform
        self._agent_version = agent_version
        self._clock = clock
        self._limits = limits or Limits()
        self._direct = direct
        self._queues = name == RELAY_NAME

        def dial(window: int) -> grpc.Channel:
            return open_channel(
                address, ca_pem=ca_pem, identity_pem=identity_pem, limits=self._limits, name=name, window=window
            )

        self._dial = dial
        self._channel = dial(0)
        self._stub = AgentApiStub(self._channel)
        self._answer_s = math.inf  # from a fetch to its first answer: the shortest time of late
        self._narrow: list[_Narrow] = []  # the newest last; others are there as long as somebody fetches on them
        self._closed = False
        self._narrowing = threading.Lock()  # a relay fetches on several threads

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End every running call (they raise Unavailable) and the connection. Closing twice is harmless."""
        self._channel.close()
        with self._narrowing:
            self._closed = True
            for narrow in self._narrow:
                narrow.channel.close()

    @contextmanager
    def _fetching(self) -> Generator[AgentApiStub, None, None]:
        """Give what to fetch with: a connection of its own where what may be on its way is limited.

        By the host, or because who answers is near. grpc measures how much a line holds by how fast it brings that, and
        takes a reader that is busy for a longer line: on a fast one that is 25 MiB which nobody has read yet.
        """
        window = self._limits.fetch_window() or (NEAR_WINDOW_BYTES if self._answer_s < NEAR_S else 0)
        if not window or self._closed:
            yield self._stub
            return
        with self._narrowing:
            if not self._narrow or self._narrow[-1].window != window:
                self._narrow.append(_Narrow(window, self._dial(window)))
            narrow = self._narrow[-1]
            narrow.fetches += 1
            self._drop_idle()
        try:
            yield AgentApiStub(narrow.channel)
        finally:
            with self._narrowing:
                narrow.fetches -= 1
                self._drop_idle()

    def _drop_idle(self) -> None:
        """Close every connection of an earlier window on which nobody fetches any more."""
        for narrow in self._narrow[:-1]:
            if not narrow.fetches:
                narrow.channel.close()
                self._narrow.remove(narrow)

    def _error(self, error: grpc.RpcError | ValueError, doing: str) -> TowpathError:
        if isinstance(error, ValueError):  # grpc says so of a channel that this process closed
            return Unavailable(f"cannot {doing}: the connection was closed", code="closed")
        meaning = error_of(error, doing, self.address)
        if isinstance(meaning, InputError):  # no person gave the value: to an agent it is a no like any other
            return Refusal(str(meaning), code="rejected" if meaning.code == InputError.code else meaning.code)
        return meaning

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
        """Return the manifest that answers `nonce`."""
        request = pb.SyncRequest(
            nonce=nonce,
            state_revision=state_revision,
            agent_version=self._agent_version,
            platform=self._platform,
            boot_id=boot_id,
            holds=[to_hold(hold) for hold in holds],
            accepted_sequence=accepted_sequence,
            features=features,
        )
        try:
            answer: pb.SyncResponse = self._stub.Sync(request, timeout=self._limits.call_s)
        except (grpc.RpcError, ValueError) as error:
            raise self._error(error, "sync") from error
        return SyncAnswer(answer.envelope, answer.known_state_revision, answer.keep[:MAX_REASON_CHARS])

    def distrust(self, digest: bytes) -> bool:
        """There is no other way to the server than this one; to an object there may have been."""
        return self._direct is not None and self._direct.distrust(digest)

    def report(self, events: Sequence[Event], apps: Sequence[AppState], state_revision: int) -> list[str]:
        """Return the ids that the server committed; more events than one call may carry go in several calls."""
        states = [to_app_state(state) for state in apps]
        acknowledged: list[str] = []
        for start in range(0, max(len(events), 1), MAX_EVENTS_PER_REPORT):
            some = [to_event(event) for event in events[start : start + MAX_EVENTS_PER_REPORT]]
            request = pb.ReportRequest(events=some, apps=states, state_revision=state_revision)
            try:
                answer: pb.ReportResponse = self._stub.Report(request, timeout=self._limits.call_s)
            except (grpc.RpcError, ValueError) as error:
                if acknowledged:  # what was committed is worth knowing; the rest is sent again anyway
                    return acknowledged
                raise self._error(error, "report") from error
            acknowledged.extend(answer.acknowledged)
        return acknowledged

    def renew(self, csr_der: bytes) -> Certificates:
        """Return a new certificate for this host and the key of the CSR."""
        try:
            answer: pb.RenewResponse = self._stub.Renew(pb.RenewRequest(csr_der=csr_der), timeout=self._limits.call_s)
        except (grpc.RpcError, ValueError) as error:
            raise self._error(error, "renew the certificate") from error
        return Certificates(answer.certificate_pem, answer.ca_pem)

    def watch(self, on_hint: Callable[[], None], stop: threading.Event) -> None:
        """Block and call `on_hint` for each hint, until the stream ends or `stop` is set."""
        if stop.is_set():
            return
        ended = threading.Event()
        try:
            call = self._stub.Watch(pb.WatchRequest())
        except ValueError as error:
            raise self._error(error, "watch") from error

        def stopper() -> None:
            while not ended.is_set():
                if self._clock.wait(stop, WATCH_LOOK_S):
                    call.cancel()
                    return

        thread = threading.Thread(target=stopper, name="watch-stop", daemon=True)
        thread.start()
        try:
            for _ in call:
                if stop.is_set():
                    return
                on_hint()
        except grpc.RpcError as error:
            if stop.is_set():
                return
            raise self._error(error, "watch") from error
        finally:
            ended.set()
            call.cancel()

    def fetch(self, wants: Sequence[Want]) -> Generator[Chunk, None, None]:
        """Yield the chunks that answer `wants`, in order; see `ports.Server.fetch`."""
        if self._direct is not None:
            yield from self._direct.fetch(self._ask, wants)
            return
        for answer in self._ask(wants):
            if isinstance(answer, Elsewhere):
                raise Unavailable("cannot fetch: the server sent an address that nobody asked for", code="cut-off")
            yield answer

    def _ask(self, wants: Sequence[Want], direct_from: Sequence[str] = ()) -> Generator[Chunk | Elsewhere, None, None]:
        """Yield the server's own answers, in order."""
        if not wants:
            return
        if len(wants) > MAX_WANTS:
            raise AssertionError(f"{len(wants)} wants in one fetch, at most {MAX_WANTS}")
        asked = [_want(want) for want in wants]
        request = pb.FetchRequest(wants=asked, direct_from=direct_from, packed=True, waits=self._queues)
        with self._fetching() as stub:
            yield from self._answers(stub, request)

    def _answers(self, stub: AgentApiStub, request: pb.FetchRequest) -> Generator[Chunk | Elsewhere, None, None]:
        credit_s = self._limits.queue_s if self._queues else 0.0
        guard = RateGuard(self._limits.min_rate, self._limits.rate_window_s, credit_s)
        look_s = min(LOOK_S, self._limits.rate_window_s / 4)
        try:
            call = stub.Fetch(request, timeout=self._limits.fetch_s)
        except ValueError as error:
            raise self._error(error, "fetch") from error
        puller = Puller(call, self._limits.fetch_window() or WAITING_BYTES)
        asked_s, heard = self._clock.monotonic(), False
        expected = 0
        try:
            while expected < len(request.wants):
                guard.wait_begins(self._clock.monotonic())
                while not puller.wait(look_s):
                    if guard.too_slow(self._clock.monotonic()):
                        raise self._too_slow()
                answer = puller.take()
                if not heard:
                    # Twice: a busy server is not far, and a host that was carried elsewhere is soon known to be.
                    heard, self._answer_s = True, min(2 * self._answer_s, self._clock.monotonic() - asked_s)
                if answer is not None and _puts_off(answer):
                    guard.was_put_off(self._clock.monotonic())
                else:
                    guard.wait_ends(self._clock.monotonic(), len(answer.data) if answer is not None else 0)
                if guard.too_slow(self._clock.monotonic()):
                    raise self._too_slow()
                if answer is None:
                    raise Unavailable("cannot fetch: the server ended the stream too early", code="cut-off")
                if answer.want != expected or len(answer.data) > MAX_CHUNK_BYTES:
                    raise Unavailable(
                        "cannot fetch: the server answers out of order or in too large pieces", code="cut-off"
                    )
                if answer.whole:
                    expected += len(answer.whole)
                    yield from _unpacked(answer, request.wants)
                    continue
                if answer.url:
                    expected += 1
                    yield Elsewhere(answer.want, answer.url, answer.carried_size)
                    continue
                ends = answer.last or answer.missing
                expected += ends
                yield Chunk(
                    answer.want,
                    answer.data,
                    ends,
                    answer.missing,
                    answer.carried_size,
                    unneeded=answer.missing and answer.unneeded,
                )
        except (grpc.RpcError, ValueError) as error:
            raise self._error(error, "fetch") from error
        finally:
            call.cancel()
            puller.close()

    def _too_slow(self) -> Unavailable:
        limits = self._limits
        return Unavailable(
            f"cannot fetch: {self.address} sent less than {limits.min_rate} bytes a second for "
            f"{limits.rate_window_s:g} s",
            code="slow-retrieval",
        )
