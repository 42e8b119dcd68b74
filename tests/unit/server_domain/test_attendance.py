"""Hosts that are away and hosts that come late: whom a rollout waits for, and who is left out."""

from dataclasses import replace
from typing import Any

import pytest

from fakes.rows import NOW, OLD, REVERTED, host, reported, seen, view
from towpath.errors import InputError
from towpath.waves import parse_waves
from towpath_server.domain.attendance import check_attendance
from towpath_server.domain.gates import counts, members
from towpath_server.domain.hosts import ONLINE_MS, expected
from towpath_server.domain.model import Newcomers, RolloutState
from towpath_server.domain.rolling import decide
from towpath_server.domain.standing import Decision, Phase, RolloutView, in_order, standing
from towpath_server.domain.windows import moment

HOUR = 3_600_000
GOOD = reported()
ROLLING, DONE = RolloutState.ROLLING, RolloutState.DONE


def away(name: str, **fields: Any) -> Any:
    return seen(name, OLD, admitted=False, online=False, **fields)


def after(picture: RolloutView, decision: Decision) -> RolloutView:
    """Return the rollout as the rows have it after the tick."""
    return replace(
        picture,
        state=decision.state,
        wave=decision.wave,
        wave_done_unix_ms=decision.wave_done_unix_ms,
        roster=frozenset(decision.roster) if decision.roster is not None else picture.roster,
    )


def test_a_wave_waits_for_hosts_that_are_away_until_its_deadline() -> None:
    """From when the rest has finished; the reason names one and says until when."""
    picture = view(seen("a", GOOD), away("b"), away("c"), max_unavailable=3, offline_wait_ms=HOUR)
    decision = decide(picture, NOW)
    assert decision.state is ROLLING
    assert decision.reason.startswith(f"waits for b and 1 more, offline, until {moment(NOW + HOUR)}")
    picture = after(picture, decision)
    assert decide(picture, NOW + HOUR - 1).state is ROLLING
    assert decide(picture, NOW + HOUR).state is DONE
    assert decide(replace(picture, offline_wait_ms=0), NOW).state is DONE, "ignored: today's way"


def test_a_wave_goes_on_as_soon_as_they_are_back_and_have_proven_it() -> None:
    """Before the deadline; a host that comes back is let in at once."""
    picture = view(seen("a", GOOD), away("b"), max_unavailable=3, offline_wait_ms=HOUR)
    picture = after(picture, decide(picture, NOW))
    back = replace(picture, hosts=(picture.hosts[0], seen("b", OLD, admitted=False)))
    assert decide(back, NOW + 1).admit == ("b",)
    assert decide(replace(picture, hosts=(picture.hosts[0], seen("b", GOOD))), NOW + 2).state is DONE


def test_the_next_wave_waits_for_those_of_the_open_ones_only() -> None:
    """Who is away in a later wave is waited for there."""
    hosts = [seen(f"h{n}", OLD, admitted=False) for n in range(4)]
    order = [host.name for host in in_order(view(*hosts))]
    picture = view(
        *(seen(order[0], GOOD), away(order[1]), away(order[2]), seen(order[3], OLD, admitted=False)),
        waves=parse_waves("1,2,100%"),
        max_unavailable=4,
        offline_wait_ms=HOUR,
    )
    decision = decide(picture, NOW)
    assert decision.wave == 1, "the second wave is open, and waits for its host"
    assert members(picture)[order[3]] == 2
    assert decision.admit == ()
    standings = [(host, standing(picture, host, NOW)) for host in in_order(picture)]
    waves, _ = counts(after(picture, decision), standings, NOW)
    assert waves[1].waits == f"waits for {order[1]}, offline, until {moment(NOW + HOUR)}"
    later = decide(after(picture, decision), NOW + HOUR)
    assert (later.wave, later.admit) == (2, (order[3],))


def waiting(*hosts: Any, **fields: Any) -> RolloutView:
    return view(*hosts, newcomers=Newcomers.WAIT, max_unavailable=9, **fields)


def test_newcomers_to_a_done_rollout_wait_for_the_next_where_the_policy_says_so() -> None:
    """With `done` the list is closed; who was away then still catches up, who enrols later stays on what it has."""
    picture = waiting(seen("a", GOOD), away("b"))
    done = decide(picture, NOW)
    assert (done.state, done.roster) == (DONE, ("b",))
    picture = after(picture, done)
    new = seen("new", OLD, admitted=False)
    picture = replace(picture, hosts=(picture.hosts[0], seen("b", OLD, admitted=False), new))
    decision = decide(picture, NOW + 1)
    assert (decision.admit, decision.roster) == (("b",), ())
    where = standing(picture, new, NOW + 1)
    assert (where.phase, where.reason) == (Phase.NEWCOMER, "came after this rollout was done; waits for the next one")
    assert "1 newcomer" in decision.reason
    joins = replace(picture, newcomers=Newcomers.JOIN, roster=None)
    assert sorted(decide(joins, NOW + 1).admit) == ["b", "new"], "today's way"


