"""What the server publishes: only what a publisher signed, only more, never other; and its own two roles."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Metadata, TargetFile, Targets

from fakes.repository import HOUR_MS, copy_of, make_release, new_signer
from towpath import dsse
from towpath.bundle.statement import TYPE as BUNDLE_TYPE
from towpath.errors import Broken, InputError, Refusal
from towpath.pki import key_to_pem, new_key, signing_key_from_pem
from towpath.release import Release
from towpath.repository import (
    TIMESTAMP_MS,
    delegated_roles,
    director_keys,
    open_repository,
    sign_role,
    to_ms,
    to_time,
)
from towpath.wire import encode_release
from towpath_cli.fleet import create_fleet
from towpath_cli.publisher import Publisher
from towpath_server.domain.metadata import (
    OnlineKeys,
    admit,
    check_repository,
    counter_of,
    refresh,
    sign_again,
    snapshot_version,
    travelling,
)

NOW = 1_800_000_000_000
DAY = 24 * HOUR_MS


@dataclass
class Fleet:
    """A fleet made by `create_fleet`, its publisher, and its server's files in memory."""

    folder: Path
    publisher: Publisher
    keys: OnlineKeys
    files: dict[str, bytes]
    now: int = NOW

    def signer(self, party: str, name: str) -> CryptoSigner:
        return CryptoSigner(signing_key_from_pem((self.folder / party / "keys" / f"{name}.pem").read_bytes()))

    def signed(self, version: str, counter: int, app: str = "hello") -> tuple[Release, bytes, dict[str, bytes]]:
        release = make_release(app, version, counter)
        signed = self.publisher.sign(self.files, release, now_ms=self.now)
        return release, signed.release, dict(signed.metadata)

    def admit(self, release: Release, data: bytes, new: dict[str, bytes], path: str | None = None) -> dict[str, bytes]:
        target = path or f"{release.app}/{release.version}.release"
        return admit(self.files, new, target_path=target, release=data, keys=self.keys, now_ms=self.now)

    def publish(self, version: str, counter: int, app: str = "hello") -> dict[str, bytes]:
        added = self.admit(*self.signed(version, counter, app))
        self.files |= added
        return added

    def code(self, release: Release, data: bytes, new: dict[str, bytes], path: str | None = None) -> str:
        before = dict(self.files)
        with pytest.raises(Refusal) as caught:
            self.admit(release, data, new, path)
        assert self.files == before
        assert str(caught.value).startswith("cannot ")
        return caught.value.code


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet") / "fleet"
    create_fleet(folder, passphrase=None, operator="ann", now_ms=NOW)
    return folder


@pytest.fixture
def fleet(made: Path) -> Fleet:
    names = ("snapshot", "timestamp", "director")
    keys = OnlineKeys(**{name: (made / f"server/keys/{name}.pem").read_bytes() for name in names})
    files = {path.name: path.read_bytes() for path in (made / "server/metadata").iterdir()}
    return Fleet(made, Publisher(made / "publisher"), keys, files)


def targets_of(data: bytes) -> Targets:
    role = Metadata[Targets].from_bytes(data).signed
    assert isinstance(role, Targets)
    return role


# Keys


def test_online_keys_sign_manifests(fleet: Fleet) -> None:
    """A manifest that the server signs is good under the director keys of its targets role."""
    envelope = fleet.keys.sign_manifest(b"payload")
    keys = director_keys(open_repository(fleet.files).targets)
    assert dsse.verify(envelope, dsse.MANIFEST_TYPE, keys) == b"payload"
    assert list(keys.keys) == [fleet.keys.director_keyid]


def test_online_keys_of_another_kind_are_said_so() -> None:
    """A key file of another kind is one clear line at the server's start."""
    pem = key_to_pem(new_key())
    with pytest.raises(InputError, match="Ed25519"):
        OnlineKeys(snapshot=pem, timestamp=pem, director=pem)


# Start


def test_a_new_fleet_is_whole(fleet: Fleet) -> None:
    """What `init` made can be served, without warnings."""
    assert check_repository(fleet.files, NOW) == []
    assert snapshot_version(fleet.files) == 1
    assert snapshot_version({"timestamp.json": b""}) == 0


def test_a_damaged_repository_is_not_served(fleet: Fleet) -> None:
    """A server whose metadata lacks a file or does not fit together does not start, and says what to do."""
    for name in fleet.files:
        with pytest.raises(Broken, match="backup"):
            check_repository({key: data for key, data in fleet.files.items() if key != name}, NOW)


