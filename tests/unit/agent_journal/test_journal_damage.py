"""Journals that cannot be used: damaged ones are told from those that are only out of reach."""

import sqlite3
from dataclasses import fields, replace
from pathlib import Path

import pytest

from towpath.errors import Broken
from towpath.reports import AppState, Event
from towpath.status import State, Verdict
from towpath_agent.engine.planning import Failure, Wish
from towpath_agent.journal import (
    SCHEMA_VERSION,
    Deployed,
    Journal,
    Transaction,
    open_journal,
    open_readonly,
    trouble_in,
)

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "journal-v1.db"

ONE = Deployed(Wish("hello", bytes(32), "1.0", {"port": 80}, 1), b"signed one")
TWO = Deployed(Wish("hello", b"\x02" * 32, "2.0", {"names": ("a", "b"), "debug": True}, 2), b"signed two")
MOVE = Transaction(
    "tx-1", TWO.wish, TWO.release, ONE, State.WATCHING, touched=True, attempts=1, begun_unix_ms=1_700_000_000_000
)
INSTALL = Transaction("tx-0", Wish("other", b"\x03" * 32, "0.1"), b"signed other", None, State.STUCK, tries=2, code="x")
FAILED = Failure(replace(TWO.wish, version="2.1"), "ill", Verdict.INCONCLUSIVE, retry_unix_ms=5)
STATE = AppState("hello", "1.0", bytes(32), "2.0", b"\x02" * 32, state=State.WATCHING, parameters={"port": 80})
EVENTS = [Event(f"e{n}", 7, "transition", "hello", "tx-1", reason="ä", release_sha256=bytes(32)) for n in range(3)]


def fill(it: Journal) -> None:
    """Put something in every table."""
    it.set_meta(refused="{}")
    it.set_desired([TWO], "fingerprint")
    it.set_current("hello", ONE, TWO)
    it.put_transaction(INSTALL)
    it.put_transaction(MOVE)
    it.remember_failure(FAILED)
    it.set_app_states([STATE], 4)
    for event in EVENTS:
        it.add_event(event)
    it.acknowledge(["e0"])


def read(it: Journal) -> dict[str, object]:
    """Return everything that a journal can say."""
    return {
        "meta": it.meta(),
        "desired": it.desired(),
        "current": it.deployed("current"),
        "previous": it.deployed("previous"),
        "transactions": it.transactions(),
        "failures": it.failures(),
        "app_states": it.app_states(),
        "events": it.events(),
        "outbox": it.outbox(10),
    }


EXPECTED: dict[str, object] = {
    "meta": {"refused": "{}", "desired": "fingerprint", "state_revision": "4"},
    "desired": [TWO],
    "current": {"hello": ONE},
    "previous": {"hello": TWO},
    "transactions": [INSTALL, MOVE],
    "failures": {"hello": FAILED},
    "app_states": [STATE],
    "events": EVENTS,
    "outbox": EVENTS[1:],
}


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A sound journal with something in every table."""
    path = tmp_path / "state.db"
    it = open_journal(path)
    fill(it)
    it.close()
    return path


def test_a_journal_of_version_1_reads_the_same_for_ever(tmp_path: Path) -> None:
    """tests/golden/journal-v1.db was written by the first version; an agent that is upgraded finds all of it."""
    path = tmp_path / "state.db"
    path.write_bytes(GOLDEN.read_bytes())
    it = open_journal(path)
    assert read(it) == EXPECTED
    it.put_transaction(replace(MOVE, state=State.CONFIRMED), Event("new", 1, "transition"))
    assert [event.id for event in it.outbox(9)] == ["e1", "e2", "new"]
    it.close()
    reader = open_readonly(GOLDEN)
    assert read(reader) == EXPECTED
    reader.close()


def test_the_golden_journal_has_the_tables_of_this_version(whole: Path) -> None:
    """A changed table needs a new schema version, and a golden journal of its own."""
    query = "SELECT name, sql FROM sqlite_schema ORDER BY name"
    now, then = sqlite3.connect(whole), sqlite3.connect(GOLDEN)
    assert now.execute(query).fetchall() == then.execute(query).fetchall()
    assert then.execute("PRAGMA user_version").fetchone() == (1,) == (SCHEMA_VERSION,)
    now.close()
    then.close()
    assert len(fields(Transaction)) == 17, "a new field of a transaction must have a default in older journals"


@pytest.mark.parametrize("page", range(10))
def test_a_journal_cut_off_anywhere_is_said_to_be_damaged_or_opens_whole(
    tmp_path: Path, whole: Path, page: int
) -> None:
    """Truncated at any offset: Broken as journal-damaged; or all of it can be read; or, empty, it begins anew."""
    data = whole.read_bytes()
    path = tmp_path / "cut.db"
    first = len(data) * page // 10
    for size in [*range(first, len(data) * (page + 1) // 10, 131), first + 1]:
        path.write_bytes(data[:size])
        try:
            it = open_journal(path)
        except Broken as error:
            assert error.code == "journal-damaged"
            assert str(path) in str(error)
            assert path.read_bytes() == data[:size], "what is set aside for people is not changed"
        else:
            # SQLite takes a single byte for no database yet, as it takes none.
            assert it.desired() is None if size <= 1 else read(it) == EXPECTED
            it.close()


def test_garbled_bytes_anywhere_are_found_at_the_opening_or_never_in_the_way(tmp_path: Path, whole: Path) -> None:
    """Spoiled blocks anywhere in the file: either opening says journal-damaged, or everything can be read."""
    data = whole.read_bytes()
    path = tmp_path / "garbled.db"
    found = 0
    for offset in range(0, len(data), 59):
        path.write_bytes(data[:offset] + b"\xa5" * 16 + data[offset + 16 :])
        try:
            it = open_journal(path)
        except Broken as error:
            # An unknown version in the header is not damage that could be told from a newer agent's journal.
            assert error.code == "journal-damaged" or "schema" in str(error)
            found += 1
        else:
            assert set(read(it)) == set(EXPECTED)
            it.close()
    assert found > 20


SPOILS = {
    "desired": "UPDATE desired SET wish = '{'",
    "current": "UPDATE deployed SET wish = '[]' WHERE slot = 'current'",
    "previous": "UPDATE deployed SET wish = 'null' WHERE slot = 'previous'",
    "state": "UPDATE txn SET state = 'Confused'",
    "transaction": "UPDATE txn SET body = '{}'",
    "failure": "UPDATE failure SET body = '{}'",
    "app state": "UPDATE app_state SET body = '{}'",
    "event": "UPDATE event SET body = '\"\"' WHERE number = 2",
    "revision": "UPDATE meta SET value = 'x' WHERE key = 'state_revision'",
    "no text": "UPDATE event SET body = CAST(x'ff22' AS TEXT)",
    "table": "DROP TABLE failure",
}


@pytest.mark.parametrize("what", SPOILS)
def test_content_that_is_not_what_it_should_be_is_damage(whole: Path, what: str) -> None:
    """A record that SQLite finds sound but that makes no sense is found at the opening, not in mid-work."""
    db = sqlite3.connect(whole)
    db.execute(SPOILS[what])
    db.commit()
    db.close()
    with pytest.raises(Broken, match="cannot") as caught:
        open_journal(whole)
    assert caught.value.code == "journal-damaged"


def test_other_bytes_are_damage(tmp_path: Path) -> None:
    """A file that is no database is set aside by the caller, who is told so by the code."""
    path = tmp_path / "state.db"
    path.write_bytes(b"not a database at all " * 200)
    with pytest.raises(Broken, match="file is not a database") as caught:
        open_journal(path)
    assert caught.value.code == "journal-damaged"


@pytest.mark.parametrize("opener", [open_journal, open_readonly])
def test_another_schema_version_is_refused_and_left_alone(whole: Path, opener: type[Journal]) -> None:
    """A newer agent's journal is neither used nor set aside as damaged; the message names both versions."""
    db = sqlite3.connect(whole)
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    db.close()
    before = whole.read_bytes()
    with pytest.raises(Broken, match="schema 2, this agent knows 1") as caught:
        opener(whole)
    assert caught.value.code == "journal-schema"
    assert whole.read_bytes() == before


