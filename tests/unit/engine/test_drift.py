"""Drift: what counts as damage, how much is looked at when, and what is told of a repair."""

import stat
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.index import Entry, EntryType
from towpath_agent.engine.drift import (
    ASK_ANYWAY_S,
    ASK_EVERY_S,
    ASK_MOST_S,
    CALM_S,
    LOOKS_PER_S,
    REPAIR_MOST_S,
    SWEEP_S,
    Facts,
    Look,
    Repairs,
    Tell,
    after_repair,
    look,
    question_is_due,
    readable_bytes,
    share,
)

FILE = Entry("bin/serve", EntryType.FILE, 0o755, 10, b"d" * 32)
FOLDER = Entry("bin", EntryType.DIRECTORY, 0o755)
LINK = Entry("lib", EntryType.LINK, target="bin")
FACTS = Facts(stat.S_IFREG | 0o755, 10, 7)
FOLDER_FACTS = Facts(stat.S_IFDIR | 0o755, 4096, 9)
LINK_FACTS = Facts(stat.S_IFLNK | 0o777, 3, 9, "bin")


@pytest.mark.parametrize(
    ("entry", "facts", "mark", "expected"),
    [
        (FILE, FACTS, 7, Look.FINE),
        (FILE, FACTS, 8, Look.DOUBT),
        (FILE, FACTS, 0, Look.DOUBT),
        (FILE, None, 7, Look.MISSING),
        (FILE, replace(FACTS, size=11), 7, Look.CHANGED),
        (FILE, replace(FACTS, mode=stat.S_IFREG | 0o4755), 7, Look.MODE),
        (FILE, replace(FACTS, mode=stat.S_IFREG | 0o777), 8, Look.DOUBT),
        (FILE, FOLDER_FACTS, 7, Look.KIND),
        (FOLDER, FOLDER_FACTS, 0, Look.FINE),
        (FOLDER, replace(FOLDER_FACTS, mode=stat.S_IFDIR | 0o700), 0, Look.MODE),
        (FOLDER, FACTS, 0, Look.KIND),
        (LINK, LINK_FACTS, 0, Look.FINE),
        (LINK, replace(LINK_FACTS, target="etc"), 0, Look.CHANGED),
        (LINK, FACTS, 0, Look.KIND),
    ],
)
def test_one_stat_tells_what_is_wrong_or_that_it_must_be_read(
    entry: Entry, facts: Facts | None, mark: int, expected: Look
) -> None:
    """Size, kind, permissions and target are told at once; another mark only raises doubt about the content."""
    assert look(entry, facts, mark) is expected


@given(st.integers(1, 6_000), st.floats(1, 20))
def test_everything_is_looked_at_within_a_minute(count: int, elapsed_s: float) -> None:
    """Shares add up to the whole within the time of one sweep and one step, and none is more than the whole; huge trees get a share by cost."""
    one = share(count, elapsed_s)
    assert 1 <= one <= count
    assert one * (SWEEP_S / elapsed_s + 1) >= count
    assert share(200_000, elapsed_s) <= LOOKS_PER_S * elapsed_s + 1


def test_reading_is_slow_except_after_a_start_and_ends_in_time() -> None:
    """A large release is read faster than the least rate, so that its round ends; the first round is fast."""
    assert readable_bytes(1000, 10.0, first=True) == 40 * 2**20
    assert readable_bytes(1000, 10.0, first=False) == 640 * 2**10
    assert readable_bytes(10 * 2**30, 6 * 3600.0, first=False) == 10 * 2**30


@pytest.mark.parametrize(
    ("rest_s", "cost_s", "shows", "changed", "due"),
    [
        (0.0, 0.0, True, True, True),  # a file changed: at once
        (4.9, 0.05, True, True, False),  # and again soon, at a hundredth of a core
        (5.0, 0.05, True, True, True),
        (ASK_MOST_S, 900.0, True, True, True),
        (ASK_EVERY_S - 1, 0.0, False, False, False),
        (ASK_EVERY_S, 0.0, False, False, True),  # nothing shows: within a minute
        (ASK_EVERY_S, 0.05, False, False, False),
        (50.0, 0.05, False, False, True),  # a thousandth of a core
        (ASK_EVERY_S, 0.0, True, False, False),
        (ASK_ANYWAY_S, 0.0, True, False, True),  # all seems well: hardly ever
        (ASK_MOST_S, 900.0, False, False, True),  # however slow, once an hour
    ],
)
def test_an_installer_is_asked_as_often_as_its_answers_are_cheap(
    rest_s: float, cost_s: float, shows: bool, changed: bool, due: bool
) -> None:
    """At once where something changed, each 40 s where nothing else tells, and never so that the host is burnt."""
    assert question_is_due(rest_s, cost_s, shows=shows, changed=changed) is due


def test_what_comes_back_is_told_once_and_repaired_ever_more_seldom() -> None:
    """Two repairs are told, the third says that it recurs, later ones nothing; the pauses grow to an hour."""
    repairs, tells, pauses = Repairs(), [], []
    assert repairs.again_s() == 0.0
    for _ in range(12):
        repairs, tell = after_repair(repairs, repairs.again_s(), ok=True)
        tells.append(tell)
        pauses.append(repairs.again_s() - repairs.last_s)
    assert tells == [Tell.REPAIRED, Tell.REPAIRED, Tell.RECURS, *[Tell.NOTHING] * 9]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (30.0, REPAIR_MOST_S)
    assert REPAIR_MOST_S < CALM_S
    _, tell = after_repair(repairs, repairs.last_s + CALM_S + 1, ok=True)
    assert tell is Tell.REPAIRED


def test_a_repair_that_fails_is_told_once_and_so_is_its_success() -> None:
    """However often it fails, a person reads of it once, and once that it is over."""
    repairs, tells = Repairs(), []
    for ok in (False, False, False, False, True, True):
        repairs, tell = after_repair(repairs, repairs.again_s(), ok=ok)
        tells.append(tell)
    nothing = Tell.NOTHING
    assert tells == [Tell.FAILED, nothing, nothing, nothing, Tell.REPAIRED, nothing]