def test_lapsing_roles_are_warned_of(fleet: Fleet) -> None:
    """The server starts although offline roles lapse: only through it can they be renewed. It says so."""
    fleet.publish("1.0.0", 1)
    soon = check_repository(fleet.files, NOW + 70 * DAY)
    assert len(soon) == 1
    assert "app-hello lapses in 20 days" in soon[0]
    late = check_repository(fleet.files, NOW + 400 * DAY)
    assert [line.split()[1] for line in late] == ["root", "targets", "app-hello"]
    assert all("has lapsed" in line for line in late)


# Publishing


def test_a_signed_release_is_published(fleet: Fleet) -> None:
    """The first release brings targets and its app's role; the server adds snapshot and timestamp around them."""
    added = fleet.publish("1.0.0", 1)
    version = NOW // 1000
    assert sorted(added) == ["1.app-hello.json", f"{version}.snapshot.json", "2.targets.json", "timestamp.json"]
    assert snapshot_version(fleet.files) == version
    assert "hello/1.0.0.release" in open_repository(fleet.files).app_targets("hello")
    added = fleet.publish("1.0.1", 2)
    assert sorted(added) == [f"{version + 1}.snapshot.json", "2.app-hello.json", "timestamp.json"]
    fleet.publish("1.0.0", 1, app="other")
    assert check_repository(fleet.files, NOW) == []
    assert len(open_repository(fleet.files).app_targets("hello")) == 2


def test_a_restored_server_continues_above(fleet: Fleet) -> None:
    """After a restore from a backup the online roles continue above what hosts have seen, by the time."""
    backup = dict(fleet.files)
    for number in (1, 2, 3):
        fleet.publish(f"1.0.{number}", number)
    newest = snapshot_version(fleet.files)
    fleet.files, fleet.now = backup, NOW + HOUR_MS
    fleet.publish("1.0.1", 1)
    assert snapshot_version(fleet.files) > newest


def test_a_restored_server_signs_the_online_roles_again_at_once(fleet: Fleet) -> None:
    """Young roles are not refreshed by themselves; after a restore they are signed above what hosts may have seen."""
    backup = dict(fleet.files)
    fleet.publish("1.0.1", 1)
    seen = open_repository(fleet.files)
    assert refresh(backup, fleet.keys, NOW) == {}
    again = open_repository(backup | sign_again(backup, fleet.keys, NOW))  # in the very same second
    assert again.snapshot.version > seen.snapshot.version
    assert again.timestamp.version > seen.timestamp.version


def test_metadata_for_a_bundle_lasts_and_the_servers_own_goes_on_above_it(fleet: Fleet) -> None:
    """One app's roles alone; nothing of the server's gets a longer life, and no version two contents."""
    fleet.publish("1.0.0", 1)
    fleet.publish("1.0.0", 1, app="other")
    until = NOW + 30 * 24 * HOUR_MS
    made = travelling(fleet.files, {"hello"}, fleet.keys, now_ms=NOW, until_ms=until)
    carried = open_repository(made.files, fleet.files["1.root.json"], {"hello"})
    assert "1.app-other.json" not in made.files
    assert {to_ms(role.expires) for role in (carried.timestamp, carried.snapshot)} == {until}
    assert made.snapshot_version == carried.snapshot.version
    before, after = open_repository(fleet.files), open_repository(fleet.files | made.after)
    for role in ("snapshot", "timestamp"):
        versions = [it.roles()[role].version for it in (before, carried, after)]
        assert versions == sorted(set(versions))
    assert to_ms(after.timestamp.expires) == NOW + TIMESTAMP_MS


def test_a_role_that_lapses_before_a_bundle_would_is_named(fleet: Fleet) -> None:
    """The first in the order of trust, with the way out; a fleet's root is signed by hand, the others by publishing."""
    fleet.publish("1.0.0", 1)
    for days, words in ((100, "role app-hello lapses on .* publish a release"), (200, "role targets lapses on"),
                        (400, "role root lapses on .* sign it anew")):  # fmt: skip
        with pytest.raises(InputError, match=words) as caught:
            travelling(fleet.files, {"hello"}, fleet.keys, now_ms=NOW, until_ms=NOW + days * 24 * HOUR_MS)
        assert caught.value.code == "lapses"


