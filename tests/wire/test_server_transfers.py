"""What operators see of bytes on their way to hosts, and that a host behind a thin line is not taken for a silent one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.cli_shell import CliShell
from fakes.live_server import LiveServer, eventually
from towpath.reports import Transfer
from towpath.status import Health, State, Verdict

SOME = Transfer("1.0.0", 12 * 2**20, 48 * 2**20, rate=2**18, remaining_ms=144_000)
TEXT = "12.0 MiB of 48.0 MiB, 256.0 KiB/s, 2m left"
FETCHING = {"state": State.FETCHING, "health": Health.UNKNOWN, "verdict": Verdict.NONE, "current_version": ""}
WAIT_S = 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with LiveServer(tmp_path) as running:
        yield running


def test_everybody_who_looks_at_a_host_sees_what_travels_to_it(server: LiveServer) -> None:
    """`host show`, `status`, `rollout show`, `watch` and `why`: how much came, of how much, how fast, how long still."""
    shell = CliShell(server.fleet, server.operators)
    host = server.new_host()
    server.publish("1.0.0")
    rollout = server.deploy("1.0.0").assignment
    eventually(lambda: host.desired() == "1.0.0", "it is admitted", WAIT_S)
    host.obey(**FETCHING, current_sha256=b"", transfer=SOME)
    for words in (
        ("host", "show", "h1"),
        ("status", "hello"),
        ("rollout", "show", rollout),
        ("rollout", "watch", rollout, "--once"),
        ("why", "h1", "hello"),
    ):
        eventually(lambda words=words: TEXT in shell.type(*words).out, " ".join(words), WAIT_S)
    (shown,) = shell.type("rollout", "show", rollout, "-o", "json").json()["hosts"]
    assert (shown["transfer"]["done"], shown["transfer"]["remaining_ms"]) == (SOME.done, 144_000)
    (app,) = shell.type("host", "show", "h1", "-o", "json").json()["apps"]
    assert app["transfer"]["total"] == SOME.total
    host.obey()
    assert TEXT not in shell.type("host", "show", "h1").out
    assert TEXT not in shell.type("why", "h1", "hello").out


def test_bytes_that_come_are_progress(server: LiveServer) -> None:
    """A fetch that takes longer than the progress deadline fails nobody while it goes on, and does when it stands still."""
    host = server.new_host()
    server.publish("1.0.0")
    rollout = server.deploy("1.0.0", progress_deadline_ms=600_000).assignment
    eventually(lambda: host.desired() == "1.0.0", "it is admitted", WAIT_S)

    def phase() -> str:
        host.sync()
        return str(server.progress(rollout).hosts[0].phase)

    for step in range(4):
        host.obey(**FETCHING, current_sha256=b"", transfer=Transfer("1.0.0", 1000 * step, 10**6))
        server.clock.ahead_ms += 400_000
        assert phase() == "in_flight"
    host.obey(**FETCHING, current_sha256=b"", transfer=Transfer("1.0.0", 3000, 10**6, rate=1))
    server.clock.ahead_ms += 300_000
    eventually(lambda: server.progress(rollout).state == "halted", "nothing came for longer than the deadline", WAIT_S)
