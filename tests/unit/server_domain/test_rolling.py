"""The rollout decision: one named test for each thing that others got wrong, and properties over whole rollouts."""

from dataclasses import dataclass, replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.rows import NOW, OLD, OLD_DIGEST, REVERTED, reported, seen, view
from towpath.reports import AppState, Transfer
from towpath.status import Health, State, Verdict
from towpath_server.domain.model import RolloutState
from towpath_server.domain.rolling import decide, nobody_left
from towpath_server.domain.standing import HostView, Phase, Standing, limit, order, standing, stay

ROLLING, DONE, HALTED = RolloutState.ROLLING, RolloutState.DONE, RolloutState.HALTED
STUCK = reported(State.STUCK, current_sha256=OLD_DIGEST)


def test_a_first_tick_admits_no_more_than_may_be_unavailable() -> None:
    """The limit holds from the first decision on."""
    hosts = [seen(f"h{n}", OLD, admitted=False) for n in range(8)]
    assert len(decide(view(*hosts, max_unavailable=3), NOW).admit) == 3
    assert limit(view(*hosts, max_unavailable=0)) == 2
    assert limit(view(hosts[0], max_unavailable=0)) == 1


def test_admitted_is_never_success() -> None:
    """A host counts as healthy by its own report of the running digest with proven health, and by nothing else."""
    weak = [
        None,
        OLD,
        reported(State.WATCHING),
        reported(health=Health.STARTING),
        reported(verdict=Verdict.NONE),
        reported(current_sha256=OLD_DIGEST),
    ]
    for state in weak:
        assert standing(view(), seen("h1", state), NOW).phase is Phase.IN_FLIGHT
    assert standing(view(), seen("h1", reported()), NOW).phase is Phase.HEALTHY


def test_an_identical_release_is_a_no_op() -> None:
    """A host that runs these very bits healthily needs no slot: it is admitted beside the limit and counts."""
    same = reported(generation=0)
    decision = decide(view(*[seen(f"h{n}", same, admitted=False) for n in range(4)]), NOW)
    assert len(decision.admit) == 4
    assert decision.state is DONE
    assert standing(view(), seen("h1", replace(same, state=State.WATCHING)), NOW).phase is Phase.IN_FLIGHT


def test_failures_are_counted_against_finished_hosts_and_halt_in_the_same_tick() -> None:
    """One failure among ten hosts of which one has finished is a breach now, not after the wave; nobody is admitted."""
    hosts = [seen("h0", REVERTED), *[seen(f"h{n}", OLD, admitted=False) for n in range(1, 10)]]
    decision = decide(view(*hosts, max_unavailable=5), NOW)
    assert (decision.state, decision.admit) == (HALTED, ())
    assert "1 of 1 finished host failed, 0 allowed: h0: probe http failed" in decision.reason


def test_failures_within_the_allowance_go_on() -> None:
    """An operator may allow some failures; the next one is one too many."""
    hosts = [seen("h0", REVERTED), seen("h1", OLD, admitted=False)]
    assert decide(view(*hosts, max_failures=1), NOW).admit == ("h1",)
    hosts[1] = seen("h1", STUCK)
    assert decide(view(*hosts, max_failures=1), NOW).state is HALTED


def test_when_every_host_failed_the_rollout_is_halted_whatever_is_allowed() -> None:
    """A rollout that nobody survived does not go on as if something were still to come."""
    decision = decide(view(seen("h0", REVERTED), seen("h1", STUCK), max_failures=5), NOW)
    assert decision.state is HALTED
    assert "every host failed, 2 of 2" in decision.reason


def test_nobody_is_left_where_every_host_failed_or_is_inconclusive() -> None:
    """One that waits is somebody to go on with; a rollout without hosts has lost none."""

    def lost(*phases: Phase) -> bool:
        return nobody_left([(seen(f"h{n}", OLD), Standing(phase, "")) for n, phase in enumerate(phases)])

    assert lost(Phase.FAILED, Phase.INCONCLUSIVE)
    assert not lost(Phase.FAILED, Phase.WAITING)
    assert not lost()


