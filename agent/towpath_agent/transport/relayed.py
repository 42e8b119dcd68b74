"""`ports.Server` with the relay of a site before the server: through the relay where that works, else directly.

Two ways lead over a relay. The tunnel is the server itself, TLS from end to end, reached at the relay's address: sync,
report, watch and metadata go there. The relay's own service has objects, whoever it is: its certificate is taken as it
is shown, and the store proves every byte. Each way rests for a while after it failed (`engine.routing`).
A call that the tunnel broke is made again directly: all of them may be repeated. Objects that the relay does not have
are asked of the server when the relay has given all that it has; those behind a break in the same call, too.
"""

import random
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from towpath.errors import TowpathError, Unavailable
from towpath.holds import Hold
from towpath.names import RELAY_NAME, SERVER_NAME
from towpath.reports import AppState, Event
from towpath_agent.engine import routing
from towpath_agent.ports import Chunk, SyncAnswer, Want
from towpath_agent.system.clock import Clock
from towpath_agent.transport.channel import Limits
from towpath_agent.transport.client import Certificates, GrpcServer
from towpath_agent.transport.leaf import shown_leaf

if TYPE_CHECKING:
    from towpath_agent.transport.direct import Direct

T = TypeVar("T")
# What a relay may bring: whatever is proven when it is here. Metadata has to be the server's newest.
_CARRIED = frozenset({"object", "delta"})


