"""Probe `log`: what counts of a log, what it costs, and what is said of it."""

import os
import re
import threading
import time
from pathlib import Path

import pytest

from fakes.probing import context_of
from towpath.parameters import Value
from towpath_agent.probes.base import FileMark, ProbeResult
from towpath_agent.probes.log import MAX_BYTES, PIECE_BYTES, LogProbe
from towpath_agent.probes.scan import MAX_LINE_BYTES, Scan
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.cpu import CpuBudget, OutOfTime
from towpath_agent.system.files import Files


class Log:
    """A log and the probe that watches it."""

    def __init__(self, root: Path) -> None:
        self.root, self.probe = root, LogProbe(Files(), SystemClock())
        self.path = context_of(root).instance.log
        self.path.parent.mkdir(exist_ok=True)
        self.path.touch()
        self.marks: dict[str, FileMark] = {}

    def write(self, data: str | bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data.encode() if isinstance(data, str) else data)

    def start(self) -> None:
        """Note where the log stands, as the agent does when it starts a release."""
        facts = self.path.stat()
        self.marks = {str(self.path): FileMark(facts.st_ino, facts.st_size)}

    def check(self, version: str = "1", **options: Value) -> ProbeResult:
        chosen = options or {"pattern": "ready", "forbid": "FATAL"}
        return self.probe.check(
            {"path": str(self.path), **chosen}, context_of(self.root, marks=self.marks, version=version)
        )


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_the_matching_line_is_the_evidence(log: Log) -> None:
    """What was found is shown with the file; until then it is told how much was looked at."""
    assert log.check().evidence == f"{log.path}: none of 0 lines since the start has 'ready'"
    log.write("starting\nlistening, ready on 80\n")
    assert log.check() == ProbeResult(True, f"{log.path}: listening, ready on 80")
    log.write("FATAL: no disk\n")
    assert log.check() == ProbeResult(False, f"{log.path}: a line that 'FATAL' forbids: FATAL: no disk")


def test_the_log_of_the_release_is_the_default(log: Log, tmp_path: Path) -> None:
    """Without a path it is the file that the agent keeps."""
    log.write("ready\n")
    assert log.probe.check({"pattern": "ready"}, context_of(tmp_path)).ok


def test_what_was_found_stays_found_until_the_next_start(log: Log) -> None:
    """Later lines do not take it back; a new start begins anew behind what was there."""
    log.write("ready\n")
    assert log.check().ok
    log.write("noise\n" * 1000)
    assert log.check().ok
    log.write("FATAL\n")
    assert not log.check().ok
    log.start()
    assert log.check().evidence.endswith("none of 0 lines since the start has 'ready'")
    log.write("ready again\n")
    assert log.check().evidence.endswith("ready again")


def test_only_what_was_logged_since_the_start_counts(log: Log) -> None:
    """Lines of an earlier run neither prove nor forbid anything."""
    log.write("ready\nFATAL\n")
    log.start()
    assert log.check().evidence.endswith("none of 0 lines since the start has 'ready'")
    log.write("ready now\n")
    assert log.check().ok


def test_a_log_that_was_replaced_or_cut_since_the_start_counts_whole(log: Log) -> None:
    """Rotation makes a new file or empties the old one; neither hides a line."""
    log.write("x" * 1000 + "\n")
    log.start()
    log.path.rename(log.path.with_suffix(".1"))
    log.write("ready one\n" + "x" * 2000 + "\n")
    assert log.check().evidence.endswith("ready one")
    log.write("y" * 2000)
    log.start()
    os.truncate(log.path, 0)
    log.write("ready two\n")
    assert log.check().evidence.endswith("ready two")


def test_a_last_line_without_an_end_counts_once_it_has_stopped_growing(log: Log) -> None:
    """Half a line is no line; one that waits for input is."""
    log.write("error: ")
    assert log.check(forbid="error: $").ok
    log.write("none, ready\n")
    assert log.check(forbid="error: $").ok
    log.write("password? ready")
    assert not log.check(pattern="password.*ready").ok
    assert log.check(pattern="password.*ready").ok


