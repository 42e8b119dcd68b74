"""Deltas over real gRPC: made in the background for what hosts run, served where they are ready, never waited for."""

import gzip
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc import StatusCode

from fakes.cli_shell import CliShell
from fakes.deltas import apply
from fakes.live_server import CALL_S, HostUnderTest, LiveServer, eventually, refused
from towpath.release import Release
from towpath.v1 import agent_pb2

RANDOM = random.Random(21)
ONE = RANDOM.randbytes(300_000)
TWO = ONE[1000:200_000] + b"what is new" + ONE[200_000:]
WAIT_S = 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with LiveServer(tmp_path) as running:
        yield running


def want(old: Release, new: Release, offset: int = 0) -> agent_pb2.Want:
    delta = agent_pb2.Delta(old_index_sha256=old.artifact.index_sha256, new_index_sha256=new.artifact.index_sha256)
    return agent_pb2.Want(delta=delta, offset=offset)


def fetch(host: HostUnderTest, one: agent_pb2.Want) -> list[agent_pb2.FetchResponse]:
    return list(host.api.Fetch(agent_pb2.FetchRequest(wants=[one]), timeout=CALL_S))


def kept(server: LiveServer) -> dict[str, int]:
    """What lies in the folder of deltas, by the end of its name."""
    folder = server.fleet / "server" / "objects" / "deltas"
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}


def name(old: Release, new: Release) -> str:
    return f"{old.artifact.index_sha256.hex()}-{new.artifact.index_sha256.hex()}"


def running(server: LiveServer, count: int = 1) -> tuple[Release, list[HostUnderTest]]:
    """Hosts that run 1.0.0."""
    hosts = [server.new_host(f"h{number}") for number in range(count)]
    release = server.publish("1.0.0", ONE)
    server.deploy("1.0.0")
    for host in hosts:
        eventually(lambda host=host: host.desired() == "1.0.0", "it is admitted", WAIT_S)
        host.obey()
    return release, hosts


def contents(server: LiveServer, release: Release, data: bytes) -> list[bytes]:
    _, index = server.make_release("9", data)
    assert hashlib.sha256(index).digest() == release.artifact.index_sha256
    return [data, index]


def test_publishing_makes_the_delta_from_what_hosts_run(server: LiveServer) -> None:
    """Nobody asked for it; it makes the new release out of the old one, from any byte on, and costs a fraction."""
    old, (host,) = running(server)
    new = server.publish("1.1.0", TWO)
    eventually(lambda: kept(server).get(name(old, new)), "the delta is made", WAIT_S)
    answers = fetch(host, want(old, new))
    data = b"".join(answer.data for answer in answers)
    assert answers[0].carried_size == len(data) == kept(server)[name(old, new)]
    assert len(data) < 2_000
    made = apply(data, contents(server, old, ONE))
    assert [digest for digest, _ in made.objects] == [hashlib.sha256(it).digest() for it in contents(server, new, TWO)]
    for offset in (1, len(data) - 1, len(data), len(data) + 5):
        answers = fetch(host, want(old, new, offset))
        assert b"".join(answer.data for answer in answers) == data[offset:]
        assert answers[-1].last
        assert answers[0].carried_size == len(data)


def test_a_host_that_asks_is_not_kept_waiting_and_the_next_one_is_served(server: LiveServer) -> None:
    """Nobody reported 1.0.0 here: the first who wants a delta from it is told that there is none, and has one made."""
    host = server.new_host()
    old, new = server.publish("1.0.0", ONE), server.publish("1.1.0", TWO)
    server.deploy("1.1.0")
    eventually(lambda: host.desired() == "1.1.0", "it is admitted", WAIT_S)
    assert kept(server) == {}
    (answer,) = fetch(host, want(old, new))
    assert (answer.missing, answer.last, answer.data) == (True, True, b"")
    eventually(lambda: not fetch(host, want(old, new))[0].missing, "the delta is made", WAIT_S)