class RelayedServer:
    """The server directly (`address`), and over the relay at `relay` (HOST:PORT)."""

    def __init__(
        self,
        address: str,
        relay: str,
        *,
        identity_pem: bytes,
        ca_pem: bytes,
        platform: str,
        agent_version: str,
        clock: Clock,
        log: Callable[[str], None],
        limits: Limits | None = None,
        direct: "Direct | None" = None,
    ) -> None:
        """Prepare both; the first calls dial. `direct`: the way to objects for which the server gives an address."""
        self.address = address
        self._relay, self._clock, self._log = relay, clock, log
        self._limits = limits or Limits()

        def client(where: str, ca: bytes, name: str = SERVER_NAME) -> GrpcServer:
            return GrpcServer(
                where,
                identity_pem=identity_pem,
                ca_pem=ca,
                platform=platform,
                agent_version=agent_version,
                clock=clock,
                limits=self._limits,
                name=name,
                direct=direct if name == SERVER_NAME else None,
            )

        self._direct, self._tunnel = client(address, ca_pem), client(relay, ca_pem)
        self._client = client
        self._lock = threading.Lock()
        self._tunnel_way = self._object_way = routing.Way()
        self._open: set[GrpcServer] = set()
        self._from_relay: set[bytes] = set()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End every running call and all connections."""
        for client in (self._direct, self._tunnel, *self._open):
            client.close()

    # --- over the tunnel ----------------------------------------------------------------------------------------------

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
        """See `ports.Server.sync`."""
        return self._call(
            lambda server: server.sync(
                nonce=nonce,
                state_revision=state_revision,
                boot_id=boot_id,
                holds=holds,
                accepted_sequence=accepted_sequence,
                features=features,
            )
        )

    def report(self, events: Sequence[Event], apps: Sequence[AppState], state_revision: int) -> list[str]:
        """See `ports.Server.report`."""
        return self._call(lambda server: server.report(events, apps, state_revision))

    def renew(self, csr_der: bytes) -> Certificates:
        """See `client.GrpcServer.renew`."""
        return self._call(lambda server: server.renew(csr_der))

    def watch(self, on_hint: Callable[[], None], stop: threading.Event) -> None:
        """See `ports.Server.watch`. Streams end for many reasons; which way is good, the syncs find out."""
        tunnelled = self._tunnel_way.usable(self._clock.monotonic())
        (self._tunnel if tunnelled else self._direct).watch(on_hint, stop)

    def _call(self, call: Callable[[GrpcServer], T]) -> T:
        if not self._tunnel_way.usable(self._clock.monotonic()):
            try:
                return call(self._direct)
            except Unavailable as error:
                if error.code in routing.BROKEN:
                    self._tunnel_way = routing.no_worse(self._tunnel_way, self._clock.monotonic())
                raise
        try:
            answer = call(self._tunnel)
        except Unavailable as error:
            if error.code not in routing.BROKEN:
                raise
            broken = error
        else:
            self._tunnel_way = routing.worked()
            return answer
        answer = call(self._direct)  # where this fails too, the relay is as good a way as any, and is asked next time
        self._tunnel_broke(broken)
        return answer

    def _tunnel_broke(self, error: TowpathError) -> None:
        self._tunnel_way = routing.failed(self._tunnel_way, self._clock.monotonic(), random.random())
        self._say(f"{error}; going to {self.address} itself", self._tunnel_way)

    def _say(self, what: str, way: routing.Way) -> None:
        rest_s = way.rests_until_s - self._clock.monotonic()
        self._log(f"relay {self._relay}: {what}, for {rest_s:.0f} s")

    # --- objects ------------------------------------------------------------------------------------------------------

    def fetch(self, wants: Sequence[Want]) -> Generator[Chunk, None, None]:
        """See `ports.Server.fetch`."""
        self._from_relay.clear()
        if all(want.kind in _CARRIED for want in wants) and self._object_way.usable(self._clock.monotonic()):
            left = yield from self._of_relay(wants)
        else:
            left = list(enumerate(wants))
        if left:
            yield from self._of_server(left)

    def _of_server(self, wants: Sequence[tuple[int, Want]]) -> Generator[Chunk, None, None]:
        """Yield what the server sends for `wants`, each with the number that the caller gave it.

        Where the tunnel breaks after something came, that is kept: the caller asks for the rest, and it goes directly.
        """
        asked, began, broken = [want for _, want in wants], False, None
        tunnelled = self._tunnel_way.usable(self._clock.monotonic())
        if tunnelled:
            try:
                with closing(self._tunnel.fetch(asked)) as chunks:
                    for chunk in chunks:
                        began = True
                        yield replace(chunk, want=wants[chunk.want][0])
                return
            except Unavailable as error:
                if error.code not in routing.BROKEN:
                    raise
                if began:
                    self._tunnel_broke(error)
                    raise
                broken = error
        try:
            with closing(self._direct.fetch(asked)) as chunks:
                for chunk in chunks:
                    began = True
                    if broken is not None:  # as in `_call`: not to be blamed before the other way is known to be better
                        self._tunnel_broke(broken)
                        broken = None
                    yield replace(chunk, want=wants[chunk.want][0])
        except Unavailable as error:
            if not tunnelled and not began and error.code in routing.BROKEN:
                self._tunnel_way = routing.no_worse(self._tunnel_way, self._clock.monotonic())
            raise

    def _of_relay(self, wants: Sequence[Want]) -> Generator[Chunk, None, list[tuple[int, Want]]]:
        """Yield what the relay has; return what is left for the server, with offsets behind what came."""
        at, came = 0, 0
        lacking: list[tuple[int, Want]] = []
        try:
            service = self._service()
            try:
                with closing(service.fetch(wants)) as chunks:
                    for chunk in chunks:
                        if chunk.is_pause:
                            yield chunk
                            continue
                        if chunk.unneeded and wants[at].kind == "delta":
                            yield chunk
                            at += 1
                            continue
                        if chunk.missing:
                            lacking.append((at, wants[at]))
                            at += 1
                            continue
                        self._from_relay.add(wants[at].digest)
                        came += len(chunk.data)
                        yield chunk
                        if chunk.last:
                            at, came = at + 1, 0
                    self._object_way = routing.worked()
            finally:
                self._open.discard(service)
                service.close()
        except TowpathError as error:  # a relay that says no is as good as none: the server decides who may ask
            self._object_way = routing.failed(self._object_way, self._clock.monotonic(), random.random())
            self._say(f"{error}; fetching from the server", self._object_way)
        left = list(enumerate(wants))[at:]
        behind = [(number, replace(want, offset=want.offset + (came if number == at else 0))) for number, want in left]
        return lacking + behind

    def _service(self) -> GrpcServer:
        service = self._client(self._relay, shown_leaf(self._relay, RELAY_NAME, self._limits), RELAY_NAME)
        self._open.add(service)
        return service

    def distrust(self, digest: bytes) -> bool:
        """Leave the relay alone for long where it brought any of the object's bytes."""
        if digest not in self._from_relay:
            return self._tunnel.distrust(digest)
        self._from_relay.clear()
        self._object_way = routing.lied(self._object_way, self._clock.monotonic())
        self._say(f"object {digest.hex()[:16]} was not what it must be; fetching from the server", self._object_way)
        return True
