"""Approvals: who may give one, for which wave, and what a wave waits for."""

from dataclasses import replace

import pytest

from fakes.rows import NOW, OLD, reported, seen, view
from towpath.errors import InputError, TowpathError
from towpath.waves import parse_waves
from towpath_server.domain.approval import Approval, approve, forgotten, given, waits
from towpath_server.domain.gates import counts
from towpath_server.domain.model import RolloutState
from towpath_server.domain.rolling import decide
from towpath_server.domain.standing import Decision, RolloutView, standing

WAVES = parse_waves("1:approve=2,2:approve,100%")
BOB, CAROL = Approval(0, "bob", NOW), Approval(0, "carol", NOW)


def said(
    by: str,
    *before: Approval,
    wave: int = 0,
    number: int = 0,
    approvers: tuple[str, ...] = (),
    waves: tuple[object, ...] = WAVES,
) -> tuple[Approval, ...]:
    """Return the approvals after `by` approved a wave of ann's rollout."""
    return approve(
        waves=waves,  # type: ignore[arg-type]
        number=number,
        approvals=before,
        approvers=approvers,
        author="operator/ann",
        new=Approval(wave, by, NOW),
    )


def test_a_person_counts_once_however_often_they_say_it() -> None:
    """Bob twice is one of two; Bob and Carol are two."""
    once = said("bob")
    assert said("bob", *once) == once == (BOB,)
    assert waits(WAVES[0], 0, once, ()) == "needs 1 of 2 approvals (bob did)"
    assert waits(WAVES[0], 0, said("carol", *once), ()) == ""


@pytest.mark.parametrize("approvers", [(), ("ann", "bob")])
def test_the_author_approves_nothing_named_or_not(approvers: tuple[str, ...]) -> None:
    """Four eyes are two people's."""
    with pytest.raises(
        TowpathError, match="cannot approve it as ann: who made a rollout does not approve it"
    ) as caught:
        said("ann", approvers=approvers)
    assert caught.value.code == "not-yours"


def test_where_some_are_named_no_other_may() -> None:
    """And the refusal says who may."""
    assert said("carol", approvers=("bob", "carol")) == (CAROL,)
    with pytest.raises(TowpathError, match="cannot approve it as dave: bob, carol may"):
        said("dave", approvers=("bob", "carol"))
    assert waits(WAVES[0], 0, (CAROL,), ("bob", "carol")) == "needs 1 of 2 approvals of bob (carol did)"
    assert waits(WAVES[0], 0, (), ()) == "needs 2 of 2 approvals"


def test_only_the_newest_open_wave_is_approved() -> None:
    """What has passed needs none, what is not open was seen by nobody, and a wave that asks nobody says which one does."""
    for wave, number, part in (
        (1, 0, "cannot approve wave 2: it is not open yet; wave 1 is the newest open one"),
        (0, 1, "cannot approve wave 1: it has passed; wave 2 is the newest open one"),
        (3, 2, "cannot approve wave 4: the rollout has 3"),
        (-1, 2, "the rollout has 3"),
        (2, 2, "cannot approve wave 3: it asks nobody"),
    ):
        with pytest.raises(InputError, match=part):
            said("bob", wave=wave, number=number)
    with pytest.raises(InputError, match="wave 1: it asks nobody; wave 2 does, once it is open"):
        said("bob", waves=parse_waves("1,2:approve,100%"))


def test_what_was_said_of_a_wave_before_it_failed_is_forgotten() -> None:
    """Of the other waves it is kept."""
    later = Approval(1, "bob", NOW)
    assert forgotten((BOB, later), 0) == (later,)
    assert given((BOB, later, CAROL), 0) == ("bob", "carol")


def finished(*approvals: Approval, waves: str = "1:approve=2,100%", **fields: object) -> RolloutView:
    """Return a rollout whose first wave has proven the release, the second is to come."""
    hosts = [seen("h0", reported()), seen("h1", OLD, admitted=False), seen("h2", OLD, admitted=False)]
    picture = view(*hosts, waves=parse_waves(waves), max_unavailable=3, approvals=approvals, wave_done_unix_ms=NOW)
    first = min(picture.hosts, key=lambda host: host.admitted_unix_ms is None)
    labels = {"wave": "canary"}
    return replace(picture, hosts=tuple(replace(h, labels=labels if h is first else {}) for h in hosts), **fields)


def tick(picture: RolloutView, now: int = NOW) -> Decision:
    return decide(picture, now)


def test_no_host_moves_beyond_a_wave_that_has_not_been_approved() -> None:
    """Not by one of two, and at once by the second; the reason says what is missing."""
    canary = "canary:approve=2,100%"
    waiting = tick(finished(BOB, waves=canary))
    assert (waiting.admit, waiting.wave) == ((), 0)
    assert "wave 1 of 2 (canary) needs 1 of 2 approvals (bob did)" in waiting.reason
    opened = tick(finished(BOB, CAROL, waves=canary))
    assert (sorted(opened.admit), opened.wave) == (["h1", "h2"], 1)


def test_an_approval_is_asked_for_beside_the_soak_and_where_nobody_is_in_the_wave() -> None:
    """Early approvals shorten no soak; an empty wave passes without a soak, but never unseen."""
    soaking = tick(finished(BOB, CAROL, waves="canary:10m+approve=2,100%"))
    assert soaking.wave == 0
    assert "soaks until" in soaking.reason
    both = tick(finished(waves="canary:10m+approve=2,100%"))
    assert "Z; needs 2 of 2 approvals" in both.reason
    nobody = finished(waves="canary,db:approve,100%")
    assert (tick(nobody).wave, tick(nobody).admit) == (1, ())
    assert tick(replace(nobody, approvals=(Approval(1, "bob", NOW),))).wave == 2


def test_the_last_wave_is_done_only_when_it_is_approved() -> None:
    """Its gate is the rollout's end."""
    picture = view(seen("h0", reported()), waves=parse_waves("100%:approve"), wave_done_unix_ms=NOW)
    assert tick(picture).state is RolloutState.ROLLING
    assert tick(replace(picture, approvals=(BOB,))).state is RolloutState.DONE


def test_the_picture_says_who_approved() -> None:
    """Of the wave that asks, also when it has passed."""
    picture = finished(BOB, waves="canary:approve=2,100%")
    standings = [(host, standing(picture, host, NOW)) for host in picture.hosts]
    waves, _ = counts(picture, standings, NOW)
    assert [wave.checks for wave in waves] == [("approved by bob, 1 of 2",), ()]
    assert waves[0].waits == "needs 1 of 2 approvals (bob did)"
