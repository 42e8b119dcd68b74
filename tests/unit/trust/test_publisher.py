"""Signing releases: on verified ground, never twice differently, renewing what would lapse."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.repository import RepositorySimulator, make_release, new_signer
from towpath.errors import InputError, Refusal
from towpath.release import Release
from towpath.repository import open_repository
from towpath.wire import encode_release
from towpath_cli.fleet import create_fleet
from towpath_cli.publisher import Publisher, Signed
from towpath_cli.trust import overview
from towpath_server.domain.metadata import OnlineKeys, admit

NOW = 1_800_000_000_000
DAY = 86_400_000
PASSPHRASE = b"secret words"


class World:
    """A fleet on disk, its server's files in memory."""

    def __init__(self, folder: Path, passphrase: bytes | None = None) -> None:
        create_fleet(folder, passphrase=passphrase, operator="ann", now_ms=NOW)
        self.folder = folder
        self.publisher = Publisher(folder / "publisher")
        self.files = {path.name: path.read_bytes() for path in (folder / "server/metadata").iterdir()}
        names = ("snapshot", "timestamp", "director")
        self.keys = OnlineKeys(**{name: (folder / f"server/keys/{name}.pem").read_bytes() for name in names})

    def publish(self, release: Release, now: int = NOW) -> Signed:
        signed = self.publisher.sign(self.files, release, now_ms=now)
        self.files |= admit(
            self.files,
            signed.metadata,
            target_path=signed.target_path,
            release=signed.release_bytes,
            keys=self.keys,
            now_ms=now,
        )
        return signed


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "fleet")


def test_a_release_is_signed_and_found_again(world: World) -> None:
    """What was published is known by length and digest, and the next counter is one higher."""
    assert world.publisher.next_counter(world.files, "hello") == 1
    assert world.publisher.published(world.files, "hello/1.0.0.release") is None
    release = make_release("hello", "1.0.0", 1)
    signed = world.publish(release)
    data = encode_release(release)
    assert (signed.target_path, signed.release, signed.already) == ("hello/1.0.0.release", data, False)
    assert world.publisher.published(world.files, signed.target_path) == (len(data), hashlib.sha256(data).digest())
    assert world.publisher.next_counter(world.files, "hello") == 2
    assert world.publisher.next_counter(world.files, "other") == 1


def test_the_identical_release_again_is_no_error(world: World) -> None:
    """Publishing the same content again signs nothing and says so, whatever counter the caller has taken."""
    world.publish(make_release("hello", "1.0.0", 1))
    again = world.publisher.sign(world.files, make_release("hello", "1.0.0", 2), now_ms=NOW)
    assert again.already
    assert again.metadata == {}
    assert again.release == encode_release(make_release("hello", "1.0.0", 1))


def test_a_taken_version_is_one_line(world: World) -> None:
    """Other content under a published version is refused with the way out."""
    release = make_release("hello", "1.0.0", 1)
    world.publish(release)
    with pytest.raises(InputError, match="choose another version") as caught:
        world.publisher.sign(world.files, replace(release, requires_disk_bytes=5), now_ms=NOW)
    assert caught.value.code == "version-taken"


def test_counters_only_rise(world: World) -> None:
    """A counter that is not above the newest is not signed, nor a release that no host could run."""
    world.publish(make_release("hello", "1.0.0", 5))
    with pytest.raises(InputError, match="counter 5"):
        world.publisher.sign(world.files, make_release("hello", "1.0.1", 5), now_ms=NOW)
    with pytest.raises(InputError, match="counter 0"):
        world.publisher.sign(world.files, make_release("hello", "1.0.1", 0), now_ms=NOW)


def test_a_lying_server_gets_no_signature(world: World) -> None:
    """Metadata that does not stand on the publisher's own root is not built upon."""
    with pytest.raises(Refusal):
        world.publisher.sign(RepositorySimulator(NOW).served, make_release("hello", "1.0.0", 1), now_ms=NOW)


def test_an_aging_targets_role_and_root_are_renewed(world: World) -> None:
    """A publish at half of targets' life renews it, one in root's last 90 days renews root; else both stay."""
    world.publish(make_release("hello", "1.0.0", 1))
    signed = world.publish(make_release("hello", "1.0.1", 2), now=NOW + DAY)
    assert sorted(signed.metadata) == ["2.app-hello.json"]
    signed = world.publish(make_release("hello", "1.0.2", 3), now=NOW + 100 * DAY)
    assert sorted(signed.metadata) == ["3.app-hello.json", "3.targets.json"]
    signed = world.publish(make_release("hello", "1.0.3", 4), now=NOW + 280 * DAY)
    assert sorted(signed.metadata) == ["2.root.json", "4.app-hello.json", "4.targets.json"]
    assert open_repository(world.files).expired(NOW + 280 * DAY) == ()


