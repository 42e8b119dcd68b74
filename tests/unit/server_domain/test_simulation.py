"""Rollouts on a simulated clock: the runs, the plans made of them, and the rehearsals."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.rows import DIGEST, NOW, OLD, REVERTED, assignment, reported, view
from towpath.budgets import parse_budgets
from towpath.errors import InputError
from towpath.metrics import Metric
from towpath.status import State
from towpath.waves import parse_waves
from towpath_server.domain.gates import gate, members
from towpath_server.domain.model import CalendarEntry, EntryKind, Newcomers, OnBreach, RolloutState, Timing
from towpath_server.domain.planning import asks, moving, plan
from towpath_server.domain.rehearsal import MAX_SAMPLES, Numbers, Policy, rehearse
from towpath_server.domain.rolling import decide
from towpath_server.domain.simulated import AnyTime, Assumptions, Certainty, Dated, Run
from towpath_server.domain.simulation import play
from towpath_server.domain.standing import HostView, Phase, RolloutView, standing

HOUR = 3_600_000
GOOD = reported()


def fleet(count: int, waves: str = "", **fields: object) -> RolloutView:
    hosts = [
        HostView(f"id{n}", f"h{n}", True, state=OLD, labels={"wave": "canary"} if n % 5 == 0 else {})
        for n in range(count)
    ]
    fields = {"progress_deadline_ms": 600_000, "waves": parse_waves(waves) if waves else (), **fields}
    return view(*hosts, **fields)


def run(begin: RolloutView, **assumed: object) -> Run:
    return play(begin, Assumptions(**assumed), Random(7), NOW)


def outcome(begin: RolloutView) -> tuple[list[str], dict[str, int], RolloutState]:
    """Live a healthy rollout second by second, without the simulation: order, wave by host, end."""
    now, order, view_now, taking = NOW, [], begin, {}
    hosts = {host.host_id: host for host in begin.hosts}
    rng = Random(3)
    for _ in range(100_000):
        for name in [name for name, at in taking.items() if at <= now]:
            del taking[name]
            hosts[name] = replace(hosts[name], state=GOOD)
        view_now = replace(view_now, hosts=tuple(hosts.values()))
        decision = decide(view_now, now)
        order += decision.admit
        for name in decision.admit:
            hosts[name] = replace(hosts[name], admitted_unix_ms=now, progress_unix_ms=now)
            taking[name] = now + rng.randint(5_000, 50_000)
        view_now = replace(
            view_now, state=decision.state, wave=decision.wave, wave_done_unix_ms=decision.wave_done_unix_ms
        )
        if decision.state is RolloutState.DONE:
            break
        seen = replace(view_now, hosts=tuple(hosts.values()))
        standings = [(host, standing(seen, host, now)) for host in seen.hosts]
        if gate(seen, standings, members(seen), now).waits == "a person has to advance it":
            view_now = replace(view_now, wave=view_now.wave + 1, wave_done_unix_ms=0)
        now += 1_000
    return order, members(begin), view_now.state


@settings(max_examples=25)
@given(
    st.integers(1, 25),
    st.sampled_from(["", "canary,100%", "canary:1m,50%,100%", "2,50%:manual,100%", "10%:30s,100%"]),
    st.integers(0, 4),
)
def test_a_plan_and_what_then_happens_agree_on_a_healthy_fleet(count: int, waves: str, unavailable: int) -> None:
    """Who is in which wave, in which order hosts move within it, and how many: as an independent life of it shows."""
    begin = fleet(count, waves, max_unavailable=unavailable)
    order, numbers, end = outcome(begin)
    planned = plan(begin, NOW)
    assert end is RolloutState.DONE
    assert [one.host.host_id for one in planned.hosts] == order
    assert [one.turn for one in planned.hosts] == list(range(1, count + 1))
    assert {one.host.host_id: one.wave for one in planned.hosts} == numbers
    assert [wave.hosts for wave in planned.waves] == [
        list(numbers.values()).count(number) for number in range(len(planned.waves))
    ]
    assert (planned.waits, planned.cut) == ("", False)


def dated(**timing: object) -> Dated:
    return Dated(assignment(timing=Timing(**timing)), ())


def test_a_plan_says_what_the_clock_and_the_calendar_delay() -> None:
    """It begins at its time; a freeze of some hosts keeps only them, for as long as it lasts; both are named."""
    begun = plan(fleet(3), NOW, times=dated(at_unix_ms=NOW + 2 * HOUR))
    assert [(one.wave, one.after_ms, one.lasts_ms) for one in begun.delays] == [(0, 0, 2 * HOUR)]
    assert begun.delays[0].waits.startswith("does not begin before")
    assert 2 * HOUR < begun.took_ms < 3 * HOUR
    labels = {"wave": "canary"}
    freeze = CalendarEntry("f1", EntryKind.FREEZE, "dev", "why", NOW, "ann", labels, None, NOW - 1, NOW + HOUR)
    some = plan(fleet(6, max_unavailable=6), NOW, times=Dated(assignment(), (freeze,)))
    assert [one.waits.partition(" until")[0] for one in some.delays] == ["frozen"]
    assert {one.host.name for one in some.hosts if one.turn > 4} == {"h0", "h5"}
    assert HOUR < some.took_ms < 2 * HOUR


def test_without_a_calendar_nothing_bars_anybody() -> None:
    """Whatever the moment and the labels."""
    assert (AnyTime().bars(NOW), AnyTime().some_bars(NOW), AnyTime().host_bars({"rack": "7"}, NOW)) == ((), (), ())


def test_a_plan_of_a_rollout_whose_time_ends_before_it_could_begin_says_so() -> None:
    """Barred until its end: nobody moves, and that is the outcome, not an endless wait."""
    never = Timing(at_unix_ms=NOW + HOUR, expires_unix_ms=NOW + HOUR)
    planned = plan(fleet(2, timing=never), NOW, times=Dated(assignment(timing=never), ()))
    assert [one.turn for one in planned.hosts] == [0, 0]


def test_people_metrics_and_the_environment_before_are_in_the_plan() -> None:
    """As many operators approve as have to, metrics are good, and the environment before takes no time: all are named."""
    metric = Metric("errors", "up", below=True, good=1.0, bad=2.0, patience_ms=60_000)
    begin = fleet(
        4,
        "1:30m+metric=errors+approve=2,100%:approve",
        metrics=(metric,),
        entry="it has to be healthy in staging first",
    )
    planned = plan(begin, NOW)
    assert [one.turn for one in planned.hosts] == [1, 2, 3, 4]
    waits = [one.waits for one in planned.delays]
    assert waits[0] == "it has to be healthy in staging first"
    assert any("soaks until" in one for one in waits)
    assert any(one.startswith("needs 2 of 2 approvals") for one in waits)
    assert any(one.startswith("needs 1 of 1 approvals") for one in waits)
    assert (planned.waits, planned.cut) == ("", False)
    assert [wave.asks for wave in planned.waves] == [
        "the next one opens after a soak of 30m, and metric errors is good, and 2 operators approved",
        "it is done when its hosts have finished, and an operator approved",
    ]


def test_a_wave_that_asks_only_for_a_metric_goes_on_with_its_first_answer() -> None:
    """It is good, and takes no time; the last wave too."""
    metric = Metric("errors", "up", below=True, good=1.0, bad=2.0, patience_ms=60_000)
    planned = plan(fleet(3, "1:metric=errors,100%:metric=errors", metrics=(metric,)), NOW)
    assert [one.turn for one in planned.hosts] == [1, 2, 3]
    assert (planned.delays, planned.waits, planned.cut) == ((), "", False)


def test_who_came_after_a_closed_list_waits_in_the_plan_too() -> None:
    """The list of a rollout that is done is part of what is played."""
    begin = fleet(3, state=RolloutState.DONE, newcomers=Newcomers.WAIT, roster=frozenset({"id0"}))
    assert [one.host.name for one in moving(plan(begin, NOW))] in ([], ["h0"])


def test_a_plan_names_who_does_not_move_and_why() -> None:
    """Offline, held, blocked and done hosts with their reasons; a first deployment goes from nothing."""
    hosts = (
        HostView("a", "a", True),
        HostView("b", "b", False, state=OLD),
        HostView("c", "c", True, state=OLD, held="held for 2h by ann"),
        HostView("d", "d", True, state=OLD, blocked="the release is for linux/arm64"),
        HostView("e", "e", True, state=GOOD, admitted_unix_ms=NOW),
    )
    planned = plan(view(*hosts, max_unavailable=5), NOW)
    stays = {one.host.host_id: one.stays for one in planned.hosts}
    assert stays == {
        "a": "",
        "b": "offline; it catches up when it comes back",
        "c": "held for 2h by ann",
        "d": "the release is for linux/arm64",
        "e": "runs it already",
    }
    assert [one.host.host_id for one in moving(planned)] == ["a"]
    assert {one.host.host_id: one.before for one in planned.hosts}["a"] == ""
    assert planned.waits == "d to finish: the release is for linux/arm64"


def test_a_plan_says_what_the_gates_ask_and_how_long_they_delay() -> None:
    """A soak with its length, a person, and nothing at all."""
    planned = plan(fleet(10, "canary:10m,50%:manual,100%", max_unavailable=10), NOW)
    assert [(one.wave, one.after_ms, one.lasts_ms) for one in planned.delays] == [(0, 60_000, 600_000), (1, 720_000, 0)]
    assert planned.delays[1].waits == "a person has to advance it"
    assert [wave.opens_ms for wave in planned.waves] == [0, 660_000, 720_000]
    assert "after a soak of 10m" in planned.waves[0].asks
    assert "when a person says" in planned.waves[1].asks
    assert asks(parse_waves("100%")[0], last=True) == "it is done when its hosts have finished"
    assert planned.took_ms == 780_000


def test_a_plan_that_would_cost_too_much_is_cut_and_still_has_its_waves() -> None:
    """Turns end, waves do not; who would move later is not called unable."""
    planned = plan(fleet(40, "50%,100%", max_unavailable=1), NOW, max_work=60)
    assert planned.cut
    assert [wave.hosts for wave in planned.waves] == [20, 20]
    assert planned.waves[1].opens_ms == -1
    assert {one.stays for one in planned.hosts} == {""}
    assert 0 < max(one.turn for one in planned.hosts) < 20


@pytest.mark.timeout(600)
@settings(max_examples=40)
@given(
    st.integers(1, 30),
    st.sampled_from(["", "canary,100%", "canary:1m,50%,100%", "2,50%:manual,100%", "10%:30s+approve,100%"]),
    st.integers(0, 4),
    st.sampled_from([(), ("wave=1",), ("rack=1",), ("rack=50%", "wave=2")]),
    st.sampled_from(["", "rack"]),
    st.sampled_from(list(OnBreach)),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_a_run_by_what_changed_is_the_run_that_counts_every_host_in_every_tick(
    count: int, waves: str, most: int, budgets: tuple[str, ...], order: str, policy: OnBreach, freeze: bool, seed: int
) -> None:
    """Whatever fails, is away or barred: the same moves, delays, samples and end, to the last word."""
    begin = fleet(count, waves, max_unavailable=most, max_failures=2, on_breach=policy, order_label=order)
    racked = [replace(host, labels={**host.labels, "rack": f"r{n % 3}"}) for n, host in enumerate(begin.hosts)]
    begin = replace(begin, hosts=tuple(racked), budgets=parse_budgets(budgets))
    assumed = Assumptions(failures=0.08, offline=0.2, spread=0.5, away_ms=300_000, person_ms=60_000)
    entry = CalendarEntry("f", EntryKind.FREEZE, "dev", "why", NOW, "ann", {"rack": "r1"}, None, NOW, NOW + 200_000)
    times = Dated(assignment(), (entry,) if freeze else ())
    fast, slow = (play(begin, assumed, Random(seed), NOW, times=times, keeps=keeps) for keeps in (True, False))
    assert fast == slow


def test_a_simulated_rack_never_loses_more_than_its_budget() -> None:
    """Seen from its own samples: three racks, one of each at once."""
    begin = fleet(12, max_unavailable=12, budgets=parse_budgets(["rack=1"]))
    racked = [replace(host, labels={"rack": f"r{n % 3}"}) for n, host in enumerate(begin.hosts)]
    seen = run(replace(begin, hosts=tuple(racked)))
    assert max(one.in_flight for one in seen.samples) == 3
    assert (seen.state, len(seen.moves)) == (RolloutState.DONE, 12)


def test_what_waits_for_a_budget_without_end_says_so_in_the_plan() -> None:
    """The rack's room is taken by a host of another rule that never ends: the plan names it before anything moves."""
    begin = fleet(2, budgets=parse_budgets(["rack=1"]), others={("rack", ""): 1})
    planned = plan(begin, NOW)
    assert {one.stays for one in planned.hosts} == {
        "waits for the budget rack=1: 1 of those without rack unavailable, 1 allowed"
    }
    assert planned.waits.startswith("h0 and 1 more to finish")


