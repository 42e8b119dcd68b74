"""The words of a rollout's policy, the lines while it goes, and how taking back ended."""

from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from towpath.errors import InputError
from towpath.metrics import Metric
from towpath.waves import Wave
from towpath_cli.commands.promote import returned
from towpath_cli.following import RolloutLines, headline, told, wave_table
from towpath_cli.model import Bar, HostProgress, Rollout, WaveProgress
from towpath_cli.policy import policy
from towpath_cli.terminal import build_tree
from towpath_cli.watch import Result, verdict

NOTHING: dict[str, Any] = {
    "waves": "",
    "soak": None,
    "max_unavailable": None,
    "max_failures": None,
    "max_failure_share": "",
    "on_breach": "halt",
    "progress_deadline": None,
    "approvers": "",
    "metrics": (),
    "metric_patience": 600_000,
    "allow_empty": False,
    "budgets": (),
    "order": "",
    "priority": 0,
}


def test_what_is_not_said_is_left_to_the_server() -> None:
    """Zeros and no waves: the server's defaults."""
    said = policy(**NOTHING)
    assert [said[name] for name in ("waves", "approvers", "metrics")] == [(), (), ()]
    assert (said["windows"], said["at"], said["expires"], said["override_freeze"]) == ((), "", "", "")
    assert said["newcomers"] == "join"
    numbers = {name for name in said if isinstance(said[name], int)}
    assert {said[name] for name in numbers} == {0}


def test_when_and_whom_it_waits_for_are_sent_as_typed() -> None:
    """Windows in one form, times as they are: what they mean is the server's to say."""
    said = policy(
        **NOTHING, windows=("mon-fri 22:00-4:00 UTC",), at="2026-12-20T22:00Z", offline="wait", newcomers="wait"
    )
    assert (said["windows"], said["at"]) == (("Mon-Fri 22:00-04:00 UTC",), "2026-12-20T22:00Z")
    assert (said["offline_wait_ms"], said["newcomers"]) == (3_600_000, "wait")
    assert policy(**NOTHING, offline="wait", offline_deadline=5)["offline_wait_ms"] == 5
    assert policy(**NOTHING, prefetch=True)["prefetch"] is True


def test_approvers_and_metrics_are_read_with_the_waves_that_ask_for_them() -> None:
    """The same patience for all; a metric that no wave asks for is a typing mistake, said before the server is asked."""
    asked = {**NOTHING, "waves": "canary:10m+metric=errors+approve=2", "metric_patience": 5_000}
    said = policy(**{**asked, "approvers": "carol, bob", "metrics": ("errors=up < 1..2",)})
    assert said["approvers"] == ("bob", "carol")
    assert said["metrics"] == (Metric("errors", "up", below=True, good=1, bad=2, patience_ms=5_000),)
    assert said["waves"] == (Wave("canary", 600_000, approve=2, metrics=("errors",)), Wave("100%"))
    with pytest.raises(InputError, match="no wave asks for it"):
        policy(**{**NOTHING, "metrics": ("errors=up < 1",)})


def test_a_soak_alone_is_one_wave_that_soaks() -> None:
    """And the soak is that of every wave without a gate of its own."""
    assert policy(**{**NOTHING, "soak": 5})["waves"] == (Wave("100%", 5),)
    assert policy(**{**NOTHING, "soak": 5, "waves": "1,2:1s"})["waves"] == (
        Wave("1", 5),
        Wave("2", 1000),
        Wave("100%", 5),
    )


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ({"max_failure_share": "100%"}, "never be exceeded"),
        ({"max_failure_share": "5%", "max_failures": 0}, "choose one"),
        ({"max_failure_share": "x"}, "as a share"),
        ({"waves": "5,1"}, "it must grow"),
        ({"windows": ("22:00",)}, "as a window"),
        ({"at": "soon"}, "as a time"),
        ({"expires": "2026-12-20T22:00"}, "say its zone once"),
        ({"override_freeze": " "}, "empty reason"),
        ({"offline_deadline": 5}, "without --offline wait"),
    ],
)
def test_a_policy_that_contradicts_itself_is_not_sent(words: dict[str, Any], part: str) -> None:
    """One line, before any server is asked."""
    with pytest.raises(InputError, match=part):
        policy(**{**NOTHING, **words})


