"""`towpath-server doctor` on real servers, running and stopped: each thing that can be wrong is one line with what to do."""

import errno
import json
import os
import re
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from fakes.live_server import LiveServer, MovableClock
from fakes.memory_server import MemoryBlobs
from fakes.server_command import ServerCommand
from towpath import pki
from towpath.errors import Unavailable
from towpath.findings import Finding, Level
from towpath_cli.fleet import create_fleet
from towpath_server.cli import group
from towpath_server.storage import FolderBlobs
from towpath_server.storage.database import looking
from towpath_server.upkeep.doctor import blobs, examine

DAY_MS = 86_400_000
NOWHERE = {"agent_listen": "127.0.0.1:0"}
GOLDEN = Path(__file__).parents[1] / "golden"


def look(folder: Path, *, days: float = 0, full: bool = False, **listen: str) -> list[Finding]:
    """Examine a server's folder, `days` from now."""
    now = MovableClock().now_unix_ms() + int(days * DAY_MS)
    return examine(folder, listen or NOWHERE, now, full=full, progress=lambda *_: None)


def failing(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(one.check, one.text) for one in findings if one.level is Level.FAIL]


def warned(findings: list[Finding]) -> list[str]:
    return [one.text for one in findings if one.level is Level.WARN]


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a server that has run: two releases, one host. To be copied, never changed."""
    with LiveServer(tmp_path_factory.mktemp("used")) as server:
        server.new_host()
        for version in ("1.0.0", "1.1.0"):
            server.publish(version, os.urandom(3_000))
    return server.fleet / "server"


@pytest.fixture
def folder(used: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(used, tmp_path / "server"))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[LiveServer]:
    with LiveServer(tmp_path) as server:
        yield server


def test_a_running_server_in_order_fails_nothing(tmp_path: Path) -> None:
    """Every check is made and is ok: the three ports answer, and it looks while the server writes."""
    with ServerCommand(tmp_path) as server:
        server.new_host()
        server.publish("1.0.0", os.urandom(3_000))
        listen = {"agent_listen": server.agents, "enroll_listen": server.enrolment, "operator_listen": server.operators}
        findings = look(server.fleet / "server", **listen)
    assert [one for one in findings if one.level is not Level.OK and one.check != "disk"] == []
    checks = "server folder disk keys database clock metadata hosts lease objects ports"
    assert {one.check for one in findings} >= set(checks.split())
    assert sum(one.text.count("answers") for one in findings if one.check == "ports") == 3


def test_a_stopped_server_in_order_says_that_it_does_not_run(folder: Path) -> None:
    """It is no failure to be stopped; nothing in the folder changes but SQLite's side files."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    findings = look(folder, full=True)
    assert failing(findings) == []
    assert "it does not run" in warned(findings)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {path: data for path, data in after.items() if not path.name.endswith(("-wal", "-shm"))} == before


