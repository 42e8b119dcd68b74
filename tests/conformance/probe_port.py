"""What every `towpath_agent.probes.base.Probe` promises: an answer in time, with evidence, whatever it meets.

A subclass gives the fixture `subject`: the probe with options for a check that passes, fails, makes no sense,
and hangs, where it can.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

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

    def check(self, options: Mapping[str, Value], timeout_s: float = TIMEOUT_S) -> ProbeResult:
        return self.probe.check(options, ProbeContext(self.instance, RUNNING, timeout_s))


class ProbeSuite:
    """Run by each probe."""

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


class WaitingProbeSuite(ProbeSuite):
    """Run besides by each probe that waits for somebody else."""

    def test_check_ends_at_its_timeout(self, subject: Subject) -> None:
        """What never answers fails at the timeout and says so; the agent is not held up."""
        deadline = Deadline(SystemClock(), TIMEOUT_S)
        result = subject.check(subject.hanging, SHORT_S)
        assert not deadline.expired
        assert not result.ok
        assert "timed out" in result.evidence