def test_a_breach_in_the_last_hosts_and_after_done_is_a_breach() -> None:
    """The last wave is not exempt, and a host that reverts in probation halts what was done."""
    healthy = [seen(f"h{n}", reported()) for n in range(9)]
    last = seen("h9", replace(REVERTED, verdict=Verdict.FAILED, reason=""))
    for state in (ROLLING, DONE):
        decision = decide(view(*healthy, last, state=state), NOW)
        assert decision.state is HALTED
        assert "1 of 10 finished hosts failed" in decision.reason
        assert "the host reported Reverted" in decision.reason


def test_hosts_in_flight_that_have_not_switched_are_told_to_stay() -> None:
    """A halt withdraws those who touched nothing yet, and leaves alone those who switched, proved or failed."""
    hosts = [
        seen("failed", REVERTED),
        seen("fetching", reported(State.FETCHING, current_sha256=OLD_DIGEST)),
        seen("unheard", None),
        seen("earlier", OLD),
        seen("watching", reported(State.WATCHING)),
        seen("healthy", reported()),
        seen("waiting", OLD, admitted=False),
    ]
    decision = decide(view(*hosts), NOW)
    assert sorted(decision.withdraw) == ["earlier", "fetching", "unheard"]


def test_a_halt_stays_a_halt() -> None:
    """Nothing but a new deploy ends it, whatever is reported later."""
    decision = decide(view(seen("h0", reported()), seen("h1", OLD, admitted=False), state=HALTED, reason="x"), NOW)
    assert (decision.state, decision.reason, decision.admit) == (HALTED, "x", ())


def test_history_is_left_alone() -> None:
    """Superseded and removed assignments decide nothing any more."""
    decision = decide(view(seen("h0", OLD, admitted=False), state=RolloutState.SUPERSEDED, reason="by 2"), NOW)
    assert (decision.state, decision.reason, decision.admit) == (RolloutState.SUPERSEDED, "by 2", ())


def test_silence_has_a_deadline_and_counts_as_failure() -> None:
    """A host in flight that says nothing past the deadline has failed, with or without an earlier report."""
    for state, where in ((None, "no report yet"), (reported(State.WATCHING), "in Watching")):
        late = standing(view(), seen("h1", state), NOW + 60_001)
        assert late.phase is Phase.FAILED
        assert "silent for 60s" in late.reason
        assert where in late.reason
        assert standing(view(), seen("h1", state), NOW + 60_000).phase is Phase.IN_FLIGHT
    assert decide(view(seen("h1", None)), NOW + 60_001).state is HALTED


def test_the_servers_own_downtime_is_nobodys_silence() -> None:
    """After a restart hosts get the whole deadline again."""
    assert standing(view(observed_since_unix_ms=NOW + 50_000), seen("h1"), NOW + 70_000).phase is Phase.IN_FLIGHT


def test_progress_restarts_the_clock_of_silence() -> None:
    """A host that moves is not silent."""
    host = seen("h1", reported(State.FETCHING), progress_unix_ms=NOW + 50_000)
    assert standing(view(), host, NOW + 100_000).phase is Phase.IN_FLIGHT


def test_where_a_host_stands_says_what_travels_to_it() -> None:
    """Whoever waits for a host sees how far it is."""
    host = seen(
        "h1", replace(reported(State.FETCHING), transfer=Transfer("2.0.0", 10, 40, rate=2, remaining_ms=15_000))
    )
    assert standing(view(), host, NOW).reason == "in Fetching, 10 B of 40 B, 2 B/s, 15s left"


def test_a_host_that_falls_ill_after_the_rollout_is_done_is_no_verdict_on_the_release() -> None:
    """Months later an ill app is an alarm, not a failed rollout."""
    ill = seen("h1", reported(health=Health.UNHEALTHY))
    assert standing(view(state=DONE), ill, NOW + 10**9).phase is Phase.IN_FLIGHT
    assert standing(view(state=ROLLING), ill, NOW + 10**9).phase is Phase.FAILED


