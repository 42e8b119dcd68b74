"""What `towpath-agent doctor` says about a folder: each thing that can be wrong, under its name, with the way out."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.clock import FakeClock
from fakes.enrolled import RECORD, enrolled_folder
from fakes.host import SimulatedHost
from towpath.holds import Hold
from towpath.reports import AppState
from towpath.settings import check_settings
from towpath.status import Health, State, Verdict
from towpath_agent import identity
from towpath_agent.control import SOCKET
from towpath_agent.doctor import Finding, Level, examine, state
from towpath_agent.doctor import host as machine
from towpath_agent.doctor.rates import rates
from towpath_agent.engine.selfupdate import Pointer
from towpath_agent.journal import open_journal, open_readonly, trouble_in
from towpath_agent.options import KNOWN_SETTINGS
from towpath_agent.runner.floors import Floors, FloorsFile
from towpath_agent.services.agent import write_pointer
from towpath_agent.system import host as facts
from towpath_agent.system.files import Files
from towpath_agent.system.host import Space
from towpath_agent.system.local_socket import listen

FILES = Files()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of an enrolled host, as enrolment leaves it."""
    return enrolled_folder(tmp_path / "h1")


def said(findings: Finding | Iterable[Finding]) -> str:
    """Return findings as lines: level, check, text, command."""
    every = [findings] if isinstance(findings, Finding) else list(findings)
    return "\n".join(f"{one.level} {one.check}: {one.text} [{one.command}]" for one in every)


def test_a_sound_folder_is_ok(folder: Path) -> None:
    """Owner, modes, one filesystem, and it can be written; nothing is left behind by looking."""
    before = sorted(folder.iterdir())
    every = list(machine.folder(folder, FILES))
    assert {one.level for one in every} <= {Level.OK, Level.WARN}
    assert f"ok folder: {folder}, mode 700" in said(every)
    assert sorted(folder.iterdir()) == before


def test_a_folder_that_others_may_look_into_fails(folder: Path) -> None:
    """The folder and the files with secrets, each with the command that shuts it; a group's passage is no fault."""
    folder.chmod(0o755)
    (folder / identity.IDENTITY).chmod(0o644)
    text = said(machine.folder(folder, FILES))
    assert f"fail folder: others may look into {folder} (mode 755) [chmod 700 {folder}]" in text
    assert f"others may read {folder / identity.IDENTITY} [chmod 600" in text
    folder.chmod(0o710)
    assert "ok folder" in said(machine.folder(folder, FILES))


def test_a_folder_of_somebody_else_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs doctor as the wrong user is told as whom."""
    monkeypatch.setattr(facts, "who_am_i", lambda: 12345)
    assert "belongs to" in said(machine.folder(folder, FILES))
    assert "you are 12345" in said(machine.folder(folder, FILES))


def test_a_folder_that_cannot_be_written_fails(folder: Path) -> None:
    """A read-only or broken disk is one finding."""

    def broken(verb: str, _path: Path) -> None:
        if verb == "make":
            raise OSError(30, "Read-only file system")

    assert "fail filesystem: it cannot be written: cannot make" in said(machine.folder(folder, Files(broken)))


def test_a_doubtful_filesystem_is_a_warning_and_several_fail(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in memory loses everything, nfs has other renames; store and apps on two filesystems cannot be renamed between."""
    monkeypatch.setattr(facts, "filesystem_of", lambda _path: "nfs4")
    assert "warn filesystem" in said(machine.folder(folder, FILES))
    assert "lies on nfs4" in said(machine.folder(folder, FILES))

    class Two(Files):
        def device(self, path: Path) -> int:
            return 1 if path.name == "store" else 2

    assert "lie on 2 filesystems" in said(machine.folder(folder, Two()))


