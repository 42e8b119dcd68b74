"""The schema's versions: what the tables are, what the migrations make, and databases of other Towpaths."""

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from towpath.errors import Broken
from towpath.reports import Prefetch, PrefetchState, Transfer
from towpath_server.domain.model import Lease, Newcomers, OnBreach
from towpath_server.storage import SqlStorage
from towpath_server.storage.copying import faults, revision
from towpath_server.storage.database import Upgrade, head_revision, open_engine
from towpath_server.storage.schema import metadata

GOLDEN = Path(__file__).parents[2] / "golden"


def test_the_migrations_make_exactly_the_tables_of_the_code(tmp_path: Path) -> None:
    """A column that somebody adds without a revision would be missing in every database that exists."""
    SqlStorage(tmp_path / "towpath.db").close()
    engine = open_engine(tmp_path / "towpath.db")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("server-db-*.sql")), ids=lambda path: path.stem)
def test_a_database_of_every_earlier_version_opens_with_its_rows(golden: Path, tmp_path: Path) -> None:
    """A host that an earlier server enrolled is there after the upgrade, and the schema is the newest."""
    path = tmp_path / "towpath.db"
    with sqlite3.connect(path) as old:
        old.executescript(golden.read_text())
    old.close()
    storage = SqlStorage(path)
    with storage.transaction() as tx:
        found = tx.host_named("h1")
        assert found is not None
        assert (found.environment, found.labels, found.key_sha256) == ("dev", {"role": "web"}, b"\x01" * 32)
        newer = golden.stem > "server-db-0001"
        assert [one.reason for one in found.holds] == (["the till is open"] if newer else [])
        (rule,) = tx.assignments()
        waves = golden.stem > "server-db-0002"
        assert (rule.version, rule.on_breach) == ("1.0.0", OnBreach.REVERT if waves else OnBreach.HALT)
        assert [wave.text for wave in rule.waves] == (["canary:10m", "100%"] if waves else [])
        assert list(tx.retreats("a1")) == (["id-h1"] if waves else [])
        windows = golden.stem > "server-db-0004"
        assert [window.text for window in rule.timing.windows] == (
            ["Mon-Fri 22:00-04:00 Europe/Berlin"] if windows else []
        )
        assert (rule.newcomers, rule.roster) == ((Newcomers.WAIT, ("id-h1",)) if windows else (Newcomers.JOIN, None))
        assert [entry.reason for entry in tx.calendar()] == (["Christmas", "nights"] if windows else [])
        gated = golden.stem > "server-db-0005"
        assert [one.by for one in rule.approvals] == (["bob"] if gated else [])
        assert [one.limits for one in rule.metrics] == (["> 1..0.5"] if gated else [])
        assert rule.entered_unix_ms == rule.created_unix_ms, "what is under way waits for no order of environments"
        assert [one.healthy_for_ms for one in tx.environments()] == ([7_200_000] if gated else [])
        assert [one.text for one in tx.settings("dev")] == (["8080"] if gated else [])
        budgets = golden.stem > "server-db-0008"
        assert [one.text for one in rule.budgets] == (["rack=1", "zone=20%"] if budgets else [])
        assert (rule.priority, rule.order_label) == ((7, "rack") if budgets else (0, ""))
        assert [one.state.current_version for one in tx.app_states()] == ["1.0.0"]
        restored = golden.stem > "server-db-0006"
        assert [one.name for one in tx.ahead()] == (["h1"] if restored else [])
        assert [one.after for one in tx.gaps()] == ([1_700_000_000_000] if restored else [])
        fetched = golden.stem > "server-db-0007"
        assert rule.prefetch is fetched
        (reported,) = tx.app_states()
        assert reported.state.prefetch == (Prefetch("2.0.0", b"\x02" * 32, PrefetchState.COMPLETE) if fetched else None)
        travels = golden.stem > "server-db-0009"
        transfer = Transfer("2.0.0", 1000, 4000, about=True, rate=100, remaining_ms=30_000, delta=True)
        assert reported.state.transfer == (transfer if travels else None)
        ticks = golden.stem > "server-db-0003"
        assert tx.lease() == (Lease("holder-1", "seat-1", 3, 7) if ticks else None)
        assert tx.changed_hosts("dev", 0) == (["id-h1"] if ticks else [])
    storage.close()
    assert revision(path) == head_revision()
    was = golden.stem.removeprefix("server-db-")
    if was == head_revision():
        assert storage.upgraded is None
        assert list(tmp_path.glob("*.schema-*")) == []
        return
    copy = tmp_path / f"towpath.db.schema-{was}"
    assert storage.upgraded == Upgrade(was, head_revision(), copy)
    assert (revision(copy), faults(copy), copy.stat().st_mode & 0o777) == (was, [], 0o600)
    SqlStorage(copy).close()  # as it was: it can be taken again


def test_every_version_of_the_schema_has_its_golden_database() -> None:
    """A new revision comes with a dump of what it makes, so that the one after it is tested against it."""
    assert (GOLDEN / f"server-db-{head_revision()}.sql").exists()


def test_a_database_of_a_newer_towpath_is_refused_and_not_touched(tmp_path: Path) -> None:
    """An older server does not guess at tables that it does not know."""
    path = tmp_path / "towpath.db"
    SqlStorage(path).close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()
    with pytest.raises(Broken, match=r"cannot open .*: .*9999.*; a newer Towpath wrote it, run that one"):
        SqlStorage(path)


def test_a_commit_survives_a_power_cut_and_a_read_belongs_to_its_write(tmp_path: Path) -> None:
    """WAL with synchronous FULL, and transactions that lock at their begin: two cannot both read first."""
    engine = open_engine(tmp_path / "towpath.db")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other = sqlite3.connect(tmp_path / "towpath.db", timeout=0, isolation_level=None)
            try:
                other.execute("BEGIN IMMEDIATE")
            finally:
                other.close()
    engine.dispose()
