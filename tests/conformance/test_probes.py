"""Each probe keeps what all promise; so does the fake."""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from conformance.probe_port import ProbeSuite, Subject, WaitingProbeSuite
from fakes.blocking import BlockingFiles
from fakes.drivers import FakeProbe
from fakes.loopback import answer, full_queue, serving, silent, unused_port
from fakes.services import make_instance
from fakes.tls import self_signed, under_tls
from towpath.kinds import PROBES as KNOWN
from towpath.parameters import Value
from towpath_agent.probes import PROBES
from towpath_agent.probes.agent import AgentProbe
from towpath_agent.probes.base import Probe, ProbeContext, ProbeResult
from towpath_agent.probes.unit import UnitProbe
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files

CLOCK = SystemClock()
SYSTEMCTL = Path(__file__).parents[1] / "fakes" / "systemctl.py"


def make(kind: str) -> Probe:
    return PROBES[kind](Files(), CLOCK)


def test_every_known_kind_has_its_driver() -> None:
    """What a publisher's lint allows, the agent can probe; and nothing else."""
    assert set(PROBES) == set(KNOWN)


def test_every_driver_is_run_through_the_suite() -> None:
    """A kind that is added gets its case below, or this fails."""
    assert set(PROBES) == ProbeSuite.kinds


class TestFake(ProbeSuite):
    """The suite, on the fake."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return a fake that its options answer."""
        probe = FakeProbe(lambda options, _context: options["ok"] if isinstance(options["ok"], bool) else "odd\n" * 999)
        return Subject(probe, make_instance(tmp_path), {"ok": True}, {"ok": False}, {"ok": "?"})


class TestHttp(WaitingProbeSuite, kind="http"):
    """The suite, against real servers."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[Subject]:
        """Return the probe with a good, a bad and a silent server."""
        with (
            serving(answer(200, b"fine\n\x00\xff" * 300)) as good,
            serving(answer(500, b"\x1b[31mbad" * 900)) as bad,
            serving(silent) as mute,
        ):
            yield Subject(
                make("http"),
                make_instance(tmp_path),
                {"url": f"http://127.0.0.1:{good}/healthz?x=1"},
                {"url": f"http://127.0.0.1:{bad}/"},
                broken={"url": "http://127.0.0.1:99999999/" + "x" * 2000},
                hanging={"url": f"http://127.0.0.1:{mute}/"},
            )


class TestHttps(WaitingProbeSuite):
    """The suite, where the handshake never ends, and no authority is there."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[Subject]:
        """Return the probe with a server that made its own certificate, and one that never shakes hands."""
        ca, context = self_signed(tmp_path)
        with serving(under_tls(context, answer(200, b"fine"))) as port, serving(silent) as mute:
            url = f"https://127.0.0.1:{port}/"
            yield Subject(
                make("http"),
                make_instance(tmp_path),
                {"url": url, "ca": str(ca)},
                {"url": url},
                broken={"url": url, "ca": "no/such/file.pem"},
                hanging={"url": f"https://127.0.0.1:{mute}/", "verify": False},
            )


class TestTcp(WaitingProbeSuite, kind="tcp"):
    """The suite, against a real listener."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[Subject]:
        """Return the probe with ports that listen, do not, and whose queue is full."""
        with serving(lambda _connection, _stop: None) as port, full_queue() as full:
            yield Subject(
                make("tcp"),
                make_instance(tmp_path),
                {"port": str(port)},
                {"port": unused_port()},
                broken={"port": "no number", "host": "x" * 2000},
                hanging={"port": full},
            )


class TestGrpc(WaitingProbeSuite, kind="grpc"):
    """The suite, against a real server with the standard health service."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[Subject]:
        """Return the probe with services that serve and do not, and a port that never speaks HTTP/2."""
        servicer = health.HealthServicer()
        servicer.set("shop", health_pb2.HealthCheckResponse.SERVING)
        servicer.set("cellar", health_pb2.HealthCheckResponse.NOT_SERVING)
        server = grpc.server(futures.ThreadPoolExecutor(2))
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with serving(silent) as mute:
            yield Subject(
                make("grpc"),
                make_instance(tmp_path),
                {"port": port, "service": "shop"},
                {"port": str(port), "service": "cellar"},
                broken={"port": "no number", "service": "x" * 2000},
                hanging={"port": mute},
            )
        server.stop(None).wait()


class TestExec(WaitingProbeSuite, kind="exec"):
    """The suite, on real programs."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return the probe with a program that does as it is told."""
        instance = make_instance(
            tmp_path, script="#!/bin/sh\nprintf 'said\\n\\033[1m'; yes | head -c 9999\neval \"$1\"\n"
        )
        return Subject(
            make("exec"),
            instance,
            {"command": ("bin/app", "exit 0")},
            {"command": ("bin/app", "exit 1")},
            broken={"command": ("../../../outside",)},
            hanging={"command": ("bin/app", "trap '' TERM; sleep 1000")},
        )