def test_a_host_cannot_order_what_it_is_not_to_run(server: LiveServer) -> None:
    """A pair towards another release, one of strangers and a garbled one: there is none, and nothing is begun."""
    host = server.new_host()
    old, new, third = (server.publish(f"1.{n}.0", data) for n, data in enumerate((ONE, TWO, ONE + TWO)))
    server.deploy("1.1.0")
    eventually(lambda: host.desired() == "1.1.0", "it is admitted", WAIT_S)
    for wrong in (
        want(old, third),
        want(new, new),
        agent_pb2.Want(delta=agent_pb2.Delta(old_index_sha256=b"x" * 32, new_index_sha256=new.artifact.index_sha256)),
    ):
        (answer,) = fetch(host, wrong)
        assert answer.missing
    for garbled in (b"", b"../../x", b"x" * 5000):
        with refused(StatusCode.PERMISSION_DENIED, "garbled"):
            fetch(host, agent_pb2.Want(delta=agent_pb2.Delta(old_index_sha256=garbled, new_index_sha256=b"n" * 32)))
    # The needs are taken in order: when this one is made, the others were looked at.
    fetch(host, want(old, new))
    eventually(lambda: not fetch(host, want(old, new))[0].missing, "the good one is made", WAIT_S)
    assert set(kept(server)) == {name(old, new)}


def test_what_is_not_worth_a_delta_is_said_and_not_tried_again(server: LiveServer) -> None:
    """Contents that share nothing: the reason lies where the delta would be."""
    old, (host,) = running(server)
    new = server.publish("1.1.0", RANDOM.randbytes(50_000))
    eventually(lambda: f"{name(old, new)}.none" in kept(server), "it is given up", WAIT_S)
    assert fetch(host, want(old, new))[0].missing
    folder = server.fleet / "server" / "objects" / "deltas"
    why = (folder / f"{name(old, new)}.none").read_text()
    assert "would not save" in why
    shell = CliShell(server.fleet, server.operators)
    assert f"none: {why}" in shell.type("release", "show", "hello", "1.1.0").out
    server.publish("1.2.0", ONE)
    assert "none: both have the same files" in shell.type("release", "show", "hello", "1.2.0").out


def test_deltas_take_only_the_space_that_they_are_given(tmp_path: Path) -> None:
    """A new one pushes out the one that was used least lately."""
    with LiveServer(tmp_path, settings={"delta_space": 60_000}) as server:
        old, (host,) = running(server)
        parts = [RANDOM.randbytes(40_000) for _ in range(2)]
        second = server.publish("1.1.0", ONE + parts[0])
        eventually(lambda: kept(server).get(name(old, second)), "the first delta", WAIT_S)
        third = server.publish("1.2.0", ONE + parts[1])
        eventually(lambda: kept(server).get(name(old, third)), "the second delta", WAIT_S)
        assert set(kept(server)) == {name(old, third)}
        assert fetch(host, want(old, second))[0].missing


def test_a_server_that_is_told_so_makes_and_serves_none(tmp_path: Path) -> None:
    """`delta_space = 0`, also for those that an earlier run made."""
    with LiveServer(tmp_path) as server:
        old, (host,) = running(server)
        new = server.publish("1.1.0", TWO)
        eventually(lambda: kept(server), "the delta is made", WAIT_S)
        server.settings = {"delta_space": 0}
        server.restart(host)
        assert fetch(host, want(old, new))[0].missing
        shell = CliShell(server.fleet, server.operators)
        (way,) = shell.type("release", "show", "hello", "1.1.0", "-o", "json").json()["bytes"]["ways"]
        assert (way["delta"], way["no_delta"]) == (None, "switched off on the server: delta_space is 0")


