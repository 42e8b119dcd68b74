"""The words of a rollout's policy, the lines while it goes, and how taking back ended."""

from dataclasses import replace
from typing import Any

import pytest

from towpath.errors import InputError
from towpath.metrics import Metric
from towpath.waves import Wave
from towpath_cli.commands.promote import returned
from towpath_cli.following import RolloutLines, headline, told
from towpath_cli.model import Bar, HostProgress, Rollout, WaveProgress
from towpath_cli.policy import policy
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
    """Hosts first, then the wave that they finished, then what became of the rollout; a closed wave is no news."""
    lines = RolloutLines()
    closed = wave(1, "closed", waiting=2)
    begin = rollout("rolling", host("h1", "in_flight"), waves=(wave(0, "open", "h1 to finish", in_flight=1), closed))
    assert list(lines.changes(begin)) == ["h1: in flight", "wave 1 of 2 (canary): open, 0 of 1 host finished"]
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
