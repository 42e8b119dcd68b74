"""Attacks on time and order: rollback, freeze, fast-forward, with real signed bytes, each refused by name (FAULTS 3)."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from fakes.repository import HOUR_MS, RepositorySimulator, SimulatedHost
from fakes.verdicts import app_code, refused
from towpath.parameters import Parameter
from towpath.repository import to_time
from towpath.wire import encode_release
from towpath_agent.trust.verifier import verify

YEAR_MS = 365 * 24 * HOUR_MS
Attack = Callable[[RepositorySimulator], None]


# The honest case


def test_a_signed_release_is_admitted(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """What publisher and director agree on is admitted with the bytes as signed, filled parameters and raised floors."""
    port = Parameter("port", "port", 8080)
    name = Parameter("name", "string", "x")
    release = sim.publish("hello", "1.0.0", 1, parameters=(port, name))
    result = host.take(
        sim.sign(sim.manifest(host.facts, [sim.desire(release, parameters={"port": 9001}, assignment="a1")]))
    )
    (app,) = result.apps
    assert app.release == encode_release(release)
    assert dict(app.parameters) == {"port": 9001, "name": "x"}
    assert app.desired.assignment == "a1"
    assert result.refused == ()
    assert result.manifest_floor.sequence == sim.sequence
    assert result.manifest_floor.director_keys == frozenset(result.director.keys)
    assert result.expires_unix_ms == int(sim.timestamp.expires.timestamp()) * 1000
    assert result.time_floor_unix_ms == sim.now_ms
    floors = {key.partition("@")[0]: version for key, version in result.role_floors.items()}
    tops = {"root": 1, "targets": 2, "snapshot": 2, "timestamp": 2}
    assert floors == {**tops, "app-hello": 1, "snapshot/targets": 2, "snapshot/app-hello": 1}


def test_an_empty_manifest_is_good(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A host that should run nothing is told so by a signed, complete, empty set."""
    result = host.take()
    assert result.apps == ()
    assert result.refused == ()