def test_a_restarted_server_makes_what_was_not_finished(server: LiveServer) -> None:
    """Needs are in memory: at the start they are taken from what is to run and what hosts run."""
    old, (host,) = running(server)
    new = server.publish("1.1.0", TWO)
    server.deploy("1.1.0")
    eventually(lambda: kept(server), "the delta is made", WAIT_S)
    server.stop()
    for path in (server.fleet / "server" / "objects" / "deltas").glob("*-*"):
        path.unlink()
    server.start()
    server.connect(host)
    eventually(lambda: kept(server).get(name(old, new)), "the delta is made again", WAIT_S)


def test_a_damaged_object_makes_no_wrong_delta(server: LiveServer) -> None:
    """Objects are proven before they are used; hosts are served on."""
    old, (host,) = running(server)
    digest = hashlib.sha256(ONE).hexdigest()
    path = server.fleet / "server" / "objects" / digest[:2] / digest[2:]
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    new = server.publish("1.1.0", TWO)
    eventually(lambda: f"{name(old, new)}.none" in kept(server), "it is given up", WAIT_S)
    folder = server.fleet / "server" / "objects" / "deltas"
    assert "damaged" in (folder / f"{name(old, new)}.none").read_text()
    assert fetch(host, want(old, new))[0].missing
    assert not list((folder / "incoming").iterdir())


def test_a_plan_counts_the_delta_where_one_is_ready(server: LiveServer) -> None:
    """At most what the delta has, instead of the objects."""
    shell = CliShell(server.fleet, server.operators)
    old, _ = running(server)
    new = server.publish("1.1.0", TWO)
    size = eventually(lambda: kept(server).get(name(old, new)), "the delta is made", WAIT_S)
    words = ["plan", "hello", "1.1.0", "--environment", "dev", "--all-hosts", "-o", "json"]
    assert shell.type(*words).json()["at_most_bytes"] == size
    (server.fleet / "server" / "objects" / "deltas" / name(old, new)).unlink()
    assert shell.type(*words).json()["at_most_bytes"] > len(TWO)


def test_a_release_is_shown_with_its_bytes_and_the_ways_to_it(server: LiveServer) -> None:
    """`release show`: unpacked, compressed, and from each release that hosts run, with the delta and without."""
    shell = CliShell(server.fleet, server.operators)
    old, _hosts = running(server)
    assert "no host runs another release of it" in shell.type("release", "show", "hello", "1.0.0").out
    new = server.publish("1.1.0", TWO)
    delta = eventually(lambda: kept(server).get(name(old, new)), "the delta is made", WAIT_S)
    shown = shell.type("release", "show", "hello", "1.1.0", "-o", "json").json()
    size = new.artifact.tree_size + new.artifact.index_size
    assert shown["bytes"]["unpacked"] == size
    assert 0 < shown["bytes"]["carried"] < size + 1000
    (way,) = shown["bytes"]["ways"]
    assert (way["version"], way["hosts"], way["delta"]) == ("1.0.0", 1, delta)
    assert delta < way["objects"] <= shown["bytes"]["carried"]
    text = shell.type("release", "show", "hello", "1.1.0").out
    assert "hello 1.1.0, counter" in text
    assert "unpacked" in text
    kept_delta = server.fleet / "server" / "objects" / "deltas" / name(old, new)
    kept_delta.unlink()
    assert shell.type("release", "show", "hello", "1.1.0", "-o", "json").json()["bytes"]["ways"][0]["delta"] is None
    assert "none: not made yet" in shell.type("release", "show", "hello", "1.1.0").out
    assert (
        "it is not published; see: towpath release list hello" in shell.type("release", "show", "hello", "9.9.9").line
    )