def test_until_it_is_done_newcomers_join_under_either_policy() -> None:
    """They are part of the waves that are still to come."""
    picture = waiting(seen("a", OLD), seen("new", OLD, admitted=False))
    decision = decide(picture, NOW)
    assert (decision.admit, decision.roster) == (("new",), None)


def test_a_newcomer_that_runs_the_release_already_is_not_let_in_either() -> None:
    """It stays on what it has by its own assignment."""
    picture = waiting(seen("a", GOOD), seen("new", GOOD, admitted=False), state=DONE, roster=frozenset())
    assert decide(picture, NOW).admit == ()


def test_who_was_let_in_and_is_withdrawn_is_still_expected() -> None:
    """A hold that ends, or a window that opens, lets it in again."""
    picture = waiting(seen("a", GOOD), seen("b", OLD, held="held by ana"), state=DONE, roster=frozenset(("c",)))
    decision = decide(picture, NOW)
    assert decision.withdraw == ("b",)
    assert decision.roster == ("b", "c")


def test_a_newcomer_keeps_no_wave_open_when_failed_hosts_are_retried() -> None:
    """It neither blocks nor counts."""
    picture = waiting(
        seen("a", GOOD), seen("b", GOOD), seen("new", OLD, admitted=False), roster=frozenset(("b",)), state=ROLLING
    )
    assert decide(picture, NOW).state is DONE
    failed = replace(picture, hosts=(*picture.hosts, seen("bad", REVERTED)))
    assert decide(failed, NOW).state is RolloutState.HALTED


def test_policies_that_cannot_be_are_refused() -> None:
    """One line each."""
    assert check_attendance(0, "") is Newcomers.JOIN
    assert check_attendance(HOUR, "wait") is Newcomers.WAIT
    with pytest.raises(InputError, match="1s to 7d"):
        check_attendance(8 * 24 * HOUR, "")
    with pytest.raises(InputError, match="cannot do 'stay' with newcomers: join or wait"):
        check_attendance(0, "stay")


def test_a_server_that_has_just_started_passes_no_wave_over_hosts_that_it_has_not_heard_yet() -> None:
    """It knows nobody: every wave would seem to be away, and the whole fleet would be let in. For 90 s it waits."""
    proven = seen("c", reported(), labels={"wave": "canary"})
    silent = seen("h", admitted=False, online=False, expected=True)
    dark = seen("d", admitted=False, online=False)
    waves = parse_waves("canary")
    began = view(proven, silent, dark, waves=waves, wave=1, observed_since_unix_ms=NOW)
    decision = decide(began, NOW + ONLINE_MS - 1)
    assert (decision.state, decision.wave, decision.wave_done_unix_ms) == (RolloutState.ROLLING, 1, 0)
    assert "waits for h, not heard since the server started, until " in decision.reason
    assert decide(began, NOW + ONLINE_MS).state is RolloutState.DONE, "then it is offline as any other"
    assert decide(replace(began, hosts=(proven, dark)), NOW).state is RolloutState.DONE, "the dark one is not expected"
    assert counts(began, [(host, standing(began, host, NOW)) for host in began.hosts], NOW)[0][1].waits.startswith(
        "waits for h, not heard since the server started, until "
    )
    both = replace(began, hosts=(*began.hosts, replace(silent, host_id="i", name="i")))
    assert "waits for h and 1 more, not heard" in decide(both, NOW).reason


def test_a_server_that_has_just_started_ends_no_way_back_before_it_heard_who_has_to_go() -> None:
    """Else it would be said to be reverted while hosts run the bad release."""
    silent = seen("h", reported(), online=False, expected=True)
    back = view(silent, state=RolloutState.REVERTING, observed_since_unix_ms=NOW)
    assert decide(back, NOW + ONLINE_MS - 1).state is RolloutState.REVERTING
    assert decide(back, NOW + ONLINE_MS).state is RolloutState.REVERTED


def test_a_host_is_expected_where_it_was_online_when_a_server_was_last_up() -> None:
    """Who was dark by then is dark still; a server that never heard anybody expects nobody."""
    row = host(last_seen_unix_ms=NOW)
    assert expected(row, heard_unix_ms=NOW)
    assert expected(row, heard_unix_ms=NOW + ONLINE_MS - 1)
    assert not expected(row, heard_unix_ms=NOW + ONLINE_MS)
    assert not expected(host(), heard_unix_ms=0)