def spoil_object(folder: Path) -> None:
    victim = max((path for path in (folder / "objects").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 0xFF
    victim.write_bytes(data)


def lose_object(folder: Path) -> None:
    max((path for path in (folder / "objects").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size).unlink()


def lose_indexes(folder: Path) -> None:
    for path in (folder / "objects").rglob("*"):
        if path.is_file() and path.stat().st_size < 2_000:
            path.unlink()


def another_ca(folder: Path) -> None:
    (folder / "ca.key").write_bytes(pki.key_to_pem(pki.new_key()))


def another_fleet(folder: Path, name: str) -> None:
    create_fleet(folder.parent / "other", passphrase=None, operator="x", now_ms=MovableClock().now_unix_ms())
    shutil.copyfile(folder.parent / f"other/server/keys/{name}.pem", folder / f"keys/{name}.pem")


def sql(folder: Path, text: str) -> None:
    with sqlite3.connect(folder / "towpath.db") as database:
        database.execute(text)
    database.close()


def garble_database(folder: Path) -> None:
    sql(folder, "PRAGMA journal_mode=DELETE")
    path = folder / "towpath.db"
    data = bytearray(path.read_bytes())
    for page in range(4, len(data) // 4096):
        data[page * 4096 : page * 4096 + 100] = b"\xff" * 100
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "check", "says"),
    [
        (lambda f: (f / "ca.key").chmod(0o644), "folder", "others can read ca.key"),
        (lambda f: (f / "keys/director.pem").chmod(0o640), "folder", "others can read director.pem"),
        (lambda f: (f / "towpath.db").chmod(0o604), "folder", "others can read towpath.db"),
        (lambda f: f.chmod(0o777), "folder", "others may write"),
        (another_ca, "keys", "ca.key is not the key of ca.pem"),
        (lambda f: (f / "ca.key").unlink(), "keys", "cannot read"),
        (lambda f: another_fleet(f, "snapshot"), "keys", "keys/snapshot.pem is not the key"),
        (lambda f: another_fleet(f, "timestamp"), "keys", "keys/timestamp.pem is not the key"),
        (lambda f: another_fleet(f, "director"), "keys", "keys/director.pem is not the key"),
        (lambda f: (f / "keys/director.pem").write_text("garbage"), "metadata", "cannot read the key"),
        (lambda f: sql(f, "DELETE FROM metadata_files WHERE name LIKE '%.root.json'"), "metadata", "cannot"),
        (spoil_object, "objects", "is damaged"),
        (lose_object, "objects", "is missing"),
        (lose_indexes, "objects", "cannot be sent: its index"),
        (garble_database, "database", "a backup"),
        (lambda f: (f / "towpath.db").write_bytes(b"no database" * 1000), "database", "put back a backup"),
        (lambda f: sql(f, "UPDATE alembic_version SET version_num = '9999'"), "database", "of a newer Towpath"),
    ],
)
def test_what_is_wrong_is_said(folder: Path, spoil: Callable[[Path], object], check: str, says: str) -> None:
    """One fault, one finding that fails, one line."""
    spoil(folder)
    found = failing(look(folder, full=True))
    assert any(name == check and says in text for name, text in found), found
    assert all("\n" not in text for _, text in found)


def test_what_doctor_finds_damaged_is_uploaded_with_its_release_again(folder: Path) -> None:
    """An object and an index that rotted, and an empty file: said once, aside, and missing for whoever publishes."""
    objects = FolderBlobs(folder / "objects")
    paths = [path for path in (folder / "objects").glob("??/*") if path.is_file()]
    paths.sort(key=lambda path: path.stat().st_size)
    index, content = paths[0], paths[-1]
    whole = {path: path.read_bytes() for path in (index, content)}
    index.write_bytes(whole[index][:-20] + bytes(20))
    (index_text,) = [text for check, text in failing(look(folder, full=True)) if check == "objects"]
    assert "its index: " in index_text
    assert index.with_name(f"{index.name}.damaged").exists()
    digests = {path: bytes.fromhex(path.parent.name + path.name) for path in whole}
    assert objects.missing([digests[index]]) == [digests[index]]
    index.write_bytes(whole[index])
    content.write_bytes(whole[content][:-20] + bytes(20))
    (text,) = [text for check, text in failing(look(folder, full=True)) if check == "objects"]
    assert re.search(r"is damaged \(.*\), and was put aside; publish the release again", text)
    assert objects.missing([digests[content]]) == [digests[content]]
    content.write_bytes(b"")
    (text,) = [text for check, text in failing(look(folder, full=True)) if check == "objects"]
    assert "is missing; publish the release again" in text
    content.write_bytes(whole[content])
    assert failing(look(folder, full=True)) == []


def test_an_object_that_cannot_be_read_nor_put_aside_is_one_finding(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its release has to be published again all the same, and other objects are looked at."""
    spoil_object(folder)

    def refuse(_self: Path, _to: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        (text,) = [text for check, text in failing(look(folder, full=True)) if check == "objects"]
    assert re.search(r"is damaged \(.*\); cannot put object \w+ aside: Read-only file system.*; publish", text)
    victim = max((folder / "objects").glob("??/*"), key=lambda path: path.stat().st_size)
    victim.unlink()
    victim.mkdir()
    (text,) = [text for check, text in failing(look(folder, full=True)) if check == "objects"]
    assert re.search(r"is unreadable \(cannot read object \w+: Is a directory", text)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
def test_files_of_another_user_are_found(folder: Path) -> None:
    """What root left in the folder of the server's user stops that user's server: the way out is one command."""
    os.chown(folder / "towpath.db", 12345, 12345)
    (finding,) = [one for one in look(folder) if one.check == "folder"]
    assert finding.level is Level.FAIL
    assert "towpath.db does not belong to the owner" in finding.text
    assert finding.command == f"chown -R --reference={folder} {folder}"


@pytest.mark.parametrize(
    ("days", "level", "says"),
    [
        (-2, Level.FAIL, "but this server has lived at"),
        (3600, Level.WARN, "the CA lapses in"),
        (3700, Level.FAIL, "the CA lapsed"),
        (360, Level.WARN, "role root lapses"),
        (400, Level.FAIL, "role root lapsed"),
        (400, Level.FAIL, "role app-hello lapsed"),
        (3, Level.WARN, "role timestamp lapsed"),
        (-30, Level.WARN, "was signed in the future"),
        (20, Level.OK, "1 have a lapsed certificate and recover"),
        (50, Level.WARN, "must enrol again, such as h1"),
    ],
)
def test_what_time_brings_is_said(folder: Path, days: float, level: Level, says: str) -> None:
    """Certificates, roles and the clock, at times that are not now."""
    found = look(folder, days=days)
    assert any(one.level is level and says in one.text for one in found), found


def test_an_online_role_that_a_running_server_does_not_sign_again_fails(folder: Path) -> None:
    """What is a matter of course at the next start is trouble while the server runs."""
    from towpath_server.options import locked

    with locked(folder):
        found = failing(look(folder, days=3))
    assert any("role timestamp lapsed" in text and "is not signed again" in text for _, text in found)
    assert any(name == "lease" and "nobody decides rollouts" in text for name, text in found)


@pytest.mark.parametrize("golden", ["server-db-0001", "server-db-0005"])
def test_an_older_schema_is_named_with_the_command(folder: Path, golden: str) -> None:
    """The database is not touched; `migrate` makes a copy and upgrades it, once."""
    for left in folder.glob("towpath.db*"):
        left.unlink()
    with sqlite3.connect(folder / "towpath.db") as old:
        old.executescript((GOLDEN / f"{golden}.sql").read_text())
    old.close()
    (folder / "towpath.db").chmod(0o600)
    found = look(folder)
    assert ("towpath server migrate", True) in [(one.command, "is older than" in one.text) for one in found]
    assert failing(found) == []
    runner = CliRunner()
    words = ["migrate", "--dir", str(folder)]
    done = runner.invoke(group, words, standalone_mode=False)
    copy = folder / f"towpath.db.schema-{golden[-4:]}"
    assert str(copy) in done.stdout
    assert copy.exists()
    assert "nothing was changed" in runner.invoke(group, words, standalone_mode=False).stdout
    told = json.loads(runner.invoke(group, [*words, "-o", "json"], standalone_mode=False).stdout)
    assert told["before"] == told["after"]
    assert not any("is older than" in one.text for one in look(folder))


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
def test_what_root_migrates_stays_the_servers_own(folder: Path) -> None:
    """The copy, the lock and SQLite's side files belong to the folder's owner, so that its server starts afterwards."""
    for left in folder.glob("towpath.db*"):
        left.unlink()
    with sqlite3.connect(folder / "towpath.db") as old:
        old.executescript((GOLDEN / "server-db-0005.sql").read_text())
    old.close()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 12345, 12345)
    done = CliRunner().invoke(group, ["migrate", "--dir", str(folder)], standalone_mode=False)
    assert done.exception is None, done.exception
    look(folder)
    assert {path.stat().st_uid for path in folder.rglob("*")} == {12345}
    assert (folder / "towpath.db.schema-0005").exists()
    assert (folder / "server.lock").exists()


def test_migrate_needs_the_server_stopped_and_a_database(running: LiveServer, tmp_path: Path) -> None:
    """Two writers of one database are refused with what to do."""
    from towpath_server.options import locked

    with locked(running.fleet / "server"):
        done = CliRunner().invoke(group, ["migrate", "--dir", str(running.fleet / "server")], standalone_mode=False)
    assert str(done.exception).startswith("cannot migrate: another server runs on")
    (tmp_path / "empty").mkdir()
    done = CliRunner().invoke(group, ["migrate", "--dir", str(tmp_path / "empty")], standalone_mode=False)
    assert "it has no towpath.db" in str(done.exception)


def test_ports_that_another_program_has_are_said(folder: Path) -> None:
    """Free, answered by no TLS, and an address that is none."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert [one.text for one in look(folder, agent_listen=f"127.0.0.1:{port}") if one.check == "ports"] == [
        f"--agent-listen 127.0.0.1:{port}: free"
    ]
    assert ("ports", "--agent-listen nonsense: write HOST:PORT") in failing(look(folder, agent_listen="nonsense"))
    from towpath_server.options import locked

    with locked(folder):
        found = failing(look(folder, agent_listen=f"0.0.0.0:{port}"))
    assert any("nothing answers" in text for name, text in found if name == "ports")


def test_a_port_of_another_fleet_is_said(folder: Path, running: LiveServer) -> None:
    """A certificate of another CA is not this server."""
    found = failing(look(folder, agent_listen=running.agents))
    assert any("another program or fleet has it" in text for name, text in found if name == "ports")


def test_a_sample_reads_some_objects_and_full_all(folder: Path) -> None:
    """Where there are more than the sample, it says how to read all."""
    wanted = {bytes([number % 256, number // 256, *[7] * 30]): 1 for number in range(blobs.SAMPLE + 5)}
    objects = FolderBlobs(folder / "objects", looking=True)
    found = list(blobs.check(objects, wanted, full=False, progress=lambda *_: None))
    assert found[-1].text == f"{len(wanted) - blobs.SHOWN} more are missing or damaged"


class Away(MemoryBlobs):
    """A store that does not answer."""

    def read(self, digest: bytes, limit: int) -> bytes:
        raise Unavailable(f"cannot use the object store: {digest.hex()[:2]} within {limit}")


def test_a_store_that_does_not_answer_says_nothing_of_any_release(folder: Path) -> None:
    """It is one finding, and not that each release has to be published again."""
    with looking(folder / "towpath.db") as tx, pytest.raises(Unavailable):
        list(blobs.wanted(Away(), tx, {}))


def test_no_folder_and_a_server_that_never_ran(tmp_path: Path) -> None:
    """The first is a failure with the way out, the second is not."""
    assert "make it with 'towpath init'" in failing(look(tmp_path / "no"))[0][1]
    create_fleet(tmp_path / "new", passphrase=None, operator="x", now_ms=MovableClock().now_unix_ms())
    found = look(tmp_path / "new/server")
    assert failing(found) == []
    assert any("has never run" in text for text in warned(found))


def test_a_folder_that_is_no_servers_is_one_finding(tmp_path: Path) -> None:
    """Nothing else is looked at there, and the command fails."""
    (tmp_path / "operator").mkdir()
    found = look(tmp_path, agent_listen="127.0.0.1:7443", operator_listen="127.0.0.1:7445")
    assert [(one.level, one.check) for one in found] == [(Level.FAIL, "folder")]
    assert f"cannot find a server in {tmp_path}: neither ca.pem nor towpath.db is there; --dir must be" in found[0].text
    assert CliRunner().invoke(group, ["doctor", "--dir", str(tmp_path)]).exit_code == 1


def test_a_lost_certificate_of_the_ca_is_said_once(folder: Path) -> None:
    """Not once more for each port, whose certificates it would prove."""
    (folder / "ca.pem").unlink()
    found = failing(look(folder, agent_listen="127.0.0.1:7443", operator_listen="127.0.0.1:7445"))
    assert [text for _, text in found if "ca.pem" in text] == [text for check, text in found if check == "keys"]
    assert len([text for _, text in found if "ca.pem" in text]) == 1


def test_the_command_prints_lines_or_json_and_its_exit_code_counts(folder: Path) -> None:
    """Exit 0 where nothing fails, 1 otherwise; the last line sums up; control characters drive no terminal."""
    words = [
        "doctor",
        "--dir",
        str(folder),
        *(f"--{kind}-listen=127.0.0.1:0" for kind in ("agent", "enroll", "operator")),
    ]
    done = CliRunner().invoke(group, words)
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "nothing fails")
    (folder / "ca.key").chmod(0o644)
    done = CliRunner().invoke(group, words)
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (1, "1 check fails")
    assert f"$ chmod 0600 {folder}/ca.key" in done.stdout
    told = json.loads(CliRunner().invoke(group, [*words, "-o", "json"]).stdout)
    assert told["failed"] == 1
    assert {"check", "level", "text", "command"} == set(told["findings"][0])
