"""`towpath-agent bundle`: when a wait is over, and what its words need."""

from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner

from towpath.reports import AppState
from towpath.status import State, Verdict
from towpath_agent.bundle_cli import FAILED, failed_before, outcome, progress
from towpath_agent.cli import group

SHA = b"n" * 32
RUNS = AppState("hello", "2", SHA, "2", SHA, state=State.CONFIRMED, verdict=Verdict.SUCCEEDED)


def test_a_wait_is_over_when_every_app_has_ended() -> None:
    """Zero where all are confirmed, one where any of them failed, and not before."""
    assert outcome({"hello": RUNS}, {"hello": SHA}) == 0
    assert outcome({}, {"hello": SHA}) is None
    assert outcome({"hello": RUNS}, {"hello": SHA, "redis": b"r" * 32}) is None
    watching = replace(RUNS, state=State.WATCHING, verdict=Verdict.NONE)
    assert outcome({"hello": watching}, {"hello": SHA}) is None
    for verdict in (Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.REFUSED):
        bad = replace(RUNS, current_sha256=b"o" * 32, state=State.REVERTED, verdict=verdict)
        assert outcome({"hello": bad}, {"hello": SHA}) == FAILED
    of_another = replace(RUNS, current_sha256=b"o" * 32, desired_sha256=b"x" * 32, verdict=Verdict.FAILED)
    assert outcome({"hello": of_another}, {"hello": SHA}) is None
    assert outcome({}, {}) == 0


def test_what_is_told_is_what_runs() -> None:
    """A host that is held is still Confirmed: with what it has, and not with what is to come; of others nothing."""
    assert progress(None, SHA) == ""
    assert progress(RUNS, SHA) == "hello: Confirmed 2"
    assert progress(RUNS, b"x" * 32) == ""
    held = replace(RUNS, current_version="1", current_sha256=b"o" * 32)
    assert progress(held, SHA) == "hello: runs 1; 2 waits"
    bad = replace(held, state=State.REVERTED, verdict=Verdict.FAILED, reason="its probe failed")
    assert progress(bad, SHA) == "hello: Reverted 2 its probe failed"
    assert failed_before({"hello": bad}, {"hello": SHA, "redis": SHA}) == ["hello"]
    assert failed_before({"hello": held}, {"hello": SHA}) == []


def test_a_folder_without_a_host_is_one_line(tmp_path: Path) -> None:
    """Nothing is read of the file before it is known for whom."""
    for words in (["apply", "--dir", str(tmp_path), "x.tpb"], ["report", "--dir", str(tmp_path), "-o", "x"]):
        done = CliRunner().invoke(group, ["bundle", *words])
        assert "no host is enrolled there" in str(done.exception)
