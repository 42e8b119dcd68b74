"""What server and publisher check before they build on a set of metadata files: every refusal by its name."""

from collections.abc import Callable

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import (
    BadVersionNumberError,
    EqualVersionNumberError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Targets
from tuf.api.serialization import DeserializationError

from fakes.repository import HOUR_MS, RepositorySimulator, copy_of, new_signer
from towpath import repository as tuf_repository
from towpath.errors import Refusal
from towpath.repository import attack, file_name, open_repository, parse, sign_role, split_name

NOW = 1_800_000_000_000


@pytest.fixture
def sim() -> RepositorySimulator:
    sim = RepositorySimulator(NOW)
    sim.publish("hello", "1.0.0", 1)
    return sim


def code(sim: RepositorySimulator, root: bytes | None = None) -> str:
    with pytest.raises(Refusal) as caught:
        open_repository(sim.served, root)
    assert str(caught.value).startswith("cannot ")
    return caught.value.code


def test_a_whole_repository_is_opened(sim: RepositorySimulator) -> None:
    """The newest of every role is found and verified, over several roots."""
    sim.next_root()
    sim.publish("other", "1.0.0", 1)
    found = open_repository(sim.served)
    assert [root.version for root in found.roots] == [1, 2]
    assert list(found.roles()) == ["root", "targets", "snapshot", "timestamp", "app-hello", "app-other"]
    assert list(found.app_targets("hello")) == ["hello/1.0.0.release"]
    assert dict(found.app_targets("unknown")) == {}
    assert found.expired(NOW) == ()
    assert found.expired(NOW + 25 * HOUR_MS) == ("timestamp",)
    assert found.expired(NOW + 8000 * 24 * HOUR_MS)[0] == "root"


def test_older_versions_beside_do_not_matter(sim: RepositorySimulator) -> None:
    """Files that a host in the middle of a read still needs do not disturb."""
    assert "1.targets.json" in sim.served
    assert open_repository(sim.served).targets.version == 2


def test_a_pinned_root_decides(sim: RepositorySimulator) -> None:
    """From a pinned root the same repository is good; a repository that does not stand on it is refused."""
    open_repository(sim.served, sim.bootstrap)
    assert code(sim, RepositorySimulator(NOW).bootstrap) == "arbitrary-software"


@pytest.mark.parametrize(
    "name", ["1.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json", "1.app-hello.json"]
)
def test_a_missing_or_other_file_is_refused(sim: RepositorySimulator, name: str) -> None:
    """A role that is missing, garbled, of another type or another signed version does not make a repository."""
    kept = sim.served.pop(name)
    assert code(sim) == "mix-and-match"
    sim.served[name] = kept[:-1]
    assert code(sim) in ("garbled", "mix-and-match")
    wrong = sim.served["timestamp.json"] if name != "timestamp.json" else sim.served["1.root.json"]
    sim.served[name] = wrong
    assert code(sim) in ("garbled", "mix-and-match")


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
def test_a_role_of_a_strangers_key_is_refused(sim: RepositorySimulator, role: str) -> None:
    """What the role's own keys did not sign is refused."""
    sim.signers[role] = [new_signer()]
    sim.serve_targets()
    sim.serve_online()
    assert code(sim) == "arbitrary-software"


def test_an_app_role_of_a_strangers_key_is_refused(sim: RepositorySimulator) -> None:
    """So is an app's role that its delegation's keys did not sign."""
    sim.app_signers["hello"] = [new_signer()]
    sim.serve_app("hello")
    sim.serve_online()
    assert code(sim) == "arbitrary-software"


def test_a_root_must_follow_its_predecessor(sim: RepositorySimulator) -> None:
    """A root that the old keys or its own did not sign, or that skips a version, is refused."""
    honest = sim.signers["root"]
    sim.signers["root"] = [new_signer()]
    sim.next_root()
    assert code(sim) == "arbitrary-software"
    sim.signers["root"] = honest
    sim.root.add_key(new_signer().public_key, "root")
    sim.root.roles["root"].threshold = 2
    sim.serve_root()
    assert code(sim) == "arbitrary-software"
    del sim.served["2.root.json"]
    skipped = copy_of(open_repository(sim.served).root)
    skipped.version = 3
    sim.served["2.root.json"] = sign_role(skipped, honest)
    assert code(sim) == "rollback"


def _no_consistent_snapshots(sim: RepositorySimulator) -> None:
    sim.root.consistent_snapshot = False
    sim.next_root()


def _unlisted(sim: RepositorySimulator) -> None:
    del sim.listed["app-hello"]
    sim.serve_online()


def _stranger_in_snapshot(sim: RepositorySimulator) -> None:
    sim.listed["app-x"] = sim.listed["app-hello"]
    sim.serve_online()


def _files_in_targets(sim: RepositorySimulator) -> None:
    sim.targets.targets |= sim.apps["hello"].targets
    sim.serve_targets()
    sim.serve_online()


def _other_snapshot_version(sim: RepositorySimulator) -> None:
    data = sim.served["2.snapshot.json"]
    sim.served["9.snapshot.json"] = data
    sim.timestamp.snapshot_meta.version = 9
    sim.serve_timestamp()


def _other_targets_version(sim: RepositorySimulator) -> None:
    sim.served["9.targets.json"] = sim.listed["targets"][1]
    sim.listed["targets"] = (9, sim.listed["targets"][1])
    sim.serve_online()


def _wide_delegation(sim: RepositorySimulator) -> None:
    sim._delegate("app-hello", "*", sim.signers["releases"], 1)
    sim.serve_targets()
    sim.serve_online()


def _foreign_delegation(sim: RepositorySimulator) -> None:
    sim._delegate("everything", "*", sim.signers["releases"], 1)
    sim.serve_targets()
    sim.serve_online()


def _searching_delegation(sim: RepositorySimulator) -> None:
    roles = tuf_repository.delegated_roles(sim.targets)
    roles["app-hello"].terminating = False
    sim.serve_targets()
    sim.serve_online()


def _no_director(sim: RepositorySimulator) -> None:
    del sim.targets.delegations.roles["director"]  # type: ignore[union-attr]
    sim.serve_targets()
    sim.serve_online()


def _no_delegations(sim: RepositorySimulator) -> None:
    sim.targets.delegations = None
    sim.listed = {"targets": sim.listed["targets"]}
    sim.serve_targets()
    sim.serve_online()


def _director_of_another_kind(sim: RepositorySimulator) -> None:
    sim._delegate("director", "director/none", [CryptoSigner.generate_ecdsa()], 1)
    sim.serve_targets()
    sim.serve_online()


def _director_of_no_key(sim: RepositorySimulator) -> None:
    odd = new_signer()
    odd.public_key.keyval["public"] = "zz"
    sim._delegate("director", "director/none", [odd], 1)
    sim.serve_targets()
    sim.serve_online()


@pytest.mark.parametrize(
    "lie",
    [
        _no_consistent_snapshots,
        _unlisted,
        _stranger_in_snapshot,
        _files_in_targets,
        _other_snapshot_version,
        _other_targets_version,
        _wide_delegation,
        _foreign_delegation,
        _searching_delegation,
        _no_director,
        _no_delegations,
        _director_of_another_kind,
        _director_of_no_key,
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    sim: RepositorySimulator, lie: Callable[[RepositorySimulator], None]
) -> None:
    """Signed files that do not make one consistent repository of our layout are a mix-and-match."""
    lie(sim)
    assert code(sim) == "mix-and-match"


def test_metadata_without_end_is_not_parsed() -> None:
    """A file above its role's cap is refused by its size alone."""
    with pytest.raises(Refusal) as caught:
        parse(Targets, b"{" * 11, 10)
    assert caught.value.code == "endless-data"


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"[" * 200_000, b'{"signed": {"_type": "targets"}}', b"\xff"])
def test_garbled_metadata_is_refused(data: bytes) -> None:
    """Bytes that are no metadata, however nested, are refused without a crash."""
    with pytest.raises(Refusal) as caught:
        parse(Targets, data, 10**6)
    assert caught.value.code == "garbled"


def test_file_names() -> None:
    """Names of files are made and read by one rule, and anything else is no role's."""
    assert file_name("targets", 3) == "3.targets.json"
    assert file_name("timestamp", 3) == "timestamp.json"
    assert split_name("3.app-hello-2.json") == ("app-hello-2", 3)
    for name in (
        "timestamp.json",
        "0.targets.json",
        "x.targets.json",
        "3.Targets.json",
        "../3.targets.json",
        "3.a/b.json",
    ):
        assert split_name(name) is None


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ExpiredMetadataError(), "freeze"),
        (BadVersionNumberError(), "rollback"),
        (EqualVersionNumberError(), "rollback"),
        (UnsignedMetadataError(), "arbitrary-software"),
        (LengthOrHashMismatchError(), "mix-and-match"),
        (DeserializationError(), "garbled"),
        (RepositoryError(), "mix-and-match"),
    ],
)
def test_the_librarys_errors_have_attack_names(error: RepositoryError, name: str) -> None:
    """Whatever the TUF library refuses is reported under the attack that it stopped."""
    assert attack(error) == name