def test_a_statement_of_a_bundle_can_stand_for_no_manifest(fleet: Fleet) -> None:
    """The director signs both, each of its own type."""
    envelope = fleet.keys.sign_bundle(b"what it is")
    keys = director_keys(open_repository(fleet.files).targets)
    assert dsse.verify(envelope, BUNDLE_TYPE, keys) == b"what it is"
    with pytest.raises(Refusal):
        dsse.verify(envelope, dsse.MANIFEST_TYPE, keys)


def test_a_taken_version_is_refused(fleet: Fleet) -> None:
    """A published version is neither changed, nor removed, nor published again with other bytes."""
    fleet.publish("1.0.0", 1)
    before = dict(fleet.files)
    release, data, new = fleet.signed("1.0.1", 2)
    fleet.files |= fleet.admit(release, data, new)
    assert fleet.code(release, data, new) == "version-taken"
    fleet.files = before
    for spoil in (_change_old, _remove_old):
        spoiled = dict(new) | {"2.app-hello.json": _resigned(fleet, new["2.app-hello.json"], spoil)}
        assert fleet.code(release, data, spoiled) == "version-taken"


def _change_old(role: Targets) -> None:
    role.targets["hello/1.0.0.release"] = TargetFile.from_data("hello/1.0.0.release", b"other", ["sha256"])


def _remove_old(role: Targets) -> None:
    del role.targets["hello/1.0.0.release"]


def _resigned(
    fleet: Fleet, data: bytes, change: Callable[[Targets], None], signer: CryptoSigner | None = None
) -> bytes:
    role = targets_of(data)
    change(role)
    return sign_role(role, [signer or fleet.signer("publisher", "releases")])


NEW = "hello/1.0.0.release"


def _without_it(role: Targets) -> None:
    del role.targets[NEW]


def _with_more(role: Targets) -> None:
    role.targets["hello/9.release"] = TargetFile.from_data("hello/9.release", b"x", ["sha256"])


def _longer(role: Targets) -> None:
    role.targets[NEW].length += 1


def _other_hash(role: Targets) -> None:
    role.targets[NEW].hashes["sha256"] = "0" * 64


def _other_counter(role: Targets) -> None:
    role.targets[NEW].unrecognized_fields["custom"]["release_counter"] = 5


def _expired(role: Targets) -> None:
    role.expires = to_time(NOW)


def _version(role: Targets) -> None:
    role.version = 2


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (_without_it, "mix-and-match"),
        (_with_more, "mix-and-match"),
        (_longer, "arbitrary-software"),
        (_other_hash, "arbitrary-software"),
        (_other_counter, "mix-and-match"),
        (_expired, "freeze"),
        (_version, "rollback"),
    ],
)
def test_a_role_that_does_not_fit_its_release_is_refused(
    fleet: Fleet, change: Callable[[Targets], None], name: str
) -> None:
    """The signed role must add exactly this release: its bytes, its counter, nothing else, and be fresh."""
    release, data, new = fleet.signed("1.0.0", 1)
    new["1.app-hello.json"] = _resigned(fleet, new["1.app-hello.json"], change)
    assert fleet.code(release, data, new) == name


def test_unsigned_roles_are_refused(fleet: Fleet) -> None:
    """What the publisher's keys did not sign is refused, also where the server's own keys signed it."""
    release, data, new = fleet.signed("1.0.0", 1)
    for signer in (new_signer(), fleet.keys.snapshot, fleet.keys.timestamp, fleet.signer("server", "director")):
        app = new | {"1.app-hello.json": _resigned(fleet, new["1.app-hello.json"], lambda role: None, signer)}
        assert fleet.code(release, data, app) == "arbitrary-software"
        targets = new | {"2.targets.json": _resigned(fleet, new["2.targets.json"], lambda role: None, signer)}
        assert fleet.code(release, data, targets) == "arbitrary-software"


def test_a_release_without_its_roles_is_refused(fleet: Fleet) -> None:
    """Bytes alone, or an app's role that nobody delegated, publish nothing."""
    release, data, new = fleet.signed("1.0.0", 1)
    assert fleet.code(release, data, {}) == "arbitrary-software"
    assert fleet.code(release, data, {"1.app-hello.json": new["1.app-hello.json"]}) == "arbitrary-software"
    assert fleet.code(release, data, {"2.targets.json": new["2.targets.json"]}) == "arbitrary-software"