def test_the_same_manifest_again_is_good(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """Verifying the identical envelope twice changes nothing: a crash between verifying and keeping is harmless."""
    envelope = sim.sign(sim.manifest(host.facts))
    assert host.take(envelope) == host.take(envelope)


def test_a_manifest_from_disk_needs_no_nonce(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """Without a nonce of its own the host still checks everything else."""
    envelope = sim.sign(sim.manifest(host.facts, nonce=b"of an earlier request"))
    assert verify(host.request(envelope, nonce=None), sim.fetch).manifest_floor.sequence == sim.sequence
    assert refused(host, envelope) == "replay"


def test_floors_do_not_grow_by_what_a_thief_lists(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A snapshot full of invented roles leaves no trace in the host's durable floors."""
    _, data = sim.listed["targets"]
    before = len(host.take().role_floors)
    sim.listed |= {f"app-x{number}": (9, data) for number in range(2000)}
    sim.serve_online()
    assert len(host.take().role_floors) == before


def test_one_apps_trouble_does_not_hold_up_another(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A refused app is named with its reason while the other app of the same manifest is admitted."""
    good = sim.publish("good", "1.0.0", 1)
    bad = sim.publish("bad", "1.0.0", 1, platforms=("linux/arm64",))
    result = host.take(None, bad, good)
    assert [app.desired.app for app in result.apps] == ["good"]
    assert [(app.desired.app, app.code) for app in result.refused] == [("bad", "wrong-platform")]


# Rollback


def _old_timestamp(sim: RepositorySimulator) -> None:
    sim.serve_timestamp(1)


def _old_snapshot(sim: RepositorySimulator) -> None:
    sim.serve_online(snapshot=1)


def _old_targets(sim: RepositorySimulator) -> None:
    sim.listed["targets"] = (1, sim.served["1.targets.json"])
    sim.listed.pop("app-hello")
    sim.serve_online()


def _old_app(sim: RepositorySimulator) -> None:
    sim.listed["app-hello"] = (1, sim.served["1.app-hello.json"])
    sim.serve_online()


@pytest.mark.parametrize("cache", ["kept", "lost", "truncated"])
@pytest.mark.parametrize("attack", [_old_timestamp, _old_snapshot, _old_targets, _old_app])
def test_rollback_of_metadata(sim: RepositorySimulator, host: SimulatedHost, attack: Attack, cache: str) -> None:
    """An older timestamp, snapshot, targets or app role is refused, also where a power cut emptied the cached files."""
    sim.publish("hello", "1.0.0", 1)
    release = sim.publish("hello", "1.0.1", 2)
    host.take(None, release)
    attack(sim)
    if cache != "kept":
        host.lose_cache(truncated=cache == "truncated")
    code = refused(host, sim.sign(sim.manifest(host.facts, min_snapshot_version=0)))
    # With its cache the library itself notices that a role has vanished from the snapshot.
    assert code == ("mix-and-match" if (attack is _old_targets and cache == "kept") else "rollback")


def test_a_hidden_root_is_a_rollback_even_with_its_old_keys(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """With the keys that root 2 revoked, a thief can sign a whole world under root 1; the floor refuses that world."""
    old = sim.rotate("timestamp")
    host.take()
    host.lose_cache(truncated=True)
    del sim.served["2.root.json"]
    sim.signers["timestamp"] = old
    sim.serve_online()
    assert refused(host) == "rollback"


def test_an_old_app_role_under_a_new_snapshot_key(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """The floor of an app's role holds by the app's own key, whatever becomes of the snapshot's."""
    sim.publish("hello", "1.0.0", 1)
    other = sim.publish("other", "1.0.0", 1)
    release = sim.publish("hello", "1.0.1", 2)
    host.take(None, release)
    host.lose_cache(truncated=True)
    sim.listed["app-hello"] = (1, sim.served["1.app-hello.json"])
    sim.rotate("timestamp")
    sim.rotate("snapshot")
    result = host.take(None, release, other)
    assert [app.desired.app for app in result.apps] == ["other"]
    assert [app.code for app in result.refused] == ["rollback"]


@pytest.mark.parametrize("cache", ["kept", "truncated"])
def test_fast_forward_of_a_listed_role_heals(sim: RepositorySimulator, host: SimulatedHost, cache: str) -> None:
    """A thief of the server who lists a huge version of an app's role locks that app out only until the keys rotate."""
    release = sim.publish("hello", "1.0.0", 1)
    honest = sim.listed["app-hello"]
    sim.listed["app-hello"] = (2**31, honest[1])
    sim.serve_online()
    host.take()
    sim.listed["app-hello"] = honest
    sim.serve_online()
    if cache == "truncated":
        host.lose_cache(truncated=True)
    assert refused(host) == "rollback"
    sim.rotate("timestamp")
    sim.rotate("snapshot")
    assert host.take(None, release).apps


def test_lost_cache_heals(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """After a power cut that emptied the cache, an honest server is believed at once, and the cache is whole again."""
    release = sim.publish("hello", "1.0.0", 1)
    host.take(None, release)
    host.lose_cache(truncated=True)
    sim.publish("hello", "1.0.1", 2)
    assert host.take(None, release).apps
    assert all(path.stat().st_size for path in host.folder.rglob("*.json"))


def test_rollback_of_a_manifest(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A manifest with an older sequence is refused although its signature is good."""
    old = sim.sign(sim.manifest(host.facts))
    host.take(sim.sign(sim.manifest(host.facts)))
    assert refused(host, old) == "rollback"


def test_equivocation(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """Two contents under one sequence number are refused."""
    manifest = sim.manifest(host.facts)
    host.take(sim.sign(manifest))
    assert refused(host, sim.sign(replace(manifest, issued_unix_ms=manifest.issued_unix_ms + 1))) == "equivocation"


def test_rollback_of_a_release(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A release below the floor that a confirmed release has set is refused: the publisher's lever on a stolen director."""
    old = sim.publish("hello", "1.0.0", 1)
    sim.publish("hello", "2.0.0", 2, rollback_floor=2)
    assert host.take(None, old).apps
    host.release_floors["hello"] = 2
    assert app_code(host.take(None, old)) == "rollback"


# Freeze


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
@pytest.mark.parametrize("judge", ["library", "guard"])
def test_freeze(sim: RepositorySimulator, host: SimulatedHost, role: str, judge: str) -> None:
    """An expired role refuses change: by the real clock, and by the host's own time where that is further on."""
    left = -HOUR_MS if judge == "library" else HOUR_MS
    getattr(sim, role).expires = to_time(sim.now_ms + left)
    _serve_again(sim)
    if judge == "guard":
        host.now_ms += 2 * HOUR_MS
    assert refused(host) == "freeze"


def _serve_again(sim: RepositorySimulator) -> None:
    sim.next_root()
    sim.serve_targets()
    sim.serve_online()


def test_a_clock_set_back_does_not_thaw(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """Incident 12, clock back, ahead and jumping: a host whose clock went back ten years still knows that time went on, by its time floor."""
    host.take()
    sim.timestamp.expires = to_time(sim.now_ms + HOUR_MS)
    sim.serve_online()
    host.time_floor_ms = sim.now_ms + 2 * HOUR_MS
    host.now_ms -= 10 * YEAR_MS
    assert refused(host) == "freeze"


def test_an_expired_manifest_is_a_freeze(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A manifest past its window is refused."""
    assert refused(host, sim.sign(sim.manifest(host.facts, expires_unix_ms=sim.now_ms))) == "freeze"


def test_a_lapsed_app_role_freezes_its_app_alone(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """One team's expired role refuses that team's app, and no other."""
    other = sim.publish("other", "1.0.0", 1)
    late = sim.publish("late", "1.0.0", 1, serve=False)
    sim.apps["late"].expires = to_time(sim.now_ms - HOUR_MS)
    sim.serve_app("late")
    sim.serve_targets()
    sim.serve_online()
    result = host.take(None, late, other)
    assert [app.desired.app for app in result.apps] == ["other"]
    assert [(app.desired.app, app.code) for app in result.refused] == [("late", "freeze")]


def test_an_app_role_that_lapsed_by_the_hosts_own_time(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """The guard looks at an app's role at the floored time too."""
    late = sim.publish("late", "1.0.0", 1, serve=False)
    sim.apps["late"].expires = to_time(sim.now_ms + HOUR_MS)
    sim.serve_app("late")
    sim.serve_targets()
    sim.serve_online()
    host.time_floor_ms = sim.now_ms + 2 * HOUR_MS
    assert app_code(host.take(None, late)) == "freeze"


def test_expiry_blocks_change_only(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """Expiry is a refusal to change: it takes nothing away that was admitted, and heals by signing again."""
    release = sim.publish("hello", "1.0.0", 1)
    admitted = host.take(None, release)
    sim.timestamp.expires = to_time(sim.now_ms - HOUR_MS)
    sim.serve_online()
    assert refused(host) == "freeze"
    assert host.role_floors == admitted.role_floors
    sim.timestamp.expires = to_time(sim.now_ms + HOUR_MS)
    sim.serve_online()
    assert host.take(None, release).apps == (replace(admitted.apps[0]),)


# Fast-forward


def test_fast_forward_of_the_sequence_heals_by_rotation(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A thief's huge sequence locks the director out until its key is rotated; then the host follows again."""
    host.take(sim.sign(sim.manifest(host.facts, sequence=2**60)))
    assert refused(host) == "rollback"
    sim.rotate("director")
    assert host.take().manifest_floor.sequence == sim.sequence


@pytest.mark.parametrize("overlap", [True, False])
def test_a_floor_holds_while_one_of_its_keys_is_trusted(
    sim: RepositorySimulator, host: SimulatedHost, overlap: bool
) -> None:
    """While old and new director keys overlap the floor holds; it falls when the last old key is gone."""
    host.take(sim.sign(sim.manifest(host.facts, sequence=2**60)))
    old = sim.signers["director"]
    sim.rotate("director")
    if overlap:
        sim._delegate("director", "director/none", [*old, *sim.signers["director"]], 1)
        sim.serve_targets()
        sim.serve_online()
        assert refused(host) == "rollback"
    else:
        assert host.take()


@pytest.mark.parametrize("cache", ["kept", "truncated"])
def test_fast_forward_of_metadata_heals_by_rotation(sim: RepositorySimulator, host: SimulatedHost, cache: str) -> None:
    """Versions that a thief of the online keys pushed far ahead no longer count once a new root rotates those keys."""
    sim.serve_online(snapshot=2**31, timestamp=2**31)
    host.take()
    sim.snapshot.version, sim.timestamp.version = 1, 1
    sim.serve_online()
    if cache == "truncated":
        host.lose_cache(truncated=True)
    assert refused(host, sim.sign(sim.manifest(host.facts, min_snapshot_version=0))) == "rollback"
    sim.rotate("timestamp")
    sim.rotate("snapshot")
    assert host.take().role_floors[f"snapshot@{sim.signers['snapshot'][0].public_key.keyid}"] == sim.snapshot.version


def test_fast_forward_of_time_is_bounded(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """Incident 12, clock back, ahead and jumping: a director that lies about the time is refused beyond a day, and moves the floor by a day at most."""
    ahead = sim.now_ms + 3 * 24 * HOUR_MS
    lie = sim.manifest(host.facts, issued_unix_ms=ahead, expires_unix_ms=ahead + HOUR_MS)
    assert refused(host, sim.sign(lie)) == "fast-forward"
    sim.timestamp.expires = to_time(sim.now_ms + 90 * 24 * HOUR_MS)
    sim.snapshot.expires = to_time(sim.now_ms + 90 * 24 * HOUR_MS)
    sim.serve_online()
    for _ in range(3):
        ahead = max(host.time_floor_ms, host.now_ms) + 24 * HOUR_MS
        host.take(sim.sign(sim.manifest(host.facts, issued_unix_ms=ahead, expires_unix_ms=ahead + HOUR_MS)))
        assert host.time_floor_ms == host.now_ms + 24 * HOUR_MS
