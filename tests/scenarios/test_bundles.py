"""The real agent takes a bundle as it takes a sync: all of its checks, its engine, its memory; without any server."""

import errno
from pathlib import Path

import pytest

from fakes.bundles import carry
from fakes.delta_host import NEW, DeltaHost
from fakes.host import SimulatedHost
from fakes.person import cut_objects, hold, of_kind, refused, running, told
from fakes.repository import new_signer
from towpath.manifest import OFFLINE_FEATURE
from towpath.reports import AppState, Event
from towpath.status import State, Verdict
from towpath_agent.ports import Want
from towpath_agent.runner.desired import SAVE_NEWEST_S
from towpath_agent.store.bundle import BundleFile
from towpath_agent.system.files import Files

DAY_MS = 86_400_000


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    """A host that runs 1.0.0 and has lost its server."""
    host = SimulatedHost(tmp_path / "host")
    running(host, "1.0.0")
    return host


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return tmp_path / "hello.tpb"


def offline(host: SimulatedHost) -> None:
    host.server.unreachable = True
    host.server.fetches.clear()


def apply(host: SimulatedHost, stick: Path) -> str:
    return told(host, "bundle", path=str(stick))


def in_journal(host: SimulatedHost, kind: str) -> list[Event]:
    return [event for event in host.journal.events(500) if event.kind == kind]


def chain(host: SimulatedHost, version: str) -> list[str]:
    """The states of a release, as the host's own journal has them."""
    return [event.state for event in in_journal(host, "transition") if event.version == version]


def own(host: SimulatedHost) -> AppState:
    """What the host says of hello, to whoever will hear it."""
    return next(state for state in host.journal.app_states() if state.app == "hello")


def test_a_host_without_a_server_runs_what_a_bundle_brings(host: SimulatedHost, stick: Path) -> None:
    """The whole chain of states, probes included; the server is asked for nothing, and hears of it when it is back."""
    release = host.publish("2.0.0")
    carry(host, stick, release)
    offline(host)
    assert "hello: 2.0.0 is to run" in apply(host, stick)
    host.settle()
    assert (host.live(), host.serving(), own(host).verdict) == ("2.0.0", "2.0.0", Verdict.SUCCEEDED)
    assert chain(host, "2.0.0")[-2:] == ["Watching", "Confirmed"]
    assert host.server.fetches == []
    assert "2.0.0 runs here already" in apply(host, stick)
    host.server.unreachable = False
    host.assign(release, generation=2)
    host.run(300)
    (event, *_) = of_kind(host, "note")
    assert (event.reason, event.code) == ("ana applied a bundle: hello 2.0.0", "bundle")
    assert host.serving() == "2.0.0"
    assert host.journal.meta()["bundle"] == ""


def test_a_delta_in_a_bundle_makes_the_release(tmp_path: Path, stick: Path) -> None:
    """No object is carried and none is asked for."""
    it = DeltaHost(tmp_path / "host")
    carry(it.host, stick, it.new, deltas={it.pair: it.delta()}, objects=False)
    offline(it.host)
    apply(it.host, stick)
    it.host.settle()
    tree = it.host.folder / "apps" / "hello" / "current"
    assert {name: (tree / name).read_bytes() for name in NEW} == NEW
    assert it.host.server.fetches == []


def test_a_bad_release_goes_back_by_itself_and_is_not_tried_again(host: SimulatedHost, stick: Path) -> None:
    """As after a sync: 1.0.0 serves, the failure is remembered, and the same bundle changes nothing."""
    host.ill.add("2.0.0")
    carry(host, stick, host.publish("2.0.0"))
    offline(host)
    apply(host, stick)
    host.settle()
    host.run(120)
    assert (host.live(), host.serving(), own(host).verdict) == ("1.0.0", "1.0.0", Verdict.FAILED)
    before = chain(host, "2.0.0")
    assert before[-2:] == ["Reverting", "Reverted"]
    apply(host, stick)
    host.run(600)
    assert chain(host, "2.0.0") == before
    host.ill.clear()
    told(host, "retry", "hello")
    host.settle()
    assert host.serving() == "2.0.0"


