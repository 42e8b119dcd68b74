"""What is shown of failed hosts: also when they are well again on another release, and never of an attempt that succeeded."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.deciding import SetClock, deciding, deploy, enrol
from fakes.rows import NOW, OLD, REVERTED, reported
from towpath.reports import Event
from towpath.waves import parse_waves
from towpath_server.domain.model import OnBreach
from towpath_server.services import evidence, reading, syncing, ticking
from towpath_server.services.context import Context
from towpath_server.storage import SqlStorage


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    storage = SqlStorage(tmp_path / "towpath.db")
    yield deciding(storage, SetClock())
    storage.close()


def event(name: str, state: str, version: str = "1.0.0", saw: str = "", reason: str = "") -> Event:
    return Event(name, NOW, "transition", "hello", state=state, version=version, evidence=saw, reason=reason)


def seen(context: Context) -> dict[str, evidence.Failure]:
    return {key.removeprefix("id-"): one for key, one in reading.assignment(context, "a1")[1].items()}


def test_who_failed_a_rollout_that_is_taken_back_is_shown_after_it_is_back(context: Context) -> None:
    """Found among many hosts, because the rollout names it; one that took the release in peace is none of them."""
    enrol(context, 40)
    deploy(context, max_unavailable=40, waves=parse_waves("100%"), on_breach=OnBreach.REVERT)
    for row in range(40):
        context.presence.watch(f"id-h{row}")
    ticking.tick(context, {"dev"})
    for row in range(39):
        syncing.report(context, f"id-h{row}", [event(f"e{row}", "Confirmed")], [reported()], 1)
    saw = "http failed: 500\n\nits log ends:\ncannot open the database"
    events = [event("x", "Reverting", saw=saw, reason="probe http failed"), event("y", "Reverted")]
    syncing.report(context, "id-h39", events, [REVERTED], 1)
    ticking.tick(context, {"dev"})
    lines = ("http failed: 500", "its log ends:", "cannot open the database")
    assert seen(context) == {"h39": evidence.Failure("probe http failed", lines)}
    syncing.report(context, "id-h39", [event("z", "Confirmed", "0.9.0")], [OLD], 2)
    ticking.tick(context, {"dev"})
    assert seen(context) == {"h39": evidence.Failure("probe http failed", lines)}


def test_an_attempt_that_succeeded_later_is_no_failure(context: Context) -> None:
    """The newest word of the release counts; other apps, other versions and other kinds of events say nothing."""
    one = deploy(context)
    failed = event("a", "Reverting", saw="boom", reason="bad")
    assert evidence.failure([failed], one) == evidence.Failure("bad", ("boom",))
    assert evidence.failure([failed, event("b", "Planned"), event("c", "Planned", "2.0.0")], one) is not None
    assert evidence.failure([failed, event("b", "Confirmed")], one) is None
    assert evidence.failure([event("b", "Reverted"), event("c", "Reverting", "2.0.0", "boom")], one) is None