def test_the_same_seed_gives_the_same_run_and_another_one_does_not() -> None:
    """A rehearsal can be had again."""
    begin = fleet(60, "20%,100%", max_failure_share=5000)
    first, again = (play(begin, Assumptions(0.3, 0.2, spread=0.5), Random(7), NOW) for _ in range(2))
    other = play(begin, Assumptions(0.3, 0.2, spread=0.5), Random(8), NOW)
    assert first == again
    assert first.samples != other.samples


def test_a_bad_release_is_stopped_in_its_first_wave_and_hosts_in_flight_end() -> None:
    """Nobody of the next wave moves; who had switched fails too, who had not stays."""
    begin = fleet(100, "canary,100%", max_unavailable=4)
    ended = run(begin, failures=1.0, spread=0.5)
    assert ended.state is RolloutState.HALTED
    assert ended.harmed_at_stop == 1
    assert {move.wave for move in ended.moves} == {0}
    assert 1 <= ended.samples[-1].harmed <= 4
    assert ended.samples[-1].in_flight == 0
    assert ended.stopped_after_ms == ended.took_ms


def test_a_revert_brings_everybody_back_who_took_it() -> None:
    """Hosts in flight and hosts that had proven it go back; the run ends when all are."""
    begin = fleet(40, "25%,100%", max_unavailable=3, on_breach=OnBreach.REVERT, max_failures=1)
    ended = run(begin, failures=0.2, spread=0.5)
    assert ended.state is RolloutState.REVERTED
    assert {where.phase for _, where in ended.standings} == {Phase.BACK}
    assert not [host for host, _ in ended.standings if host.state and host.state.current_sha256 == DIGEST]
    assert ended.stopped_after_ms < ended.took_ms