def test_a_held_host_is_not_moved_by_a_bundle(host: SimulatedHost, stick: Path) -> None:
    """It says so, and goes on when the hold ends, out of the bundle."""
    carry(host, stick, host.publish("2.0.0"))
    offline(host)
    hold(host)
    assert "note: hello stays held by ana" in apply(host, stick)
    host.run(600)
    assert (host.serving(), host.agent.transactions) == ("1.0.0", {})
    told(host, "release")
    host.settle()
    assert host.serving() == "2.0.0"


@pytest.mark.parametrize(("seconds", "restarted"), [(200, False), (SAVE_NEWEST_S * 2, True)])
def test_an_old_bundle_does_not_win_over_newer_syncs(
    host: SimulatedHost, stick: Path, seconds: float, restarted: bool
) -> None:
    """Also where none of them said anything new, and after a restart."""
    carry(host, stick, host.publish("2.0.0"))
    metadata = dict(host.sim.served)
    host.run(seconds)
    assert host.sim.served == metadata, "nothing but the syncs is newer"
    if restarted:
        host.boot()
    offline(host)
    assert refused(host, "bundle", path=str(stick)).startswith("rollback: cannot use the bundle: it is older than")
    host.run(60)
    assert host.serving() == "1.0.0"
    assert in_journal(host, "refusal")[-1].code == "rollback"


def test_a_bundle_brings_bytes_where_the_servers_newer_word_wants_them(host: SimulatedHost, stick: Path) -> None:
    """A host with a thin line has been told already: the stick saves the line, and its manifest counts for nothing."""
    carry(host, stick, host.publish("2.0.0"))
    release = host.publish("3.0.0", files={"data": bytes(range(256)) * 4000})
    carry(host, stick, release, sequence=1)
    cut_objects(host)
    host.assign(release, generation=2)
    host.run(5)
    assert host.serving() == "1.0.0"
    host.server.fetches.clear()
    assert "what it wants is taken out of the bundle" in apply(host, stick)
    host.settle()
    assert host.serving() == "3.0.0"
    assert not [want for wants in host.server.fetches for want in wants if want.kind == "object"]


def test_a_disk_that_is_full_does_not_keep_a_host_from_syncing(host: SimulatedHost) -> None:
    """What it cannot write down now it writes down later: nothing came of it."""

    def full(verb: str, path: Path) -> None:
        if path.parent.name == "trust":
            raise OSError(errno.ENOSPC, f"{verb} {path}")

    host.extra_change = full
    host.run(SAVE_NEWEST_S * 2)
    assert host.agent.live("").sync_failures == 0
    before = host.journal.meta()
    host.extra_change = lambda _verb, _path: None
    host.run(SAVE_NEWEST_S * 2)
    assert host.journal.meta() == before


def test_of_two_bundles_the_newer_one_counts(host: SimulatedHost, stick: Path) -> None:
    """The older one is refused afterwards; a newer one takes its place, and goes back where that is what it says."""
    first, second = host.publish("2.0.0"), host.publish("3.0.0")
    carry(host, stick, first)
    newer = carry(host, stick.with_name("newer.tpb"), second, generation=3)
    offline(host)
    apply(host, newer)
    host.settle()
    assert refused(host, "bundle", path=str(stick)).startswith("rollback")
    host.clock.wait(host.agent.wake, 5)
    carry(host, stick, first, generation=4)
    apply(host, stick)
    host.settle()
    assert host.serving() == "2.0.0"


def test_the_servers_newer_word_wins_over_a_bundle(host: SimulatedHost, stick: Path) -> None:
    """A host that hears its server again does what that says."""
    one, two = host.publish("2.0.0"), host.publish("3.0.0")
    carry(host, stick, one)
    offline(host)
    apply(host, stick)
    host.settle()
    host.server.unreachable = False
    host.clock.wait(host.agent.wake, 5)
    host.assign(two, generation=3)
    host.settle()
    host.run(120)
    assert host.serving() == "3.0.0"