def host(name: str, phase: str, wave: int = 0) -> HostProgress:
    return HostProgress(name, True, True, phase, "", "", "", "", "why" if phase == "failed" else "", wave)


def rollout(state: str, *hosts: HostProgress, waves: tuple[WaveProgress, ...] = (), reason: str = "") -> Rollout:
    return Rollout("a1", "hello", "1.0", "dev", state, reason, hosts, waves)


def wave(number: int, state: str, waits: str = "", **phases: int) -> WaveProgress:
    return WaveProgress(number, ("canary", "100%")[number], state, waits, 0, phases)


def test_waves_and_states_are_lines_of_their_own_once_each() -> None:
    """Hosts that finished, the wave that they let pass, who moves now, what became of it; a closed wave is no news."""
    lines = RolloutLines()
    closed = wave(1, "closed", waiting=2)
    begin = rollout("rolling", host("h1", "in_flight"), waves=(wave(0, "open", "h1 to finish", in_flight=1), closed))
    assert list(lines.changes(begin)) == ["wave 1 of 2 (canary): open, 0 of 1 host finished", "h1: in flight"]
    soak = rollout("rolling", host("h1", "healthy"), waves=(wave(0, "soaking", "soaks until X", healthy=1), closed))
    assert list(lines.changes(soak)) == [
        "h1: healthy",
        "wave 1 of 2 (canary): soaking, 1 of 1 host finished: soaks until X",
    ]
    assert list(lines.changes(soak)) == []
    paused = rollout("paused", host("h1", "healthy"), waves=soak.waves, reason="pause by ann")
    assert list(lines.changes(paused)) == ["rollout paused: pause by ann"]
    again = rollout("rolling", host("h1", "healthy"), waves=soak.waves, reason="goes on")
    assert list(lines.changes(again)) == ["rollout rolling: goes on"]


def test_nobody_seems_to_move_before_the_wave_before_has_passed() -> None:
    """What one look saw at once is told in the order in which it came about, whatever the hosts' names."""
    lines = RolloutLines()
    shut = wave(1, "closed", waiting=1)
    list(lines.changes(rollout("rolling", host("b", "in_flight"), waves=(wave(0, "open", in_flight=1), shut))))
    both = (wave(0, "passed", healthy=1), wave(1, "open", in_flight=1))
    assert list(lines.changes(rollout("rolling", host("a", "in_flight", 1), host("b", "healthy"), waves=both))) == [
        "b: healthy",
        "wave 1 of 2 (canary): passed, 1 of 1 host finished",
        "wave 2 of 2 (100%): open, 0 of 1 host finished",
        "a: in flight",
    ]


def test_what_bars_a_rollout_is_a_line_once_and_its_end_too() -> None:
    """With the command that would change it."""
    lines = RolloutLines()
    frozen = replace(rollout("rolling"), bars=(Bar("frozen until X", 0, "towpath freeze remove f1"),))
    said = "nobody is let in now: frozen until X; to change it: towpath freeze remove f1"
    assert list(lines.changes(frozen)) == [said]
    assert list(lines.changes(frozen)) == []
    assert list(lines.changes(rollout("rolling"))) == ["hosts are let in again"]


def test_one_wave_is_not_worth_a_line() -> None:
    """Without waves the lines are those of before."""
    one = WaveProgress(0, "100%", "open", "", 0, {"in_flight": 1})
    assert list(RolloutLines().changes(rollout("rolling", host("h1", "in_flight"), waves=(one,)))) == ["h1: in flight"]


def test_a_picture_names_who_failed_before_who_moves_and_not_everybody() -> None:
    """The reason is what one looks for."""
    crowd = [host(f"h{n}", "in_flight") for n in range(9)]
    shown = told([*crowd, host("ok", "healthy"), host("bad", "failed")])
    assert [one.host for one in shown] == ["bad", *(f"h{n}" for n in range(7))]
    assert headline(rollout("halted", reason="bad\x1b")) == "hello 1.0 in dev: halted, bad\\x1b"


