"""What the clock and the calendar say against letting hosts in, and what that does to a rollout."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from fakes.rows import NOW, OLD, OLD_DIGEST, REVERTED, assignment, reported, seen, view
from towpath.errors import InputError
from towpath.status import State
from towpath.windows import parse_window
from towpath_server.domain.model import CalendarEntry, EntryKind, OnBreach, RolloutState, Timing
from towpath_server.domain.rolling import decide
from towpath_server.domain.standing import Phase, RolloutView, standing
from towpath_server.domain.timing import (
    Bar,
    all_bars,
    bars,
    check_not_over,
    check_timing,
    frozen,
    host_bars,
    is_over,
    words,
)
from towpath_server.domain.windows import moment

HOUR = 3_600_000
ROLLING, DONE, PAUSED = RolloutState.ROLLING, RolloutState.DONE, RolloutState.PAUSED
BAR = Bar("frozen until then", NOW + HOUR, "towpath freeze remove f1")
NIGHTS = parse_window("Mon-Fri 22:00-04:00 UTC")
LOST = replace(NIGHTS, zone="Mars/Olympus")
# NOW is Tuesday 2023-11-14, 22:13:20Z.
NOON = NOW - 10 * HOUR


def entry(**fields: Any) -> CalendarEntry:
    row = CalendarEntry("f1", EntryKind.FREEZE, "dev", "audit week", NOW, "operator/ann")
    return replace(row, from_unix_ms=NOW - HOUR, until_unix_ms=NOW + HOUR, **fields)


def weekly(text: str, kind: EntryKind = EntryKind.FREEZE, **fields: Any) -> CalendarEntry:
    return replace(entry(kind=kind, weekly=parse_window(text), **fields), from_unix_ms=0, until_unix_ms=0)


def timed(**fields: Any) -> Any:
    return assignment(timing=Timing(**fields))


def rollout(*bars_: Bar, **fields: Any) -> RolloutView:
    hosts = [seen(f"h{n}", OLD, admitted=False) for n in range(4)]
    return view(*hosts, max_unavailable=4, bars=bars_, **fields)


def test_before_its_time_nothing_begins() -> None:
    """The reason says when it will, and the command how not."""
    one = timed(at_unix_ms=NOW + HOUR)
    (bar,) = bars(one, [], NOW)
    assert bar == Bar(f"does not begin before {moment(NOW + HOUR)}", NOW + HOUR, "towpath rollout cancel a1")
    assert bars(one, [], NOW + HOUR) == ()


def test_outside_of_its_windows_the_reason_says_when_the_next_opens() -> None:
    """Of several windows one must be open."""
    one = timed(windows=(NIGHTS, parse_window("Sun 10:00-11:00 UTC")))
    assert bars(one, [], NOW) == ()
    (bar,) = bars(one, [], NOON)
    assert bar.fact == (
        "outside of its windows (Mon-Fri 22:00-04:00 UTC, Sun 10:00-11:00 UTC): the next opens at 2023-11-14 22:00:00Z"
    )
    assert bar.until_unix_ms == NOON + 9 * HOUR + 2_800_000


def test_the_windows_of_the_environment_count_beside_those_of_the_rollout() -> None:
    """One of each must be open, and the command names the environment's."""
    frame = [weekly("Mon 22:00-04:00 UTC", EntryKind.WINDOW), weekly("Wed 22:00-04:00 UTC", EntryKind.WINDOW, id="w2")]
    (bar,) = bars(timed(windows=(NIGHTS,)), frame, NOW)
    assert bar.fact.startswith("outside of the windows of dev (Mon 22:00-04:00 UTC, Wed 22:00-04:00 UTC)")
    assert bar.command == "towpath window remove f1"
    assert bars(timed(), [*frame, weekly("Tue 22:00-04:00 UTC", EntryKind.WINDOW)], NOW) == ()


def test_a_freeze_stops_and_says_who_and_why() -> None:
    """From its first moment until its last, one-off or weekly."""
    (bar,) = bars(assignment(), [entry()], NOW)
    assert bar == Bar(
        f"frozen until {moment(NOW + HOUR)} by operator/ann: audit week", NOW + HOUR, "towpath freeze remove f1"
    )
    assert bars(assignment(), [entry()], NOW + HOUR) == ()
    assert bars(assignment(), [entry()], NOW - HOUR - 1) == ()
    assert bars(assignment(), [weekly("Tue 15:00-24:00 UTC")], NOON) == ()
    (bar,) = bars(assignment(), [weekly("Tue 15:00-24:00 UTC")], NOW)
    assert "frozen until 2023-11-15 00:00:00Z" in bar.fact


