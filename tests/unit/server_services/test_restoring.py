"""Hosts that know more than the database: what is decided meanwhile, by which server it is known, and how it ends."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.deciding import Heard, SetClock, deciding, deploy, enrol
from fakes.rows import NOW, REVERTED, reported
from towpath.errors import InputError
from towpath_server.domain.model import ReportedApp, RolloutState
from towpath_server.services import hosting, leading, restoring, syncing, ticking
from towpath_server.services.context import Context
from towpath_server.services.syncing import RESERVE_MS, Sequencer
from towpath_server.storage import SqlStorage

HOUR_MS = 3_600_000


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    """Return a server with two hosts that started an hour after everything that its database knows."""
    storage = SqlStorage(tmp_path / "towpath.db")
    clock = SetClock()
    made = deciding(storage, clock)
    Sequencer(made)
    clock.now += HOUR_MS
    Sequencer(made)
    enrol(made, 2)
    yield made
    storage.close()


def admitted(context: Context) -> set[str]:
    with context.storage.transaction() as tx:
        return set(tx.admissions("a1"))


def online(context: Context) -> None:
    for number in range(2):
        context.presence.watch(f"id-h{number}")


def test_a_host_that_knows_more_stops_every_decision_of_its_environment_until_it_is_settled(context: Context) -> None:
    """No host is let in, although the rollout could go on; afterwards it does."""
    deploy(context)
    online(context)
    restoring.heard(context, "id-h0", NOW + HOUR_MS // 2)
    assert context.cache.behind == {"dev"}
    ticking.tick(context, {"dev"})
    assert admitted(context) == set()
    assert restoring.accept(context, "operator/ann", "settled") == 1
    assert (context.cache.behind, context.cache.gaps) == (frozenset(), ())
    ticking.tick(context, {"dev"})
    assert len(admitted(context)) == 1
    assert isinstance(context.hints, Heard)
    assert context.hints.hosts >= {"id-h0", "id-h1"}, "they are told to ask again, once they are answered"


def test_a_failure_that_is_reported_meanwhile_decides_nothing(context: Context) -> None:
    """What it failed on may be another rollout's by what is lost: neither a halt nor a way back before it is settled."""
    deploy(context)
    online(context)
    with context.storage.transaction() as tx:
        tx.admit("a1", ["id-h0"], NOW)
        tx.replace_app_states("id-h0", [ReportedApp("id-h0", REVERTED, NOW + HOUR_MS)])
    restoring.heard(context, "id-h1", NOW + HOUR_MS // 2)
    for state in (RolloutState.ROLLING, RolloutState.HALTED):
        ticking.tick(context, {"dev"})
        with context.storage.transaction() as tx:
            assert tx.assignments()[0].state is state
        if state is RolloutState.ROLLING:
            restoring.accept(context, "operator/ann", "settled")


def test_a_host_that_lied_is_revoked_and_its_environment_goes_on(context: Context) -> None:
    """Any host can claim to know more; who takes it away ends what it held up, and nothing else is forgotten."""
    deploy(context)
    online(context)
    restoring.heard(context, "id-h0", NOW + HOUR_MS // 2)
    hosting.revoke_host(context, "operator/ann", "h0", "stolen")
    assert context.cache.behind == frozenset()
    assert context.cache.gaps != ()
    ticking.tick(context, {"dev"})
    assert admitted(context) == {"id-h1"}


def test_what_is_no_gap_or_no_host_is_no_news(context: Context) -> None:
    """A number of before, a host that nobody knows, and the same host a second time change nothing."""
    restoring.heard(context, "id-h0", NOW)
    restoring.heard(context, "id-h9", NOW + HOUR_MS // 2)
    with context.storage.transaction() as tx:
        assert (tx.ahead(), tx.audit(9)) == ([], [])
        host = tx.host("id-h0")
    assert host is not None
    assert restoring.is_new(context, host, NOW + HOUR_MS // 2)
    assert not restoring.is_new(context, host, NOW)
    for name in ("id-h0", "id-h1"):
        restoring.heard(context, name, NOW + HOUR_MS // 2)
    assert not restoring.is_new(context, host, NOW + HOUR_MS // 2)
    with context.storage.transaction() as tx:
        assert [one.act for one in tx.audit(9)] == ["restored.notice"], "once for an environment"


def test_who_runs_what_the_newest_rollout_asks_for_is_let_in_when_it_is_settled(context: Context) -> None:
    """Else it would be told to go back for the moment until the first decision."""
    deploy(context, max_unavailable=1)
    online(context)
    restoring.heard(context, "id-h0", NOW + HOUR_MS // 2)
    with context.storage.transaction() as tx:
        tx.replace_app_states("id-h0", [ReportedApp("id-h0", reported(generation=7), NOW)])
        tx.replace_app_states("id-h1", [ReportedApp("id-h1", reported(current_sha256=b"x" * 32), NOW)])
    rows = {row.host: (row.current, row.desired, row.ahead) for row in restoring.shown(context)}
    assert rows == {"h0": ("1.0.0", "1.0.0", True), "h1": ("1.0.0", "", False)}
    restoring.accept(context, "operator/ann", "settled")
    assert admitted(context) == {"id-h0"}


def test_another_server_on_the_database_hears_of_it_and_of_its_end(context: Context, tmp_path: Path) -> None:
    """Hosts that it serves keep what they have too."""
    storage = SqlStorage(tmp_path / "towpath.db")
    other = deciding(storage, SetClock(NOW + HOUR_MS))
    Sequencer(other)
    leading.follow_others(other)
    restoring.heard(context, "id-h0", NOW + HOUR_MS // 2)
    with storage.transaction() as tx:
        host = tx.host("id-h1")
    assert host is not None
    assert restoring.keep(other, host) == ""
    leading.follow_others(other)
    assert "restored from a backup?" in restoring.keep(other, host)
    restoring.accept(context, "operator/ann", "settled")
    leading.follow_others(other)
    assert restoring.keep(other, host) == ""
    storage.close()


def test_settling_what_is_not_so_is_refused(context: Context) -> None:
    """One line, audited."""
    with pytest.raises(InputError, match="no host has said that it knows more"):
        restoring.accept(context, "operator/ann", "settled")


def test_a_server_reserves_no_less_than_another_one_did(context: Context, tmp_path: Path) -> None:
    """Numbers of a server whose clock is ahead are known to the database, also after the other one has reserved."""
    storage = SqlStorage(tmp_path / "towpath.db")
    ahead = deciding(storage, SetClock(NOW + 9 * HOUR_MS))
    Sequencer(ahead)
    Sequencer(context).reserve()
    with storage.transaction() as tx:
        assert tx.number("sequence") >= NOW + 9 * HOUR_MS + RESERVE_MS
    storage.close()


def test_a_generation_that_a_host_has_heard_of_is_not_given_again(context: Context) -> None:
    """The host reports the ninth of a database that is lost."""
    syncing.report(context, "id-h0", [], [reported(generation=9)], 1)
    with context.storage.transaction() as tx:
        assert tx.next_generation() == 10
        assert tx.assignments() == []
