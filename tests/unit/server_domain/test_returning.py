"""Taking a rollout back: who goes when, who is back, and to which assignment."""

from dataclasses import replace
from typing import Any

import pytest

from fakes.rows import DIGEST, NOW, OLD, OLD_DIGEST, REVERTED, assignment, reported, seen, view
from towpath.status import Health, State, Verdict
from towpath.waves import parse_waves
from towpath_server.domain.model import OnBreach, Retreat, RolloutState
from towpath_server.domain.returning import predecessor
from towpath_server.domain.rolling import decide
from towpath_server.domain.standing import HostView, Phase, RolloutView, standing

REVERTING, BACK_STATE = RolloutState.REVERTING, RolloutState.REVERTED
GOOD, BACK = reported(), reported(current_sha256=OLD_DIGEST, current_version="0.9", generation=0)


def taken_back(*hosts: HostView, **fields: Any) -> RolloutView:
    return view(*hosts, **{"state": REVERTING, "reason": "h0 failed", **fields})


def sent(name: str, state: object, at: int = NOW, arrived: int = 0, **fields: Any) -> HostView:
    """Return a host that was told to go back."""
    return replace(seen(name, admitted=False, **fields), state=state, retreat=Retreat("a1", name, at, arrived))


def phase(host: HostView, now: int = NOW, **fields: Any) -> Phase:
    return standing(taken_back(host, **fields), host, now).phase


def test_a_breach_takes_back_in_the_same_tick_where_the_policy_says_so() -> None:
    """Who failed and who has not switched goes at once, one of the others as far as the budget goes; no wave counts."""
    hosts = [
        seen("bad", REVERTED),
        seen("fetching", reported(State.FETCHING, current_sha256=OLD_DIGEST)),
        *[seen(f"good{n}", GOOD) for n in range(3)],
        seen("new", OLD, admitted=False),
    ]
    policy = {"on_breach": OnBreach.REVERT, "waves": parse_waves("5,100%")}
    decision = decide(view(*hosts[:5], **policy), NOW)
    assert decision.state is REVERTING
    assert "1 of 4 finished hosts failed" in decision.reason
    assert decision.admit == ()
    assert {"bad", "fetching"} < set(decision.retreat)
    assert len(decision.retreat) == 3


def test_a_breach_after_done_halts_whatever_the_policy() -> None:
    """By then other things than the release fail hosts: a newcomer with a full disk takes no fleet back."""
    decision = decide(
        view(seen("new", REVERTED), seen("h", GOOD), state=RolloutState.DONE, on_breach=OnBreach.REVERT), NOW
    )
    assert (decision.state, decision.retreat) == (RolloutState.HALTED, ())


def test_inconclusive_takes_nobody_back() -> None:
    """Where the previous release fails its probes too, going back helps nobody: it halts and waits for a person."""
    unclear = replace(REVERTED, verdict=Verdict.INCONCLUSIVE)
    decision = decide(view(seen("h0", unclear), seen("h1", GOOD), on_breach=OnBreach.REVERT), NOW)
    assert (decision.state, decision.retreat) == (RolloutState.HALTED, ())


def test_max_unavailable_holds_on_the_way_back_and_waves_do_not_count() -> None:
    """Healthy hosts go back so many at a time; the next goes when one has arrived."""
    crowd = [seen(f"h{n}", GOOD) for n in range(6)]
    picture = taken_back(*crowd, max_unavailable=2, waves=parse_waves("1,100%"), wave=0)
    first = decide(picture, NOW)
    assert len(first.retreat) == 2
    flying = [sent(one.name, GOOD) if one.name in first.retreat else one for one in crowd]
    assert decide(replace(picture, hosts=tuple(flying)), NOW).retreat == ()
    one = first.retreat[0]
    landed = [sent(it.name, BACK) if it.name == one else it for it in flying]
    again = decide(replace(picture, hosts=tuple(landed)), NOW)
    assert (again.arrived, len(again.retreat)) == ((one,), 1)


def test_the_default_budget_on_the_way_back_is_a_quarter_of_the_whole_rule() -> None:
    """Not of the few that took the release."""
    crowd = [seen(f"h{n}", GOOD) for n in range(5)]
    assert len(decide(taken_back(*crowd, max_unavailable=0, fleet=16), NOW).retreat) == 4
    assert len(decide(taken_back(*crowd, max_unavailable=0), NOW).retreat) == 1


def test_hosts_between_two_releases_go_first_and_take_a_slot() -> None:
    """They are down anyway; nobody else goes down beyond the budget meanwhile."""
    crowd = [seen(f"h{n}", GOOD) for n in range(4)]
    half = seen("half", reported(State.WATCHING))
    assert decide(taken_back(*crowd, half), NOW).retreat == ("half",)
    two = decide(taken_back(*crowd, half, max_unavailable=2), NOW).retreat
    assert (two[0], len(two)) == ("half", 2)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (BACK, Phase.BACK),
        (None, Phase.BACK),
        (reported(current_sha256=b"", health=Health.UNKNOWN), Phase.BACK),
        (GOOD, Phase.GOING_BACK),
        (replace(BACK, state=State.WATCHING), Phase.GOING_BACK),
        (replace(BACK, health=Health.UNHEALTHY), Phase.GOING_BACK),
        (reported(State.REVERTED, generation=0, verdict=Verdict.FAILED, reason="boom"), Phase.FAILED),
        (reported(State.STUCK, generation=0), Phase.FAILED),
        (replace(REVERTED), Phase.BACK),
    ],
)
def test_back_is_what_the_host_says_not_what_it_was_told(state: object, expected: Phase) -> None:
    """Something else runs, proven and at rest; or nothing of the app is left; or it cannot, which is said."""
    assert phase(sent("h1", state)) is expected