def test_a_bundle_cannot_take_a_host_below_its_floor(host: SimulatedHost, stick: Path) -> None:
    """What the publisher has withdrawn stays withdrawn: the app is refused, whatever the manifest says."""
    old = host.publish("1.5.0")
    fixed = host.publish("2.0.0", rollback_floor=3)
    host.assign(fixed, generation=2)
    host.settle()
    host.run(120)
    host.clock.wait(host.agent.wake, 5)
    carry(host, stick, old, generation=3)
    offline(host)
    assert "1.5.0 is refused: rollback" in apply(host, stick)
    host.run(60)
    assert host.serving() == "2.0.0"


def test_a_bundles_manifest_is_no_answer_to_a_sync(host: SimulatedHost, stick: Path) -> None:
    """A server, or who stands for it, that replays it is refused under the attack's name."""
    release = host.publish("2.0.0")
    carry(host, stick, release)
    envelope = BundleFile(stick, Files()).manifest(host.facts.host_id)
    honest = host.server.answer
    host.server.answer = lambda _nonce: envelope or b""
    host.agent.hint()
    host.run(60)
    assert host.serving() == "1.0.0"
    assert of_kind(host, "refusal") or in_journal(host, "refusal")[-1].code == "replay"

    def marked(nonce: bytes) -> bytes:
        manifest = host.sim.manifest(host.facts, [host.sim.desire(release)], nonce=nonce, critical=(OFFLINE_FEATURE,))
        return host.sim.sign(manifest)

    host.sim.sequence = host.clock.now_unix_ms()
    host.server.answer = marked
    host.agent.hint()
    host.run(60)
    assert host.serving() == "1.0.0"
    host.server.answer = honest


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("replay", {"critical": ()}),
        ("replay", {"nonce": b"o" * 16}),
        ("wrong-host", {"host_id": "host-2"}),
        ("wrong-host", {"host_key_sha256": b"z" * 32}),
        ("wrong-environment", {"environment": "production"}),
        ("freeze", {"expires_unix_ms": 1}),
        ("lapsed", {"said": {"valid_until_unix_ms": 1000}}),
        ("mix-and-match", {"min_snapshot_version": 10**6}),
        ("garbled", {"said": {"id": "zz"}}),
    ],
)
def test_what_a_host_refuses_of_a_bundle(
    host: SimulatedHost, stick: Path, code: str, changes: dict[str, object]
) -> None:
    """By name, told in the journal, and nothing is changed: neither what should run nor what does."""
    carry(host, stick, host.publish("2.0.0"), **changes)  # type: ignore[arg-type]
    offline(host)
    before = host.journal.meta().get("desired")
    assert refused(host, "bundle", path=str(stick)).startswith(f"{code}: ")
    host.run(60)
    assert (host.serving(), host.journal.meta().get("desired")) == ("1.0.0", before)
    assert in_journal(host, "refusal")[-1].code == code


def test_a_bundle_of_a_stolen_director_key_that_was_rotated_is_refused(host: SimulatedHost, stick: Path) -> None:
    """The keys are those that verified metadata names."""
    release = host.publish("2.0.0")
    host.sim.signers["director"] = [new_signer()]
    carry(host, stick, release)
    offline(host)
    assert refused(host, "bundle", path=str(stick)).startswith("arbitrary-manifest")


def test_files_that_are_no_bundle_are_refused(host: SimulatedHost, stick: Path, tmp_path: Path) -> None:
    """Nothing there, a folder, a link, a pipe that would never end, a file cut off, one for other hosts."""
    assert refused(host, "bundle", path=str(stick)).startswith("not-found")
    assert refused(host, "bundle", path=str(tmp_path)).startswith("not-found")
    import os

    os.mkfifo(tmp_path / "pipe")
    assert refused(host, "bundle", path=str(tmp_path / "pipe")).startswith("not-found")
    assert refused(host, "bundle", path="a\0b").startswith("not-found")
    carry(host, stick, host.publish("2.0.0"))
    (tmp_path / "link").symlink_to(stick)
    assert refused(host, "bundle", path=str(tmp_path / "link")).startswith("not-found")
    whole = stick.read_bytes()
    stick.write_bytes(whole[:-700])
    assert refused(host, "bundle", path=str(stick)).startswith("truncated")
    stick.write_bytes(b"")
    assert refused(host, "bundle", path=str(stick)).startswith("truncated")
    stick.write_bytes(whole.replace(b"manifests\0", b"manifestx\0"))
    assert refused(host, "bundle", path=str(stick)).startswith("garbled")
    assert host.serving() == "1.0.0"


