"""Waves: who is in which, when the next one opens, what keeps it closed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.rows import NOW, OLD, REVERTED, reported, seen, view
from towpath.status import Health, Verdict
from towpath.waves import parse_waves
from towpath_server.domain.gates import Gate, counts, gate, members
from towpath_server.domain.model import RolloutState
from towpath_server.domain.rolling import decide
from towpath_server.domain.standing import Phase, RolloutView, in_order, standing
from towpath_server.domain.waves import membership, nobody

ROLLING, DONE, PAUSED = RolloutState.ROLLING, RolloutState.DONE, RolloutState.PAUSED
GOOD = reported()
SOAK = 600_000
CANARY = {"wave": "canary"}


def fleet(waves: str = "1,50%,100%", count: int = 4, soak: int = 0, **fields: Any) -> RolloutView:
    """Return a rollout of hosts that run the old release, all of which may be in flight at once."""
    hosts = [seen(f"h{n}", OLD, admitted=False) for n in range(count)]
    return view(*hosts, waves=parse_waves(waves, soak), max_unavailable=count, **fields)


def having(picture: RolloutView, name: str, **fields: Any) -> RolloutView:
    return replace(picture, hosts=tuple(replace(h, **fields) if h.name == name else h for h in picture.hosts))


def names(picture: RolloutView) -> list[str]:
    """Return the hosts in the order in which this rollout takes them."""
    return [host.name for host in in_order(picture)]


def told(picture: RolloutView, *hosts: str, **fields: Any) -> RolloutView:
    """Return the rollout after these hosts were admitted and said what `fields` say: that all is well."""
    for name in hosts:
        picture = having(picture, name, **{"admitted_unix_ms": NOW, "state": GOOD, **fields})
    return picture


def now_at(picture: RolloutView, now: int = NOW) -> Gate:
    standings = [(host, standing(picture, host, now)) for host in in_order(picture)]
    return gate(picture, standings, members(picture), now)


def after(picture: RolloutView, now: int = NOW) -> RolloutView:
    """Return the rollout after one tick."""
    decision = decide(picture, now)
    for name in decision.admit:
        picture = having(picture, name, admitted_unix_ms=now)
    for name in decision.withdraw:
        picture = having(picture, name, admitted_unix_ms=None)
    return replace(
        picture,
        state=decision.state,
        reason=decision.reason,
        wave=decision.wave,
        wave_done_unix_ms=decision.wave_done_unix_ms,
    )


def test_counts_and_shares_are_of_all_hosts_and_labels_of_those_left() -> None:
    """canary,10%,50%,100% over 20 hosts: the labelled ones, then up to two in all, then up to ten, then the rest."""
    hosts = [(f"h{n:02}", CANARY if n == 7 else {}) for n in range(20)]
    found = membership(parse_waves("canary,10%,50%,100%"), hosts)
    assert [name for name in found if found[name] == 0] == ["h07"]
    assert [name for name in found if found[name] == 1] == ["h00"]
    assert sorted(name for name in found if found[name] == 2) == [f"h{n:02}" for n in (1, 2, 3, 4, 5, 6, 8, 9)]
    assert len(found) == 20
    assert membership(parse_waves("3,100%"), hosts[:2]) == {"h00": 0, "h01": 0}
    assert membership((), hosts[:2]) == {"h00": 0, "h01": 0}


@settings(max_examples=100)
@given(
    st.integers(0, 60), st.sampled_from(["1,100%", "canary,10%,50%", "5%,20,100%", "canary,a=b+c=d,33.33%"]), st.data()
)
def test_every_host_is_in_exactly_one_wave_and_shares_are_never_fallen_short_of(
    count: int, text: str, data: st.DataObject
) -> None:
    """Whatever the labels: all are reached, and a share is rounded up, not down to nobody."""
    labels = st.sampled_from([{}, CANARY, {"a": "b"}, {"a": "b", "c": "d"}])
    hosts = [(f"h{n}", data.draw(labels)) for n in range(count)]
    waves = parse_waves(text)
    found = membership(waves, hosts)
    assert set(found) == {name for name, _ in hosts}
    for number, wave in enumerate(waves):
        moved = sum(1 for it in found.values() if it <= number)
        if wave.what.endswith("%"):
            assert moved * 100 >= float(wave.what[:-1]) * count


def test_a_wave_by_labels_that_nobody_has_is_found() -> None:
    """So that a typing mistake is refused before anything moves."""
    waves = parse_waves("canary,rack=a,10%,100%")
    assert nobody(waves, [CANARY, {"rack": "a"}]) == ""
    assert nobody(waves, [CANARY]) == "rack=a"
    assert nobody(waves, []) == "canary"


def test_nobody_moves_before_its_wave_is_open() -> None:
    """However many slots are free, the first tick admits the first wave and nobody else."""
    picture = fleet()
    first = decide(picture, NOW)
    assert first.admit == (names(picture)[0],)
    assert first.reason.startswith("wave 1 of 3 (1); 0 of 4 hosts healthy")


def test_a_wave_opens_when_every_host_of_the_one_before_has_finished() -> None:
    """In flight is not finished; healthy is; and then those of the next wave move in the same tick."""
    picture = after(fleet())
    one, two, three, four = names(picture)
    assert decide(picture, NOW).wave == 0
    assert now_at(picture).waits == f"{one} to finish: no report yet"
    opened = decide(told(picture, one), NOW)
    assert (opened.wave, opened.admit) == (1, (two,))
    last = decide(told(replace(picture, wave=1), one, two), NOW)
    assert (last.wave, last.admit, last.state) == (2, (three, four), ROLLING)
    done = decide(told(replace(picture, wave=2), one, two, three, four), NOW)
    assert (done.state, done.reason) == (DONE, "4 of 4 hosts healthy")


def test_a_wave_soaks_after_its_last_host_and_not_a_moment_less() -> None:
    """The clock starts when the wave had finished; the last wave soaks too before the rollout is done."""
    picture = fleet("1:10m,100%:10m")
    one, *rest = names(picture)
    picture = after(told(picture, one), NOW)
    assert (picture.wave, picture.wave_done_unix_ms) == (0, NOW)
    assert "soaks until 2023-11-14 22:23:20Z" in picture.reason
    assert decide(picture, NOW + SOAK - 1).wave == 0
    assert decide(picture, NOW + SOAK).admit == tuple(rest)
    picture = after(told(replace(picture, wave=1, wave_done_unix_ms=0), one, *rest), NOW)
    assert (picture.state, picture.wave_done_unix_ms) == (ROLLING, NOW)
    assert decide(picture, NOW + SOAK - 1).state is ROLLING
    assert decide(picture, NOW + SOAK).state is DONE


def test_the_servers_own_downtime_is_no_soak() -> None:
    """What nobody watched has proven nothing: after a restart the wave soaks anew."""
    picture = fleet("1:10m,100%")
    picture = replace(told(picture, names(picture)[0]), wave_done_unix_ms=NOW, observed_since_unix_ms=NOW + SOAK)
    assert decide(picture, NOW + SOAK + 1).wave == 0
    assert decide(picture, NOW + 2 * SOAK).wave == 1


def test_a_newcomer_during_the_soak_must_finish_and_does_not_start_it_anew() -> None:
    """Otherwise hosts that come and go would keep a rollout for ever."""
    picture = fleet("50%:10m,100%", count=2)
    one = names(picture)[0]
    picture = after(told(picture, one), NOW)
    new = next(f"n{n}" for n in range(99) if members(with_new(picture, f"n{n}"))[f"n{n}"] == 0)
    picture = with_new(picture, new)
    assert decide(picture, NOW + 1).admit == (new,), "its wave is open: it moves now"
    flying = having(picture, new, admitted_unix_ms=NOW + SOAK, progress_unix_ms=NOW + SOAK)
    assert decide(flying, NOW + SOAK + 1).wave == 0
    assert decide(told(flying, new), NOW + SOAK + 1).wave == 1


def with_new(picture: RolloutView, name: str) -> RolloutView:
    return replace(picture, hosts=(*picture.hosts, seen(name, OLD, admitted=False)))


def test_a_newcomer_joins_the_wave_that_its_order_gives_it() -> None:
    """One whose wave is open moves now, one whose wave is closed waits."""
    picture = after(fleet("2,100%", count=6))
    fates = set()
    for n in range(30):
        grown = with_new(picture, f"n{n}")
        number = members(grown)[f"n{n}"]
        fates.add(number)
        assert (f"n{n}" in decide(grown, NOW).admit) is (number == 0)
    assert fates == {0, 1}


def test_offline_and_held_hosts_neither_block_a_wave_nor_count() -> None:
    """The others of the wave prove it; who was away moves when it is back, whichever wave is open by then."""
    picture = fleet("2,100%")
    one, two, *rest = names(picture)
    for away in ({"online": False}, {"held": "held by ana"}):
        there = told(having(picture, two, **away), one)
        assert decide(there, NOW).admit == tuple(rest)
        back = decide(told(having(there, two, online=True, held=""), *rest), NOW)
        assert two in back.admit


def test_nobody_is_no_proof() -> None:
    """Where every host of the first wave is away the next one stays closed, until a person says otherwise."""
    picture = fleet("1,100%")
    one = names(picture)[0]
    dark = having(picture, one, online=False)
    assert decide(dark, NOW + 10**9).admit == ()
    assert now_at(dark).waits == "nobody has proven the release yet"


def test_a_wave_that_nobody_is_in_passes_at_once_without_a_soak() -> None:
    """A share of a small fleet that the canary fills already does not cost its soak."""
    picture = fleet("canary:0s,10%:10m,100%", count=4)
    one = names(picture)[2]
    picture = having(picture, one, labels=CANARY)
    opened = decide(told(picture, one), NOW)
    assert (opened.wave, len(opened.admit)) == (2, 3)


def test_without_hosts_no_wave_opens() -> None:
    """Those that come later are to go in waves too."""
    assert decide(view(waves=parse_waves("1,100%")), NOW).wave == 0


def test_a_manual_gate_waits_for_a_person() -> None:
    """However long ago the wave finished."""
    picture = fleet("1:manual,100%")
    picture = after(told(picture, names(picture)[0]), NOW)
    assert decide(picture, NOW + 10**9).admit == ()
    assert now_at(picture).waits == "a person has to advance it"
    assert "a person has to advance it" in picture.reason


def test_a_blocked_host_keeps_its_wave_and_is_named() -> None:
    """A host that lacks a parameter has not finished; the operator sees which."""
    picture = fleet("2,100%")
    one, two, *_ = names(picture)
    stuck = told(having(picture, two, blocked="port is missing"), one)
    assert decide(stuck, NOW).wave == 0
    assert now_at(stuck).waits == f"{two} to finish: port is missing"


def test_an_open_wave_is_never_closed_again() -> None:
    """A host of an earlier wave that falls ill keeps the NEXT one closed, not those that are open."""
    picture = replace(fleet(), wave=1)
    one, two, three, four = names(picture)
    ill = told(told(picture, one, state=reported(health=Health.UNHEALTHY)), two)
    assert decide(ill, NOW).wave == 1
    again = decide(having(ill, two, admitted_unix_ms=None, state=OLD), NOW)
    assert again.admit == (two,)
    assert {three, four}.isdisjoint(again.admit)


def test_while_paused_nobody_moves_no_wave_opens_and_a_breach_is_a_breach() -> None:
    """What is seen to finish is remembered, so that a soak is not lost; who fails stops it for good."""
    picture = after(fleet("1:10m,100%"))
    one, *_ = names(picture)
    paused = replace(told(picture, one), state=PAUSED)
    first = after(paused, NOW)
    assert (first.state, first.wave, first.wave_done_unix_ms) == (PAUSED, 0, NOW)
    assert "paused" in first.reason
    later = decide(first, NOW + SOAK)
    assert (later.state, later.wave, later.admit, later.wave_done_unix_ms) == (PAUSED, 0, (), NOW)
    assert decide(replace(first, state=ROLLING), NOW + SOAK).wave == 1
    at_once = decide(replace(told(fleet("1,100%"), one), state=PAUSED), NOW + 5)
    assert (at_once.wave, at_once.wave_done_unix_ms) == (0, NOW + 5)
    last = decide(replace(told(fleet("100%", count=1), "h0"), state=PAUSED), NOW)
    assert last.state is PAUSED, "a paused rollout is not done behind its operator's back"
    assert decide(told(replace(picture, state=PAUSED), one, state=REVERTED), NOW).state is RolloutState.HALTED


def test_max_unavailable_holds_across_waves() -> None:
    """A straggler that a person advanced past takes its slot with it into the next wave."""
    picture = replace(after(fleet("1,100%", count=6)), wave=1, max_unavailable=2)
    assert len(decide(picture, NOW).admit) == 1


def test_the_picture_says_of_each_wave_where_it_stands() -> None:
    """Passed, soaking, open or closed, who is in which phase, and what the newest one waits for."""
    picture = fleet("1:10m,50%,100%")
    one, *_ = names(picture)
    picture = after(told(picture, one), NOW)
    assert said(picture) == ["soaking", "closed", "closed"]
    soaking = waves_of(picture)[0]
    assert (soaking.soak_until_unix_ms, soaking.phases) == (NOW + SOAK, {Phase.HEALTHY: 1})
    assert soaking.waits == "soaks until 2023-11-14 22:23:20Z"
    assert said(replace(picture, wave=1)) == ["passed", "open", "closed"]
    assert "to finish" in waves_of(replace(picture, wave=1))[1].waits
    assert said(replace(picture, wave=2, state=DONE)) == ["passed", "passed", "passed"]
    assert said(replace(picture, state=RolloutState.HALTED)) == ["open", "closed", "closed"]
    assert waves_of(replace(picture, state=RolloutState.HALTED))[0].waits == ""


def waves_of(picture: RolloutView) -> Sequence[Any]:
    standings = [(host, standing(picture, host, NOW)) for host in picture.hosts]
    found, numbers = counts(picture, standings, NOW)
    assert set(numbers) == {host.host_id for host in picture.hosts}
    return found


def said(picture: RolloutView) -> list[str]:
    return [wave.state for wave in waves_of(picture)]


def test_a_share_of_failures_is_of_finished_hosts_and_holds_beside_the_count() -> None:
    """Each limit that is given holds by itself; a share alone sets no count."""
    hosts = [*[seen(f"g{n}", GOOD) for n in range(19)], seen("b0", REVERTED)]
    crowd = [seen(f"w{n}", OLD, admitted=False) for n in range(80)]
    five = view(*hosts, *crowd, max_failure_share=500)
    assert decide(five, NOW).state is ROLLING, "1 of 20 is 5%"
    breach = decide(replace(five, hosts=five.hosts[1:]), NOW)
    assert breach.state is RolloutState.HALTED, "1 of 19 finished is more, whatever still waits"
    assert "1 of 19 finished hosts failed, 5% allowed" in breach.reason
    assert decide(replace(five, hosts=(*five.hosts, seen("b1", REVERTED))), NOW).state is RolloutState.HALTED
    both = replace(five, hosts=(*[seen(f"m{n}", GOOD) for n in range(60)], *five.hosts), max_failures=2)
    more = (*both.hosts, seen("b1", REVERTED), seen("b2", REVERTED))
    assert decide(replace(both, hosts=more[:-1]), NOW).state is ROLLING
    assert "3 of 82 finished hosts failed, 2 allowed" in decide(replace(both, hosts=more), NOW).reason


def test_who_was_excused_does_not_count_again_and_a_new_failure_does() -> None:
    """After a resume the failed wave goes on with the others; it is not skipped."""
    picture = fleet("2,100%")
    one, two, *rest = names(picture)
    failed = told(picture, one, state=REVERTED)
    assert decide(failed, NOW).state is RolloutState.HALTED
    excused = replace(failed, excused=frozenset({one}))
    assert decide(excused, NOW).admit == (two,), "the same wave goes on"
    assert decide(told(excused, two), NOW).admit == tuple(rest)
    assert decide(told(excused, two, state=REVERTED), NOW).state is RolloutState.HALTED
    unclear = replace(REVERTED, verdict=Verdict.INCONCLUSIVE)
    assert decide(told(excused, one, state=unclear), NOW).state is ROLLING
    assert "1 inconclusive" in decide(told(excused, one, state=unclear), NOW).reason


def test_the_time_of_a_pause_or_a_halt_is_nobodys_silence() -> None:
    """After a resume, and where a release counts again, hosts get the whole deadline: also those let in long ago."""
    late = NOW + 10 * SOAK
    assert standing(view(), seen("h1"), late).phase is Phase.FAILED
    for state in (ROLLING, DONE):
        again = view(resumed_unix_ms=late, state=state)
        assert standing(again, seen("h1"), late + 60_000).phase is Phase.IN_FLIGHT
        assert standing(again, seen("h1"), late + 60_001).phase is Phase.FAILED
