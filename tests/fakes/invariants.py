"""What must be true of a simulated rollout in every tick, each by an own reading of the rules; else AssertionError."""

from collections import Counter
from typing import TYPE_CHECKING

from fakes.rows import OLD, REVERTED
from fakes.simulated_host import GOOD, UNCLEAR, Host
from towpath.waves import ALL, effective
from towpath.windows import Window
from towpath_server.domain.gates import members
from towpath_server.domain.metric import Finding
from towpath_server.domain.model import EntryKind, RolloutState
from towpath_server.domain.standing import Decision, Phase, RolloutView, limit, standing

if TYPE_CHECKING:
    from fakes.simulated import Fleet

# Taken back at once where nobody is there to go back.
STOPPED = (RolloutState.HALTED, RolloutState.REVERTING, RolloutState.REVERTED)
GOING = (RolloutState.ROLLING, RolloutState.PAUSED, RolloutState.DONE)
FINISHED = (Phase.HEALTHY, Phase.FAILED, Phase.INCONCLUSIVE)
ENDED = (GOOD, REVERTED, UNCLEAR)


def out(host: Host) -> bool:
    """Return whether a host is between two releases, or was told to change and has not said how that ended."""
    seen = host.view
    if host.down:
        return True
    if seen.retreat is not None and not seen.retreat.arrived_unix_ms:
        return seen.state not in (OLD, REVERTED, UNCLEAR)
    return seen.admitted_unix_ms is not None and seen.state not in ENDED


def outages(fleets: "list[Fleet]", label: str) -> Counter[str]:
    """Return value of the label to how many hosts are out."""
    return Counter(host.view.labels.get(label, "") for fleet in fleets for host in fleet.hosts.values() if out(host))


def budgets(fleet: "Fleet", were_out: set[str]) -> None:
    """No value of a label loses a host beyond its budget, those of other rollouts of the app included.

    A rollout that is alone never exceeds it; beside one of another policy, it takes no host down where there is no room.
    """
    for name, host in fleet.hosts.items():
        if not fleet.neighbours or (out(host) and name not in were_out):
            for count, most in uses(fleet, host):
                assert count <= most, f"{count} out of those beside {name}, {most} allowed"