def test_offline_hosts_neither_block_nor_count_and_catch_up() -> None:
    """A dark host does not hold a rollout up; when it comes back it is admitted, also after done."""
    dark = seen("h1", OLD, admitted=False, online=False)
    decision = decide(view(seen("h0", reported()), dark), NOW)
    assert (decision.state, decision.admit) == (DONE, ())
    assert "1 offline" in decision.reason
    back = decide(view(seen("h0", reported()), replace(dark, online=True), state=DONE), NOW)
    assert (back.state, back.admit) == (DONE, ("h1",))


def test_a_host_that_went_offline_in_flight_holds_its_slot_until_the_deadline() -> None:
    """It was let in, so it counts."""
    gone = seen("h1", None, online=False)
    assert standing(view(), gone, NOW).reason.endswith("offline")
    assert decide(view(gone, seen("h2", OLD, admitted=False)), NOW).admit == ()


def test_inconclusive_holds_the_rollout_and_does_not_blame_the_release() -> None:
    """Where the previous release fails its probes too, nobody else moves, and the reason says so."""
    unclear = replace(REVERTED, verdict=Verdict.INCONCLUSIVE, reason="")
    decision = decide(view(seen("h0", unclear), seen("h1", OLD, admitted=False), max_failures=9), NOW)
    assert decision.state is HALTED
    assert decision.reason.startswith("inconclusive on 1 of 1 finished host:")


def test_a_refusal_counts_as_failure_for_its_generation_only() -> None:
    """What a host refused of an earlier assignment is old news."""
    refused = reported(verdict=Verdict.REFUSED, current_sha256=OLD_DIGEST)
    assert standing(view(), seen("h1", refused), NOW).phase is Phase.FAILED
    assert standing(view(generation=2), seen("h1", refused), NOW).phase is Phase.IN_FLIGHT


def test_a_blocked_host_waits_with_its_reason_and_takes_no_slot() -> None:
    """A host that lacks a parameter is not admitted; the others go on."""
    hosts = [seen("h0", OLD, admitted=False, blocked="port is missing"), seen("h1", OLD, admitted=False)]
    decision = decide(view(*hosts), NOW)
    assert decision.admit == ("h1",)
    assert "blocked: h0: port is missing" in decision.reason


def test_many_failures_are_named_shortly() -> None:
    """Three are named, the rest is counted."""
    decision = decide(view(*[seen(f"h{n}", REVERTED) for n in range(5)], seen("h9", reported())), NOW)
    assert "and 2 more" in decision.reason


def test_a_rule_that_matches_nobody_waits() -> None:
    """An assignment without hosts is rolling, and says that it waits for the first."""
    decision = decide(view(), NOW)
    assert (decision.state, decision.reason) == (ROLLING, "no host matches yet")


def test_not_always_the_same_hosts_are_first_and_neighbours_are_spread() -> None:
    """The order depends on host AND rollout; the first tenth of a rollout is not a run of neighbours."""
    names = [f"rack-{n:03}" for n in range(200)]
    first = {
        a: set(sorted(names, key=lambda name, a=a: order(view(assignment=a), seen(name)))[:20])
        for a in ("a1", "a2", "a3")
    }
    assert len(first["a1"] & first["a2"]) < 10
    for chosen in first.values():
        tenths = [sum(1 for n in range(t * 20, t * 20 + 20) if names[n] in chosen) for t in range(10)]
        assert max(tenths) <= 8


def test_a_halted_rollout_leaves_a_host_that_its_own_person_told_to_try_again() -> None:
    """Nobody is admitted, but who was admitted and failed may be retried on the host: it is not told to stay again."""
    again = seen("h0", reported(State.FETCHING, current_sha256=OLD_DIGEST))
    decision = decide(view(again, seen("h1", OLD, admitted=False), state=HALTED, reason="x"), NOW)
    assert (decision.state, decision.admit, decision.withdraw) == (HALTED, (), ())


