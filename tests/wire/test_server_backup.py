"""Backup and restore of a real server: while it runs, whole or not at all, and nothing goes back that hosts have seen."""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from grpc import StatusCode

from fakes.live_server import CALL_S, HostUnderTest, LiveServer, eventually, refused
from fakes.server_command import ServerCommand
from towpath import pki
from towpath.errors import InputError
from towpath.names import HOST_URI
from towpath.quantity import format_size
from towpath.repository import open_repository
from towpath.v1 import agent_pb2, operator_pb2
from towpath_server.cli import group
from towpath_server.upkeep.restore import Restored, restore


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """Return a running server of a new fleet."""
    with LiveServer(tmp_path) as running:
        yield running


def type_in(*words: str | Path) -> Result:
    """Run `towpath-server WORDS` in this process."""
    return CliRunner().invoke(group, [str(word) for word in words], standalone_mode=False)


def back_up(server: LiveServer, out: Path) -> dict[str, Any]:
    done = type_in("backup", "--dir", server.fleet / "server", "--out", out, "-o", "json")
    assert done.exception is None, done.exception
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def put_back(server: LiveServer, archive: Path) -> Restored:
    """Lose the server's folder and restore it by the server's clock, with the server stopped."""
    server.stop()
    folder = server.fleet / "server"
    shutil.rmtree(folder)
    now = server.clock.now_unix_ms()
    return restore(archive, folder, now_unix_ms=now, actor="local/root", progress=lambda *_: None)


def renewed(host: HostUnderTest) -> HostUnderTest:
    """Return the host with its next certificate, used once it is connected."""
    key = pki.new_key()
    answer = host.api.Renew(agent_pb2.RenewRequest(csr_der=pki.make_csr(key)), timeout=CALL_S)
    return HostUnderTest(host.name, host.id, key, answer.certificate_pem, None, None)  # type: ignore[arg-type]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_restored_server_knows_the_fleet_and_nothing_that_it_signs_is_older(
    server: LiveServer, tmp_path: Path
) -> None:
    """Hosts, releases, objects and rollouts are those of the backup; sequences, online roles and generations are above
    everything that was given out after it, and the audit log says what happened.
    """
    host = server.new_host()
    server.publish("1.0.0", b"content" * 1000)
    made = server.deploy("1.0.0")
    eventually(lambda: host.desired() == "1.0.0", "the host is admitted")
    host.obey()
    done = back_up(server, tmp_path / "b.tar.zst")
    assert done["left_out"] == []

    server.publish("1.1.0")
    later = server.deploy("1.1.0")
    for _ in range(50):
        last = host.sync()
    seen = open_repository(server.files())

    told = put_back(server, tmp_path / "b.tar.zst")
    assert (told.hosts, told.made_unix_ms) == (1, done["made_unix_ms"])
    server.start()
    server.connect(host)
    manifest = host.sync()
    assert manifest.sequence > last.sequence
    assert [(one.app, one.version) for one in manifest.apps] == [("hello", "1.0.0")]
    assert server.progress(made.assignment).version == "1.0.0"
    again = open_repository(server.files())
    assert again.snapshot.version > seen.snapshot.version
    assert again.timestamp.version > seen.timestamp.version
    assert manifest.min_snapshot_version == again.snapshot.version
    server.publish("1.2.0")
    assert server.deploy("1.2.0").generation > later.generation
    (entry,) = server.audit("server.restore")
    assert entry.actor.startswith("local/")
    assert "from a backup of" in entry.detail
    assert server.audit("release.publish"), "the history before is there too"


def test_a_host_that_renewed_after_the_backup_is_not_cut_off(server: LiveServer, tmp_path: Path) -> None:
    """The certificate that the database forgot counts again, its predecessor no more; a revoked host stays revoked."""
    first, second = server.new_host("h1"), server.new_host("h2")
    before = renewed(second)
    server.connect(before)
    before.sync()  # replaced before the backup
    gone = server.new_host("h3")
    server.hosts.RevokeHost(operator_pb2.RevokeHostRequest(name="h3", reason="stolen"), timeout=CALL_S)
    back_up(server, tmp_path / "b.tar.zst")
    server.clock.ahead_ms = 5_000  # certificates count in seconds
    after = renewed(first)
    server.connect(after)
    after.sync()
    put_back(server, tmp_path / "b.tar.zst")
    server.start()
    for host in (first, second, before, after, gone):
        server.connect(host)
    assert after.sync().host_id == first.id
    with refused(StatusCode.PERMISSION_DENIED, "stale-certificate"):
        first.sync()
    with refused(StatusCode.PERMISSION_DENIED, "stale-certificate"):
        second.sync()
    before.sync()
    with refused(StatusCode.PERMISSION_DENIED, "revoked"):
        gone.sync()
    server.clock.ahead_ms = 0
    key = pki.new_key()  # a certificate of our CA that was not issued in the lost time
    forged = server.forged(HOST_URI + second.id, key, days=9)
    stranger = HostUnderTest("h2", second.id, key, forged, None, None)  # type: ignore[arg-type]
    server.connect(stranger)
    with refused(StatusCode.PERMISSION_DENIED, "stale-certificate"):
        stranger.sync()
    assert [entry.subject for entry in server.audit("host.renew")] == ["host/h1"]
    server.restart(after)
    after.sync()