def test_how_taking_back_ended() -> None:
    """Back is success for who asked for it and failure for who watched the release."""
    assert returned(rollout("reverting", host("h1", "going_back"))) is None
    assert returned(rollout("reverted", host("h1", "back"), host("h2", "offline"))) is Result.HEALTHY
    assert returned(rollout("reverted", host("h1", "back"), host("h2", "failed"))) is Result.FAILED
    assert returned(rollout("superseded")) is Result.FAILED
    for state, result in (
        ("reverting", None),
        ("paused", None),
        ("reverted", Result.FAILED),
        ("cancelled", Result.FAILED),
    ):
        assert verdict(rollout(state, host("h1", "healthy"))) is result


def test_a_rollout_that_is_taken_back_is_said_before_its_hosts() -> None:
    """It is why they change; elsewhere they are why it does."""
    lines = RolloutLines()
    list(lines.changes(rollout("rolling", host("h1", "healthy"))))
    taken = rollout("reverting", host("h1", "going_back"), reason="1 of 2 failed")
    assert list(lines.changes(taken)) == ["rollout reverting: 1 of 2 failed", "h1: going back"]
    assert list(lines.changes(rollout("reverted", host("h1", "back"), reason="1 of 2 failed"))) == [
        "h1: back",
        "rollout reverted: 1 of 2 failed",
    ]


def test_a_wave_says_whom_it_did_not_wait_for() -> None:
    """So that nobody wonders about 3 of 4."""
    seen = rollout("rolling", waves=(wave(0, "passed", healthy=3, offline=1), wave(1, "open", waiting=1, held=2)))
    assert list(RolloutLines().changes(seen)) == [
        "wave 1 of 2 (canary): passed, 3 of 4 hosts finished, 1 offline",
        "wave 2 of 2 (100%): open, 0 of 3 hosts finished, 2 held",
    ]


def drawn(seen: Rollout, columns: int) -> list[str]:
    text = StringIO()
    Console(file=text, width=columns, force_terminal=False).print(build_tree(seen, columns))
    return text.getvalue().splitlines()


@pytest.mark.parametrize("columns", [80, 200])
def test_a_tree_of_a_rollout_that_went_back_keeps_who_failed_and_counts_nobody_who_never_left(columns: int) -> None:
    """The failed host with its evidence, though it is well again; a wave that was never opened is not finished."""
    waves = (wave(0, "open", back=2), wave(1, "closed", back=40))
    bad = replace(host("h2", "back"), reason="runs 1.0 again; 2.0 failed: boom", evidence=("http failed: 500", "log"))
    seen = rollout("reverted", host("h1", "back"), bad, host("h3", "back", 1), waves=waves, reason="1 of 2 failed")
    lines = drawn(seen, columns)
    assert lines[0] == "hello 1.0 in dev: reverted, 1 of 2 failed"
    assert lines[1].endswith("2 of 2 back")
    assert lines[2].endswith("h2: back: runs 1.0 again; 2.0 failed: boom")
    assert [line.split("── ")[1] for line in lines[3:5]] == ["http failed: 500", "log"]
    assert lines[5].endswith("never opened, 40 hosts")
    assert len(lines) == 6
    assert max(map(len, lines)) <= columns


def test_a_narrow_terminal_gives_its_room_to_the_words() -> None:
    """Wave texts with all their gates fold, bars are short, and what a wave waits for can still be read."""
    gates = WaveProgress(
        0, "rack=a+zone=1:10m+metric=errors+approve=2", "soaking", "soaks until noon", 0, {"healthy": 1}
    )
    lines = drawn(rollout("rolling", host("h1", "healthy"), waves=(gates, wave(1, "closed", waiting=9))), 80)
    assert max(map(len, lines)) <= 80
    assert "soaking, 1 of 1" in lines[1]
    assert lines[1].index("soaking") == next(line for line in lines if "closed" in line).index("closed")


def test_the_table_of_waves_counts_who_is_back_where_hosts_go_back() -> None:
    """Of a rollout that goes forward nobody is, so there is no column for it."""
    columns, rows = wave_table(rollout("reverting", waves=(wave(0, "open", back=2, going_back=1),)))
    assert dict(zip(columns, rows[0], strict=True))["going back"] == 1
    assert dict(zip(columns, rows[0], strict=True))["back"] == 2
    columns, rows = wave_table(rollout("rolling", waves=(wave(0, "open", healthy=2),)))
    assert "back" not in columns
    assert dict(zip(columns, rows[0], strict=True))["healthy"] == 2