HOLD = "held by ana until 2023-11-14 22:13:20Z: the till is open"


def test_held_hosts_neither_block_nor_count_and_catch_up() -> None:
    """A host whose person said "not now" is not admitted; the others go on and are done; its hold over, it is let in."""
    held = seen("h1", OLD, admitted=False, held=HOLD)
    assert standing(view(), held, NOW) == Standing(Phase.HELD, HOLD)
    decision = decide(view(seen("h0", reported()), held), NOW)
    assert (decision.state, decision.admit, decision.withdraw) == (DONE, (), ())
    assert "1 held" in decision.reason
    released = replace(held, held="", released_unix_ms=NOW)
    assert decide(view(seen("h0", reported()), released, state=DONE), NOW).admit == ("h1",)


def test_a_held_host_gives_its_slot_back_until_it_is_released() -> None:
    """Let in and not switched: withdrawn, so that another one moves and the limit holds when it comes back."""
    for state in (None, OLD, reported(State.FETCHING, current_sha256=OLD_DIGEST)):
        held = seen("h1", state, held=HOLD)
        decision = decide(view(held, seen("h2", OLD, admitted=False)), NOW)
        assert (decision.admit, decision.withdraw) == (("h2",), ("h1",))


def test_a_held_host_past_the_switch_finishes_and_counts() -> None:
    """A hold never leaves a host half-way: what was switched is in flight, and what it says in the end is believed."""
    for state, phase in (
        (reported(State.WATCHING), Phase.IN_FLIGHT),
        (reported(), Phase.HEALTHY),
        (REVERTED, Phase.FAILED),
    ):
        held = seen("h1", state, held=HOLD)
        assert standing(view(), held, NOW).phase is phase
        assert decide(view(held), NOW).withdraw == ()


def test_the_time_of_a_hold_is_nobodys_silence() -> None:
    """However long it was held, a host gets the whole deadline when the hold is over, and no second more."""
    host = seen("h1", OLD, released_unix_ms=NOW + 7_200_000)
    assert standing(view(), host, NOW + 7_260_000).phase is Phase.IN_FLIGHT
    assert standing(view(), host, NOW + 7_260_001).phase is Phase.FAILED


def test_a_held_host_that_runs_the_release_already_counts_as_healthy() -> None:
    """A hold says what may change, not what runs."""
    same = seen("h1", reported(generation=0), admitted=False, held=HOLD)
    assert decide(view(same), NOW).state is DONE


def test_a_held_host_that_is_offline_is_offline() -> None:
    """What it said last is shown elsewhere; here it neither blocks nor counts either way."""
    dark = seen("h1", OLD, admitted=False, online=False, held=HOLD)
    assert standing(view(), dark, NOW).phase is Phase.OFFLINE


def test_a_held_host_between_two_older_releases_still_holds_a_slot() -> None:
    """It is down whatever its person wants; nobody else goes down meanwhile."""
    half = seen("half", reported(State.WATCHING, generation=0, current_sha256=OLD_DIGEST), admitted=False, held=HOLD)
    assert decide(view(half, seen("h1", OLD, admitted=False)), NOW).admit == ()


def test_a_rollout_of_held_hosts_only_waits() -> None:
    """Nobody has proven anything, so it is not done, and nothing failed, so it is not halted."""
    decision = decide(view(seen("h1", OLD, admitted=False, held=HOLD)), NOW + 10**9)
    assert (decision.state, decision.admit) == (ROLLING, ())
    assert decision.reason == "0 of 1 host healthy, 1 held"


OUTCOMES = {"good": reported(), "bad": REVERTED, "silent": None, "slow": reported(State.WATCHING)}