def test_a_lapsed_certificate_of_the_lost_time_recovers(server: LiveServer, tmp_path: Path) -> None:
    """A host that was away since its forgotten renewal gets its next certificate on the enrolment port."""
    host = server.new_host()
    back_up(server, tmp_path / "b.tar.zst")
    server.clock.ahead_ms = 5_000
    after = renewed(host)
    put_back(server, tmp_path / "b.tar.zst")
    server.start()
    server.clock.ahead_ms = 8 * 86_400_000
    at, csr = server.clock.now_unix_ms(), pki.make_csr(pki.new_key())
    request = agent_pb2.RecoverRequest(
        certificate_pem=after.certificate,
        csr_der=csr,
        at_unix_ms=at,
        signature=pki.sign(after.key, pki.recover_message(at, csr)),
    )
    assert server.enrolments.Recover(request, timeout=CALL_S).certificate_pem


def test_a_token_from_before_the_restore_is_void(server: LiveServer, tmp_path: Path) -> None:
    """A use that was spent after the backup cannot be spent twice; a new token works."""
    text = server.token(uses=1, role="web")
    back_up(server, tmp_path / "b.tar.zst")
    server.new_host("h1", token=text)
    put_back(server, tmp_path / "b.tar.zst")
    server.start()
    with refused(StatusCode.UNAUTHENTICATED, "token-used") as said:
        server.new_host("h2", token=text)
    assert "restore" in said[0]
    server.new_host("h3")


def test_a_backup_of_a_busy_server_is_one_moment(tmp_path: Path) -> None:
    """Releases are published all the while; each backup is whole in itself: every release in it has all its objects."""
    with ServerCommand(tmp_path) as server:
        ended = threading.Event()
        published = []

        def publish() -> None:
            while not ended.is_set():
                server.publish(f"1.0.{len(published)}", os.urandom(40_000))
                published.append(1)

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            for number in range(5):
                so_far = len(published)
                eventually(lambda so_far=so_far: len(published) > so_far, "something is published")
                back_up(server, tmp_path / f"b{number}.tar.zst")
        finally:
            ended.set()
            thread.join(60)
    for number in range(5):
        folder = tmp_path / f"r{number}"
        assert type_in("restore", "--dir", folder, tmp_path / f"b{number}.tar.zst").exception is None
        ports = [f"--{kind}-listen=127.0.0.1:0" for kind in ("agent", "enroll", "operator")]
        done = type_in("doctor", "--dir", folder, "--full", "-o", "json", *ports)
        found = json.loads(done.stdout)
        assert found["failed"] == 0, found
        (objects,) = [one["text"] for one in found["findings"] if one["check"] == "objects"]
        assert int(objects.split()[0]) >= 2 * number


def test_nothing_is_restored_over_anything_and_nothing_of_a_damaged_backup(server: LiveServer, tmp_path: Path) -> None:
    """Each refusal is one line; the folder stays as it was and no half of a server is left anywhere."""
    server.publish("1.0.0", os.urandom(50_000))
    back_up(server, tmp_path / "b.tar.zst")
    server.stop()
    folder = server.fleet / "server"
    before = tree(folder)
    done = type_in("restore", "--dir", folder, tmp_path / "b.tar.zst")
    assert "ca.key is there" in str(done.exception)
    data = (tmp_path / "b.tar.zst").read_bytes()
    for name, bad in {
        "cut": data[: len(data) // 2],
        "flipped": data[:3000] + bytes([data[3000] ^ 1]) + data[3001:],
        "empty": b"",
        "other": b"not a backup",
    }.items():
        (tmp_path / name).write_bytes(bad)
        done = type_in("restore", "--dir", tmp_path / "new", tmp_path / name)
        assert "no whole backup" in str(done.exception), name
    done = type_in("restore", "--dir", tmp_path / "new", tmp_path / "missing")
    assert "cannot read the backup" in str(done.exception)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"b.tar.zst", "cut", "empty", "fleet", "flipped", "other"}
    assert tree(folder) == before


