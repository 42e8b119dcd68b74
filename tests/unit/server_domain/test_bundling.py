"""Whom a bundle may reach, what has to be in it, and how its hosts stand in their rollout."""

from dataclasses import replace

import pytest

from towpath.errors import InputError
from towpath.manifest import DesiredApp
from towpath.reports import AppState
from towpath.status import Health, State, Verdict
from towpath.waves import Wave
from towpath_server.domain import budgets, bundling
from towpath_server.domain.bundling import (
    barred,
    barred_back,
    check_complete,
    parse_release,
    parse_since,
    parse_target,
)
from towpath_server.domain.model import Retreat, RolloutState
from towpath_server.domain.rolling import decide
from towpath_server.domain.standing import CARRIED_UNIX_MS, HostView, Phase, RolloutView, due_unix_ms, standing
from towpath_server.domain.timing import Bar

NOW = 1_800_000_000_000
SHA = b"r" * 32
DAY = 86_400_000
VIEW = RolloutView(
    assignment="a1",
    generation=2,
    release_sha256=SHA,
    state=RolloutState.ROLLING,
    reason="",
    max_unavailable=1,
    max_failures=0,
    progress_deadline_ms=600_000,
    observed_since_unix_ms=NOW - 10 * DAY,
    hosts=(),
)
AWAY = HostView("h1", "h1", online=False)
CARRIED = replace(AWAY, admitted_unix_ms=CARRIED_UNIX_MS)
RUNS = AppState(
    "hello", "2", SHA, state=State.CONFIRMED, health=Health.HEALTHY, verdict=Verdict.SUCCEEDED, generation=2
)


def phase(host: HostView, view: RolloutView = VIEW, now: int = NOW) -> Phase:
    return standing(view, host, now).phase


def test_a_host_that_a_bundle_is_on_its_way_to_neither_blocks_nor_counts() -> None:
    """However long it says nothing; no wave waits for it, and it takes no room of anybody."""
    assert phase(CARRIED, now=NOW + 300 * DAY) is Phase.OFFLINE
    assert due_unix_ms(VIEW, CARRIED, Phase.IN_FLIGHT) is None
    assert not budgets.unavailable(VIEW, CARRIED)
    there = HostView("h2", "h2", online=True, admitted_unix_ms=NOW, state=RUNS)
    decision = decide(replace(VIEW, hosts=(CARRIED, there)), NOW + 30 * DAY)
    assert decision.state is RolloutState.DONE


def test_its_reports_count_as_those_of_any_host() -> None:
    """Healthy, or failed; under way by file and away is no failure by silence."""
    assert phase(replace(CARRIED, state=RUNS)) is Phase.HEALTHY
    bad = replace(RUNS, state=State.REVERTED, verdict=Verdict.FAILED)
    assert phase(replace(CARRIED, state=bad)) is Phase.FAILED
    half = replace(RUNS, state=State.WATCHING, verdict=Verdict.NONE, health=Health.STARTING)
    assert phase(replace(CARRIED, state=half, progress_unix_ms=NOW - 10 * DAY)) is Phase.OFFLINE


def test_once_it_is_there_its_silence_begins_with_its_first_word() -> None:
    """Before that nobody knows since when it knows; afterwards it has the deadline of any host."""
    there = replace(CARRIED, online=True)
    assert phase(there) is Phase.IN_FLIGHT
    assert due_unix_ms(VIEW, there, Phase.IN_FLIGHT) is None
    assert budgets.unavailable(VIEW, there)
    half = replace(RUNS, state=State.WATCHING, verdict=Verdict.NONE, health=Health.STARTING)
    said = replace(there, state=half, progress_unix_ms=NOW - 1000)
    assert phase(said) is Phase.IN_FLIGHT
    due = due_unix_ms(VIEW, said, Phase.IN_FLIGHT)
    assert due == NOW - 1000 + VIEW.progress_deadline_ms + 1
    assert phase(said, now=due) is Phase.FAILED


def test_a_way_back_takes_it_as_any_other() -> None:
    """Offline, until it is told."""
    back = replace(VIEW, state=RolloutState.REVERTING)
    assert phase(CARRIED, back) is Phase.OFFLINE