def test_the_filesystem_under_a_path_is_known() -> None:
    """/proc is a filesystem of its own, whatever else is mounted."""
    assert facts.filesystem_of(Path("/proc/self")) == "proc"
    assert facts.space_at(Path("/")).total_bytes > 0


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (Space(2**40, 2**41, None), "ok disk: 1.0 TiB of 2.0 TiB are free"),
        (Space(2**40, 2**41, 10), "fail disk: only 10 more files can be made"),
        (Space(300 * 2**20, 2**41, 2**20), "warn disk: 300.0 MiB"),
        (Space(10 * 2**20, 2**41, 2**20), "no release can be staged; free some space [du -xh"),
    ],
)
def test_the_disk_is_judged_by_bytes_and_by_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, space: Space, text: str
) -> None:
    """Much, little, too little, and no more inodes."""
    monkeypatch.setattr(facts, "space_at", lambda _path: space)
    assert text in said(machine.disk(folder))


def test_a_clock_behind_what_was_seen_signed_fails() -> None:
    """Behind the time floor or before the certificate's begin; some minutes are forgiven."""
    floors = Floors(time_unix_ms=1_000_000_000)
    record = replace(RECORD, not_before_unix_ms=5)
    assert "ok clock" in said(machine.clock(record, floors, 1_000_000_000 - machine.CLOCK_BEHIND_MS))
    assert "fail clock: it is 2h behind" in said(machine.clock(record, floors, 1_000_000_000 - 7_200_000))
    later = replace(record, not_before_unix_ms=10**12)
    assert "fail clock" in said(machine.clock(later, floors, 1_000_000_000))


def test_a_certificate_is_good_overdue_expired_or_damaged(folder: Path) -> None:
    """Each with what happens next."""
    record = identity.read_record(folder, FILES)
    life = record.not_after_unix_ms - record.not_before_unix_ms
    now = record.not_before_unix_ms + life // 10
    assert "ok certificate: good for" in said(machine.certificate(folder, FILES, record, now))
    overdue = record.not_after_unix_ms - 1
    monkey = replace(record, not_before_unix_ms=record.not_before_unix_ms - 100 * 86_400_000)
    assert "its renewal is overdue" in said(machine.certificate(folder, FILES, monkey, overdue))
    expired = said(machine.certificate(folder, FILES, record, record.not_after_unix_ms + 86_400_000))
    assert "fail certificate: it expired 24h ago" in expired
    (folder / identity.IDENTITY).write_text("nonsense")
    assert "is damaged" in said(machine.certificate(folder, FILES, record, now))


def test_a_certificate_that_a_crash_left_newer_than_host_json_is_read(folder: Path) -> None:
    """Between the two writes of a renewal the file itself counts."""
    record = replace(identity.read_record(folder, FILES), identity_sha256="other", not_after_unix_ms=1)
    assert "ok certificate" in said(machine.certificate(folder, FILES, record, record.not_before_unix_ms + 1))


def test_programs_fail_only_where_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind that an app uses needs its program; one that nobody uses is only told."""
    monkeypatch.setattr(facts, "has_program", lambda _name: False)
    assert said(machine.programs({"systemd", "tree"}, {"tree"})).startswith("ok programs: kind systemd cannot be used")
    assert "fail programs: kind systemd is used here and needs systemctl" in said(
        machine.programs({"systemd"}, {"systemd"})
    )
    monkeypatch.setattr(facts, "has_program", lambda _name: True)
    assert "ok programs: kind systemd: systemctl" in said(machine.programs({"systemd"}, set()))


def test_a_program_is_looked_for_where_services_find_it() -> None:
    """By the path that apps get, not by the person's own."""
    assert facts.has_program("sh")
    assert not facts.has_program("no-such-program-anywhere")


def test_whether_an_agent_runs_is_told_apart_from_one_that_does_not_answer(folder: Path) -> None:
    """Not running is a warning; a process that holds the folder and is silent fails."""
    assert "warn agent: it does not run" in said(state.agent(folder, FILES))
    with FILES.lock(folder / identity.LOCK):
        assert "fail agent: a process holds the folder" in said(state.agent(folder, FILES))
    assert "warn agent" in said(state.agent(folder, FILES))
    server = listen(folder / SOCKET)
    server.close()
    assert "warn agent" in said(state.agent(folder, FILES)), "a stale socket is nobody"