def test_who_has_arrived_stays_arrived() -> None:
    """What its next assignment does with it is not this one's matter."""
    assert phase(sent("h1", GOOD, arrived=NOW)) is Phase.BACK
    assert decide(taken_back(sent("h1", BACK, arrived=NOW)), NOW).arrived == ()


def test_silence_on_the_way_back_has_a_deadline_and_gives_the_slot_away() -> None:
    """A host that says nothing has failed, with the reason; the others still need to go."""
    host = sent("h1", GOOD)
    assert phase(host, NOW + 60_000) is Phase.GOING_BACK
    late = standing(taken_back(host), host, NOW + 60_001)
    assert (late.phase, late.reason) == (Phase.FAILED, "cannot go back: silent for 60s, in Confirmed")
    moving = sent("h1", replace(BACK, state=State.FETCHING), progress_unix_ms=NOW + 30_000)
    assert phase(moving, NOW + 90_000) is Phase.GOING_BACK
    assert decide(taken_back(host, seen("h2", GOOD)), NOW + 60_001).retreat == ("h2",)


def test_offline_and_held_hosts_go_back_when_they_are_there_again_also_after_the_end() -> None:
    """They neither block nor count, and are not forgotten."""
    dark, held = seen("dark", GOOD, online=False), seen("held", GOOD, held="held by ana")
    decision = decide(taken_back(dark, held, sent("h1", BACK)), NOW)
    assert (decision.state, decision.retreat) == (BACK_STATE, ())
    assert phase(dark) is Phase.OFFLINE
    assert phase(held) is Phase.HELD
    half = replace(held, state=reported(State.FETCHING, current_sha256=OLD_DIGEST))
    assert decide(taken_back(half), NOW).retreat == ("held",), "nothing changes for it, so its hold is respected"
    assert phase(replace(held, state=reported(State.WATCHING))) is Phase.WAITING, "what is half-way is finished"
    later = taken_back(replace(dark, online=True), replace(held, held=""), state=BACK_STATE, max_unavailable=2)
    assert set(decide(later, NOW).retreat) == {"dark", "held"}
    assert decide(later, NOW).state is BACK_STATE


def test_a_host_that_could_not_run_what_it_had_stays_and_says_so() -> None:
    """A parameter is missing for the release of before: it is not sent into nothing, and does not keep the others."""
    stays = seen("h1", GOOD, back_blocked="port is missing")
    decision = decide(taken_back(stays, sent("h2", BACK)), NOW)
    assert (decision.state, decision.retreat) == (BACK_STATE, ())
    where = standing(taken_back(stays), stays, NOW)
    assert (where.phase, where.reason) == (Phase.FAILED, "cannot go back: port is missing")
    assert decide(taken_back(replace(stays, back_blocked=""), state=BACK_STATE), NOW).retreat == ("h1",)


def test_it_is_reverted_when_nobody_waits_or_is_on_the_way_and_the_reason_stays() -> None:
    """A host that cannot go back does not keep it open; why it was taken back is still told."""
    stuck = sent("h2", reported(State.STUCK, generation=0))
    assert decide(taken_back(sent("h1", GOOD), stuck), NOW).state is REVERTING
    assert decide(taken_back(seen("h1", GOOD), stuck), NOW).state is REVERTING
    ended = decide(taken_back(sent("h1", BACK), stuck), NOW)
    assert (ended.state, ended.reason) == (BACK_STATE, "h0 failed")
    assert decide(taken_back(), NOW).state is BACK_STATE


def test_what_one_goes_back_to_was_done_before_for_the_same_rule() -> None:
    """The newest that was: not what failed, not the identical release, not another rule's, not what is newer."""
    history = RolloutState.SUPERSEDED
    one = assignment(9, release_sha256=b"bad")
    done = assignment(3, state=history, done_unix_ms=NOW)
    others = [
        assignment(2, state=history, done_unix_ms=NOW),
        assignment(4, state=history),
        assignment(5, state=RolloutState.REVERTED, done_unix_ms=NOW),
        assignment(6, state=history, done_unix_ms=NOW, selector={}),
        assignment(7, state=history, done_unix_ms=NOW, app="other"),
        assignment(8, state=history, done_unix_ms=NOW, release_sha256=b"bad"),
        assignment(10, state=history, done_unix_ms=NOW),
    ]
    assert predecessor([*others, done], one) == done
    assert predecessor([*others, done], one, other_release=False) == others[5]
    assert predecessor(others[1:5], one) is None
    assert done.release_sha256 == DIGEST
