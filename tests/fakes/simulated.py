"""A simulated fleet under one rollout: random hosts, faults and operators' acts, and what must be true in every tick.

The hosts obey as agents do: they leave what they were told to leave before the switch, fail, fall silent, go offline,
are held. Operators pause, resume, halt, advance and approve; metrics say what they like. The ticks apply decisions as
`services.ticking` does, one predecessor included; two rollouts of one app count each other's hosts, and the one of
higher priority is decided first. Each decision is made twice, from scratch and by a tally that only hears what changed;
they must be equal. What must be true of it is `fakes.invariants`. `python -m bench.rollouts` plays thousands of these,
the property tests some. A rule that is broken raises AssertionError.
"""

from dataclasses import dataclass, field, replace
from random import Random

from fakes import invariants
from fakes.rows import NOW, OLD, REVERTED, assignment, seen, view
from fakes.simulated_host import GOOD, UNCLEAR, Host
from towpath.budgets import parse_budgets
from towpath.metrics import Metric
from towpath.reports import AppState
from towpath.waves import effective, parse_waves
from towpath_server.domain import approval, metric
from towpath_server.domain.gates import asked_since, members
from towpath_server.domain.metric import Answer, Trail
from towpath_server.domain.model import CalendarEntry, OnBreach, Retreat, RolloutState
from towpath_server.domain.rolling import counts_hosts, decide, decided
from towpath_server.domain.standing import Decision, Phase, RolloutView, standing
from towpath_server.domain.tally import Tally
from towpath_server.domain.timing import bars, host_bars, some_bars

TICK_MS = 3_000
TICKS = 100
WAVES = ["", "1", "canary,50%", "canary:9s,10%,50%:6s", "2:6s,4", "25%:manual,100%:9s"]
GATED = ["canary:metric=errors,50%:approve,100%", "2:6s+metric=errors+approve=2,100%:metric=errors", "10%:approve=2"]
BUDGETS = [(), ("rack=1",), ("rack=50%",), ("rack=2", "wave=1")]
ERRORS = Metric("errors", "up", below=True, good=1.0, bad=2.0, patience_ms=30_000)
SAYS = [0.5] * 12 + [1.5, 1.5, 9.0]