def test_which_agent_is_to_run_is_told(folder: Path) -> None:
    """Never changed: nothing. Kept, on trial, given up with the reason, and a file that is garbled."""
    assert said(state.launch(folder, FILES)) == ""
    write_pointer(FILES, folder, Pointer(current="1.1.0-b"))
    assert said(state.launch(folder, FILES)) == "ok launch: the agent is 1.1.0-b []"
    trial = Pointer(trying="1.2.0-c", starts=1)
    write_pointer(FILES, folder, trial)
    told = said(state.launch(folder, FILES))
    assert "ok launch: 1.2.0-c is on trial" in told
    assert "ok launch: the agent is the packaged one []" in told
    write_pointer(FILES, folder, replace(trial, failed="it ended 3 times"))
    assert (
        "fail launch: 1.2.0-c could not be kept as the agent: it ended 3 times [towpath-agent explain towpath-agent]"
        in said(state.launch(folder, FILES))
    )
    (folder / "launch.json").write_text("{")
    assert "fail launch: launch.json is garbled" in said(state.launch(folder, FILES))


def test_a_journal_is_missing_whole_or_damaged(folder: Path) -> None:
    """All of it is read, as the agent does at its start."""
    assert "none yet" in said(state.journal(folder, FILES))
    open_journal(folder / "state.db").close()
    assert "ok journal: whole" in said(state.journal(folder, FILES))
    (folder / "state.db").write_bytes(b"SQLite format 3\0" + b"x" * 4096)
    assert "fail journal" in said(state.journal(folder, FILES))
    assert "the agent sets it aside and rebuilds it" in said(state.journal(folder, FILES))


def test_a_garbled_row_is_trouble_in_the_journal(folder: Path) -> None:
    """SQLite's own check does not see it; reading does. Another schema is named, not called damage."""
    journal = open_journal(folder / "state.db")
    journal._db.execute("INSERT INTO failure VALUES ('hello', '{')")
    journal.close()
    assert "it is damaged" in trouble_in(folder / "state.db")
    fresh = open_journal(folder / "fresh.db")
    assert trouble_in(folder / "fresh.db") == ""
    fresh._db.execute("PRAGMA user_version = 99")
    fresh.close()
    assert "schema 99" in trouble_in(folder / "fresh.db")


def test_links_and_journal_are_held_against_each_other(tmp_path: Path) -> None:
    """Agreeing apps are counted; another current fails, another previous warns, an app on the move is left out."""
    host = SimulatedHost(tmp_path)
    for number, version in enumerate(("1.0.0", "2.0.0"), 1):
        host.assign(host.publish(version), generation=number)
        if number == 1:
            host.boot()
        host.settle()
    assert said(state.links(tmp_path, FILES, host.journal)) == "ok links: 1 app agrees with the journal []"
    app = tmp_path / "apps/hello"
    (app / "previous").unlink()
    assert "warn links: hello: its link previous does not say 1.0.0-" in said(
        state.links(tmp_path, FILES, host.journal)
    )
    (app / "current").unlink()
    text = said(state.links(tmp_path, FILES, host.journal))
    assert "fail links: hello: the journal says 2.0.0-" in text
    assert "its link current says nothing" in text
    assert "0 apps agree" in text
    (tmp_path / "staging/left").mkdir()
    assert "warn staging: 1 leftovers" in said(state.staging(tmp_path, FILES, host.journal))
    assert state.used_kinds(host.journal) == {"tree", "process"}


