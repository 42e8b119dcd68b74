"""Each kind of probe through whole transactions: the three clocks and probation, with the real probes.

Time and the app are simulated; what the probes look at is real: files, loopback servers, a systemctl that keeps state.
Each has a switch that the test turns at a simulated time.
"""

import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from fakes.host import POLICY, SimulatedHost
from fakes.loopback import Handle, answer, serving
from fakes.tls import self_signed, under_tls
from towpath.kinds import PROBES as KNOWN
from towpath.parameters import Value
from towpath.release import Probe
from towpath.selfupdate import AGENT_KIND
from towpath.status import Health, State, Verdict
from towpath_agent.probes import PROBES
from towpath_agent.probes.base import Probe as ProbeDriver
from towpath_agent.probes.memory import MemoryProbe
from towpath_agent.probes.process import ProcessProbe
from towpath_agent.probes.unit import UnitProbe
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files

# The probe of the agent itself is no other app's: tests/scenarios/test_selfupdate.py.
KINDS = sorted(set(KNOWN) - {AGENT_KIND})
SYSTEMCTL = Path(__file__).parents[1] / "fakes" / "systemctl.py"
GOOD = ["Planned", "Fetching", "Staged", "Prepared", "Switching", "Switched", "Watching", "Confirmed"]
GONE_BACK = [*GOOD[:-1], "Reverting", "Reverted"]
NEEDED = 1000


@dataclass
class Switch:
    """What a probe looks at, and how to make it pass or fail."""

    options: dict[str, Value]
    turn: Callable[[bool], None]
    evidence: str
    driver: ProbeDriver | None = None


class Host(SimulatedHost):
    """A simulated host whose release 2.0.0 is judged by the real probe of one kind."""

    switch: Switch
    kind: str

    def probes(self, files: Files) -> dict[str, ProbeDriver]:
        real = self.switch.driver or PROBES[self.kind](files, self.clock)
        fakes = super().probes(files)

        class First:
            """The first release has a simulated probe of the kind that all others have."""

            def check(self, options: Any, context: Any) -> Any:
                return (fakes[kind] if context.instance.release_id.startswith("1.") else real).check(options, context)

        kind = self.kind
        return {**fakes, kind: First()}


@contextmanager
def switch_of(kind: str, root: Path, host: Host) -> Iterator[Switch]:
    """Give the switch of a kind, turned off."""
    with ExitStack() as stack:
        yield _SWITCHES[kind](root, host, stack)


def _web(
    stack: ExitStack, good: bytes, bad: tuple[int, bytes], wrap: Callable[[Handle], Handle]
) -> tuple[int, Callable[[bool], None]]:
    pages = {True: wrap(answer(200, good)), False: wrap(answer(*bad))}
    now = {"up": False}

    def serve(connection: socket.socket, stop: threading.Event) -> None:
        pages[now["up"]](connection, stop)

    port = stack.enter_context(serving(serve))
    return port, lambda up: now.update(up=up)


def _http(root: Path, _host: Host, stack: ExitStack) -> Switch:
    ca, context = self_signed(root)
    port, turn = _web(stack, b"fine", (503, b"database is gone"), lambda handle: under_tls(context, handle))
    return Switch({"url": f"https://127.0.0.1:{port}/", "ca": str(ca)}, turn, "status 503")


def _prometheus(_root: Path, _host: Host, stack: ExitStack) -> Switch:
    port, turn = _web(stack, b'errors{code="500"} 0\n', (200, b'errors{code="500"} 7\n'), lambda handle: handle)
    options: dict[str, Value] = {
        "url": f"http://127.0.0.1:{port}/",
        "metric": "errors",
        "labels": ("code=500",),
        "max": "0.5",
    }
    return Switch(options, turn, 'errors{code="500"} 7')


def _tcp(_root: Path, _host: Host, stack: ExitStack) -> Switch:
    port = stack.enter_context(serving(lambda _connection, _stop: None))
    options: dict[str, Value] = {"port": port}
    closed = {"port": port}

    class Turned:
        """The probe, at the port or at one that nobody has."""

        def check(self, _options: Any, context: Any) -> Any:
            return PROBES["tcp"](Files(), SystemClock()).check(closed, context)

    return Switch(options, lambda up: closed.update(port=port if up else 1), "refused", Turned())


def _grpc(_root: Path, _host: Host, stack: ExitStack) -> Switch:
    servicer = health.HealthServicer()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    stack.callback(lambda: server.stop(None).wait())
    words = health_pb2.HealthCheckResponse
    options: dict[str, Value] = {"port": port, "service": "shop"}

    def turn(up: bool) -> None:
        servicer.set("shop", words.SERVING if up else words.NOT_SERVING)

    return Switch(options, turn, "NOT_SERVING")


def _exec(root: Path, _host: Host, _stack: ExitStack) -> Switch:
    flag = root / "flag"
    return Switch(
        {"command": ("/bin/cat", str(flag))},
        lambda up: flag.touch() if up else flag.unlink(missing_ok=True),
        "exited 1",
    )


def _process(_root: Path, _host: Host, _stack: ExitStack) -> Switch:
    size = {"bytes": 0}

    def turn(up: bool) -> None:
        size["bytes"] = NEEDED if up else NEEDED + 1

    class Sized:
        """The probe, on an app of that size."""

        def check(self, options: Any, context: Any) -> Any:
            state = replace(context.service_state, rss_bytes=size["bytes"])
            real = ProcessProbe(Files(), SystemClock(), largest=lambda _pid, _count: [])
            return real.check(options, replace(context, service_state=state))

    return Switch({"max_rss": NEEDED}, turn, "more than 1000 B", Sized())


