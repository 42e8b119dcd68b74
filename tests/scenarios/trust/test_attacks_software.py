"""Attacks on what runs: foreign manifests, endless data, unsigned software, stolen and revoked keys (FAULTS section 3)."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tuf.api.metadata import DelegatedRole, TargetFile

from fakes.repository import HOUR_MS, RepositorySimulator, SimulatedHost, copy_of, new_signer, seal
from fakes.verdicts import app_code, refused
from towpath.names import app_role
from towpath.parameters import Parameter
from towpath.repository import sign_role, to_time
from towpath.wire import encode_manifest, encode_release

YEAR_MS = 365 * 24 * HOUR_MS
Attack = Callable[[RepositorySimulator], None]


# Mix-and-match, wrong host, environment, platform, replay


def test_mix_and_match_of_manifest_and_snapshot(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A manifest that stands on a newer snapshot than the server shows is refused."""
    manifest = sim.manifest(host.facts, min_snapshot_version=sim.snapshot.version + 1)
    assert refused(host, sim.sign(manifest)) == "mix-and-match"


@pytest.mark.parametrize("name", ["snapshot", "targets"])
def test_mix_and_match_of_roles(sim: RepositorySimulator, host: SimulatedHost, name: str) -> None:
    """A role that is signed but not the one that is listed is refused."""
    role = copy_of(getattr(sim, name))
    role.expires = to_time(sim.now_ms + 2 * HOUR_MS)  # another view of the same length
    sim.served[f"{role.version}.{name}.json"] = sign_role(role, sim.signers[name])
    assert refused(host) == "mix-and-match"