def test_files_of_others_are_refused(fleet: Fleet) -> None:
    """With one release comes its app's role, targets and root; anything else, the server's own roles too, is refused."""
    release, data, new = fleet.signed("1.0.0", 1)
    for name in ("timestamp.json", "9.snapshot.json", "1.app-other.json", "../../x", "1.director.json"):
        assert fleet.code(release, data, {**new, name: b"{}"}) == "mix-and-match"


def test_another_path_than_the_releases_own_is_refused(fleet: Fleet) -> None:
    """A release is published under its own app and version."""
    release, data, new = fleet.signed("1.0.0", 1)
    assert fleet.code(release, data, new, path="hello/2.0.0.release") == "mix-and-match"


def test_versions_of_roles_follow_one_another(fleet: Fleet) -> None:
    """A role that was signed on top of an older state, or skips a version, is refused: sign again."""
    release, data, new = fleet.signed("1.0.0", 1)
    fleet.publish("1.0.1", 1)
    assert fleet.code(release, data, new) == "rollback"
    release, data, new = fleet.signed("1.0.2", 2)
    assert fleet.code(release, data, {"3.app-hello.json": new["2.app-hello.json"]}) == "rollback"


def test_counters_only_rise(fleet: Fleet) -> None:
    """A release whose counter is not above every earlier one of its app is refused."""
    fleet.publish("1.0.0", 5)
    release = make_release("hello", "0.9.0", 5)
    data = encode_release(release)
    role = copy_of(open_repository(fleet.files).apps["app-hello"])
    role.version = 2
    entry = TargetFile.from_data("hello/0.9.0.release", data, ["sha256"])
    entry.unrecognized_fields["custom"] = {
        "release_counter": 5,
        "rollback_floor": 0,
        "platforms": [],
        "environments": [],
    }
    role.targets["hello/0.9.0.release"] = entry
    new = {"2.app-hello.json": sign_role(role, [fleet.signer("publisher", "releases")])}
    assert fleet.code(release, data, new) == "rollback"


def test_a_release_that_no_host_could_run_is_refused(fleet: Fleet) -> None:
    """Garbled, endless and senseless releases are refused before anything else."""
    release, _, new = fleet.signed("1.0.0", 1)
    assert fleet.code(release, b"\xff" * 20, new) == "garbled"
    assert fleet.code(release, b"x" * (2**20 + 1), new) == "endless-data"
    senseless = replace(release, critical=("teleport",))
    with pytest.raises(InputError, match="teleport"):
        fleet.admit(senseless, encode_release(senseless), new)


# Targets and root


def _list_a_file(role: Targets) -> None:
    role.targets[NEW] = TargetFile.from_data(NEW, b"x", ["sha256"])


def _widen(role: Targets) -> None:
    delegated_roles(role)["app-hello"].paths = ["*"]


def _drop_director(role: Targets) -> None:
    signer = new_signer()
    assert role.delegations is not None
    assert role.delegations.roles is not None
    role.delegations.keys[signer.public_key.keyid] = signer.public_key
    role.delegations.roles["director"] = DelegatedRole(
        "director", [signer.public_key.keyid], 1, terminating=True, paths=["director/none"]
    )


@pytest.mark.parametrize(
    ("change", "name"),
    [(_list_a_file, "mix-and-match"), (_widen, "mix-and-match"), (_drop_director, "wrong-key"), (_expired, "freeze")],
)
def test_a_targets_role_that_does_not_fit_is_refused(
    fleet: Fleet, change: Callable[[Targets], None], name: str
) -> None:
    """Targets holds delegations of our layout alone, and keeps this server's director, or it would be left speechless."""
    release, data, new = fleet.signed("1.0.0", 1)
    signer = fleet.signer("publisher", "targets")
    new["2.targets.json"] = _resigned(fleet, new["2.targets.json"], change, signer)
    assert fleet.code(release, data, new) == name


def test_a_targets_role_that_drops_an_app_is_refused(fleet: Fleet) -> None:
    """Dropping a delegation would remove everything published under it."""
    fleet.publish("1.0.0", 1)
    release, data, new = fleet.signed("1.0.0", 1, app="other")

    def drop(role: Targets) -> None:
        assert role.delegations is not None
        assert role.delegations.roles is not None
        del role.delegations.roles["app-hello"]

    new["3.targets.json"] = _resigned(fleet, new["3.targets.json"], drop, fleet.signer("publisher", "targets"))
    assert fleet.code(release, data, new) == "version-taken"


