"""Attacks through announcements: what is only to be fetched passes every check of what is to run, with real signed bytes."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.host import SimulatedHost as WholeHost
from fakes.person import running
from fakes.repository import RepositorySimulator, SimulatedHost, new_signer
from fakes.verdicts import refused
from towpath.manifest import PREFETCH_FEATURE, DesiredApp, Manifest
from towpath.release import Release
from towpath.reports import PrefetchState
from towpath.wire import encode_release
from towpath_agent.trust.client import TrustClient
from towpath_agent.trust.verifier import verify

Lie = Callable[[RepositorySimulator, Release], DesiredApp]


def announcing(sim: RepositorySimulator, host: SimulatedHost, *ahead: DesiredApp, runs: Release | None = None) -> bytes:
    """Return an envelope that announces these, and wants one release to run."""
    apps = [] if runs is None else [sim.desire(runs)]
    return sim.sign(sim.manifest(host.facts, apps, prefetch=ahead, critical=(PREFETCH_FEATURE,)))


def test_an_announced_release_is_admitted_beside_what_runs(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """Two releases of one app: one to run, one to fetch; only metadata floors rise, as with every signed file."""
    one, two = sim.publish("hello", "1.0.0", 1), sim.publish("hello", "2.0.0", 2, rollback_floor=2)
    envelope = announcing(sim, host, sim.desire(two), runs=one)
    result = host.take(envelope)
    assert [it.desired.version for it in result.apps] == ["1.0.0"]
    assert [(it.desired.version, it.release) for it in result.prefetch] == [("2.0.0", encode_release(two))]
    assert host.release_floors == {}
    assert [it.desired.version for it in host.take(None, one).apps] == ["1.0.0"]


def test_the_child_returns_announcements_too(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """Over the pipes the two kinds are never mixed up, admitted or refused."""
    one, two = sim.publish("hello", "1.0.0", 1), sim.publish("hello", "2.0.0", 2)
    bad = sim.publish("bad", "1.0.0", 1, platforms=("linux/arm64",))
    wishes = [sim.desire(bad), sim.desire(two, generation=7)]
    envelope = announcing(sim, host, *wishes, runs=one)
    there = TrustClient().verify(host.request(envelope), sim.fetch)
    assert there == verify(host.request(envelope), sim.fetch)
    assert [it.desired.version for it in there.apps] == ["1.0.0"]
    assert [it.desired.version for it in there.prefetch] == ["2.0.0"]
    assert [(it.desired.app, it.code) for it in there.prefetch_refused] == [("bad", "wrong-platform")]
    assert there.refused == ()


def _unsigned(sim: RepositorySimulator, good: Release) -> DesiredApp:
    return sim.desire(replace(good, version="6.6.6", counter=1000))


def _other_bytes(sim: RepositorySimulator, good: Release) -> DesiredApp:
    return replace(sim.desire(good), release_sha256=hashlib.sha256(b"mine").digest())


def _other_counter(sim: RepositorySimulator, good: Release) -> DesiredApp:
    return replace(sim.desire(good), counter=99)


def _nobodys_app(sim: RepositorySimulator, good: Release) -> DesiredApp:
    return sim.desire(replace(good, app="evil"))


def _foreign_parameter(sim: RepositorySimulator, good: Release) -> DesiredApp:
    return sim.desire(good, parameters={"LD_PRELOAD": "x"})


def _swapped_bytes(sim: RepositorySimulator, good: Release) -> DesiredApp:
    wish = sim.desire(good)
    sim.releases["hello/2.0.0.release"] = encode_release(replace(good, counter=3))[: wish.release_size].ljust(
        wish.release_size, b"x"
    )
    return wish


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        (_unsigned, "arbitrary-software"),
        (_nobodys_app, "arbitrary-software"),
        (_swapped_bytes, "arbitrary-software"),
        (_other_bytes, "mix-and-match"),
        (_other_counter, "mix-and-match"),
        (_foreign_parameter, "bad-input"),
    ],
)
def test_a_stolen_server_can_announce_only_what_a_publisher_signed(
    sim: RepositorySimulator, host: SimulatedHost, lie: Lie, code: str
) -> None:
    """With every online key: refused by name, and what is to run is not held up."""
    one, two = sim.publish("hello", "1.0.0", 1), sim.publish("hello", "2.0.0", 2)
    result = host.take(announcing(sim, host, lie(sim, two), runs=one))
    assert [it.desired.version for it in result.apps] == ["1.0.0"]
    assert result.prefetch == ()
    assert [it.code for it in result.prefetch_refused] == [code]


def test_what_was_withdrawn_is_not_fetched_either(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A counter below the floor of what this host has confirmed, another environment's release."""
    old = sim.publish("hello", "1.0.0", 1)
    elsewhere = sim.publish("other", "1.0.0", 1, environments=("production",))
    host.release_floors["hello"] = 2
    result = host.take(announcing(sim, host, sim.desire(old), sim.desire(elsewhere)))
    assert {it.desired.app: it.code for it in result.prefetch_refused} == {
        "hello": "rollback",
        "other": "wrong-environment",
    }


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"critical": ()}, "unsaid-critical"), ({"critical": (PREFETCH_FEATURE, "and-run-it")}, "unknown-critical")],
)
def test_an_announcement_without_its_name_refuses_the_manifest(
    sim: RepositorySimulator, host: SimulatedHost, fields: dict[str, tuple[str, ...]], code: str
) -> None:
    """An agent of before would pass by what it does not know: no server may get used to that."""
    one = sim.publish("hello", "1.0.0", 1)
    ahead = (sim.desire(one),)
    manifest: Manifest = sim.manifest(host.facts, prefetch=ahead, **fields)
    assert refused(host, sim.sign(manifest)) == code