def test_an_archive_is_opened_for_hosts_that_say_so_and_left_for_the_others(server: LiveServer) -> None:
    """Two deltas of one pair: the new one for a want that says `opened`, the plain one for an old agent."""
    words = [RANDOM.randbytes(6).hex().encode() for _ in range(2000)]
    text = b" ".join(RANDOM.choices(words, k=30_000))
    one, two = (gzip.compress(it, mtime=0) for it in (text, text[:50_000] + b"changed" + text[50_000:]))
    server.file = "app-1.tar.gz"
    host = server.new_host()
    old = server.publish("1.0.0", one)
    server.deploy("1.0.0")
    eventually(lambda: host.desired() == "1.0.0", "it is admitted", WAIT_S)
    host.obey()
    server.file = "app-2.tar.gz"
    new = server.publish("1.1.0", two)
    size = eventually(lambda: kept(server).get(f"{name(old, new)}.opened"), "the delta is made", WAIT_S)
    assert size * 20 < len(two)
    asked = want(old, new)
    asked.delta.opened = True
    data = b"".join(answer.data for answer in fetch(host, asked))
    assert (len(data), data[:8]) == (size, b"TPDELTA2")
    plain = eventually(
        lambda: {f"{name(old, new)}.none", name(old, new)} & set(kept(server)), "the plain one is tried", WAIT_S
    )
    answers = fetch(host, want(old, new))
    assert answers[0].missing if plain == {f"{name(old, new)}.none"} else answers[0].data.startswith(b"TPDELTA1")
    shell = CliShell(server.fleet, server.operators)
    shown = shell.type("release", "show", "hello", "1.1.0", "-o", "json").json()
    assert shown["bytes"]["ways"][0]["delta"] == size
    (server.fleet / "server" / "objects" / "deltas" / f"{name(old, new)}.opened").unlink()
    assert fetch(host, asked)[0].carried_size == fetch(host, want(old, new))[0].carried_size
    stored = [gzip.compress(it, 0, mtime=0) for it in (text, text + b"!")]
    third, fourth = server.publish("1.2.0", stored[0]), server.publish("1.3.0", stored[1])
    assert third != fourth
    eventually(lambda: f"{name(old, third)}.opened.none" in kept(server), "it cannot be put back", WAIT_S)
    folder = server.fleet / "server" / "objects" / "deltas"
    assert "bit for bit" in (folder / f"{name(old, third)}.opened.none").read_text()


def test_archives_are_opened_only_as_far_as_the_limit_on_both_releases_allows(tmp_path: Path) -> None:
    """`delta_largest` counts what is opened too: a small disk of a server is not filled by what archives expand to."""
    text = bytes(400_000)
    one, two = (gzip.compress(RANDOM.randbytes(40_000) + text + it, mtime=0) for it in (b"one", b"two"))
    with LiveServer(tmp_path, settings={"delta_largest": 300_000}) as server:
        server.file = "app-1.tar.gz"
        host = server.new_host()
        old = server.publish("1.0.0", one)
        server.deploy("1.0.0")
        eventually(lambda: host.desired() == "1.0.0", "it is admitted", WAIT_S)
        host.obey()
        new = server.publish("1.1.0", two)
        eventually(lambda: f"{name(old, new)}.opened.none" in kept(server), "it is not opened", WAIT_S)
        folder = server.fleet / "server" / "objects" / "deltas"
        assert "within delta_largest" in (folder / f"{name(old, new)}.opened.none").read_text()


def test_a_delta_that_sees_into_archives_goes_where_the_plain_one_is_no_longer(server: LiveServer) -> None:
    """What does not compress is stored in an archive as it is, so that there is nothing to see into it for."""
    one = RANDOM.randbytes(300_000)
    server.file = "app-1.tar.gz"
    host = server.new_host()
    old = server.publish("1.0.0", gzip.compress(one, mtime=0))
    server.deploy("1.0.0")
    eventually(lambda: host.desired() == "1.0.0", "it is admitted", WAIT_S)
    host.obey()
    server.file = "app-2.tar.gz"
    new = server.publish("1.1.0", gzip.compress(one + b"!", mtime=0))
    eventually(lambda: f"{name(old, new)}.opened.none" in kept(server), "it is given up", WAIT_S)
    assert f"{name(old, new)}.opened" not in kept(server)
    asked = want(old, new)
    asked.delta.opened = True
    assert b"".join(answer.data for answer in fetch(host, asked)).startswith(b"TPDELTA1")