def test_hosts_that_had_nothing_before_have_nothing_after_a_revert() -> None:
    """On a first deployment going back is taking it off."""
    begin = fleet(10, on_breach=OnBreach.REVERT, max_unavailable=10)
    begin = replace(begin, hosts=tuple(replace(host, state=None) for host in begin.hosts))
    ended = run(begin, failures=0.3, spread=0.5)
    assert ended.state is RolloutState.REVERTED
    assert not [host for host, _ in ended.standings if host.state and host.state.current_sha256]


def test_soaks_are_passed_over_and_who_comes_back_to_an_open_wave_catches_up() -> None:
    """An hour costs no thousand ticks; a host that was away at first has the release in the end."""
    begin = fleet(200, "canary:12h,100%:12h", max_unavailable=200)
    ended = run(begin, offline=0.4, away_ms=HOUR)
    assert ended.state is RolloutState.DONE
    assert ended.took_ms > 24 * HOUR
    assert len([one for one in ended.samples if one.wave == 0]) < 80, "who comes back to a closed wave costs no tick"
    assert {where.phase for _, where in ended.standings} == {Phase.HEALTHY}
    assert ended.delays[0].waits.startswith("soaks until")


def test_a_manual_gate_waits_for_its_person_also_in_the_last_wave() -> None:
    """Half an hour each; the last one ends the rollout."""
    ended = run(fleet(10, "canary:manual,100%:manual"), person_ms=HOUR // 2)
    assert ended.state is RolloutState.DONE
    assert [delay.lasts_ms for delay in ended.delays] == [HOUR // 2, HOUR // 2]
    assert ended.took_ms > HOUR


def test_where_everybody_is_away_for_good_the_run_says_what_it_waits_for() -> None:
    """Nobody is no proof: it does not end, and does not go on for ever."""
    ended = run(fleet(5), offline=1.0)
    assert (ended.state, ended.waits) == (RolloutState.ROLLING, "nobody has proven the release yet")
    late = run(fleet(5), offline=1.0, away_ms=HOUR)
    assert late.state is RolloutState.DONE


def test_a_host_that_runs_it_already_takes_no_time_and_one_in_flight_goes_on() -> None:
    """The simulation may begin in the middle of a rollout."""
    identical = reported(generation=0)
    moving_now = reported(State.WATCHING)
    hosts = (
        HostView("a", "a", True, state=identical),
        HostView("b", "b", True, state=moving_now, admitted_unix_ms=NOW),
        HostView("c", "c", True, state=REVERTED, admitted_unix_ms=NOW),
    )
    ended = play(
        view(*hosts, max_unavailable=3, max_failures=2, progress_deadline_ms=HOUR), Assumptions(), Certainty(), NOW
    )
    assert ended.state is RolloutState.DONE
    assert ended.took_ms == 60_000
    assert [move.host_id for move in ended.moves] == ["a"]


def test_a_long_run_ends_at_its_horizon() -> None:
    """Months of waiting are cut, and it says so."""
    ended = run(fleet(2, ",".join([f"{n}:30d" for n in (1,)]) + ",100%:30d"), offline=0.0)
    assert not ended.cut
    waits = run(fleet(4, "1:30d,2:30d,3:30d,100%:30d"), offline=0.0)
    assert waits.cut


# --- rehearsals


def tried(hosts: int = 200, labels: tuple[dict[str, str], ...] = (), **fields: object) -> Numbers:
    assumed = {key: fields.pop(key) for key in ("failures", "offline", "away_ms") if key in fields}
    policy = Policy(
        **{
            "waves": parse_waves("5%,100%"),
            "max_unavailable": 0,
            "max_failures": 0,
            "max_failure_share": 0,
            "on_breach": OnBreach.HALT,
            "progress_deadline_ms": 600_000,
            **fields,
        }
    )
    return rehearse(policy, labels, hosts, Assumptions(spread=0.5, **assumed), Random(7))


def test_a_rehearsal_counts_who_is_harmed_before_the_halt() -> None:
    """Ten hosts of the first wave move, the release fails everywhere: no host of the second is touched."""
    numbers = tried(failures=1.0)
    assert numbers.state == "halted"
    assert numbers.moved == 10
    assert 1 <= numbers.harmed_at_stop <= numbers.harmed <= 10
    assert [wave.hosts for wave in numbers.waves] == [10, 190]
    assert numbers.waves[1].opened_ms == -1
    assert (numbers.waves[1].healthy, numbers.waves[1].harmed) == (0, 0)


def test_a_rehearsal_of_a_revert_counts_who_was_taken_back() -> None:
    """Harmed hosts are no hosts taken back; hosts that never moved are neither."""
    numbers = tried(failures=0.1, on_breach=OnBreach.REVERT)
    assert numbers.state == "reverted"
    assert numbers.harmed + sum(wave.back for wave in numbers.waves) <= numbers.moved
    assert sum(wave.back for wave in numbers.waves) > 0


@pytest.mark.parametrize("breach", OnBreach)
def test_each_host_of_a_rehearsal_is_counted_once(breach: OnBreach) -> None:
    """Who was let in and told to stay by the halt is in a column too, so that the table adds up."""
    numbers = tried(500, waves=parse_waves("1,10%,100%"), failures=0.03, offline=0.1, on_breach=breach, max_failures=2)
    for wave in numbers.waves:
        ends = (wave.healthy, wave.harmed, wave.back, wave.offline, wave.unfinished, wave.not_let_in)
        assert sum(ends) == wave.hosts, wave
    last = numbers.waves[-1]
    moved = sum(it.healthy + it.harmed + it.back + it.unfinished for it in numbers.waves)
    assert (moved, last.unfinished > 0) == (numbers.moved, breach is OnBreach.HALT)
    assert last.not_let_in > 0


def test_a_rehearsal_gives_out_the_labels_of_real_hosts_and_refuses_waves_that_nobody_is_in() -> None:
    """A tenth of the real hosts are canaries, so a tenth of the simulated ones are."""
    labels = ({"wave": "canary"}, *({} for _ in range(9)))
    numbers = tried(100, labels, waves=parse_waves("canary,100%"), offline=0.1)
    assert [wave.hosts for wave in numbers.waves] == [10, 90]
    assert sum(wave.offline for wave in numbers.waves) > 0
    with pytest.raises(InputError, match="wave canary: none of these hosts has the label wave=canary"):
        tried(100, (), waves=parse_waves("canary,100%"))
    with pytest.raises(InputError, match="1 to 100000"):
        tried(0)
    with pytest.raises(InputError, match="cannot rehearse with the label rack: none of these hosts has it"):
        tried(100, budgets=parse_budgets(["rack=1"]))
    assert tried(10, ({"rack": "a"},), budgets=parse_budgets(["rack=1"]), order_label="rack").state == "done"


def test_a_rehearsal_keeps_few_samples_and_the_last_one() -> None:
    """What is drawn fits a picture."""
    numbers = tried(600, max_unavailable=1)
    assert len(numbers.samples) <= MAX_SAMPLES + 1
    assert numbers.samples[-1].healthy == 600


def test_a_fleet_that_runs_it_already_is_done_without_a_move_in_flight() -> None:
    """Everybody is let in and nobody takes a slot: the next tick finds the wave finished."""
    hosts = tuple(HostView(f"id{n}", f"h{n}", True, state=reported(generation=0)) for n in range(3))
    planned = plan(view(*hosts, waves=parse_waves("1,100%")), NOW)
    assert {one.stays for one in planned.hosts} == {"runs it already"}
    assert moving(planned) == []
    assert planned.took_ms < 10_000


def test_a_plan_is_sorted_by_turn_who_is_down_anyway_goes_first() -> None:
    """A host between two releases moves before its place in the order, and stands there in the plan."""
    begin = fleet(6, max_unavailable=1)
    last = plan(begin, NOW).hosts[-1].host.host_id
    down = reported(State.WATCHING, generation=0, current_sha256=b"x" * 32)
    hosts = tuple(replace(host, state=down) if host.host_id == last else host for host in begin.hosts)
    planned = plan(replace(begin, hosts=hosts), NOW)
    assert (planned.hosts[0].host.host_id, planned.hosts[0].turn) == (last, 1)


def test_a_host_that_runs_it_already_beside_one_that_cannot_is_let_in_and_the_run_ends() -> None:
    """What changed without a move is looked at again, and then the run says what it waits for."""
    hosts = (
        HostView("a", "a", True, state=reported(generation=0)),
        HostView("b", "b", True, state=OLD, blocked="the release is for linux/arm64"),
    )
    ended = run(view(*hosts, max_unavailable=2))
    assert [move.host_id for move in ended.moves] == ["a"]
    assert ended.waits == "b to finish: the release is for linux/arm64"
    assert ended.took_ms == 1_000