@dataclass
class Fleet:
    """A rollout and its hosts; `acts` are what an operator does at which tick."""

    picture: RolloutView
    hosts: dict[str, Host]
    rng: Random
    calm_after: int = TICKS
    now: int = NOW
    silent: set[str] = field(default_factory=set)
    calendar: tuple[CalendarEntry, ...] = ()
    kept: Tally | None = None
    neighbours: list["Fleet"] = field(default_factory=list)
    trails: dict[str, Trail] = field(default_factory=dict)

    def look(self) -> RolloutView:
        """Return the rollout as `services.rollouts.view` makes it, the bars of now included."""
        one = assignment(timing=self.picture.timing)
        for host in self.hosts.values():
            own = host_bars(one, self.calendar, host.view.labels, self.now)
            if own != host.view.bars:
                host.view = replace(host.view, bars=own)
        return replace(
            self.picture,
            hosts=tuple(host.view for host in self.hosts.values()),
            bars=bars(one, self.calendar, self.now),
            some_bars=some_bars(one, self.calendar, self.now),
            others={
                (budget.label, value): count
                for budget in self.picture.budgets
                for value, count in invariants.outages(self.neighbours, budget.label).items()
            },
            trails=self.trails,
        )

    def measure(self) -> None:
        """Ask for the metric, as `services.sampling` does once a wave has finished."""
        if self.picture.metrics and self.picture.wave_done_unix_ms and self.rng.random() < 0.4:
            since = asked_since(self.picture, self.picture.wave_done_unix_ms)
            answer = Answer((self.rng.choice(SAYS),)) if self.rng.random() < 0.9 else Answer(trouble="no answer")
            before = self.trails.get(ERRORS.name)
            now = metric.follow(before, ERRORS, answer, since_unix_ms=since, at_unix_ms=self.now)
            self.trails = {ERRORS.name: now}

    def phases(self) -> dict[str, Phase]:
        seen_now = self.look()
        return {host.name: standing(seen_now, host, self.now).phase for host in seen_now.hosts}

    def live(self, tick: int) -> None:
        """Let hosts come, go, be held and move."""
        self.now += TICK_MS
        calm = tick >= self.calm_after
        for host in self.hosts.values():
            held = "held by ana" if not calm and self.rng.random() < 0.05 else ""
            host.view = replace(host.view, online=calm or self.rng.random() < 0.85, held=held)
            if host.view.online and not held:
                host.step(self.now)
        for name, phase in self.phases().items():
            if phase is Phase.FAILED and self.hosts[name].view.state not in (REVERTED, UNCLEAR):
                self.silent.add(name)

    def apply(self) -> None:
        """Tick, and check what must be true of the decision and of the fleet after it."""
        before = self.look()
        decision = decide(before, self.now)
        assert self.followed(before) == decision, "what was followed host by host decides otherwise"
        numbers = members(before)
        were_out = {name for name, host in self.hosts.items() if invariants.out(host)}
        for name in decision.admit:
            invariants.may_move(self, before, name)
            assert numbers[name] <= decision.wave, "moved beyond its wave's gate"
            assert before.state in (RolloutState.ROLLING, RolloutState.DONE), f"moved while {before.state}"
            self.hosts[name].view = replace(self.hosts[name].view, admitted_unix_ms=self.now, progress_unix_ms=self.now)
        for name in decision.withdraw:
            assert not self.hosts[name].down, "told to stay after its switch"
            self.hosts[name].view = replace(self.hosts[name].view, admitted_unix_ms=None)
        for name in decision.retreat:
            row = Retreat(before.assignment, name, self.now)
            self.hosts[name].view = replace(self.hosts[name].view, admitted_unix_ms=None, retreat=row)
        for name in decision.arrived:
            row = replace(self.hosts[name].view.retreat or Retreat("", "", 0), arrived_unix_ms=self.now)
            self.hosts[name].view = replace(self.hosts[name].view, retreat=row)
        if decision.state.returning:  # who is away neither blocks nor counts, though it is down when it is back
            gone = (name for name, host in self.hosts.items() if host.down and not host.view.online)
            self.silent.update(name for name in gone if self.hosts[name].view.retreat is None)
        invariants.check(self, before, decision, were_out)
        if decision.wave != before.wave:
            self.trails = {}
        self.picture = replace(
            self.picture,
            state=decision.state,
            reason=decision.reason,
            wave=decision.wave,
            wave_done_unix_ms=decision.wave_done_unix_ms,
            roster=frozenset(decision.roster) if decision.roster is not None else before.roster,
        )

    def followed(self, view: RolloutView) -> Decision:
        """Decide as the reconciler does: by a tally that is told which hosts changed, made anew where it must be."""
        if not counts_hosts(view):
            return decided(None, view)
        same = self.kept is not None and self.kept.hosts.keys() == self.hosts.keys()
        if self.kept is None or not same or not self.kept.fits(view, self.now):
            self.kept = Tally(view, self.now)
        for host in view.hosts:
            if self.kept.hosts[host.host_id] is not host:
                self.kept.update(host, self.now)
        self.kept.follow(view, self.now)
        return decided(self.kept, view)

    def operate(self) -> None:
        """Do what an operator may do, as `services.steering` and `services.approving` do."""
        picture, state = self.picture, self.picture.state
        act = self.rng.choice(["pause", "resume", "halt", "advance", "approve", "approve"])
        number = min(picture.wave, len(effective(picture.waves)) - 1)
        if act == "pause" and state is RolloutState.ROLLING:
            self.picture = replace(picture, state=RolloutState.PAUSED)
        elif act == "resume" and state is RolloutState.PAUSED:
            self.picture = replace(picture, state=RolloutState.ROLLING, resumed_unix_ms=self.now)
        elif act == "resume" and state is RolloutState.HALTED:
            self.resume()
        elif act == "halt" and state in (RolloutState.ROLLING, RolloutState.PAUSED):
            self.picture = replace(picture, state=RolloutState.HALTED, reason="by ann")
        elif act == "advance" and state is RolloutState.ROLLING:
            waits = approval.waits(effective(picture.waves)[number], number, picture.approvals, ())
            if number < len(effective(picture.waves)) - 1 and not waits:
                self.picture = replace(picture, wave=number + 1, wave_done_unix_ms=0)
                self.trails = {}
        elif act == "approve" and state in (RolloutState.ROLLING, RolloutState.PAUSED):
            self.approve(number)

    def resume(self) -> None:
        """Go on after a halt; who has failed until now does not count again."""
        phases = self.phases()
        bad = {name for name, phase in phases.items() if phase in (Phase.FAILED, Phase.INCONCLUSIVE)}
        if len(bad) < len(phases):
            self.picture = replace(
                self.picture,
                state=RolloutState.ROLLING,
                excused=self.picture.excused | bad,
                approvals=approval.forgotten(self.picture.approvals, self.picture.wave),
                resumed_unix_ms=self.now,
            )

    def approve(self, number: int) -> None:
        """Let one of three operators approve a wave that asks for it."""
        new = approval.Approval(number, self.rng.choice(["bob", "carol", "dave"]), self.now)
        waves, known = effective(self.picture.waves), self.picture.approvals
        if waves[number].approve:
            given = approval.approve(
                waves=waves, number=number, approvals=known, approvers=(), author="operator/ann", new=new
            )
            self.picture = replace(self.picture, approvals=given)


