"""Waiting for a rollout: when it ended, and how."""

import pytest

from towpath.errors import Refusal, Unavailable
from towpath_cli.model import HostProgress, Rollout
from towpath_cli.watch import ChangeLines, Outcome, Result, describe, verdict, wait
from towpath_cli.world import World


def host(
    name: str, phase: str, *, state: str = "", current: str = "", online: bool = True, reason: str = ""
) -> HostProgress:
    return HostProgress(name, online, True, phase, current, state, "", "", reason)


def rollout(state: str, *hosts: HostProgress, reason: str = "") -> Rollout:
    return Rollout("a1", "hello", "1.0", "dev", state, reason, hosts)


class Server:
    """Answers from a script, the last one for ever; time passes only where it is slept."""

    def __init__(self, *script: Rollout | Exception) -> None:
        self._script = list(script)
        self.now = 100.0
        self.shown: list[Rollout] = []
        self.notes: list[str] = []

    def get(self, deadline_s: float) -> Rollout:
        assert 0 < deadline_s <= 5
        now = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if isinstance(now, Exception):
            raise now
        return now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def wait(self, timeout_ms: int = 10_000) -> Outcome:
        world = World(monotonic=lambda: self.now, sleep=self.sleep)
        return wait(self.get, world=world, timeout_ms=timeout_ms, show=self.shown.append, note=self.notes.append)


@pytest.mark.parametrize(
    ("state", "phases", "result"),
    [
        ("rolling", ["healthy", "in_flight"], None),
        ("rolling", ["failed"], None),
        ("done", ["healthy", "healthy"], Result.HEALTHY),
        ("done", ["healthy", "offline"], Result.HEALTHY),
        ("done", [], None),
        ("done", ["offline"], None),
        ("done", ["healthy", "failed"], Result.FAILED),
        ("done", ["healthy", "inconclusive"], Result.FAILED),
        ("halted", ["failed", "in_flight"], None),
        ("halted", ["failed", "waiting", "offline"], Result.FAILED),
        ("superseded", ["in_flight"], Result.FAILED),
        ("removed", [], Result.FAILED),
        ("a state of tomorrow", ["healthy"], None),
    ],
)
def test_verdict(state: str, phases: list[str], result: Result | None) -> None:
    """Only what hosts proved is healthy; a halt is waited out; nothing healthy is nothing proven."""
    hosts = [host(f"h{n}", phase, online=phase != "offline") for n, phase in enumerate(phases)]
    assert verdict(rollout(state, *hosts)) == result


def test_exit_codes() -> None:
    """Healthy is 0, failed 1, time-out 2."""
    assert [int(result) for result in Result] == [0, 1, 2]


def test_each_change_is_shown_once() -> None:
    """What is seen again unchanged is not shown again."""
    flight = rollout("rolling", host("h1", "in_flight", state="Fetching"))
    done = rollout("done", host("h1", "healthy", state="Confirmed"))
    server = Server(flight, flight, flight, done)
    outcome = server.wait()
    assert (outcome.result, outcome.rollout) == (Result.HEALTHY, done)
    assert server.shown == [flight, done]
    assert 0 < outcome.seconds < 1


def test_time_out() -> None:
    """Waiting ends at the time-out, with the last that was seen."""
    server = Server(rollout("rolling", host("h1", "waiting")))
    outcome = server.wait(3_000)
    assert outcome.result is Result.TIMEOUT
    assert outcome.seconds == pytest.approx(3.0, abs=0.01)


def test_a_halt_at_the_time_out_is_a_failure() -> None:
    """A halted rollout whose last host never came to rest is failed, not merely late."""
    assert Server(rollout("halted", host("h1", "in_flight"))).wait(1_000).result is Result.FAILED


