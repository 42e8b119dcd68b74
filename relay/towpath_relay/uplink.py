"""How the relay fetches: as the host on whose machine it runs, with that agent's own transport and identity.

The agent owns these files and renews its certificate; the relay only reads, at each fetch, and dials anew where they
changed. Which address the server has is the host's record too.
"""

import threading
from collections.abc import Generator, Sequence
from pathlib import Path

from towpath import __version__
from towpath_agent import identity
from towpath_agent.engine.maxrate import MaxRate
from towpath_agent.ports import Chunk, Source, Want
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files
from towpath_agent.transport.channel import Limits
from towpath_agent.transport.client import GrpcServer
from towpath_agent.transport.throttle import Throttle


class Uplink:
    """The server, as `agent_dir`'s host; `server` (HOST:PORT, or empty) goes before its record.

    What is fetched, by all calls together, is held to `max_rate`; what hosts send through the tunnel is not seen here.
    """

    def __init__(self, agent_dir: Path, clock: Clock, server: str, max_rate: MaxRate) -> None:
        """Read once, so that a folder without a host is an error at the start."""
        self._folder, self._clock, self._given = agent_dir, clock, server
        self._throttle = Throttle(max_rate, clock)
        self._files = Files()
        self._lock = threading.Lock()
        self._pem = b""
        self._channel: GrpcServer | None = None
        self.ca_pem = self._files.read(agent_dir / identity.CA, identity.MAX_FILE_BYTES) if self.server() else b""

    def server(self) -> str:
        """Return where agents' port of the server is, HOST:PORT."""
        return self._given or self._record().agent_address

    def enrolment(self) -> str:
        """Return where its enrolment port is."""
        return self._record().enroll_address

    def fetch(self, wants: Sequence[Want]) -> Generator[Chunk, None, None]:
        """Yield chunks as `towpath_agent.ports.Server.fetch` does."""
        source: Source = self._connected()
        return self._throttle.over(source).fetch(wants)

    def close(self) -> None:
        """End what runs."""
        with self._lock:
            if self._channel is not None:
                self._channel.close()

    def _record(self) -> identity.HostRecord:
        return identity.read_record(self._folder, self._files)

    def _connected(self) -> GrpcServer:
        pem, address = self._files.read(self._folder / identity.IDENTITY, identity.MAX_FILE_BYTES), self.server()
        with self._lock:
            if self._channel is None or pem != self._pem or address != self._channel.address:
                if self._channel is not None:
                    self._channel.close()
                self._pem = pem
                self._channel = GrpcServer(
                    address,
                    identity_pem=pem,
                    ca_pem=self.ca_pem,
                    platform=identity.local_platform(),
                    agent_version=__version__,
                    clock=self._clock,
                    limits=Limits(fetch_window=self._throttle.window),
                )
            return self._channel