def test_what_bars_a_host_bars_its_bundle() -> None:
    """A rollout that stands, a wave that is not open, a failure, a missing parameter, the calendar."""
    assert barred(VIEW, AWAY, 0, NOW) == ""
    assert barred(VIEW, replace(AWAY, admitted_unix_ms=5, blocked="x"), 3, NOW) == ""
    for state in (RolloutState.PAUSED, RolloutState.HALTED, RolloutState.REVERTING):
        assert barred(replace(VIEW, state=state), AWAY, 0, NOW) == f"its rollout is {state}"
    assert barred(replace(VIEW, entry="waits for staging"), AWAY, 0, NOW) == "its rollout waits for staging"
    waved = replace(VIEW, waves=(Wave("1"), Wave("100%")), wave=0)
    assert "wave 2 of its rollout, which is not open yet" in barred(waved, AWAY, 1, NOW)
    assert barred(replace(waved, wave=1), AWAY, 1, NOW) == ""
    bad = replace(AWAY, state=replace(RUNS, state=State.REVERTED, verdict=Verdict.FAILED, reason="it died"))
    assert barred(VIEW, bad, 0, NOW) == "it died"
    assert barred(VIEW, replace(AWAY, blocked="the parameter port is missing"), 0, NOW).startswith("the parameter")
    assert barred(VIEW, replace(AWAY, online=True), 0, NOW).startswith("it is online: its rollout lets it in")
    frozen = replace(VIEW, bars=(Bar("frozen until Monday", 0, "towpath freeze list"),))
    assert barred(frozen, AWAY, 0, NOW) == "frozen until Monday"


def test_who_was_let_in_gets_another_file_only_while_its_rollout_goes_on() -> None:
    """A halt stops sticks too. Telling a host again what it runs moves nothing; one that was only silent may need one."""
    assert barred(VIEW, CARRIED, 3, NOW) == ""
    assert barred(replace(VIEW, entry="waits for staging"), replace(CARRIED, online=True, blocked="x"), 0, NOW) == ""
    for state in (RolloutState.PAUSED, RolloutState.HALTED, RolloutState.CANCELLED):
        stands = replace(VIEW, state=state)
        assert barred(stands, CARRIED, 0, NOW) == f"its rollout is {state}"
        assert barred(stands, replace(CARRIED, state=RUNS), 0, NOW) == ""
        old = replace(RUNS, current_sha256=b"o" * 32)
        assert barred(stands, replace(CARRIED, state=old), 0, NOW) == f"its rollout is {state}"
    bad = replace(
        RUNS, current_sha256=b"o" * 32, state=State.REVERTED, verdict=Verdict.FAILED, reason="its probe failed"
    )
    assert barred(VIEW, replace(CARRIED, state=bad), 0, NOW) == "its probe failed"
    silent = replace(AWAY, admitted_unix_ms=NOW - 10 * DAY)
    assert phase(silent) is Phase.FAILED
    assert barred(VIEW, silent, 0, NOW) == ""
    frozen = replace(VIEW, bars=(Bar("frozen until Monday", 0, "towpath freeze list"),))
    assert barred(frozen, CARRIED, 0, NOW) == "frozen until Monday"


BACK = replace(VIEW, state=RolloutState.REVERTING)
CARRIED_BACK = replace(AWAY, retreat=Retreat("a1", "h1", CARRIED_UNIX_MS))


def test_a_bundle_takes_back_who_is_away_and_may_run_what_was_before() -> None:
    """Who is online goes back in its turn; who was told already may be told again."""
    assert barred_back(AWAY) == ""
    assert barred_back(replace(AWAY, back_blocked="the parameter port is missing")) == "the parameter port is missing"
    assert barred_back(replace(AWAY, online=True)).startswith("it is online: it goes back")
    assert barred_back(replace(CARRIED_BACK, online=True, back_blocked="x")) == ""