def test_a_journal_that_is_only_out_of_reach_is_not_damaged(tmp_path: Path, whole: Path) -> None:
    """A missing folder or a folder in its place is the machine's trouble: nothing must be set aside for it."""
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "missing" / "state.db", tmp_path / "folder"):
        with pytest.raises(Broken) as caught:
            open_journal(path)
        assert caught.value.code == "journal"


@pytest.fixture
def half_written(tmp_path: Path, whole: Path) -> Path:
    """Return a journal as an agent leaves it that is killed within a commit that had reached the disk in part."""
    writer = sqlite3.connect(whole, isolation_level=None)
    writer.execute("PRAGMA cache_size=1")
    writer.execute("BEGIN IMMEDIATE")
    writer.executemany("INSERT INTO meta VALUES (?, ?)", [(f"half{n}", "x" * 2000) for n in range(200)])
    killed = tmp_path / "killed" / "state.db"
    killed.parent.mkdir()
    for suffix in ("", "-journal"):
        killed.with_name(f"state.db{suffix}").write_bytes(Path(f"{whole}{suffix}").read_bytes())
    writer.execute("ROLLBACK")
    writer.close()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        sqlite3.connect(f"{killed.as_uri()}?mode=ro", uri=True).execute("SELECT * FROM meta")
    return killed


def test_a_commit_that_was_cut_short_is_undone_by_whoever_looks_first(half_written: Path) -> None:
    """`status` after a kill -9 answers, with nothing of the half commit; it still writes nothing of its own."""
    journal = open_readonly(half_written)
    assert not [name for name in journal.meta() if name.startswith("half")]
    with pytest.raises(Broken, match="cannot write the journal"):
        journal.set_meta(a="1")
    journal.close()


def test_doctor_finds_no_fault_in_a_commit_that_was_cut_short(half_written: Path) -> None:
    """It is no damage: the agent would undo it, too."""
    assert not trouble_in(half_written)


def test_readonly_needs_a_journal(tmp_path: Path) -> None:
    """Where no agent ran there is nothing to read; none is made, and the message says what may be missing."""
    path = tmp_path / "state.db"
    with pytest.raises(Broken, match="has the agent run here") as caught:
        open_readonly(path)
    assert caught.value.code == "journal"
    assert not path.exists()
    path.write_bytes(b"")
    with pytest.raises(Broken, match="has the agent run here"):
        open_readonly(path)


def test_readonly_takes_any_path(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder's name may hold what means something in a URI, and a path may be relative."""
    folder = tmp_path / "a?b#c%20d e"
    folder.mkdir()
    (folder / "state.db").write_bytes(whole.read_bytes())
    reader = open_readonly(folder / "state.db")
    assert read(reader) == EXPECTED
    reader.close()
    monkeypatch.chdir(folder)
    reader = open_readonly(Path("state.db"))
    assert read(reader) == EXPECTED
    reader.close()
