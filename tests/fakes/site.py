"""A site: the relay as a real process, before a real gRPC server with a fake behind it, and hosts that use both."""

import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Self

from fakes.authority import Authority
from fakes.enrolled import RECORD
from fakes.grpc_server import AgentApi, Listener, serve_agents
from fakes.live_server import eventually
from fakes.server import FakeServer
from fakes.server_command import clean_env
from towpath_agent import identity
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files
from towpath_agent.transport.channel import Limits
from towpath_agent.transport.relayed import RelayedServer

LIMITS = Limits(call_s=15.0, fetch_s=60.0, rate_window_s=5.0, reconnect_first_s=0.1, reconnect_most_s=0.3)


class Site:
    """Use as a context manager; `relay` is the relay's address while it runs. `words` are more of its arguments."""

    def __init__(
        self, folder: Path, authority: Authority, *words: str, most_file_bytes: int = 0, https_proxy: str = ""
    ) -> None:
        """`most_file_bytes`: the disk takes no larger file (0: it does). `https_proxy`: the relay's way out."""
        self._proxy = {"https_proxy": https_proxy} if https_proxy else {}
        self.folder, self.authority = folder, authority
        self.behind = FakeServer()
        self.api = AgentApi(self.behind, authority)
        self.said: list[str] = []
        self._words, self._most_file_bytes = words, most_file_bytes
        self._clients: list[RelayedServer] = []
        self._process: subprocess.Popen[bytes] | None = None
        self.listener: Listener | None = None
        self.server = self.relay = ""

    def __enter__(self) -> Self:
        self.start_server()
        agent = self.folder / "agent"
        Files().make_dirs(agent)
        Files().write_atomic(agent / identity.CA, self.authority.ca_pem)
        record = replace(RECORD, agent_address=self.server, enroll_address=self.server)
        identity.save(agent, Files(), record, self.authority.identity("relays-host"))
        self.start_relay()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.close()
        self.end_relay(signal.SIGTERM)
        self.stop_server()

    def start_server(self) -> None:
        """Listen, on the port of before where there was one."""
        self.listener = serve_agents(self.api, address=self.server or "127.0.0.1:0")
        self.server = self.listener.address

    def stop_server(self) -> None:
        """Take the server away."""
        if self.listener is not None:
            self.listener.stop()
        self.listener = None

    def start_relay(self) -> None:
        """Start the process, on the port of before where there was one; return when it is ready."""
        log = self.folder / "relay.log"
        command = [sys.executable, "-m", "towpath_relay.cli", "run", "--dir", str(self.cache), "--agent-dir"]
        command += [str(self.folder / "agent"), "--listen", self.relay or "127.0.0.1:0"]
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [*command, "--enroll-listen", "127.0.0.1:0", *self._words],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**clean_env(), **self._proxy, "PYTHONUNBUFFERED": "1"},
            )
        process = self._process
        eventually(lambda: b"\nready\n" in log.read_bytes() or process.poll() is not None, "ready", 60)
        assert process.poll() is None, log.read_text()
        if self._most_file_bytes:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (self._most_file_bytes, self._most_file_bytes))
        self.relay = log.read_text().partition("agents on ")[2].split()[0]

    def end_relay(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the process."""
        if self._process is not None:
            self._process.send_signal(number)
            code = self._process.wait(30)
            assert number is signal.SIGKILL or code == 0, (self.folder / "relay.log").read_text()
        self._process = None

    @property
    def cache(self) -> Path:
        """The relay's folder."""
        return self.folder / "relay"

    def kept(self) -> list[Path]:
        """Return the whole objects in the relay's cache."""
        return sorted((self.cache / "objects").iterdir())

    def host(
        self,
        name: str,
        *,
        relay: str = "",
        log: Callable[[str], None] | None = None,
        patience_s: float = 0.0,
        queue_s: float = LIMITS.queue_s,
    ) -> RelayedServer:
        """Return what a host of the site has for its server. `patience_s`: how long it bears with a slow one.

        `queue_s`: how long it bears with a relay that puts it off.
        """
        limits = replace(LIMITS, queue_s=queue_s)
        client = RelayedServer(
            self.server,
            relay or self.relay,
            identity_pem=self.authority.identity(name),
            ca_pem=self.authority.ca_pem,
            platform="linux/amd64",
            agent_version="0.1.0",
            clock=SystemClock(),
            log=log or self.said.append,
            limits=replace(limits, rate_window_s=patience_s, call_s=patience_s) if patience_s else limits,
        )
        self._clients.append(client)
        return client