def test_holds_and_apps_in_trouble_are_told(folder: Path) -> None:
    """A hold warns with its release; Stuck and unhealthy fail, what went back warns, what is under way is told."""
    journal = open_journal(folder / "state.db")
    hold = Hold("hello", "ana", "the till is open", 0, 2_000)
    raw = '{"seen": 0, "holds": [{"app": "hello", "by": "ana", "reason": "r", "since_unix_ms": 0, "until_unix_ms": 2000}]}'
    journal.set_meta(holds=raw)
    assert "warn holds: hello held by ana" in said(state.holds(journal, 1_000))
    assert "[towpath-agent release hello]" in said(state.holds(journal, 1_000))
    assert said(state.holds(journal, hold.until_unix_ms)) == ""
    journal.set_meta(holds="{")
    assert "cannot be read" in said(state.holds(journal, 0))
    journal.set_app_states(
        [
            AppState("a", state=State.STUCK, reason="disk"),
            AppState("b", current_version="1", state=State.CONFIRMED, health=Health.UNHEALTHY, reason="500"),
            AppState("c", desired_version="2", state=State.REVERTED, verdict=Verdict.FAILED, reason="500"),
            AppState("d", desired_version="2", state=State.FETCHING),
            AppState("e", current_version="1", state=State.CONFIRMED, health=Health.HEALTHY),
        ],
        1,
    )
    text = said(state.apps(journal))
    assert "fail apps: a is Stuck: disk [towpath-agent explain a]" in text
    assert "fail apps: b 1 is unhealthy: 500" in text
    assert "warn apps: c 2 failed: 500" in text
    assert "ok apps: d: 2 is Fetching" in text
    assert "ok apps: e 1, healthy" in text
    journal.close()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "ok rate: fetches have no limit"),
        ({"max_rate": "256KiB/s"}, "ok rate: at most 256.0KiB/s are fetched"),
        ({"max_rate": "full; daily 00:00-24:00 UTC 64KiB/s"}, "ok rate: now 64.0KiB/s; max_rate is full; daily"),
        ({"max_rate": "512B/s"}, "warn rate: max_rate goes down to 512B/s, and a server that sends less than min_rate"),
        ({"max_rate": "512B/s", "min_rate": "100B/s"}, "ok rate: at most 512B/s"),
        ({"max_rate": "64KiB/s", "max_prefetch_bytes": "16GiB"}, "warn rate: max_prefetch_bytes allows 16.0 GiB a day"),
    ],
)
def test_limits_that_contradict_one_another_are_told(settings: dict[str, str], text: str) -> None:
    """What counts now, and what nobody can have meant."""
    assert text in said(rates(check_settings(settings, KNOWN_SETTINGS, "agent.toml"), 0))


def test_a_rate_that_cannot_be_read_fails(folder: Path) -> None:
    """The agent does not start with it: doctor says why."""
    settings = check_settings({"max_rate": "fast"}, KNOWN_SETTINGS, "/etc/towpath/agent.toml")
    text = said(examine(folder, FILES, FakeClock(), settings))
    assert "fail rate: cannot use max_rate in /etc/towpath/agent.toml: cannot read 'fast' as a rate" in text


def test_an_examination_goes_on_after_every_finding(folder: Path) -> None:
    """Damaged floors, a missing CA, a journal of another kind: each is a line, and the rest is still looked at."""
    (folder / "trust").mkdir(exist_ok=True)
    (folder / "trust/floors.json").write_text("{")
    (folder / identity.CA).unlink()
    (folder / "state.db").write_bytes(b"no database " * 100)
    every = examine(folder, FILES, FakeClock(), {})
    text = said(every)
    for part in ("fail clock: cannot use", "fail journal", "fail server", "ok folder", "ok certificate"):
        assert part in text, part
    assert "\n" not in "".join(one.text for one in every)
    assert (folder / "trust/floors.json").read_text() == "{"
    assert FloorsFile(folder / "trust/floors.json", FILES).damaged


def test_without_a_host_there_is_one_finding(tmp_path: Path) -> None:
    """Enrol first; a damaged host.json is named."""
    (one,) = examine(tmp_path / "none", FILES, FakeClock(), {})
    assert (one.check, one.level) == ("host", Level.FAIL)
    assert "run towpath-agent enroll" in one.text


def test_a_reader_of_a_journal_without_tables_is_no_traceback(folder: Path) -> None:
    """An empty file is an empty database: the agent never got so far."""
    (folder / "state.db").write_bytes(b"")
    text = said(examine(folder, FILES, FakeClock(), {}))
    assert "fail journal" in text
    with pytest.raises(Exception, match="cannot"):
        open_readonly(folder / "state.db")