def test_without_a_pattern_it_is_enough_that_nothing_is_forbidden(log: Log) -> None:
    """It is told how many lines that is said of."""
    log.write("a\nb\n")
    assert log.check(forbid="c") == ProbeResult(True, f"{log.path}: none of 2 lines since the start is forbidden")


def test_other_releases_of_the_app_are_forgotten(log: Log) -> None:
    """What an agent remembers does not grow with the number of deployments."""
    log.write("ready\n")
    for version in "12345":
        assert log.check(version).ok
    assert len(log.probe._readings) == 1


def test_a_large_log_is_read_in_bounded_steps_and_whole(log: Log) -> None:
    """At most 16 MiB at one check; what is left is said and read at the next, each byte once."""
    line = b"x" * 1023 + b"\n"
    log.write(line * (MAX_BYTES // 1024) + b"ready\n")
    first = log.check(pattern="ready")
    assert not first.ok
    assert first.evidence.endswith(
        f"none of {MAX_BYTES // 1024} lines since the start has 'ready', 6 B are still to be read"
    )
    assert log.check(pattern="ready").ok


def test_of_a_line_only_its_beginning_is_searched(log: Log) -> None:
    """4 KiB, so that one line cannot cost without bound; a line without an end in sight counts in pieces."""
    log.write("x" * MAX_LINE_BYTES + "ready\n" + "x" * (MAX_LINE_BYTES - 5) + "ready\n")
    assert log.check(pattern="^x+ready").evidence.endswith("...")
    log.start()
    log.write("y" * PIECE_BYTES + "ready\n")
    assert log.check(pattern="ready").ok
    log.start()
    log.write("z" * 3 * PIECE_BYTES)
    assert log.check(pattern="^zz").ok


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "(.*)(.*)(.*)(.*)(.*)=x"])
def test_a_pattern_that_explodes_fails_its_check_and_says_so(log: Log, pattern: str) -> None:
    """Its processor time is limited; before and after it the log can be searched as ever."""
    log.write("a" * 3000 + "b\n")
    seen = log.check(pattern=pattern)
    assert not seen.ok
    assert seen.evidence == f"matching one line of {log.path} takes more than 1 s; make it simpler"
    assert log.check(pattern="b").ok


@pytest.mark.parametrize(
    ("path", "evidence"), [("gone.log", "there is no log"), (".", "it is no regular file"), ("pipe", "no regular file")]
)
def test_what_is_no_log_is_said_so(log: Log, tmp_path: Path, path: str, evidence: str) -> None:
    """A missing file, a folder, a pipe that nobody writes to: each a failed check, at once."""
    os.mkfifo(context_of(tmp_path).instance.folder / "pipe")
    seen = log.check(path=path, pattern="x")
    assert not seen.ok
    assert evidence in seen.evidence


def test_a_check_that_looks_for_nothing_or_for_nonsense_fails(log: Log) -> None:
    """Also where a parameter made the pattern what it is."""
    assert "neither a pattern" in log.check(path=str(log.path)).evidence
    assert "cannot use the pattern '['" in log.check(pattern="[").evidence


def test_outside_of_the_main_thread_nothing_is_matched(log: Log) -> None:
    """There the time could not be limited, so it is refused instead."""
    log.write("ready\n")
    seen: list[ProbeResult] = []
    thread = threading.Thread(target=lambda: seen.append(log.check()))
    thread.start()
    thread.join()
    assert "main thread" in seen[0].evidence


def test_what_a_budget_does_not_reach_is_for_the_next_time() -> None:
    """Only a line that takes more than a whole budget is blamed; one that came when little was left is not."""
    scan = Scan({"pattern": re.compile("(a+)+$")})
    line = b"a" * 60 + b"b"
    with pytest.raises(OutOfTime):
        scan.feed(line + b"\n", CpuBudget(0.05))
    with pytest.raises(OutOfTime):
        scan.feed_piece(line, CpuBudget(0.05))
    little = CpuBudget(0.1)
    with little.spend():
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
    assert not little.untouched
    assert scan.feed(line + b"\n" + b"x\n", little) == 0
    assert not scan.feed_piece(line, little)
    assert scan.feed(b"aaa\n" * 3, CpuBudget(1.0)) == 12
    assert scan.found == {"pattern": "aaa"}