def test_a_freeze_of_some_hosts_bars_those_alone() -> None:
    """All its labels must fit."""
    some = entry(selector={"role": "db", "zone": "1"})
    assert bars(assignment(), [some], NOW) == ()
    assert host_bars(assignment(), [some, entry()], {"role": "db", "zone": "1"}, NOW)[0].command.endswith("f1")
    assert host_bars(assignment(), [some, entry()], {"role": "db"}, NOW) == ()


def test_an_override_passes_freezes_by_and_nothing_else() -> None:
    """Windows and the beginning still count."""
    one = timed(override="the shop is down", windows=(NIGHTS,), at_unix_ms=NOON + HOUR)
    assert bars(one, [entry(), weekly("00:00-24:00 UTC")], NOW) == ()
    assert len(bars(one, [entry(), weekly("00:00-24:00 UTC")], NOON)) == 2
    assert host_bars(one, [entry(selector={"role": "db"})], {"role": "db"}, NOW) == ()


def test_a_zone_that_is_not_known_any_more_bars() -> None:
    """Nobody moves because a package of the server's system is gone."""
    (bar,) = bars(timed(windows=(LOST,)), [], NOW)
    assert (bar.until_unix_ms, "time zone Mars/Olympus is not known here" in bar.fact) == (0, True)
    (bar,) = bars(timed(windows=(LOST, parse_window("Sun 10:00-11:00 UTC"))), [], NOW)
    assert "the next opens at 2023-11-19 10:00:00Z" in bar.fact
    lost = replace(entry(), weekly=LOST)
    assert frozen(lost, NOW) == 0
    (bar,) = bars(assignment(), [lost], NOW)
    assert "frozen for its time zone is not known here" in bar.fact


@pytest.mark.parametrize("state", [ROLLING, DONE])
def test_while_barred_nobody_is_admitted_and_everybody_knows_why(state: RolloutState) -> None:
    """Not even one that runs the identical release; the tick says that time alone will change it."""
    picture = rollout(BAR, state=state)
    picture = replace(picture, hosts=(*picture.hosts, seen("same", reported(), admitted=False)))
    decision = decide(picture, NOW)
    assert decision.admit == ()
    assert decision.waits_for_time
    assert decision.reason.startswith("frozen until then; ")
    assert standing(picture, picture.hosts[0], NOW).reason == "frozen until then"
    free = decide(replace(picture, bars=()), NOW)
    assert len(free.admit) == 5
    assert not free.waits_for_time


def test_a_host_that_alone_is_barred_keeps_its_wave_open_and_the_others_move() -> None:
    """The reason is its own."""
    picture = rollout()
    first, *rest = picture.hosts
    picture = replace(picture, hosts=(replace(first, bars=(BAR,)), *rest))
    decision = decide(picture, NOW)
    assert sorted(decision.admit) == ["h1", "h2", "h3"]
    assert decision.waits_for_time
    assert decision.reason.startswith("frozen until then; ")


def test_who_has_not_switched_is_told_to_stay_and_who_has_finishes() -> None:
    """When a window closes or a freeze begins; a paused rollout too."""
    planned = reported(State.PLANNED, current_sha256=OLD_DIGEST)
    watching = reported(State.WATCHING)
    hosts = (seen("early", planned), seen("late", watching), seen("new"), seen("good", reported()))
    for state in (ROLLING, PAUSED):
        decision = decide(view(*hosts, bars=(BAR,), max_unavailable=4, state=state), NOW)
        assert sorted(decision.withdraw) == ["early", "new"]
        assert decision.reason.startswith("frozen until then; ")


def test_a_breach_is_a_breach_while_barred_and_going_back_is_never_barred() -> None:
    """The clock stops those who wait, not those who must go back."""
    hosts = (seen("bad", REVERTED), seen("good", reported()), seen("old", OLD, admitted=False))
    assert decide(view(*hosts, bars=(BAR,)), NOW).state is RolloutState.HALTED
    back = decide(view(*hosts, bars=(BAR,), on_breach=OnBreach.REVERT), NOW)
    assert back.state is RolloutState.REVERTING
    assert "good" in back.retreat


def test_before_its_time_a_rollout_is_not_done() -> None:
    """Even where every host runs the release already."""
    same = seen("same", reported(), admitted=False)
    early = view(same, timing=Timing(at_unix_ms=NOW + HOUR), bars=(BAR,))
    assert decide(early, NOW).state is ROLLING
    assert decide(replace(early, bars=()), NOW + HOUR).state is DONE