def test_a_clock_before_the_backup_is_refused(server: LiveServer, tmp_path: Path) -> None:
    """A restored server whose clock is behind could sign nothing that hosts accept: it says so, and restores nothing."""
    back_up(server, tmp_path / "b.tar.zst")
    with pytest.raises(InputError, match="cannot restore: the clock of this machine says 1970-01-01"):
        restore(tmp_path / "b.tar.zst", tmp_path / "new", now_unix_ms=1_000, actor="a/b", progress=lambda *_: None)
    assert not (tmp_path / "new").exists()


def test_a_backup_never_replaces_a_file_and_its_folder_must_be_there(server: LiveServer, tmp_path: Path) -> None:
    """An older backup is not overwritten; into a folder it goes under the time; the file is 0600 whatever the umask."""
    (tmp_path / "old").write_text("precious")
    folder = server.fleet / "server"
    (folder / "note.txt").write_text("of an operator")
    server.new_host("h1")
    assert "it is there already" in str(type_in("backup", "--dir", folder, "--out", tmp_path / "old").exception)
    assert (tmp_path / "old").read_text() == "precious"
    assert "there is no folder" in str(type_in("backup", "--dir", folder, "--out", tmp_path / "no/b").exception)
    assert "has no towpath.db" in str(type_in("backup", "--dir", tmp_path, "--out", tmp_path / "b").exception)
    (tmp_path / "backups").mkdir()
    before = os.umask(0)
    try:
        done = type_in("backup", "--dir", folder, "--out", tmp_path / "backups")
    finally:
        os.umask(before)
    assert done.stderr == "left out, no part of a server: note.txt\n"
    (made,) = (tmp_path / "backups").iterdir()
    assert made.name.startswith("towpath-20")
    assert made.stat().st_mode & 0o777 == 0o600
    assert done.stdout.startswith(f"made {made}: {format_size(made.stat().st_size)}, ")
    assert ": 1 host, schema " in type_in("restore", "--dir", tmp_path / "new", made).stdout


def test_a_damaged_database_is_not_backed_up_as_if_it_were_whole(server: LiveServer, tmp_path: Path) -> None:
    """The last good backup is worth more than a new one of a damaged database; nothing is left of the attempt."""
    server.publish("1.0.0", os.urandom(1000))
    server.stop()
    path = server.fleet / "server/towpath.db"
    data = bytearray(path.read_bytes())
    for page in range(5, len(data) // 4096):
        data[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    path.write_bytes(data)
    done = type_in("backup", "--dir", server.fleet / "server", "--out", tmp_path / "b")
    assert "damaged" in str(done.exception) or "malformed" in str(done.exception), done.exception
    assert sorted(one.name for one in tmp_path.iterdir()) == ["fleet"]


def test_a_folder_that_is_a_disk_of_its_own_is_restored_into(
    server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be replaced, and nothing can be made beside it: what is there stays the same folder, with the disk's
    own lost+found, and the CA's key comes last. Anything else in it is refused.
    """
    folder, out = tmp_path / "mounted/server", tmp_path / "b.tar.zst"
    back_up(server, out)
    (folder / "lost+found").mkdir(parents=True)
    disk, order, rename = folder.stat().st_ino, [], Path.rename

    def watched(path: Path, target: Path) -> Path:
        order.append(target)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", watched)
    if os.geteuid() == 0:
        os.chown(folder, 12345, 12345)
    told = restore(out, folder, now_unix_ms=server.clock.now_unix_ms(), actor="local/root", progress=lambda *_: None)
    assert told.folder == str(folder)
    assert order[-1] == folder / "ca.key"
    assert {path.parent for path in order} == {folder}
    assert folder.stat().st_ino == disk
    assert folder.stat().st_mode & 0o777 == 0o700
    owners = {path.stat().st_uid for path in folder.rglob("*") if path.name != "lost+found"}
    assert owners == {folder.stat().st_uid}
    found = json.loads(type_in("doctor", "--dir", folder, "-o", "json").stdout)["findings"]
    assert {one["level"] for one in found if one["check"] == "folder"} == {"ok"}, found
    assert list(folder.parent.iterdir()) == [folder]
    again = type_in("restore", "--dir", folder, out)
    assert "ca.key is there" in str(again.exception)