def uses(fleet: "Fleet", host: Host) -> list[tuple[int, int]]:
    """Return for each budget how many with the host's value are out, and how many may be."""
    found = []
    for budget in fleet.picture.budgets:
        value = host.view.labels.get(budget.label, "")
        size = sum(one.view.labels.get(budget.label, "") == value for one in fleet.hosts.values())
        count = outages([fleet, *fleet.neighbours], budget.label)[value]
        found.append((count, budget.count or max(1, size * budget.share // ALL)))
    return found


def brought_back(fleet: "Fleet") -> None:
    """Of a rollout that was taken back nobody is left on its release who is there, unless a budget keeps it."""
    for host in fleet.hosts.values():
        if host.view.state is GOOD and host.view.online and not host.view.held and host.view.retreat is None:
            assert any(count >= most for count, most in uses(fleet, host)), "left on what was taken back"


def may_move(fleet: "Fleet", before: RolloutView, name: str) -> None:
    """Nobody is let in before, after or outside of the times; nor a newcomer that waits."""
    timing, labels = before.timing, fleet.hosts[name].view.labels
    assert fleet.now >= timing.at_unix_ms, "let in before its time"
    if timing.expires_unix_ms and before.state is RolloutState.ROLLING:
        assert fleet.now < timing.expires_unix_ms, "let in after its time"
    if timing.windows:
        assert any(in_minutes(window, fleet.now) for window in timing.windows), "let in outside of its windows"
    for entry in fleet.calendar:
        if entry.kind is EntryKind.WINDOW and entry.weekly is not None:
            assert in_minutes(entry.weekly, fleet.now), "let in outside of the environment's window"
        elif not timing.override and entry.selector.items() <= labels.items():
            assert not entry.from_unix_ms <= fleet.now < entry.until_unix_ms, "let in while frozen"
    assert before.roster is None or name in before.roster, "a newcomer was let in"


def in_minutes(window: Window, now: int) -> bool:
    """Return whether a window over midnight in UTC, where no clocks change, is open."""
    minute, weekday = now // 60_000 % 1440, (now // 86_400_000 + 3) % 7
    if window.opens < window.closes:
        return weekday in window.days and window.opens <= minute < window.closes
    late, early = weekday in window.days, (weekday - 1) % 7 in window.days
    return (late and minute >= window.opens) or (early and minute < window.closes)


def check(fleet: "Fleet", before: RolloutView, decision: Decision, were_out: set[str]) -> None:
    """What must be true of a decision about `before`, and of the fleet that has heard it.

    `were_out`: the hosts of the fleet that were out before it heard.
    """
    state, wave = decision.state, decision.wave
    if before.state in GOING and stops(fleet, before):
        assert decision.admit == (), "admitted in the tick of a breach"
        assert state in STOPPED, "a breach that did not stop"
    if before.state in (RolloutState.ROLLING, RolloutState.PAUSED) and state is RolloutState.CANCELLED:
        assert 0 < before.timing.expires_unix_ms <= fleet.now, "ended before its time was over"
    if before.state is not RolloutState.ROLLING:
        assert wave == before.wave or before.state is RolloutState.DONE, "a wave opened while nothing may move"
    if wave > before.wave and state is RolloutState.ROLLING:
        for number in range(before.wave, wave):
            passed(fleet, before, number)
    if before.state is RolloutState.ROLLING and state is RolloutState.DONE:
        for number in range(before.wave, len(effective(before.waves))):
            passed(fleet, before, number)
    under_way = [name for name, host in fleet.hosts.items() if host.down and name not in fleet.silent]
    assert len(under_way) <= limit(before), "more hosts down than allowed"
    budgets(fleet, were_out)


def stops(fleet: "Fleet", before: RolloutView) -> bool:
    """Return whether the hosts or a metric of the newest open wave are a breach."""
    phases = {host.host_id: standing(before, host, fleet.now).phase for host in before.hosts}
    finished = sum(phase in FINISHED for phase in phases.values())
    failed = sum(phase is Phase.FAILED and name not in before.excused for name, phase in phases.items())
    counted = before.max_failures > 0 or not before.max_failure_share
    over = before.max_failure_share > 0 and failed * ALL > before.max_failure_share * finished
    asked = effective(before.waves)[min(before.wave, len(effective(before.waves)) - 1)].metrics
    trail = before.trails.get("errors")
    bad = (
        bool(asked)
        and before.state is RolloutState.ROLLING
        and before.wave_done_unix_ms > 0
        and trail is not None
        and trail.finding is Finding.BAD
        and trail.since_unix_ms >= max(before.wave_done_unix_ms, before.resumed_unix_ms)
    )
    return over or bad or (counted and failed > before.max_failures)


def passed(fleet: "Fleet", before: RolloutView, number: int) -> None:
    """A wave that was passed had finished, soaked, and has what it asks of people and metrics."""
    numbers, wave = members(before), effective(before.waves)[number]
    for host in before.hosts:
        if numbers[host.host_id] <= number:
            phase = standing(before, host, fleet.now).phase
            assert phase not in (Phase.WAITING, Phase.IN_FLIGHT), "passed before everybody had finished"
    given = {one.by for one in before.approvals if one.wave == number}
    assert len(given) >= wave.approve, "passed without its approvals"
    if number not in numbers.values() and number < len(effective(before.waves)) - 1:
        return  # nobody is in it
    done = before.wave_done_unix_ms if number == before.wave else 0
    assert not wave.manual, "passed without its person"
    assert not wave.soak_ms or (done and done + wave.soak_ms <= fleet.now), "passed before it had soaked"
    if wave.metrics:
        trail = before.trails.get("errors")
        assert done, "passed before its metric was asked"
        assert trail is not None, "passed before its metric was asked"
        assert trail.finding is Finding.GOOD, "passed on a metric that is not good"
        assert trail.since_unix_ms >= done, "passed on what was said before it had finished"
