"""From probe results to a verdict: the three clocks. Every time here is handed in."""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towpath.release import HealthPolicy, Probe
from towpath.status import Health
from towpath_agent.engine.health import MAX_EVIDENCE_CHARS, MIN_LINE_CHARS, HealthTracker

POLICY = HealthPolicy(healthy_for_ms=10_000, deadline_ms=60_000)
HTTP = Probe("http", interval_ms=1_000, successes=1, failures=3)
TCP = Probe("tcp", interval_ms=5_000, successes=1, failures=1)
START = 100.0


def tracker(*probes: Probe, policy: HealthPolicy = POLICY) -> HealthTracker:
    return HealthTracker(probes, policy, START)


def run(it: HealthTracker, results: Iterable[bool], first_s: float = 0.0, number: int = 0) -> list[Health]:
    """Feed one result a second, beginning `first_s` after the start; return the verdicts."""
    verdicts = []
    for second, ok in enumerate(results):
        now = START + first_s + second
        it.observe(number, ok=ok, evidence=f"{'good' if ok else 'bad'} at {first_s + second:g}", now_s=now)
        verdicts.append(it.verdict(now).health)
    return verdicts


def health(it: HealthTracker, after_s: float) -> Health:
    return it.verdict(START + after_s).health


def test_all_probes_must_pass_for_healthy_for() -> None:
    """Starting until ten seconds of passing are over, then healthy, to the moment."""
    it = tracker(HTTP)
    it.observe(0, ok=True, evidence="", now_s=START + 2)
    assert [health(it, s) for s in (2, 11.9, 12)] == [Health.STARTING, Health.STARTING, Health.HEALTHY]
    assert it.verdict(START + 12).reason == "all probes pass"
    assert it.verdict(START + 3).reason == "waiting for its probes"


def test_an_app_that_is_healthy_for_nine_seconds_and_dies_is_ill_at_once() -> None:
    """Its probe passed before, so after `failures` in a row nobody waits for the deadline."""
    it = tracker(HTTP)
    assert set(run(it, [True] * 10)) == {Health.STARTING}
    assert run(it, [False] * 3, first_s=10) == [Health.STARTING, Health.STARTING, Health.UNHEALTHY]
    verdict = it.verdict(START + 12)
    assert verdict.reason == "probe http failed 3 times in a row: bad at 12"
    assert verdict.evidence == "http failed 3 times in a row, last in 0 ms: bad at 12"


def test_an_app_that_dies_in_the_tenth_second_was_never_healthy() -> None:
    """One failed check before healthy_for is over is a break; the clock does not run on to healthy beside it."""
    it = tracker(HTTP)
    run(it, [True] * 10)
    it.observe(0, ok=False, evidence="", now_s=START + 9.9)
    assert health(it, 10) is Health.STARTING


def test_an_app_that_answers_after_healthy_for_but_before_the_deadline_becomes_healthy() -> None:
    """A slow start is judged by the deadline alone: failing before the first pass counts for nothing."""
    it = tracker(HTTP)
    assert set(run(it, [False] * 40)) == {Health.STARTING}
    verdicts = run(it, [True] * 11, first_s=40)
    assert verdicts == [Health.STARTING] * 10 + [Health.HEALTHY]


def test_an_app_that_answers_too_late_for_the_deadline_is_ill() -> None:
    """Passing since eight seconds is not enough when the deadline comes; it says what is missing."""
    it = tracker(HTTP)
    run(it, [False] * 52)
    assert run(it, [True] * 9, first_s=52) == [Health.STARTING] * 8 + [Health.UNHEALTHY]
    assert it.verdict(START + 60).reason == (
        "not healthy within the deadline of 60s: not healthy for 10s without a break"
    )


def test_an_app_that_never_answers_is_ill_at_the_deadline_with_evidence() -> None:
    """Starting until the deadline, then ill, with the first probe that does not pass and what all of them saw."""
    it = tracker(TCP, HTTP)
    it.observe(0, ok=True, evidence="connected", now_s=START)
    it.observe(1, ok=False, evidence="503", now_s=START, took_ms=7)
    assert health(it, 59.9) is Health.STARTING
    verdict = it.verdict(START + 60)
    assert verdict.health is Health.UNHEALTHY
    assert verdict.reason == "not healthy within the deadline of 60s: probe http does not pass: 503"
    assert verdict.evidence == (
        "http failed 1 times in a row, last in 7 ms: 503\ntcp passed 1 times in a row, last in 0 ms: connected"
    )


def test_a_probe_that_was_never_run_is_said_so() -> None:
    """Without a result the evidence is that there is none."""
    assert "probe http does not pass: not run yet" in tracker(HTTP).verdict(START + 60).reason


