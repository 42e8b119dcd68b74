"""A new fleet is three folders, complete or absent, each with its party's secrets alone."""

import os
import stat
from pathlib import Path

import pytest

from towpath import pki
from towpath.errors import Broken, InputError
from towpath.repository import open_repository
from towpath_cli import fleet as fleet_module
from towpath_cli.fleet import create_fleet

NOW = 1_800_000_000_000


def make(path: Path, passphrase: bytes | None = None) -> Path:
    create_fleet(path, passphrase=passphrase, operator="ann", now_ms=NOW)
    return path


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_each_party_gets_its_own(tmp_path: Path) -> None:
    """The files of the three parties are exactly these; the server's hold no release key."""
    fleet = make(tmp_path / "fleet")
    assert names(fleet / "publisher") == {"keys/root.pem", "keys/targets.pem", "keys/releases.pem", "root.json"}
    assert names(fleet / "operator") == {"operator.pem", "ca.pem", "root.json", "towpath.toml"}
    metadata = {f"metadata/{name}" for name in ("1.root.json", "1.targets.json", "1.snapshot.json", "timestamp.json")}
    keys = {f"keys/{name}.pem" for name in ("snapshot", "timestamp", "director")}
    assert names(fleet / "server") == {"ca.pem", "ca.key", "server.toml", *metadata, *keys}
    assert entries(tmp_path) == ["fleet"]


def test_the_servers_keys_sign_no_release(tmp_path: Path) -> None:
    """None of the server's keys is a key of root, targets or an app."""
    fleet = make(tmp_path / "fleet")
    root = open_repository({p.name: p.read_bytes() for p in (fleet / "server/metadata").iterdir()}).root
    offline = {root.keys[keyid].keyval["public"] for role in ("root", "targets") for keyid in root.roles[role].keyids}
    for path in (fleet / "server/keys").iterdir():
        public = pki.signing_key_from_pem(path.read_bytes()).public_key().public_bytes_raw().hex()
        assert public not in offline


def test_secrets_are_the_owners_alone(tmp_path: Path) -> None:
    """Folders are 0700; files with a private key are 0600, whatever the umask says."""
    before = os.umask(0)
    try:
        fleet = make(tmp_path / "fleet")
    finally:
        os.umask(before)
    for path in [fleet, *fleet.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_dir():
            assert mode == 0o700
        elif b"PRIVATE KEY" in path.read_bytes():
            assert mode == 0o600


def test_the_operators_identity(tmp_path: Path) -> None:
    """The operator's file holds key and certificate, issued by the server's CA for 397 days."""
    fleet = make(tmp_path / "fleet")
    pem = (fleet / "operator/operator.pem").read_bytes()
    ca = (fleet / "server/ca.pem").read_bytes()
    found = pki.identity(pem)
    assert (found.role, found.name) == ("operator", "ann")
    assert found.not_after_ms == NOW + 397 * pki.DAY_MS
    pki.check_issued(pem, ca)
    assert pki.csr_key_sha256(pki.make_csr(pki.key_from_pem(pem))) == found.key_sha256
    assert (fleet / "operator/ca.pem").read_bytes() == ca
    key = pki.key_from_pem((fleet / "server/ca.key").read_bytes())
    assert pki.csr_key_sha256(pki.make_csr(key)) == pki.public_key_sha256(ca)


def test_a_passphrase_protects_the_publisher_alone(tmp_path: Path) -> None:
    """The publisher's keys need the passphrase; the server's do not: it must start without a person."""
    fleet = make(tmp_path / "fleet", b"secret words")
    for path in (fleet / "publisher/keys").iterdir():
        with pytest.raises(InputError):
            pki.signing_key_from_pem(path.read_bytes())
        pki.signing_key_from_pem(path.read_bytes(), b"secret words")
    for path in (fleet / "server/keys").iterdir():
        pki.signing_key_from_pem(path.read_bytes())


def test_a_fleet_is_made_once(tmp_path: Path) -> None:
    """Making it again, or over anything that is there, is one clear line and changes nothing."""
    fleet = make(tmp_path / "fleet")
    before = {path: path.read_bytes() for path in fleet.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="there already") as caught:
        make(fleet)
    assert caught.value.code == "exists"
    assert {path: path.read_bytes() for path in fleet.rglob("*") if path.is_file()} == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError):
        make(tmp_path / "file")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError):
        make(tmp_path / "link")


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    """A folder that is there and empty becomes the fleet; missing parents are made."""
    (tmp_path / "empty").mkdir()
    assert names(make(tmp_path / "empty"))
    assert names(make(tmp_path / "a/b/fleet"))


def test_a_bad_operator_name_makes_nothing(tmp_path: Path) -> None:
    """A name that no certificate should carry is refused before anything is written."""
    with pytest.raises(InputError):
        create_fleet(tmp_path / "fleet", passphrase=None, operator="a/b", now_ms=NOW)
    assert entries(tmp_path) == []


def test_a_crash_leaves_no_half_fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where writing fails there is no fleet and no leftover."""

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fleet_module.os, "fsync", full)
    with pytest.raises(Broken, match="No space left"):
        make(tmp_path / "fleet")
    assert entries(tmp_path) == []


def test_two_at_once_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another one made the fleet in the meantime, that one stays, and this one says so."""
    write = fleet_module._write

    def slow(folder: Path, files: dict[str, tuple[bytes, int]]) -> None:
        write(folder, files)
        if not (tmp_path / "fleet").exists():
            (tmp_path / "fleet").mkdir()
            (tmp_path / "fleet" / "theirs").write_text("x")

    monkeypatch.setattr(fleet_module, "_write", slow)
    with pytest.raises(InputError, match="there already"):
        make(tmp_path / "fleet")
    assert entries(tmp_path) == ["fleet"]
    assert entries(tmp_path / "fleet") == ["theirs"]