def test_when_its_time_is_over_and_somebody_waits_it_ends_cancelled() -> None:
    """Who was let in and has not switched is told to stay; the reason counts who was."""
    planned = reported(State.PLANNED, current_sha256=OLD_DIGEST)
    hosts = (seen("a", reported()), seen("b", planned), seen("c", OLD, admitted=False))
    for state in (ROLLING, PAUSED):
        picture = view(*hosts, timing=Timing(expires_unix_ms=NOW), state=state, max_unavailable=3)
        assert decide(picture, NOW - 1).state is state
        decision = decide(picture, NOW)
        assert decision.state is RolloutState.CANCELLED
        assert decision.reason == f"expired at {moment(NOW)}: 2 of 3 hosts were let in"
        alone = decide(replace(picture, hosts=hosts[2:]), NOW)
        assert alone.reason == f"expired at {moment(NOW)}: 0 of 1 host was let in"
        assert (decision.admit, decision.withdraw) == ((), ("b",))


def test_a_rollout_that_has_let_everybody_in_finishes_after_its_time() -> None:
    """In flight, away and held hosts do not keep it from being done; once done it stays so, and newcomers join."""
    watching = reported(State.WATCHING)
    hosts = (seen("a", reported()), seen("b", watching), seen("off", OLD, admitted=False, online=False))
    picture = view(*hosts, timing=Timing(expires_unix_ms=NOW), max_unavailable=3)
    assert decide(picture, NOW).state is ROLLING
    late = seen("late", OLD, admitted=False)
    decision = decide(replace(picture, state=DONE, hosts=(*hosts, late)), NOW)
    assert (decision.state, decision.admit) == (DONE, ("late",))


def test_waves_that_have_not_opened_and_an_empty_rollout_expire_too() -> None:
    """Also where nobody of them is there to wait."""
    from towpath.waves import parse_waves

    hosts = (seen("a", reported(State.WATCHING)), seen("b", OLD, admitted=False, online=False))
    picture = view(*hosts, timing=Timing(expires_unix_ms=NOW), waves=parse_waves("1:1h,100%"))
    assert decide(picture, NOW).state is RolloutState.CANCELLED
    assert decide(replace(picture, hosts=(), waves=()), NOW).state is RolloutState.CANCELLED


def when(**fields: Any) -> Timing:
    words_ = {"windows": (), "at": "", "expires": "", "override": "", "now_unix_ms": NOW}
    return check_timing(**{**words_, **fields})


def iso(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_times_are_read_and_said_again() -> None:
    """As the audit log has them."""
    timing = when(windows=[NIGHTS.text], at=iso(NOW + HOUR), expires=iso(NOW + 2 * HOUR), override=" urgent ")
    assert timing == Timing((NIGHTS,), NOW + HOUR, NOW + 2 * HOUR, "urgent")
    assert words(timing) == (
        f"in windows {NIGHTS.text}, not before {moment(NOW + HOUR)}, until {moment(NOW + 2 * HOUR)}, "
        "freezes overridden: urgent"
    )
    assert (when(), words(when())) == (Timing(), "")


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"windows": ["x"]}, "as a window"),
        ({"windows": ["22:00-23:00 Europe/Berln"]}, "knows none of that name"),
        ({"at": "soon"}, "as a time"),
        ({"at": iso(NOW + 800 * 24 * HOUR)}, "with --at .*two years ahead"),
        ({"expires": iso(NOW)}, "that is over"),
        ({"expires": iso(NOW + HOUR), "at": iso(NOW + HOUR)}, "it would begin only at"),
        (
            {"expires": iso(NOW + HOUR), "windows": ["Sun 10:00-11:00 UTC"]},
            "no window of its own opens before 2023-11-19",
        ),
        ({"override": "\n"}, "reason to override a freeze"),
    ],
)
def test_times_that_cannot_be_are_refused_up_front(fields: dict[str, Any], part: str) -> None:
    """One line each, nothing changed."""
    with pytest.raises(InputError, match=part):
        when(**fields)


def test_what_is_over_is_not_let_go_on() -> None:
    """It would end in the next tick."""
    one = timed(expires_unix_ms=NOW)
    assert (is_over(one, NOW), is_over(one, NOW - 1), is_over(assignment(), NOW)) == (True, False, False)
    check_not_over(one, "resume", NOW - 1)
    with pytest.raises(InputError, match="cannot resume hello 1.0.0 in dev: it expired at .*; deploy it again"):
        check_not_over(one, "resume", NOW)


def test_all_bars_of_a_rollout_are_said_once() -> None:
    """Those of everybody first."""
    other = replace(BAR, fact="other")
    assert all_bars((BAR,), [(other,), (), (other, BAR)]) == (BAR, other)


def test_a_barred_host_is_waiting() -> None:
    """It keeps its wave open, as one does that lacks a parameter."""
    picture = rollout(BAR)
    assert standing(picture, picture.hosts[0], NOW).phase is Phase.WAITING