def test_flapping_starts_healthy_for_anew() -> None:
    """Every other check fails: never `failures` in a row and never healthy, so the deadline ends it."""
    it = tracker(HTTP)
    assert set(run(it, [True, False] * 30)) == {Health.STARTING}
    assert health(it, 60) is Health.UNHEALTHY


def test_after_flapping_the_whole_healthy_for_must_pass() -> None:
    """The clock begins with the first pass after the break, not with the break."""
    it = tracker(HTTP)
    run(it, [True] * 5 + [False] * 2 + [True])
    assert [health(it, s) for s in (15, 16.9, 17)] == [Health.STARTING, Health.STARTING, Health.HEALTHY]


def test_flapping_of_one_probe_is_a_break_for_all() -> None:
    """A steady probe does not carry the other one's break."""
    it = tracker(HTTP, TCP)
    it.observe(0, ok=True, evidence="", now_s=START)
    it.observe(1, ok=True, evidence="", now_s=START)
    it.observe(0, ok=False, evidence="", now_s=START + 5)
    it.observe(1, ok=True, evidence="", now_s=START + 6)
    assert health(it, 16) is Health.STARTING
    it.observe(0, ok=True, evidence="", now_s=START + 7)
    assert [health(it, s) for s in (16.9, 17)] == [Health.STARTING, Health.HEALTHY]


def test_what_is_proven_is_forgiven_fewer_than_failures_in_a_row() -> None:
    """Once healthy, single failed checks change nothing; `failures` in a row do, at once."""
    it = tracker(HTTP)
    assert run(it, [True] * 11)[-1] is Health.HEALTHY
    assert run(it, [False, False, True, False, False, False], first_s=11) == [Health.HEALTHY] * 5 + [Health.UNHEALTHY]


def test_what_recovers_must_prove_itself_anew() -> None:
    """After illness healthy_for counts from the first pass on; after the deadline it is ill until then."""
    it = tracker(HTTP)
    run(it, [True] * 11 + [False] * 3)
    assert run(it, [True] * 11, first_s=14) == [Health.STARTING] * 10 + [Health.HEALTHY]
    run(it, [False] * 3, first_s=70)
    assert run(it, [True] * 11, first_s=80) == [Health.UNHEALTHY] * 10 + [Health.HEALTHY]


def test_what_was_proven_is_lost_when_one_of_several_falls_ill() -> None:
    """A probe that goes on passing does not carry the one that fell ill: after its recovery all is proven anew."""
    it = tracker(HTTP, TCP)
    for number in (0, 1):
        it.observe(number, ok=True, evidence="", now_s=START)
    assert health(it, 10) is Health.HEALTHY
    it.observe(1, ok=False, evidence="", now_s=START + 20)
    it.observe(1, ok=True, evidence="", now_s=START + 25)
    assert [health(it, s) for s in (25, 34.9, 35)] == [Health.STARTING, Health.STARTING, Health.HEALTHY]


def test_passing_takes_successes_in_a_row() -> None:
    """Two passes and a failure begin the count again; only then can the probe be said to have passed."""
    it = tracker(Probe("http", successes=3, failures=1), policy=HealthPolicy(0, 60_000))
    assert run(it, [True, True, False, True, True]) == [Health.STARTING] * 5
    assert run(it, [True], first_s=5) == [Health.HEALTHY]


def test_failing_takes_failures_in_a_row() -> None:
    """A pass between failures begins their count again."""
    it = tracker(HTTP, policy=HealthPolicy(0, 60_000))
    verdicts = run(it, [True, False, False, True, False, False, False])
    assert verdicts == [Health.HEALTHY] * 6 + [Health.UNHEALTHY]


def test_all_probes_must_pass_and_the_first_ill_one_is_named() -> None:
    """One passing probe proves nothing; of several ill ones the first is the reason and all are evidence."""
    it = tracker(HTTP, TCP, policy=HealthPolicy(0, 60_000))
    it.observe(0, ok=True, evidence="200", now_s=START)
    assert health(it, 0) is Health.STARTING
    it.observe(1, ok=True, evidence="connected", now_s=START)
    assert health(it, 0) is Health.HEALTHY
    it.observe(1, ok=False, evidence="refused", now_s=START + 5)
    verdict = it.verdict(START + 5)
    assert verdict.health is Health.UNHEALTHY
    assert verdict.reason == "probe tcp failed 1 times in a row: refused"
    assert [line.partition(",")[0] for line in verdict.evidence.splitlines()] == [
        "tcp failed 1 times in a row",
        "http passed 1 times in a row",
    ]