class TestProcess(ProbeSuite, kind="process"):
    """The suite, on what the service saw."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return the probe with limits around the memory that the suite's state has."""
        return Subject(
            make("process"),
            make_instance(tmp_path),
            {"max_rss": 1000, "max_restarts": 0},
            {"max_rss": 999},
            broken={"max_rss": "no number"},
        )


class TestUnit(WaitingProbeSuite, kind="unit"):
    """The suite, on a manager that keeps state."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return the probe with a unit that runs (as this test does) and one that was never started."""
        root = tmp_path / "manager"
        (root / "units").mkdir(parents=True)
        loaded = {name: {"path": f"/units/{name}", "text": ""} for name in ("up.service", "down.timer")}
        state = {"loaded": loaded, "enabled": [], "pids": {"up.service": os.getpid()}, "log": []}
        (root / "state.json").write_text(json.dumps(state))
        instance = make_instance(tmp_path, script="#!/bin/sh\nsleep 1000\n")
        program = (sys.executable, "-I", "-S", str(SYSTEMCTL), "--root", str(root))
        return Subject(
            UnitProbe(Files(), CLOCK, systemctl=program),
            instance,
            {"unit": "up.service"},
            {"unit": "down.timer"},
            broken={"unit": "--root=/ \x1b" * 100},
            hanging={"unit": "up.service"},
            hanging_probe=UnitProbe(Files(), CLOCK, systemctl=(str(instance.folder / "bin" / "app"),)),
        )


class TestLog(WaitingProbeSuite, kind="log"):
    """The suite, on a real log."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[Subject]:
        """Return the probe with a log that holds one good and one bad line."""
        instance = make_instance(tmp_path)
        instance.log.parent.mkdir()
        instance.log.write_bytes(b"\x1b[31mready\x00\xff " + b"x" * 9000 + b"\nbad\n")
        blocking = BlockingFiles()
        yield Subject(
            make("log"),
            instance,
            {"pattern": "ready"},
            {"pattern": "ready", "forbid": "^bad"},
            broken={"pattern": "("},
            hanging={"pattern": "ready"},
            hanging_probe=PROBES["log"](blocking, CLOCK),
        )
        blocking.release.set()


class TestFresh(WaitingProbeSuite, kind="fresh"):
    """The suite, on real files."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[Subject]:
        """Return the probe with a file of now, and one of an hour ago."""
        instance = make_instance(tmp_path)
        (instance.folder / "new").write_text("x")
        (instance.folder / "old").write_text("x")
        os.utime(instance.folder / "old", (time.time() - 3600,) * 2)
        blocking = BlockingFiles()
        options: Mapping[str, str | int] = {"path": "new", "max_age": 600_000, "min_size": 1}
        yield Subject(
            make("fresh"),
            instance,
            options,
            {**options, "path": str(instance.folder / "old")},
            broken={**options, "path": "\n" * 3000},
            hanging=options,
            hanging_probe=PROBES["fresh"](blocking, CLOCK),
        )
        blocking.release.set()


class TestDisk(WaitingProbeSuite, kind="disk"):
    """The suite, on the disk of this machine."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[Subject]:
        """Return the probe with a need that is met, and one that no disk meets."""
        blocking = BlockingFiles()
        yield Subject(
            make("disk"),
            make_instance(tmp_path),
            {"free": 1},
            {"free": 2**60, "path": "not/there/yet"},
            broken={"free": "no number"},
            hanging={"free": 1},
            hanging_probe=PROBES["disk"](blocking, CLOCK),
        )
        blocking.release.set()


class TestMemory(ProbeSuite, kind="memory"):
    """The suite, on the memory of this machine."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return the probe with a need that is met, and one that no machine meets."""
        return Subject(
            make("memory"),
            make_instance(tmp_path),
            {"available": 1},
            {"available": 2**60},
            broken={"available": "no number"},
        )


class _Told(AgentProbe):
    """The probe of the agent, told by its options what the agent lacks: it has no others."""

    def check(self, options: Mapping[str, Value], context: ProbeContext) -> ProbeResult:
        self.missing = lambda: str(options.get("missing", ""))
        return super().check(options, context)


class TestAgent(ProbeSuite, kind="agent"):
    """The suite, on an agent that has reported and one that has not."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return the probe; nothing can be wrong with options that it does not have."""
        missing = {"missing": "it has not reported yet"}
        return Subject(_Told(Files(), CLOCK), make_instance(tmp_path), {}, missing, broken=missing)


class TestPrometheus(WaitingProbeSuite, kind="prometheus"):
    """The suite, against real servers."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[Subject]:
        """Return the probe with a page, and a server that says nothing."""
        page = b'# HELP up \x1b\nup{job="a\\\\b"} 1\n' + b"other 2\n" * 5000
        with serving(answer(200, page)) as port, serving(silent) as mute:
            url = f"http://127.0.0.1:{port}/metrics"
            yield Subject(
                make("prometheus"),
                make_instance(tmp_path),
                {"url": url, "metric": "up", "labels": ("job=a\\b",), "min": "0.5"},
                {"url": url, "metric": "up", "min": "1.5"},
                broken={"url": url, "metric": "up", "max": "no number" + "\n" * 999},
                hanging={"url": f"http://127.0.0.1:{mute}/", "metric": "up"},
            )
