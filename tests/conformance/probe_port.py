"""What every `towpath_agent.probes.base.Probe` promises: an answer in time, with evidence, whatever it meets.

A subclass gives the fixture `subject`: the probe with options for a check that passes, fails, makes no sense,
and hangs, where it can. It names its kind, `class TestX(ProbeSuite, kind="x")`, and so it is known which kinds were run.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from towpath.parameters import Value
from towpath_agent.instance import Instance, ServiceState
from towpath_agent.probes.base import MAX_EVIDENCE_CHARS, Probe, ProbeContext, ProbeResult
from towpath_agent.system.clock import Deadline, SystemClock

RUNNING = ServiceState(running=True, pid=1, restarts=0, rss_bytes=1000)
TIMEOUT_S = 5.0
SHORT_S = 0.3


@dataclass
class Subject:
    """The probe under test; `broken` makes no sense."""

    probe: Probe
    instance: Instance
    passing: Mapping[str, Value]
    failing: Mapping[str, Value]
    broken: Mapping[str, Value]
    hanging: Mapping[str, Value] = field(default_factory=dict)
    hanging_probe: Probe | None = None  # where only another driver object can be made to hang

    def check(self, options: Mapping[str, Value], timeout_s: float = TIMEOUT_S) -> ProbeResult:
        return self.probe.check(options, ProbeContext(self.instance, RUNNING, timeout_s))


def _held() -> tuple[int, int]:
    """Return how many files this process has open, and how many threads it has in Python."""
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()


def _grown(before: tuple[int, int]) -> tuple[int, int]:
    now = _held()
    return now[0] - before[0], now[1] - before[1]


class ProbeSuite:
    """Run by each probe."""

    kinds: ClassVar[set[str]] = set()

    def __init_subclass__(cls, kind: str = "") -> None:
        """Remember that `kind` keeps what is promised here."""
        if kind:
            ProbeSuite.kinds.add(kind)

    def test_passing_check_passes_every_time(self, subject: Subject) -> None:
        """What is well is found well, with evidence, as often as asked."""
        for _ in range(3):
            result = subject.check(subject.passing)
            assert result.ok, result.evidence
            assert result.evidence

    def test_failing_check_is_a_result_and_no_exception(self, subject: Subject) -> None:
        """What is not well fails with evidence for a person."""
        result = subject.check(subject.failing)
        assert not result.ok
        assert result.evidence

    def test_evidence_is_one_short_line(self, subject: Subject) -> None:
        """Whatever the other side says, evidence stays short and printable: it goes into a journal and a report."""
        for options in (subject.passing, subject.failing, subject.broken):
            evidence = subject.check(options).evidence
            assert len(evidence) <= MAX_EVIDENCE_CHARS
            assert evidence.isprintable()

    def test_unusable_options_fail_the_check(self, subject: Subject) -> None:
        """A parameter that made no sense of an option is a failed check that shows it, never a dead agent."""
        result = subject.check(subject.broken)
        assert not result.ok
        assert result.evidence

    def test_nothing_is_left_open(self, subject: Subject) -> None:
        """A probe runs for years: a check leaves no file, socket or thread behind, however it ends."""
        for options in (subject.passing, subject.failing, subject.broken):
            subject.check(options)  # what is made once, at the first use, is made here
        before, rounds = _held(), 8
        for _ in range(rounds):
            for options in (subject.passing, subject.failing, subject.broken):
                subject.check(options)
        # Libraries keep a few files and threads of their own and make them when they like; one for each round is a leak.
        # What was closed may take a moment to go.
        deadline = Deadline(SystemClock(), TIMEOUT_S)
        while max(_grown(before)) >= rounds and not deadline.expired:
            threading.Event().wait(0.01)
        assert max(_grown(before)) < rounds


class WaitingProbeSuite(ProbeSuite):
    """Run besides by each probe that waits for somebody else."""

    def test_check_ends_at_its_timeout(self, subject: Subject) -> None:
        """What never answers fails at the timeout and says so; the agent is not held up."""
        deadline = Deadline(SystemClock(), TIMEOUT_S)
        probe = subject.hanging_probe or subject.probe
        result = probe.check(subject.hanging, ProbeContext(subject.instance, RUNNING, SHORT_S))
        assert not deadline.expired
        assert not result.ok
        assert "timed out" in result.evidence