@settings(max_examples=150)
@given(
    st.lists(st.sampled_from(sorted(OUTCOMES)), min_size=1, max_size=12),
    st.lists(st.booleans(), min_size=12, max_size=12),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_in_any_rollout_the_limit_holds_and_a_breach_stops_at_once(
    fates: list[str], online: list[bool], unavailable: int, failures: int
) -> None:
    """Over whole rollouts: never more in flight than allowed, nobody admitted in or after the tick of a breach."""
    hosts = {f"h{n}": seen(f"h{n}", OLD, admitted=False, online=online[n]) for n in range(len(fates))}
    state, halted, now = ROLLING, False, NOW
    for _ in range(40):
        now += 30_000
        picture = view(*hosts.values(), state=state, max_unavailable=unavailable, max_failures=failures)
        decision = decide(picture, now)
        failed = sum(standing(picture, it, now).phase is Phase.FAILED for it in hosts.values())
        if halted or failed > failures:
            assert decision.admit == ()
            assert decision.state is HALTED
        halted = decision.state is HALTED
        state = decision.state
        for name in decision.withdraw:
            hosts[name] = replace(hosts[name], admitted_unix_ms=None)
        for name in decision.admit:
            hosts[name] = replace(hosts[name], admitted_unix_ms=now, progress_unix_ms=now)
        after = view(*hosts.values(), state=state, max_unavailable=unavailable, max_failures=failures)
        in_flight = [it for it in hosts.values() if standing(after, it, now).phase is Phase.IN_FLIGHT]
        assert len(in_flight) <= unavailable
        for it in in_flight[:1]:
            outcome = OUTCOMES[fates[int(it.name[1:])]]
            if outcome is not None:
                hosts[it.name] = replace(it, state=outcome)
    if all(fate == "good" for fate in fates) and any(online[: len(fates)]):
        assert state is DONE


def test_a_breach_admits_nobody_however_many_slots_are_free() -> None:
    """Not in its tick, and not later when the failed host has recovered or no reason was kept."""
    crowd = [seen(f"h{n}", OLD, admitted=False) for n in range(9)]
    first = decide(view(seen("bad", REVERTED), *crowd, max_unavailable=9), NOW)
    assert (first.state, first.admit) == (HALTED, ())
    for reason in (first.reason, ""):
        later = decide(view(seen("bad", reported()), *crowd, max_unavailable=9, state=HALTED, reason=reason), NOW)
        assert (later.state, later.reason, later.admit) == (HALTED, reason, ())


def test_every_state_before_the_switch_may_stay_and_none_from_the_switch_on() -> None:
    """The switch is the border; who runs the release already has nothing to stay on."""
    moves = {state: seen(state, reported(state, current_sha256=OLD_DIGEST)) for state in State}
    early = ["Planned", "Fetching", "Staged", "Prepared"]
    assert sorted(stay(view(*moves.values()))) == sorted(early)
    assert stay(view(seen("same", reported(generation=0)))) == ()


def test_who_moves_first_does_not_depend_on_how_hosts_are_listed() -> None:
    """Admissions follow the hash alone: the same in every tick of a rollout."""
    crowd = [seen(f"rack-{n:03}", OLD, admitted=False) for n in range(40)]
    admit = decide(view(*crowd, max_unavailable=10), NOW).admit
    assert admit == decide(view(*reversed(crowd), max_unavailable=10), NOW).admit
    assert list(admit) == [it.name for it in sorted(crowd, key=lambda it: order(view(), it))][:10]


def test_a_host_that_fell_ill_holds_its_slot() -> None:
    """Confirmed and then ill is unavailable: nobody else moves while the rollout goes on."""
    ill = seen("h0", reported(health=Health.UNHEALTHY))
    assert decide(view(ill, seen("h1", OLD, admitted=False)), NOW).admit == ()


def test_a_newcomer_that_never_answers_is_a_failure_after_done_too() -> None:
    """Only who confirmed is forgiven its silence once the rollout is done."""
    assert decide(view(seen("h0", reported()), seen("new"), state=DONE), NOW + 60_001).state is HALTED


def test_a_host_between_two_older_releases_goes_first_and_holds_a_slot() -> None:
    """What a superseded assignment left half-way is down anyway: it moves first, and counts where it cannot move."""
    crowd = [seen(f"h{n}", OLD, admitted=False) for n in range(20)]
    half = seen("half", reported(State.WATCHING, generation=0, current_sha256=OLD_DIGEST), admitted=False)
    assert decide(view(*crowd, half), NOW).admit == ("half",)
    assert decide(view(*crowd, replace(half, blocked="no port")), NOW).admit == ()
    admit = decide(view(*crowd, half, max_unavailable=3), NOW).admit
    assert (admit[0], len(admit)) == ("half", 3)


@dataclass
class Machine:
    """A simulated host: `end` is how its transaction will end, or None for one that falls silent half-way."""

    view: HostView
    end: AppState | None

    @property
    def told(self) -> AppState:
        assert self.view.state is not None
        return self.view.state

    @property
    def disrupted(self) -> bool:
        return self.told.state in (State.SWITCHING, State.WATCHING)

    @property
    def under_way(self) -> bool:
        return self.disrupted or (self.view.admitted_unix_ms is not None and self.told not in ENDS)

    def step(self, now: int) -> None:
        """Move one state on, as an agent would: it leaves an unswitched transaction that was withdrawn."""
        admitted, state = self.view.admitted_unix_ms is not None, self.told
        after = state
        if state is OLD:
            after = PLANNED if admitted else OLD
        elif state is PLANNED:
            after = SWITCHING if admitted else OLD
        elif self.end is not None and self.disrupted:
            after = WATCHING if state is SWITCHING else self.end
        if after is not state:
            self.view = replace(self.view, state=after, progress_unix_ms=now)


PLANNED, SWITCHING = (reported(state, current_sha256=OLD_DIGEST) for state in (State.PLANNED, State.SWITCHING))
WATCHING, GOOD = reported(State.WATCHING), reported()
UNCLEAR = replace(REVERTED, verdict=Verdict.INCONCLUSIVE)
ENDS = (GOOD, REVERTED, UNCLEAR)


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from([GOOD] * 8 + [REVERTED, UNCLEAR, None]), min_size=1, max_size=12),
    st.integers(0, 4),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_in_a_fleet_whose_hosts_come_and_go_the_limit_holds_and_a_breach_stops_at_once(
    ends: list[AppState | None], unavailable: int, failures: int, rng: Random
) -> None:
    """By what hosts really do: under way never exceeds the limit, no host is withdrawn after its switch, and nothing
    is admitted in or after the tick of a breach; a fleet without trouble is done in the end.
    """
    fleet = {f"h{n}": Machine(seen(f"h{n}", OLD, admitted=False), end) for n, end in enumerate(ends)}
    now, picture = NOW, view(max_unavailable=unavailable, max_failures=failures)
    ever_silent: set[str] = set()
    for tick in range(120):
        now += 3_000
        for machine in fleet.values():
            machine.view = replace(machine.view, online=tick > 60 or rng.random() < 0.8)
            if machine.view.online:
                machine.step(now)
        picture = replace(picture, hosts=tuple(machine.view for machine in fleet.values()))
        silent = {it.name for it in picture.hosts if standing(picture, it, now).reason.startswith("silent for ")}
        for name in silent:
            fleet[name].end = None
        ever_silent |= silent
        told = [machine.told for machine in fleet.values()]
        decision = decide(picture, now)
        if picture.state is HALTED or UNCLEAR in told or told.count(REVERTED) + len(silent) > failures:
            assert (decision.state, decision.admit) == (HALTED, ())
        for name in decision.admit:
            fleet[name].view = replace(fleet[name].view, admitted_unix_ms=now)
        for name in decision.withdraw:
            assert not fleet[name].disrupted
            fleet[name].view = replace(fleet[name].view, admitted_unix_ms=None)
        assert sum(machine.under_way for name, machine in fleet.items() if name not in silent) <= limit(picture)
        picture = replace(picture, state=decision.state, reason=decision.reason)
    if all(end is GOOD for end in ends) and not ever_silent:
        assert picture.state is DONE
        assert all(machine.told is GOOD for machine in fleet.values())
