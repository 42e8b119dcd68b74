"""Each probe keeps what all promise; so does the fake."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.probe_port import ProbeSuite, Subject, WaitingProbeSuite
from fakes.drivers import FakeProbe
from fakes.loopback import answer, full_queue, serving, silent, unused_port
from fakes.services import make_instance
from towpath.kinds import PROBES as KNOWN
from towpath_agent.probes import PROBES
from towpath_agent.system.clock import SystemClock

CLOCK = SystemClock()


def test_every_known_kind_has_its_driver() -> None:
    """What a publisher's lint allows, the agent can probe; and nothing else."""
    assert set(PROBES) == set(KNOWN)


class TestFake(ProbeSuite):
    """The suite, on the fake."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return a fake that its options answer."""
        probe = FakeProbe(lambda options, _context: options["ok"] if isinstance(options["ok"], bool) else "odd\n" * 999)
        return Subject(probe, make_instance(tmp_path), {"ok": True}, {"ok": False}, {"ok": "?"})


class TestHttp(WaitingProbeSuite):
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
                PROBES["http"](CLOCK),
                make_instance(tmp_path),
                {"url": f"http://127.0.0.1:{good}/healthz?x=1"},
                {"url": f"http://127.0.0.1:{bad}/"},
                broken={"url": "http://127.0.0.1:99999999/" + "x" * 2000},
                hanging={"url": f"http://127.0.0.1:{mute}/"},
            )


class TestTcp(WaitingProbeSuite):
    """The suite, against a real listener."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Iterator[Subject]:
        """Return the probe with ports that listen, do not, and whose queue is full."""
        with serving(silent) as port, full_queue() as full:
            yield Subject(
                PROBES["tcp"](CLOCK),
                make_instance(tmp_path),
                {"port": str(port)},
                {"port": unused_port()},
                broken={"port": "no number", "host": "x" * 2000},
                hanging={"port": full},
            )


class TestExec(WaitingProbeSuite):
    """The suite, on real programs."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return the probe with a program that does as it is told."""
        instance = make_instance(
            tmp_path, script="#!/bin/sh\nprintf 'said\\n\\033[1m'; yes | head -c 9999\neval \"$1\"\n"
        )
        return Subject(
            PROBES["exec"](CLOCK),
            instance,
            {"command": ("bin/app", "exit 0")},
            {"command": ("bin/app", "exit 1")},
            broken={"command": ("../../../outside",)},
            hanging={"command": ("bin/app", "trap '' TERM; sleep 1000")},
        )


class TestProcess(ProbeSuite):
    """The suite, on what the service saw."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> Subject:
        """Return the probe with limits around the memory that the suite's state has."""
        return Subject(
            PROBES["process"](CLOCK),
            make_instance(tmp_path),
            {"max_rss": 1000, "max_restarts": 0},
            {"max_rss": 999},
            broken={"max_rss": "no number"},
        )