def test_a_new_key_for_an_app_must_vouch_for_what_is_there(fleet: Fleet) -> None:
    """Giving a published app to a new key without re-signing its role would break the repository: refused."""
    fleet.publish("1.0.0", 1)
    release, data, new = fleet.signed("1.0.0", 1, app="other")

    def give_away(role: Targets) -> None:
        signer = new_signer()
        assert role.delegations is not None
        role.delegations.keys[signer.public_key.keyid] = signer.public_key
        delegated_roles(role)["app-hello"].keyids = [signer.public_key.keyid]

    new["3.targets.json"] = _resigned(fleet, new["3.targets.json"], give_away, fleet.signer("publisher", "targets"))
    assert fleet.code(release, data, new) == "arbitrary-software"


def test_a_new_root_is_published(fleet: Fleet) -> None:
    """A publisher whose root ages sends the next with a release; the server checks and keeps the whole chain."""
    fleet.now = NOW + 300 * DAY
    fleet.files |= refresh(fleet.files, fleet.keys, fleet.now)
    added = fleet.publish("1.0.0", 1)
    assert "2.root.json" in added
    assert "root.json" not in "".join(open_repository(fleet.files).snapshot.meta)
    assert check_repository(fleet.files, fleet.now) == []
    assert len(open_repository(fleet.files).roots) == 2


def test_a_root_that_does_not_follow_is_refused(fleet: Fleet) -> None:
    """A root that is unsigned, skips a version, has lapsed, or takes this server's keys away is refused."""
    release, data, new = fleet.signed("1.0.0", 1)
    signer = fleet.signer("publisher", "root")
    root = copy_of(open_repository(fleet.files).root)
    root.version = 2
    assert fleet.code(release, data, {**new, "2.root.json": sign_role(root, [new_signer()])}) == "arbitrary-software"
    assert fleet.code(release, data, {**new, "3.root.json": sign_role(root, [signer])}) == "rollback"
    lapsed = copy_of(root)
    lapsed.expires = to_time(NOW)
    assert fleet.code(release, data, {**new, "2.root.json": sign_role(lapsed, [signer])}) == "freeze"
    for role in ("snapshot", "timestamp"):
        foreign = copy_of(root)
        foreign.add_key(new_signer().public_key, role)
        assert fleet.code(release, data, {**new, "2.root.json": sign_role(foreign, [signer])}) == "wrong-key"


# Re-signing


def test_online_roles_are_renewed_at_half_of_their_life(fleet: Fleet) -> None:
    """Nothing is signed before half of a life; then the timestamp alone, and with the snapshot both."""
    assert refresh(fleet.files, fleet.keys, NOW + 11 * HOUR_MS) == {}
    assert list(refresh(fleet.files, fleet.keys, NOW + 13 * HOUR_MS)) == ["timestamp.json"]
    fleet.now = NOW + 4 * DAY
    added = refresh(fleet.files, fleet.keys, fleet.now)
    assert list(added) == [f"{fleet.now // 1000}.snapshot.json", "timestamp.json"]
    fleet.files |= added
    assert open_repository(fleet.files).expired(fleet.now) == ()
    assert refresh(fleet.files, fleet.keys, fleet.now) == {}


def test_a_server_that_was_off_for_long_renews(fleet: Fleet) -> None:
    """Online roles that lapsed while the server was off are signed again at its start."""
    fleet.now = NOW + 30 * DAY
    assert open_repository(fleet.files).expired(fleet.now) == ("snapshot", "timestamp")
    fleet.files |= refresh(fleet.files, fleet.keys, fleet.now)
    assert open_repository(fleet.files).expired(fleet.now) == ()


@pytest.mark.parametrize(
    ("custom", "counter"), [({"release_counter": 3}, 3), ({}, 0), (None, 0), ("x", 0), ({"release_counter": "9"}, 0)]
)
def test_a_counter_is_read_with_care(custom: object, counter: int) -> None:
    """An entry without a usable counter counts as zero."""
    entry = TargetFile(1, {"sha256": "0" * 64}, "x")
    if custom is not None:
        entry.unrecognized_fields["custom"] = custom
    assert counter_of(entry) == counter