def test_a_restart_in_the_middle_goes_on_with_the_bundle(host: SimulatedHost, stick: Path) -> None:
    """Where it lies is remembered; what came is kept."""
    carry(host, stick, host.publish("2.0.0", files={"data": bytes(3_000_000)}))
    offline(host)
    hold(host)
    apply(host, stick)
    host.boot()
    told(host, "release")
    host.settle()
    assert (host.serving(), host.server.fetches) == ("2.0.0", [])


def test_a_stick_that_is_pulled_out_costs_time_and_nothing_else(host: SimulatedHost, stick: Path) -> None:
    """1.0.0 goes on running; the server brings the rest, or the stick that is put in again."""
    carry(host, stick, host.publish("2.0.0"))
    offline(host)
    hold(host)
    apply(host, stick)
    away = stick.rename(stick.with_name("away"))
    told(host, "release")
    host.run(20)
    assert host.serving() == "1.0.0"
    host.boot()
    host.run(20)
    assert (host.serving(), host.journal.meta()["bundle"]) == ("1.0.0", "")
    away.rename(stick)
    apply(host, stick)
    host.run(600)
    assert host.serving() == "2.0.0"


def test_a_server_that_is_back_brings_what_a_stick_that_was_pulled_out_does_not(
    host: SimulatedHost, stick: Path
) -> None:
    """Without anybody starting the agent anew."""
    release = host.publish("2.0.0")
    carry(host, stick, release)
    offline(host)
    hold(host)
    apply(host, stick)
    stick.unlink()
    told(host, "release")
    host.run(20)
    assert host.serving() == "1.0.0"
    host.server.unreachable = False
    host.wishes = [(release, 2, {})]
    host.run(900)
    assert host.serving() == "2.0.0"


def test_a_swapped_object_is_found_and_the_server_asked(host: SimulatedHost, stick: Path) -> None:
    """Without a server nothing is changed; with one the object itself is fetched."""
    release = host.publish("2.0.0", content="what is signed")
    honest = dict(host.server.carried)
    lie = host.server.add_object(b"what is not")
    for digest in set(honest) - {release.artifact.index_sha256}:
        host.server.carried[digest] = host.server.carried[lie]
    carry(host, stick, release)
    host.server.carried = honest
    offline(host)
    apply(host, stick)
    host.run(30)
    assert host.serving() == "1.0.0"
    host.server.unreachable = False
    host.wishes = [(release, 2, {})]
    host.run(900)
    assert host.serving() == "2.0.0"


def test_a_bundle_answers_offsets_as_a_server_does(host: SimulatedHost, stick: Path) -> None:
    """Every object whole, from the middle, and from behind its end; what it lacks comes from the server, in order."""
    host.publish("2.0.0", files={"data": bytes(range(256)) * 4000, "empty": b""})
    carry(host, stick)
    bundle = BundleFile(stick, Files())
    from towpath_agent.store.bundle import bundle_first

    source = bundle_first(bundle, host.server)
    extra = host.server.add_object(b"only the server has it")
    digests = list(host.server.carried)
    for offset in (0, 3, 10**7):
        wants = [Want("object", digest=digest, offset=offset) for digest in digests]
        got = dict.fromkeys(range(len(wants)), b"")
        for chunk in source.fetch(wants):
            got[chunk.want] += chunk.data
        assert [got[n] for n in range(len(wants))] == [host.server.carried[digest][offset:] for digest in digests]
    assert source.distrust(digests[0])
    assert not source.distrust(extra)
    assert bundle.find(Want("object", digest=digests[0])) is None
    assert bundle.find(Want("metadata", name="timestamp.json")) is None


def test_state_is_reported_as_ever(host: SimulatedHost, stick: Path) -> None:
    """The state names the generation of the assignment that the bundle stands for."""
    carry(host, stick, host.publish("2.0.0"), generation=7)
    offline(host)
    apply(host, stick)
    host.settle()
    state = own(host)
    assert (state.state, state.generation, state.current_version) == (State.CONFIRMED, 7, "2.0.0")