def test_evidence_has_room_for_what_fails_and_a_line_for_every_probe() -> None:
    """Those that fail come first and whole as far as they fit; of the others at least the beginning is there."""
    probes = [Probe(f"kind{number}", failures=1) for number in range(32)]
    it = tracker(*probes, policy=HealthPolicy(0, 1_000))
    for number in range(30):
        it.observe(number, ok=number not in (9, 20), evidence=f"{number} " + "x" * 510, now_s=START, took_ms=number)
    lines = it.verdict(START + 1).evidence.splitlines()
    assert sum(len(line) + 1 for line in lines) <= MAX_EVIDENCE_CHARS + 1
    assert [line.split()[0] for line in lines] == [
        f"kind{n}" for n in (9, 20, *(n for n in range(32) if n not in (9, 20)))
    ]
    assert lines[0].startswith("kind9 failed 1 times in a row, last in 9 ms: 9 xxx")
    assert [len(line) for line in lines[1:3]] == [MIN_LINE_CHARS] * 2
    assert lines[0].endswith("...")
    assert lines[-1] == "kind31 not run yet"
    few = tracker(*probes[:3], policy=HealthPolicy(0, 1_000))
    for number in range(3):
        few.observe(number, ok=number == 0, evidence="x" * 510, now_s=START)
    assert [line.endswith("...") for line in few.verdict(START + 1).evidence.splitlines()] == [False, False, False]


def test_without_probes_healthy_for_alone_counts() -> None:
    """A release without probes is healthy after healthy_for from its start."""
    it = tracker()
    assert [health(it, s) for s in (0, 9.9, 10, 1000)] == [Health.STARTING] * 2 + [Health.HEALTHY] * 2
    assert it.due(START + 1000) == []
    assert it.next_due_s() is None


def test_every_probe_is_due_at_first_and_then_after_its_interval() -> None:
    """Probes run at once, then each at its own interval, or at the slower one that is handed in."""
    it = tracker(HTTP, TCP)
    assert it.due(START - 0.1) == []
    assert it.due(START) == [0, 1]
    assert it.next_due_s() == START
    it.observe(0, ok=True, evidence="", now_s=START + 0.5)
    it.observe(1, ok=True, evidence="", now_s=START + 0.5)
    assert it.next_due_s() == START + 1.5
    assert (it.due(START + 1.4), it.due(START + 1.5), it.due(START + 5.5)) == ([], [0], [0, 1])
    it.observe(0, ok=True, evidence="", now_s=START + 2, slow_s=3.0)
    it.observe(1, ok=True, evidence="", now_s=START + 2, slow_s=3.0)
    assert (it.due(START + 4.9), it.due(START + 5), it.due(START + 7)) == ([], [0], [0, 1])


def test_time_alone_decides_at_healthy_for_or_at_the_deadline() -> None:
    """Whoever waits is told the next moment that matters: healthy_for, the deadline where it is first, then none."""
    it = tracker(HTTP)
    assert it.decides_at_s(START) == START + 60
    it.observe(0, ok=True, evidence="", now_s=START + 2)
    assert it.decides_at_s(START + 2) == START + 12
    assert it.decides_at_s(START + 12) == START + 60
    assert it.decides_at_s(START + 60) is None
    late = tracker(HTTP)
    late.observe(0, ok=True, evidence="", now_s=START + 55)
    assert late.decides_at_s(START + 55) == START + 60
    assert health(late, 60) is Health.UNHEALTHY
    assert late.decides_at_s(START + 60) == START + 65


RESULTS = st.lists(st.tuples(st.integers(0, 1), st.booleans(), st.integers(0, 4)), max_size=40)


@settings(max_examples=200)
@given(RESULTS, st.integers(1, 3), st.integers(1, 3))
def test_healthy_is_always_proven(results: list[tuple[int, bool, int]], successes: int, failures: int) -> None:
    """Whatever the results: the first HEALTHY comes only after healthy_for in which no check failed, and time alone
    changes the verdict only at the moment that was announced.
    """
    probes = (Probe("a", successes=successes, failures=failures), Probe("b", successes=successes, failures=failures))
    it = HealthTracker(probes, HealthPolicy(5_000, 40_000), 0.0)
    now, broken_at, proven = 0.0, 0.0, False
    for number, ok, pause_s in results:
        for _ in range(pause_s):
            before, announced = it.verdict(now).health, it.decides_at_s(now)
            now += 1
            if it.verdict(now).health is not before:
                assert announced == now
            proven = proven or it.verdict(now).health is Health.HEALTHY
            if it.verdict(now).health is Health.HEALTHY and broken_at:
                assert now - broken_at >= 5
        it.observe(number, ok=ok, evidence="", now_s=now)
        if not ok and not proven:
            broken_at = now


@pytest.mark.parametrize("results", [[True], [True, False]])
def test_a_tracker_with_an_old_proof_says_healthy_at_the_first_pass(results: list[bool]) -> None:
    """healthy_for 0 is how a restarted agent goes on with what was proven: one pass is enough, one failure forgiven."""
    assert set(run(tracker(HTTP, policy=HealthPolicy(0, 60_000)), results)) == {Health.HEALTHY}
