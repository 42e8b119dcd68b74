"""Calls as a host or an operator, straight over gRPC, where the start of a command would hide what is measured."""

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import grpc
from examples.loopback import Fleet

from towpath.v1 import agent_pb2, operator_pb2
from towpath_agent.transport.channel import Limits, open_channel

SYNC = "/towpath.v1.AgentApi/Sync"
WATCH = "/towpath.v1.AgentApi/Watch"
FETCH = "/towpath.v1.AgentApi/Fetch"
LIST_HOSTS = "/towpath.v1.Hosts/ListHosts"
SET_HOST = "/towpath.v1.Hosts/SetHost"
DEPLOY = "/towpath.v1.Assignments/Deploy"
CALL_TIMEOUT_S = 20.0


def unary(channel: grpc.Channel, method: str) -> Callable[..., bytes]:
    """Return the bare call of `method`: bytes in, bytes out."""
    return cast("Callable[..., bytes]", channel.unary_unary(method))


def stream(channel: grpc.Channel, method: str) -> Callable[..., Any]:
    """Return the bare streaming call of `method`: an iterator of bytes that can be cancelled."""
    return cast("Callable[..., Any]", channel.unary_stream(method))


@dataclass(frozen=True, slots=True)
class Party:
    """Whom to call, and as whom."""

    address: str
    ca_pem: bytes
    identity_pem: bytes

    def channel(self) -> grpc.Channel:
        """Return a channel with the agent's own settings."""
        return open_channel(self.address, ca_pem=self.ca_pem, identity_pem=self.identity_pem, limits=Limits())


def host(fleet: Fleet, name: str) -> Party:
    """Return what the agent of `name` would dial with."""
    folder = fleet.agent_dir(name)
    return Party(fleet.addresses["agent"], (folder / "ca.pem").read_bytes(), (folder / "identity.pem").read_bytes())


def operator(fleet: Fleet) -> Party:
    """Return what the operator's commands dial with."""
    folder = fleet.folder / "operator"
    return Party(fleet.addresses["operator"], (folder / "ca.pem").read_bytes(), (folder / "operator.pem").read_bytes())


def sync_request() -> bytes:
    """Return a serialized SyncRequest as an agent with nothing new sends it."""
    return agent_pb2.SyncRequest(
        nonce=secrets.token_bytes(16),
        state_revision=1,
        agent_version="0.1.0",
        platform="linux/amd64",
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    ).SerializeToString()


def call_many(
    channels: Sequence[grpc.Channel], method: str, request: Callable[[], bytes], count: int
) -> tuple[float, int]:
    """Call `count` times one after another, by turns over `channels`; return seconds and the last response's size."""
    methods = [unary(channel, method) for channel in channels]
    size = 0
    began = time.monotonic()
    for number in range(count):
        size = len(methods[number % len(methods)](request(), timeout=CALL_TIMEOUT_S))
    return time.monotonic() - began, size


class Hints:
    """A Watch stream of one host: when did the last hint come? Use as a context manager."""

    def __init__(self, party: Party) -> None:
        self._channel = party.channel()
        self._call = stream(self._channel, WATCH)(b"")
        self._came = threading.Condition()
        self._count = 0
        self._at = 0.0
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._call.cancel()
        self._channel.close()
        self._thread.join(CALL_TIMEOUT_S)

    def _listen(self) -> None:
        try:
            for _ in self._call:
                with self._came:
                    self._count, self._at = self._count + 1, time.monotonic()
                    self._came.notify_all()
        except grpc.RpcError:
            return

    @property
    def count(self) -> int:
        """Hints so far."""
        return self._count

    def next_after(self, count: int, timeout_s: float) -> float:
        """Return when (monotonic) a hint beyond the first `count` came; TimeoutError where none does."""
        with self._came:
            if not self._came.wait_for(lambda: self._count > count, timeout_s):
                raise TimeoutError(f"no hint within {timeout_s:g}s")
            return self._at


class Operator:
    """The operator services without a command's start-up time. Use as a context manager."""

    def __init__(self, fleet: Fleet) -> None:
        self._channel = operator(fleet).channel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self._channel.close()

    def set_parameter(self, name: str, parameter: str, text: str) -> None:
        """Set one parameter of one host, as `towpath host set` does."""
        request = operator_pb2.SetHostRequest(name=name, parameters={parameter: text})
        unary(self._channel, SET_HOST)(request.SerializeToString(), timeout=CALL_TIMEOUT_S)

    def deploy(self, app: str, version: str, environment: str, selector: Mapping[str, str]) -> None:
        """Assign a release, as `towpath deploy` does without waiting."""
        request = operator_pb2.DeployRequest(app=app, version=version, environment=environment, selector=selector)
        unary(self._channel, DEPLOY)(request.SerializeToString(), timeout=CALL_TIMEOUT_S)

    def last_seen_ms(self, name: str) -> int:
        """Return when the server heard of the host last."""
        data = unary(self._channel, LIST_HOSTS)(b"", timeout=CALL_TIMEOUT_S)
        hosts = operator_pb2.ListHostsResponse.FromString(data).hosts
        return next(int(one.last_seen_unix_ms) for one in hosts if one.name == name)