def test_another_directors_announcement_is_none(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """The signature is of the whole manifest: without the director's key there is nothing to read."""
    one = sim.publish("hello", "1.0.0", 1)
    manifest = sim.manifest(host.facts, prefetch=(sim.desire(one),), critical=(PREFETCH_FEATURE,))
    assert refused(host, sim.sign(manifest, [new_signer()])) == "arbitrary-manifest"


def test_a_whole_host_keeps_no_byte_of_what_nobody_signed(tmp_path: Path) -> None:
    """The thief serves every object of his release and announces it: not one is asked for, what runs goes on."""
    host = WholeHost(tmp_path / "host")
    host.chance = 0.0
    running(host, "1.0.0")
    good = host.publish("2.0.0")
    evil = host.server.add_object(b"evil" * 1000)
    release = replace(good, version="6.6.6", counter=99, artifact=replace(good.artifact, index_sha256=evil))
    wish = host.sim.desire(release)
    host.sim.releases[wish.target_path] = encode_release(release)

    def answer(nonce: bytes) -> bytes:
        apps = [host.sim.desire(it, generation=number) for it, number, _ in host.wishes]
        host.sim.sequence = max(host.sim.sequence, host.clock.now_unix_ms())
        host.sim.now_ms = host.clock.now_unix_ms()
        manifest = host.sim.manifest(host.facts, apps, nonce=nonce, prefetch=(wish,), critical=(PREFETCH_FEATURE,))
        return host.sim.sign(manifest)

    host.server.answer = answer
    before = sorted(path.name for path in (host.folder / "store").rglob("*"))
    host.agent.hint()
    host.run(900)
    ahead = host.state().prefetch
    assert ahead is not None
    assert (ahead.state, ahead.version) == (PrefetchState.REFUSED, "6.6.6")
    assert ahead.reason.startswith("arbitrary-software: ")
    assert sorted(path.name for path in (host.folder / "store").rglob("*")) == before
    assert not [want for wants in host.server.fetches for want in wants if want.digest == evil]
    assert (host.live(), host.serving()) == ("1.0.0", "1.0.0")