def make(ends: list[AppState | None], waves: str, rng: Random, *, name: str = "h", **fields: object) -> Fleet:
    """Return a fleet of hosts that end so, every fourth a canary, in three racks of which one lacks its label."""
    hosts = {}
    for n, end in enumerate(ends):
        labels = {"wave": "canary"} if n % 4 == 0 else {}
        labels |= {"rack": f"r{n % 3}"} if n % 3 else {}
        hosts[f"{name}{n}"] = Host(seen(f"{name}{n}", OLD, admitted=False, labels=labels), end)
    metrics = (ERRORS,) if "metric" in waves else ()
    fields = {"progress_deadline_ms": 60_000, "metrics": metrics, **fields}
    return Fleet(view(waves=parse_waves(waves) if waves else (), **fields), hosts, rng)


def play(fleet: Fleet, ticks: int = TICKS) -> RolloutView:
    """Play a rollout, and those beside it, with an operator about; return the end, in which everyone has a reason."""
    for tick in range(ticks):
        for one in (fleet, *fleet.neighbours):
            one.live(tick)
            one.measure()
            if fleet.rng.random() < 0.15:
                one.operate()
        for one in (fleet, *fleet.neighbours):  # the first has the higher priority
            one.apply()
    for one in fleet.neighbours:
        ended(one)
    return ended(fleet)


def ended(fleet: Fleet) -> RolloutView:
    """Return where a rollout stands after its time, and check it."""
    end = fleet.look()
    for host in end.hosts:
        assert standing(end, host, fleet.now).reason, "a host without a reason"
    if end.state is RolloutState.REVERTED:
        invariants.brought_back(fleet)
    return end


def chance(rng: Random) -> Fleet:
    """Return a random fleet under a random policy, at times beside another rollout of the app in the same racks."""
    fleet = alone(rng, "h")
    if rng.random() < 0.3:
        other = alone(rng, "n")
        fleet.neighbours, other.neighbours = [other], [fleet]
    return fleet


def alone(rng: Random, name: str) -> Fleet:
    """Return a random fleet under a random policy."""
    ends: list[AppState | None] = [*[GOOD] * 8, REVERTED, UNCLEAR, None]
    return make(
        [rng.choice(ends) for _ in range(rng.randint(1, 12))],
        rng.choice(WAVES + GATED),
        rng,
        name=name,
        max_unavailable=rng.randint(0, 4),
        max_failures=rng.randint(0, 3),
        max_failure_share=rng.choice([0, 0, 2_000, 5_000]),
        on_breach=rng.choice(list(OnBreach)),
        budgets=parse_budgets(rng.choice(BUDGETS)),
        order_label=rng.choice(["", "", "rack"]),
    )