def test_mix_and_match_within_an_app(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """The director cannot put one signed release under another's version, size, digest or counter."""
    one, two = sim.publish("hello", "1.0.0", 1), sim.publish("hello", "2.0.0", 2)
    wish, other = sim.desire(one), sim.desire(two)
    for lie in (
        replace(wish, release_sha256=other.release_sha256),
        replace(wish, release_size=wish.release_size + 1),
        replace(wish, counter=2),
        replace(other, version="1.0.0"),
    ):
        assert app_code(host.take(sim.sign(sim.manifest(host.facts, [lie])))) == "mix-and-match"


def test_a_release_that_names_itself_otherwise(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A signed entry whose content is another version's release is refused."""
    sim.publish("hello", "1.0.0", 1)
    inner = sim.publish("hello", "2.0.0", 2, serve=False)
    data = encode_release(inner)
    entry = TargetFile.from_data("hello/3.0.0.release", data, ["sha256"])
    entry.unrecognized_fields["custom"] = {"release_counter": 2}
    sim.apps["hello"].targets["hello/3.0.0.release"] = entry
    sim.releases["hello/3.0.0.release"] = data
    sim.serve_app("hello")
    sim.serve_online()
    lie = replace(sim.desire(inner), version="3.0.0")
    assert app_code(host.take(sim.sign(sim.manifest(host.facts, [lie])))) == "mix-and-match"


def test_wrong_host(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A manifest of another host, or of another key of the same host id, is refused."""
    assert refused(host, sim.sign(sim.manifest(replace(host.facts, host_id="host-2")))) == "wrong-host"
    assert refused(host, sim.sign(sim.manifest(replace(host.facts, host_key_sha256=b"x" * 32)))) == "wrong-host"


def test_wrong_environment(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """The environment is the host's, pinned at enrolment: neither a manifest nor a release moves it."""
    assert refused(host, sim.sign(sim.manifest(host.facts, environment="production"))) == "wrong-environment"
    release = sim.publish("hello", "1.0.0", 1, environments=("production",))
    assert app_code(host.take(None, release)) == "wrong-environment"


def test_wrong_platform(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A release for other platforms is refused by the host's own facts."""
    release = sim.publish("hello", "1.0.0", 1, platforms=("linux/arm64", "linux/riscv64"))
    assert app_code(host.take(None, release)) == "wrong-platform"


def test_replay(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A manifest that answers another request is refused, however fresh."""
    assert refused(host, sim.sign(sim.manifest(host.facts, nonce=b"m" * 16))) == "replay"
    assert refused(host, sim.sign(sim.manifest(host.facts, nonce=b""))) == "replay"


def test_unknown_critical(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A manifest that needs a feature which this agent does not know is refused; so is such a release."""
    assert refused(host, sim.sign(sim.manifest(host.facts, critical=("waves-2",)))) == "unknown-critical"
    release = sim.publish("hello", "1.0.0", 1, critical=("teleport",))
    assert app_code(host.take(None, release)) == "bad-input"


@pytest.mark.parametrize("payload", [b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f", b"\x4a\x02\x0a\x00"])
def test_garbled_manifest(sim: RepositorySimulator, host: SimulatedHost, payload: bytes) -> None:
    """Signed nonsense is refused without a crash: it is not parsed before it is verified, and then with care."""
    assert refused(host, seal(payload, sim.signers["director"])) in ("garbled", "mix-and-match")
    assert refused(host, payload) in ("garbled", "wrong-type")


def test_a_bad_name_in_a_manifest(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """An app name that could be a path is refused with the whole manifest."""
    release = sim.publish("hello", "1.0.0", 1)
    lie = replace(sim.desire(release), app="../etc")
    assert refused(host, sim.sign(sim.manifest(host.facts, [lie]))) == "garbled"


def test_parameters_that_the_release_does_not_declare(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """The server fills only declared, typed holes: a stranger, a wrong type or a missing value refuses the app."""
    release = sim.publish("hello", "1.0.0", 1, parameters=(Parameter("port", "port"),))
    for values in ({"LD_PRELOAD": "x", "port": 1}, {"port": "80; rm -rf /"}, {}):
        manifest = sim.manifest(host.facts, [sim.desire(release, parameters=values)])
        assert app_code(host.take(sim.sign(manifest))) == "bad-input"


# Endless data


@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"])
def test_endless_metadata(sim: RepositorySimulator, host: SimulatedHost, name: str) -> None:
    """Metadata longer than its cap, or than what is signed about it, is refused before it is parsed."""
    sim.served[name] = b" " * 600_000 if "root" in name else b" " * 20_000
    assert refused(host) == "endless-data"


def test_endless_release(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A release that comes with more bytes than signed, or is signed for more than any release may have, is refused."""
    release = sim.publish("hello", "1.0.0", 1)
    sim.releases["hello/1.0.0.release"] += b"x"
    assert app_code(host.take(None, release)) == "endless-data"
    big = sim.publish("big", "1.0.0", 1, serve=False)
    entry = sim.apps["big"].targets["big/1.0.0.release"]
    entry.length = 2 * 2**20
    sim.serve_app("big")
    sim.serve_targets()
    sim.serve_online()
    wish = replace(sim.desire(big), release_size=entry.length)
    assert app_code(host.take(sim.sign(sim.manifest(host.facts, [wish])))) == "endless-data"
    assert ("target", "big/1.0.0.release") not in sim.asked


def test_endless_envelope(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """An envelope above its cap is refused before it is parsed, and before anything is fetched."""
    assert refused(host, b"\0" * (4 * 2**20 + 1)) == "endless-data"
    assert sim.asked == []


def test_endless_roots(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A chain of roots is followed only so far."""
    for _ in range(300):
        sim.next_root()
    assert host.take().role_floors["root"] == 257
    assert sum(name.endswith("root.json") for _, name in sim.asked) == 256


def test_too_many_apps(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A manifest with more apps than any host should run is refused."""
    release = sim.publish("hello", "1.0.0", 1)
    wish = sim.desire(release)
    apps = [replace(wish, app=f"a{number}") for number in range(257)]
    assert refused(host, sim.sign(sim.manifest(host.facts, apps))) == "endless-data"
    assert refused(host, sim.sign(sim.manifest(host.facts, [wish, wish]))) == "mix-and-match"


# Arbitrary software


def test_a_release_that_nobody_signed(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A director that names an unsigned release, of a known or an unknown app, is refused."""
    known = sim.publish("hello", "1.0.0", 1)
    evil = replace(known, version="6.6.6", counter=9)
    assert app_code(host.take(None, evil)) == "arbitrary-software"
    assert app_code(host.take(None, replace(evil, app="evil"))) == "arbitrary-software"


def test_a_release_signed_with_another_apps_key(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A key of one app signs nothing for another: neither its role nor a path in its own role."""
    mine, theirs = [new_signer()], [new_signer()]
    sim.delegate_app("mine", signers=mine)
    sim.delegate_app("theirs", signers=theirs)
    sim.publish("mine", "1.0.0", 1)
    release = sim.publish("theirs", "1.0.0", 1, serve=False)
    sim.app_signers["theirs"] = mine
    sim.serve_app("theirs")
    sim.serve_online()
    assert app_code(host.take(None, release)) == "arbitrary-software"
    # The same entry in the thief's own role is not even looked at there: its prefix is another.
    sim.app_signers["theirs"] = theirs
    sim.apps["mine"].targets |= sim.apps["theirs"].targets
    sim.apps["theirs"].targets.clear()
    for app in ("mine", "theirs"):
        sim.serve_app(app)
    sim.serve_online()
    assert app_code(host.take(None, release)) == "arbitrary-software"


def test_a_threshold_that_is_not_met(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """One of two keys, or one key twice, does not make a release."""
    signers = [new_signer(), new_signer()]
    sim.delegate_app("hello", signers=signers, threshold=2)
    sim.app_signers["hello"] = signers[:1]
    release = sim.publish("hello", "1.0.0", 1)
    assert app_code(host.take(None, release)) == "arbitrary-software"
    sim.app_signers["hello"] = [signers[0], signers[0]]
    sim.serve_app("hello")
    sim.serve_online()
    assert app_code(host.take(None, release)) == "arbitrary-software"
    sim.app_signers["hello"] = signers
    sim.serve_app("hello")
    sim.serve_online()
    assert host.take(None, release).apps


def test_a_threshold_of_the_targets_role(tmp_path: Path, sim: RepositorySimulator) -> None:
    """With two release managers, one stolen key delegates nothing."""
    pair = RepositorySimulator(sim.now_ms, targets_threshold=2)
    host = SimulatedHost(tmp_path, pair)
    host.take()
    pair.signers["targets"] = pair.signers["targets"][:1]
    pair.serve_targets()
    pair.serve_online()
    assert refused(host) == "arbitrary-software"


def test_other_bytes_than_signed(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A mirror that alters a release, keeping its length, is refused by the digest."""
    release = sim.publish("hello", "1.0.0", 1)
    data = bytearray(sim.releases["hello/1.0.0.release"])
    data[-1] ^= 1
    sim.releases["hello/1.0.0.release"] = bytes(data)
    assert app_code(host.take(None, release)) == "arbitrary-software"


def test_a_manifest_that_no_director_signed(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """No signature, a stranger's, a publisher's, one under a forged key id, or of another type: none is a director's."""
    payload = encode_manifest(sim.manifest(host.facts))
    stranger = new_signer()
    forged = new_signer()
    forged.public_key.keyid = sim.signers["director"][0].public_key.keyid
    for signers in ([], [stranger], sim.signers["releases"], sim.signers["timestamp"], [forged]):
        assert refused(host, seal(payload, signers)) == "arbitrary-manifest"
    assert refused(host, seal(payload, sim.signers["director"], "application/json")) == "wrong-type"


@pytest.mark.parametrize("paths", [["*"], ["hello/*", "other/*"], ["hello/1*"]])
def test_a_delegation_that_is_wider_than_its_app(
    sim: RepositorySimulator, host: SimulatedHost, paths: list[str]
) -> None:
    """A delegation that is not exactly one app's prefix, or lets the search go on, is not followed."""
    release = sim.publish("hello", "1.0.0", 1)
    keyids = [sim.signers["releases"][0].public_key.keyid]
    roles = sim.targets.delegations.roles
    roles[app_role("hello")] = DelegatedRole(app_role("hello"), keyids, 1, terminating=True, paths=paths)
    sim.serve_targets()
    sim.serve_online()
    assert app_code(host.take(None, release)) == "mix-and-match"


def test_a_targets_role_that_lists_files_itself(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """Files belong to apps: a targets role that lists one is refused."""
    sim.publish("hello", "1.0.0", 1)
    sim.targets.targets |= sim.apps["hello"].targets
    sim.serve_targets()
    sim.serve_online()
    assert refused(host) == "mix-and-match"


# Keys stolen and revoked


def test_a_key_revoked_by_a_new_root(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """What a revoked targets key signs afterwards is refused, and so is what it signed before."""
    host.take()
    old = sim.rotate("targets")
    host.take()
    honest = sim.signers["targets"]
    sim.signers["targets"] = old
    sim.serve_targets()
    sim.serve_online()
    assert refused(host) == "arbitrary-software"
    sim.signers["targets"] = honest
    sim.serve_targets()
    sim.serve_online()
    host.take()


def test_a_revoked_release_key(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A cached role of a key that its delegation no longer names is verified again, and refused."""
    release = sim.publish("hello", "1.0.0", 1)
    host.take(None, release)
    stolen = sim.app_signers["hello"]
    sim.delegate_app("hello", signers=[new_signer()])
    honest = sim.app_signers["hello"]
    sim.serve_targets()
    sim.serve_online()
    assert app_code(host.take(None, release)) == "arbitrary-software"
    sim.app_signers["hello"] = stolen
    sim.serve_app("hello")
    sim.serve_online()
    assert app_code(host.take(None, release)) == "arbitrary-software"
    sim.app_signers["hello"] = honest
    sim.serve_app("hello")
    sim.serve_online()
    assert host.take(None, release).apps


def test_a_revoked_director(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """Once targets names a new director, the old one is nobody, whatever the host believed before."""
    host.take()
    old = sim.rotate("director")
    manifest = sim.manifest(host.facts)
    assert refused(host, sim.sign(manifest, old)) == "arbitrary-manifest"
    host.take(sim.sign(manifest))


def test_a_root_that_the_old_root_did_not_sign(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A new root needs the old root's signatures: whoever holds only new keys is refused."""
    sim.signers["root"] = [new_signer()]
    sim.next_root()
    assert refused(host) == "arbitrary-software"


def test_a_root_that_skips_a_version(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """Root 3 in the place of root 2 is refused."""
    root = copy_of(sim.root)
    root.version = 3
    sim.served["2.root.json"] = sign_role(root, sim.signers["root"])
    assert refused(host) == "rollback"


def test_a_stolen_server_introduces_no_release(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """With director, snapshot and timestamp keys a thief chooses among signed releases, and adds none of its own."""
    good = sim.publish("hello", "1.0.0", 1)
    host.take(None, good)
    thief = [new_signer()]
    online = sim.signers["director"] + sim.signers["snapshot"] + sim.signers["timestamp"]
    managers, publishers = sim.signers["targets"], sim.app_signers["hello"]
    evil = replace(good, version="6.6.6", counter=66)
    honest = copy_of(sim.apps["hello"]), dict(sim.listed)

    # An app role of its own making, under every key that a stolen server has.
    sim.add_target(sim.apps["hello"], evil)
    for signer in [*thief, *online]:
        sim.app_signers["hello"] = [signer]
        sim.serve_app("hello")
        sim.serve_online()
        assert app_code(host.take(None, evil)) == "arbitrary-software"

    # A targets role that delegates to a key of its own.
    sim.delegate_app("hello", signers=thief)
    sim.serve_app("hello")
    for signer in [*thief, *online]:
        sim.signers["targets"] = [signer]
        sim.serve_targets()
        sim.serve_online()
        assert refused(host) == "arbitrary-software"

    # The server is taken back: new online keys undo all that, and the publisher's keys need no change.
    sim.apps["hello"], sim.listed = honest
    sim.signers["targets"], sim.app_signers["hello"] = managers, publishers
    for role in ("snapshot", "timestamp"):
        sim.rotate(role)
    assert host.take(None, good).apps


def test_the_director_keys_that_the_agent_keeps(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """The result carries the director's raw keys, with which the resident agent checks later manifests by itself."""
    result = host.take()
    signer = sim.signers["director"][0]
    assert result.director.threshold == 1
    assert {k: v.hex() for k, v in result.director.keys.items()} == {
        signer.public_key.keyid: signer.public_key.keyval["public"]
    }
    assert result.manifest_floor.payload_sha256 == hashlib.sha256(result.manifest).digest()