def test_a_host_that_a_bundle_takes_back_neither_blocks_nor_counts() -> None:
    """Also one that never said anything; a rollout is reverted without it."""
    for told in (None, RUNS, replace(RUNS, state=State.WATCHING)):
        host = replace(CARRIED_BACK, state=told)
        assert phase(host, BACK, NOW + 300 * DAY) is Phase.OFFLINE
    there = HostView("h2", "h2", online=True, retreat=Retreat("a1", "h2", NOW, NOW))
    assert decide(replace(BACK, hosts=(CARRIED_BACK, there)), NOW).state is RolloutState.REVERTED


def test_its_reports_take_it_back_as_any_hosts() -> None:
    """By file or itself; its silence begins with its first word about it."""
    old = replace(RUNS, current_version="1", current_sha256=b"o" * 32, generation=1)
    assert phase(replace(CARRIED_BACK, state=old), BACK) is Phase.BACK
    there = replace(CARRIED_BACK, online=True, state=RUNS)
    assert phase(there, BACK, NOW + 300 * DAY) is Phase.GOING_BACK
    assert due_unix_ms(BACK, there, Phase.GOING_BACK) is None
    half = replace(old, state=State.SWITCHING, health=Health.STARTING, verdict=Verdict.NONE)
    said = replace(there, state=half, progress_unix_ms=NOW - 1000)
    assert phase(said, BACK) is Phase.GOING_BACK
    due = due_unix_ms(BACK, said, Phase.GOING_BACK)
    assert due == NOW - 1000 + VIEW.progress_deadline_ms + 1
    assert phase(said, BACK, due) is Phase.FAILED
    assert phase(replace(there, state=None), BACK) is Phase.BACK


def test_what_a_person_types_is_read_or_refused() -> None:
    """Releases, versions to come from, hosts and labels."""
    assert parse_release("hello@1.1.0") == ("hello", "1.1.0")
    assert parse_target("site-7") == "site-7"
    assert parse_target("site=7,role=web") == {"site": "7", "role": "web"}
    assert parse_since(["1.0", "1.0", "hello@0.9"], [("hello", "1.1")]) == {"hello": ("1.0", "0.9")}
    assert parse_since([], [("hello", "1.1")]) == {}
    for wrong in ("hello", "Hello@1", "hello@../1", "towpath-agent@1"):
        with pytest.raises(InputError):
            parse_release(wrong)
    for wrong in ("Site 7", "site=7,role", "site=7,site=8", "s ite=7"):
        with pytest.raises(InputError):
            parse_target(wrong)
    for texts, releases in (
        (["1.0"], [("hello", "1.1"), ("redis", "7")]),
        (["redis@1.0"], [("hello", "1.1")]),
        (["1.1"], [("hello", "1.1")]),
    ):
        with pytest.raises(InputError):
            parse_since(texts, releases)
    assert bundling.MAX_DELTA_WAIT_MS > 0


def complete(
    states: dict[str, AppState], carried: dict[str, str] | None = None, since: dict[str, tuple[str, ...]] | None = None
) -> None:
    apps = [DesiredApp("hello", "2", SHA, 1, 2), DesiredApp("redis", "7", b"s" * 32, 1, 1)]
    check_complete("h1", apps, carried or {"hello": "2", "redis": "7"}, since or {}, states)


def test_a_host_gets_no_bundle_that_would_leave_it_short() -> None:
    """Of every app of its set it has the bytes, gets them, or has what a delta starts from."""
    redis = AppState("redis", "7", b"s" * 32)
    old = AppState("hello", "1", b"o" * 32)
    complete({})
    complete({"redis": redis}, {"hello": "2"})
    complete({"redis": redis, "hello": old}, {"hello": "2"}, {"hello": ("1",)})
    complete({"redis": redis, "hello": replace(old, current_sha256=SHA)}, {"hello": "2"}, {"hello": ("0.9",)})
    complete({}, None, {"hello": ("1",)})
    with pytest.raises(InputError, match="add --release redis@7"):
        complete({}, {"hello": "2"})
    with pytest.raises(InputError, match="it reported 1; add --since hello@1"):
        complete({"redis": redis, "hello": old}, None, {"hello": ("0.9",)})
    with pytest.raises(InputError, match="it has not reported to run it; leave --since out"):
        complete({"redis": redis}, None, {"hello": ("1",)})