def _unit(root: Path, _host: Host, _stack: ExitStack) -> Switch:
    manager = root / "manager"
    (manager / "units").mkdir(parents=True)

    def turn(up: bool) -> None:
        loaded = {"app.socket": {"path": "/x", "text": ""}}
        state = {"loaded": loaded, "enabled": [], "pids": {"app.socket": os.getpid() if up else 2**22 + 1}, "log": []}
        (manager / "state.json").write_text(json.dumps(state))

    program = (sys.executable, "-I", "-S", str(SYSTEMCTL), "--root", str(manager))
    driver = UnitProbe(Files(), SystemClock(), systemctl=program)
    return Switch({"unit": "app.socket"}, turn, "failed (failed), result signal", driver)


def _log(root: Path, _host: Host, _stack: ExitStack) -> Switch:
    log = root / "app.log"
    log.write_text("ready, said the release before\nFATAL too\n")

    def turn(up: bool) -> None:
        with log.open("a") as file:
            file.write("ready\n" if up else "FATAL: cannot\n" if "\nready\n" in log.read_text() else "starting\n")

    return Switch({"path": str(log), "pattern": "^ready", "forbid": "^FATAL"}, turn, "app.log: ")


def _fresh(root: Path, host: Host, _stack: ExitStack) -> Switch:
    file = root / "beat"

    def turn(up: bool) -> None:
        file.touch()
        age_s = 0 if up else 7200
        os.utime(file, (host.clock.now_unix_ms() / 1000 - age_s,) * 2)

    return Switch({"path": str(file), "max_age": 3_600_000}, turn, "not within 60m")


class _Disk(Files):
    """A disk that fills."""

    free = 0

    def disk_free(self, path: Path) -> int:
        return self.free


def _disk(_root: Path, _host: Host, _stack: ExitStack) -> Switch:
    files = _Disk()

    def turn(up: bool) -> None:
        files.free = NEEDED if up else NEEDED - 1

    return Switch({"free": NEEDED}, turn, "less than 1000 B", PROBES["disk"](files, SystemClock()))


def _memory(_root: Path, _host: Host, _stack: ExitStack) -> Switch:
    has = {"bytes": 0}
    driver = MemoryProbe(Files(), SystemClock(), read=lambda: has["bytes"])
    return Switch(
        {"available": NEEDED}, lambda up: has.update(bytes=NEEDED if up else NEEDED - 1), "less than 1000 B", driver
    )


_SWITCHES = {name.removeprefix("_"): make for name, make in list(globals().items()) if name.removeprefix("_") in PROBES}


def test_every_kind_has_its_switch() -> None:
    """A kind that is added is taken through its clocks below, or this fails."""
    assert set(_SWITCHES) == set(KINDS)


@pytest.fixture(params=KINDS)
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Host]:
    """Return a host that runs 1.0.0 and is about to run 2.0.0, which one real probe judges; its switch is off."""
    host = Host(tmp_path / "host")
    host.kind = request.param
    with switch_of(host.kind, tmp_path, host) as host.switch:
        host.switch.turn(False)
        host.assign(host.publish("1.0.0"))
        host.boot()
        host.settle()
        assert host.state().state is State.CONFIRMED
        probe = Probe(host.kind, host.switch.options, interval_ms=2_000, failures=2)
        host.assign(host.publish("2.0.0", probes=(probe,)), generation=2)
        yield host


def evidence(host: Host) -> str:
    """Return what the server was told when 2.0.0 was given up."""
    (event,) = [event for event in host.transitions(version="2.0.0") if event.state == "Reverting"]
    return event.evidence


def test_what_begins_to_pass_before_the_deadline_is_confirmed_after_healthy_for(host: Host) -> None:
    """Failing before the first pass is a slow start; from the pass on healthy_for must go by."""
    host.clock.at(20.0, lambda: host.switch.turn(True))
    begin = host.clock.monotonic()
    host.settle()
    assert host.chain(version="2.0.0") == GOOD
    assert host.state().health is Health.HEALTHY
    took = host.clock.monotonic() - begin
    assert 20 + POLICY.healthy_for_ms / 1000 <= took < POLICY.deadline_ms / 1000


def test_what_never_passes_is_reverted_at_the_deadline_with_its_evidence(host: Host) -> None:
    """The report has what the probe saw last, how often it failed and how long a check took."""
    host.settle()
    assert host.chain(version="2.0.0") == GONE_BACK
    assert (host.state().verdict, host.live()) == (Verdict.FAILED, "1.0.0")
    assert evidence(host).startswith(f"{host.kind} failed ")
    assert host.switch.evidence in evidence(host)
    assert host.switch.evidence in host.state().reason


def test_what_falls_ill_in_probation_is_reverted_and_later_only_told(host: Host) -> None:
    """After confirm the same probe goes on; it still sends the host back, with its evidence, while probation lasts."""
    host.clock.at(1.0, lambda: host.switch.turn(True))
    host.settle()
    assert host.chain(version="2.0.0") == GOOD
    host.switch.turn(False)
    host.run(50, lambda: host.live() == "1.0.0")
    host.settle()
    assert host.chain(version="2.0.0") == [*GOOD, "Reverting", "Reverted"]
    assert "fell ill during probation" in host.state().reason
    assert host.switch.evidence in evidence(host)


def test_what_falls_ill_after_probation_stays_and_is_said_to_be_unhealthy(host: Host) -> None:
    """Old news is no reason to go back."""
    host.clock.at(1.0, lambda: host.switch.turn(True))
    host.settle()
    host.run(POLICY.probation_ms / 1000 + 30)
    host.switch.turn(False)
    host.run(60)
    assert (host.live(), host.state().health) == ("2.0.0", Health.UNHEALTHY)
    assert host.switch.evidence in host.state().reason