def test_a_silent_server_is_waited_for() -> None:
    """A server that does not answer for a while is said once and waited for."""
    gone = Unavailable("cannot reach the server at x: connection refused")
    server = Server(gone, gone, gone, rollout("done", host("h1", "healthy")))
    assert server.wait().result is Result.HEALTHY
    assert server.notes == ["cannot reach the server at x: connection refused; still waiting"]


def test_a_server_that_never_answers_is_a_time_out() -> None:
    """Without any answer the result is a time-out that shows nothing."""
    outcome = Server(Unavailable("gone")).wait(1_000)
    assert (outcome.result, outcome.rollout) == (Result.TIMEOUT, None)


def test_a_refusal_ends_the_wait() -> None:
    """What no waiting can help is raised at once."""
    with pytest.raises(Refusal):
        Server(Refusal("no")).wait()


def test_one_line_per_change_per_host() -> None:
    """Only the hosts that changed get a line."""
    lines = ChangeLines()
    first = rollout("rolling", host("h1", "waiting"), host("h2", "in_flight", state="Fetching"))
    assert list(lines.changes(first.hosts)) == ["h1: waiting", "h2: in flight, Fetching"]
    second = rollout("rolling", host("h1", "waiting"), host("h2", "in_flight", state="Staged", current="1.0"))
    assert list(lines.changes(second.hosts)) == ["h2: in flight, Staged, runs 1.0"]
    assert list(lines.changes(second.hosts)) == []


def test_a_hosts_reason_is_on_its_line() -> None:
    """A failure says why, without control characters."""
    line = describe(host("h1", "failed", state="Reverted", current="1.0", reason="probe http: 500\x1b"))
    assert line == "h1: failed, Reverted, runs 1.0: probe http: 500\\x1b"


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        (("waiting", "Confirmed", "1.0", "healthy", "waits for its turn"), "waiting, runs 1.0, healthy"),
        (
            ("offline", "", "", "", "offline; it catches up when it comes back"),
            "offline: it catches up when it comes back",
        ),
        (("in_flight", "Confirmed", "1.0", "healthy", "no report yet"), "in flight, runs 1.0, healthy: no report yet"),
        (
            ("in_flight", "Watching", "2.0", "starting", "in Watching, offline"),
            "in flight, Watching, runs 2.0, starting: offline",
        ),
        (("healthy", "Confirmed", "2.0", "healthy", "runs it and is healthy"), "healthy, Confirmed, runs 2.0"),
        (
            ("going_back", "Planned", "2.0", "healthy", "goes back, in Planned"),
            "going back, Planned, runs 2.0, healthy",
        ),
        (
            ("back", "Confirmed", "1.0", "healthy", "runs 1.0 again; 2.0 failed: boom"),
            "back, Confirmed, runs 1.0, healthy: 2.0 failed: boom",
        ),
    ],
)
def test_a_line_says_each_thing_once(seen: tuple[str, str, str, str, str], line: str) -> None:
    """And no state of the release before: a host that waits, or has not answered yet, is in none of this one."""
    phase, state, current, health, reason = seen
    assert describe(HostProgress("h1", True, True, phase, current, state, health, "", reason)) == f"h1: {line}"


def test_hosts_that_never_left_are_no_news_when_a_rollout_is_taken_back() -> None:
    """Of a thousand hosts that waited for their turn nobody wants a line that they run what they ran."""
    lines = ChangeLines()
    list(lines.changes(rollout("rolling", host("h1", "healthy"), host("h2", "waiting"), host("h3", "offline")).hosts))
    back = rollout("reverting", host("h1", "going_back"), host("h2", "back"), host("h3", "back"))
    assert list(lines.changes(back.hosts)) == ["h1: going back"]
    assert list(
        lines.changes(rollout("reverted", host("h1", "back"), host("h2", "back", state="Confirmed")).hosts)
    ) == ["h1: back"]
    assert [line[:2] for line in ChangeLines().changes(back.hosts)] == ["h1", "h2", "h3"], (
        "who looks first sees them all"
    )