def test_protected_keys_are_asked_for_once(tmp_path: Path) -> None:
    """The passphrase is asked for once per publish, and only where a key needs it."""
    world = World(tmp_path / "fleet", PASSPHRASE)
    asked: list[int] = []

    def ask() -> bytes:
        asked.append(1)
        return PASSPHRASE

    world.publisher = Publisher(world.folder / "publisher", ask)
    assert world.publisher.next_counter(world.files, "hello") == 1
    assert asked == []
    world.publish(make_release("hello", "1.0.0", 1))
    assert asked == [1]


@pytest.mark.parametrize("answer", [None, b"wrong"])
def test_without_the_passphrase_nothing_is_signed(tmp_path: Path, answer: bytes | None) -> None:
    """No passphrase, or a wrong one, is one clear line."""
    world = World(tmp_path / "fleet", PASSPHRASE)
    publisher = Publisher(world.folder / "publisher", None if answer is None else lambda: answer)
    with pytest.raises(InputError, match="passphrase"):
        publisher.sign(world.files, make_release("hello", "1.0.0", 1), now_ms=NOW)


def test_a_folder_that_is_no_publishers(tmp_path: Path, world: World) -> None:
    """A missing folder and a missing key say which file, and what to give."""
    with pytest.raises(InputError, match=r"root\.json"):
        Publisher(tmp_path / "nowhere")
    (world.folder / "publisher/keys/releases.pem").unlink()
    with pytest.raises(InputError, match=r"releases\.pem"):
        world.publisher.sign(world.files, make_release("hello", "1.0.0", 1), now_ms=NOW)


def test_keys_that_are_not_the_roles_sign_nothing(world: World) -> None:
    """A key that the role does not name, or that is one of several needed, is said so before anything is sent."""
    keys = world.folder / "publisher/keys"
    (keys / "targets.pem").write_bytes((keys / "releases.pem").read_bytes())
    with pytest.raises(InputError, match="not one of its keys"):
        world.publisher.sign(world.files, make_release("hello", "1.0.0", 1), now_ms=NOW)


def test_a_role_that_wants_more_signatures(tmp_path: Path) -> None:
    """A threshold above one cannot be met by this folder alone, and that is said."""
    sim = RepositorySimulator(NOW)
    signers = [new_signer(), new_signer()]
    sim.delegate_app("hello", signers=signers, threshold=2)
    sim.publish("hello", "1.0.0", 1)
    folder = tmp_path / "publisher"
    (folder / "keys").mkdir(parents=True)
    (folder / "root.json").write_bytes(sim.bootstrap)
    (folder / "keys/releases.pem").write_bytes(signers[0].private_bytes)
    with pytest.raises(InputError, match="2 signatures"):
        Publisher(folder).sign(sim.served, make_release("hello", "1.0.1", 2), now_ms=NOW)


def test_a_targets_role_without_delegations(tmp_path: Path, world: World) -> None:
    """A repository that has lost its delegations is refused before signing."""
    sim = RepositorySimulator(NOW)
    sim.targets.delegations = None
    sim.serve_targets()
    sim.serve_online()
    folder = tmp_path / "publisher"
    folder.mkdir()
    (folder / "root.json").write_bytes(sim.bootstrap)
    with pytest.raises(Refusal):
        Publisher(folder).sign(sim.served, make_release("hello", "1.0.0", 1), now_ms=NOW)


# What `trust status` shows


def test_the_overview_names_every_role(world: World) -> None:
    """Each role is shown with keys, threshold, version and expiry; one key per role is called what it is."""
    world.publish(make_release("hello", "1.0.0", 1))
    rows = {row.role: row for row in overview(world.files, NOW)}
    assert list(rows) == ["root", "targets", "snapshot", "timestamp", "director", "app-hello"]
    assert rows["director"].keys == (world.keys.director_keyid,)
    assert (rows["director"].version, rows["director"].expires_ms) == (None, None)
    assert rows["root"].threshold == 1
    assert "one key alone" in rows["root"].note
    assert "one key alone" in rows["app-hello"].note
    assert rows["timestamp"].note == "on the server"
    assert rows["targets"].version == 2
    assert rows["targets"].expires_ms == NOW + 180 * DAY


def test_the_overview_warns_of_lapsing_roles(world: World) -> None:
    """Roles that lapse within 30 days, and roles that have lapsed, say what that means."""
    world.publish(make_release("hello", "1.0.0", 1))
    notes = {row.role: row.note for row in overview(world.files, NOW + 70 * DAY)}
    assert "expires in 20 days" in notes["app-hello"]
    assert "running apps go on" in notes["timestamp"]
    assert "expire" not in notes["root"]


def test_the_overview_is_verified(world: World) -> None:
    """Metadata that does not stand on the pinned root is not shown as if it were ours."""
    with pytest.raises(Refusal):
        overview(RepositorySimulator(NOW).served, NOW, (world.folder / "operator/root.json").read_bytes())


def test_a_threshold_of_two_needs_no_note() -> None:
    """Where several keys must agree, nothing is left to say."""
    sim = RepositorySimulator(NOW, targets_threshold=2)
    assert {row.role: row.note for row in overview(sim.served, NOW)}["targets"] == ""
