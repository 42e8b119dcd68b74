"""A site's relay as a real process, over real TLS: what it saves, and that whatever it does costs time and no more."""

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from conformance.server_port import ServerPortSuite, Subject
from fakes.authority import Authority, now_ms
from fakes.deltas import make
from fakes.evil_relay import EvilRelay
from fakes.live_server import channel, eventually
from fakes.proxy import ConnectProxy
from fakes.server_command import clean_env
from fakes.site import Site
from towpath import pki
from towpath.errors import Unavailable
from towpath.index import Entry, EntryType
from towpath.names import OPERATOR_URI, RELAY_NAME
from towpath.v1 import agent_pb2, agent_pb2_grpc
from towpath.wire import encode_index
from towpath_agent.engine.maxrate import CREDIT_S
from towpath_agent.ports import Want
from towpath_agent.store import Store
from towpath_agent.store.deltas import Bounds, Pair, Taken
from towpath_agent.system.files import Files
from towpath_agent.transport.leaf import shown_leaf
from towpath_agent.transport.relayed import RelayedServer

NONCE = b"0123456789abcdef"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def site(tmp_path: Path, authority: Authority) -> Iterator[Site]:
    with Site(tmp_path, authority) as site:
        yield site


class TestRelayedServer(ServerPortSuite):
    """What a server promises, over a relay."""

    WAYS = 2  # the tunnel, and directly

    @pytest.fixture
    def subject(self, site: Site) -> Subject:
        return Subject(site.host("h1"), site.behind)

    def test_a_stream_that_breaks_is_unavailable_after_its_bytes(self, subject: Subject) -> None:
        """It is gone on with by the relay: the host sees nothing of it."""
        digest = subject.behind.add_object(os.urandom(600_000))
        subject.behind.cut_after = 300_000
        got = b"".join(chunk.data for chunk in subject.server.fetch([Want("object", digest=digest)]))
        assert subject.behind.carried[digest] == got
        assert len(subject.behind.fetches) > 1


def add(site: Site, *sizes: int) -> dict[bytes, int]:
    """Give the server objects of these sizes; return digest and size of each."""
    return {site.behind.add_object(os.urandom(size)): size for size in sizes}


def fetch(site: Site, folder: Path, name: str, objects: dict[bytes, int], **how: Any) -> Store:
    """Fetch as a host does; every byte is proven by the store."""
    store = Store(folder / name, Files())
    store.fetch(objects, site.host(name, **how))
    for digest, size in objects.items():
        assert hashlib.sha256(store.read(digest, size)).digest() == digest
    return store


def _wait(event: threading.Event) -> None:
    assert event.wait(60)


def carried(site: Site, objects: dict[bytes, int]) -> int:
    return sum(len(site.behind.carried[digest]) for digest in objects)


def test_many_hosts_cost_the_uplink_what_one_costs(site: Site, tmp_path: Path) -> None:
    """Twenty hosts ask at the same moment for objects of all sizes; each object leaves the server once."""
    objects = add(site, 10, 1_000, 70_000, 3_000_000, *([5_000] * 100))
    barrier = threading.Barrier(20)

    def one(number: int) -> None:
        barrier.wait(60)
        # Twenty at once may wait for a processor for longer than one host waits for a relay.
        fetch(site, tmp_path, f"h{number}", objects, patience_s=60)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(one, range(20)))
    assert site.behind.sent_bytes == carried(site, objects)
    assert site.said == []
    assert "relays-host" in site.api.peers
    assert not [peer for peer in site.api.peers if peer != "relays-host"]  # nobody else fetched


def test_what_is_in_the_cache_comes_while_the_uplink_is_down(site: Site, tmp_path: Path) -> None:
    """A host gets the objects of a release that another host of the site has, without any server; also after a restart."""
    objects = add(site, 100_000, 2_000)
    fetch(site, tmp_path, "h1", objects)
    site.stop_server()
    fetch(site, tmp_path, "h2", objects)
    site.end_relay(signal.SIGKILL)
    site.start_relay()
    fetch(site, tmp_path, "h3", objects)
    with pytest.raises(Unavailable):
        fetch(site, tmp_path, "h4", {hashlib.sha256(b"new").digest(): 3})


def test_the_tunnel_is_opaque_and_falls_back(site: Site) -> None:
    """The server sees the host's own certificate through the relay; without the relay the host goes itself, and says so."""
    host = site.host("h1")
    host.sync(nonce=NONCE, state_revision=0, boot_id="")
    assert site.api.peers == ["h1"]
    assert site.said == []
    site.end_relay()
    host.sync(nonce=NONCE, state_revision=0, boot_id="")
    assert site.api.peers == ["h1", "h1"]
    assert len(site.said) == 1
    assert site.relay in site.said[0]
    assert f"going to {site.server} itself" in site.said[0]


def test_a_site_without_uplink_does_not_turn_from_its_relay(site: Site) -> None:
    """While nothing leads to the server, both ways are tried each time; the first one that works again is used."""
    host = site.host("h1")
    site.stop_server()
    for _ in range(3):
        with pytest.raises(Unavailable):
            host.sync(nonce=NONCE, state_revision=0, boot_id="")
    assert site.said == []
    site.end_relay()
    site.start_server()
    site.start_relay()

    def synced() -> bool:
        with contextlib.suppress(Unavailable):
            host.sync(nonce=NONCE, state_revision=0, boot_id="")
            return True
        return False

    eventually(synced, "a sync is answered")


def test_a_fetch_without_uplink_does_not_blame_the_relay(site: Site) -> None:
    """Metadata goes through the tunnel: while neither way leads to the server, the tunnel is no worse than the other."""
    site.behind.metadata["1.root.json"] = b"root"
    host = site.host("h1")
    want = Want("metadata", name="1.root.json")
    assert [chunk.data for chunk in host.fetch([want])] == [b"root"]
    site.stop_server()
    for _ in range(3):
        with pytest.raises(Unavailable):
            list(host.fetch([want]))
    assert site.said == []
    site.start_server()

    def fetched() -> bool:
        with contextlib.suppress(Unavailable):
            return [chunk.data for chunk in host.fetch([want])] == [b"root"]
        return False

    eventually(fetched, "it comes again")
    site.end_relay()
    eventually(fetched, "it comes directly")  # the direct connection may still rest from when the server was away
    assert len(site.said) == 1, "the relay alone is away, and the other way is known to be better"


def test_a_relay_that_is_killed_goes_on_where_the_line_was_cut(site: Site, tmp_path: Path) -> None:
    """What the relay has of an object is not fetched again, after a cut of the uplink and kill -9 of the relay."""
    objects = add(site, 4_000_000)
    (digest,) = objects
    goes_on = threading.Event()
    site.behind.before_chunk = lambda _number: None if site.behind.sent_bytes < 3_000_000 else _wait(goes_on)
    partial = site.cache / "partial" / digest.hex()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(fetch, site, tmp_path, "h1", objects, patience_s=60)
        eventually(lambda: partial.exists() and partial.stat().st_size > 1_000_000, "some of it came", 60)
        site.end_relay(signal.SIGKILL)
        kept = partial.stat().st_size
        goes_on.set()
        first.result(60)  # the rest by itself, from the server
    site.start_relay()
    before = site.behind.sent_bytes
    fetch(site, tmp_path, "h2", objects)
    assert site.behind.sent_bytes - before == carried(site, objects) - kept


def test_a_cut_of_the_uplink_sends_no_host_to_the_server(site: Site, tmp_path: Path) -> None:
    """The relay goes on where it was, however often the line breaks; six hosts wait for it and see nothing of that."""
    objects = add(site, 3_000_000, *([20_000] * 20))
    site.behind.cut_after = 500_000

    def one(number: int) -> None:
        fetch(site, tmp_path, f"h{number}", objects, patience_s=60)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(6)))
    assert len(site.behind.fetches) > 6
    assert set(site.api.peers) == {"relays-host"}
    assert site.said == []
    assert site.behind.sent_bytes < 1.5 * carried(site, objects)


def test_a_line_that_stays_down_is_not_waited_for(site: Site, tmp_path: Path) -> None:
    """Each try that brings nothing is a vain one; hosts have the server's own address."""
    objects = add(site, 400_000)
    site.behind.cut_after = 0
    with pytest.raises(Unavailable):
        fetch(site, tmp_path, "h1", objects)
    site.behind.cut_after = None
    fetch(site, tmp_path, "h2", objects)


def test_what_a_relay_lacks_takes_nothing_from_what_it_has(site: Site, tmp_path: Path) -> None:
    """A host without any way to the server gets all that the cache has, whatever lies between it."""
    has = add(site, *([5_000] * 5))
    fetch(site, tmp_path, "h1", has)
    site.stop_server()
    first, *rest = has.items()
    store = Store(tmp_path / "h2", Files())
    with pytest.raises(Unavailable):
        store.fetch(dict([first, (hashlib.sha256(b"new").digest(), 3), *rest]), site.host("h2", patience_s=60))
    assert store.missing(has) == {}


def test_an_object_that_is_too_large_costs_the_others_nothing(tmp_path: Path, authority: Authority) -> None:
    """It is asked of the server by each host; the rest crosses the line once, and it is not begun again each time."""
    with Site(tmp_path / "site", authority, "--max-bytes", "2MiB") as site:
        small = add(site, *([20_000] * 20))
        large = add(site, 12_000_000)
        for number in range(3):
            fetch(site, tmp_path, f"h{number}", {**dict(list(small.items())[:5]), **large, **small})
        begun = site.behind.sent_bytes - carried(site, small) - 3 * carried(site, large)
        assert 0 <= begun < carried(site, large), "what was on its way before the relay knew its size, once"


def test_what_the_relays_disk_damaged_is_fetched_again_once(site: Site, tmp_path: Path) -> None:
    """A flipped byte in the cache costs the line one more fetch; hosts see nothing of it, whatever they have already."""
    objects = add(site, 3_000_000)
    fetch(site, tmp_path, "h0", objects)
    (kept,) = site.kept()
    damaged = bytearray(kept.read_bytes())
    damaged[150_000] ^= 1
    kept.write_bytes(damaged)
    barrier = threading.Barrier(6)

    def one(number: int) -> None:
        barrier.wait(60)
        fetch(site, tmp_path, f"h{number}", objects, patience_s=60)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(one, range(1, 7)))
    assert site.said == []
    assert site.behind.sent_bytes == 2 * carried(site, objects)
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == kept.name.partition(".")[2]


@pytest.mark.parametrize("evil", ["lies", "stalls", "endless", "short", "says no", "hangs up"])
def test_an_evil_relay_costs_time_and_no_more(site: Site, tmp_path: Path, authority: Authority, evil: str) -> None:
    """Whatever stands at the relay's address: the host ends with the signed bytes, of the server, and says why."""
    objects = add(site, 50_000, 400_000)
    with EvilRelay(tmp_path / "evil", authority, evil, site.behind) as address:
        fetch(site, tmp_path, "h1", objects, relay=address)
    assert site.said
    assert all(address in line for line in site.said)


def test_a_relay_that_lied_is_left_alone(site: Site, tmp_path: Path, authority: Authority) -> None:
    """After wrong bytes the relay is not asked for the next object either, and the log says which object it was."""
    first, second = add(site, 50_000), add(site, 60_000)
    with EvilRelay(tmp_path / "evil", authority, "lies", site.behind) as address:
        host = site.host("h1", relay=address)
        store = Store(tmp_path / "store", Files())
        store.fetch(first, host)
        assert [line for line in site.said if next(iter(first)).hex()[:16] in line]
        site.said.clear()
        store.fetch(second, host)
        assert not [line for line in site.said if "not what it must be" in line]


class Upgrade:
    """Two releases, one object each beside the index, and the delta between them."""

    def __init__(self, site: Site) -> None:
        shared = os.urandom(200_000)
        self.contents = [b"the old index", shared], [b"one byte more: !" + shared, b"the new index"]
        for content in (*self.contents[0], *self.contents[1]):
            site.behind.add_object(content)
        (old, _), (_, new) = self.contents
        self.old, self.new = hashlib.sha256(old).digest(), hashlib.sha256(new).digest()
        self.delta = site.behind.deltas[self.old, self.new] = make(*self.contents, index_last=True)

    def take(self, host: RelayedServer, folder: Path) -> Store:
        """Let a host that has the old release take the delta; return its store."""
        store = Store(folder, Files())
        base = [(hashlib.sha256(content).digest(), len(content)) for content in self.contents[0]]
        store.fetch(dict(base), host)
        taken = store.deltas.take(
            Pair(self.old, self.new, base), host, Bounds(10**6, 10**6), lacking=lambda: 0, interrupted=lambda: False
        )
        assert taken is Taken.APPLIED
        assert store.read(self.new, 100) == self.contents[1][1]
        return store


def test_a_delta_crosses_the_line_once(site: Site, tmp_path: Path) -> None:
    """Ten hosts take the same delta through the relay; also after its restart and without the uplink."""
    it = Upgrade(site)
    it.take(site.host("h0"), tmp_path / "h0")
    sent = site.behind.sent_bytes
    with ThreadPoolExecutor(9) as pool:
        list(pool.map(lambda n: it.take(site.host(f"h{n}"), tmp_path / f"h{n}"), range(1, 10)))
    site.stop_server()
    site.end_relay(signal.SIGKILL)
    site.start_relay()
    it.take(site.host("late"), tmp_path / "late")
    assert site.behind.sent_bytes == sent
    assert site.said == []


@pytest.mark.parametrize("whole", [True, False])
def test_no_delta_crosses_the_line_to_a_release_that_the_relay_has(site: Site, tmp_path: Path, *, whole: bool) -> None:
    """After an import, or another host's fetch; where one object lacks, the delta is what costs the least."""
    contents = [os.urandom(200_000), os.urandom(3_000)]
    entries = [
        Entry(f"file{number}", EntryType.FILE, 0o644, len(content), hashlib.sha256(content).digest())
        for number, content in enumerate(contents)
    ]
    index, old = encode_index(entries), [b"the old index", contents[0]]
    for content in (*old, *contents, index):
        site.behind.add_object(content)
    digest, base = hashlib.sha256(index).digest(), [(hashlib.sha256(it).digest(), len(it)) for it in old]
    site.behind.deltas[base[0][0], digest] = make(old, [contents[1], index], index_last=True)
    store = Store(tmp_path / "h1", Files())
    has = {hashlib.sha256(it).digest(): len(it) for it in ([*contents, index] if whole else [contents[0], index])}
    store.fetch(dict(base), site.host("h1"))
    store.fetch(has, site.host("h1"))
    site.behind.fetches.clear()
    host = Store(tmp_path / "h2", Files())
    host.fetch(dict(base), site.host("h2"))
    taken = host.deltas.take(
        Pair(base[0][0], digest, base),
        site.host("h2"),
        Bounds(10**6, 10**6),
        lacking=lambda: 0,
        interrupted=lambda: False,
    )
    assert taken is (Taken.NONE if whole else Taken.APPLIED)
    assert bool(site.behind.fetches) is not whole
    assert site.said == []


def test_a_delta_that_a_relay_spoiled_is_taken_from_the_server(
    site: Site, tmp_path: Path, authority: Authority
) -> None:
    """The relay is left alone, and the pair is not blamed for what the relay did."""
    it = Upgrade(site)
    store = Store(tmp_path / "store", Files())
    good = site.host("h1")
    store.fetch({hashlib.sha256(content).digest(): len(content) for content in it.contents[0]}, good)
    with EvilRelay(tmp_path / "evil", authority, "lies", site.behind) as address:
        it.take(site.host("h1", relay=address), tmp_path / "store")
    assert [line for line in site.said if it.new.hex()[:16] in line]
    assert not list((tmp_path / "store" / "deltas").glob("*.refused"))


def test_a_full_disk_at_the_relay_is_no_trouble_for_hosts(tmp_path: Path, authority: Authority) -> None:
    """Where the relay cannot write, its hosts fetch from the server; small objects still come through it."""
    with Site(tmp_path, authority, most_file_bytes=200_000) as site:
        objects = add(site, 1_000, 900_000)
        fetch(site, tmp_path, "h1", objects)
        fetch(site, tmp_path, "h2", objects)
        assert [path.stat().st_size < 200_000 for path in site.kept()] == [True]


def test_the_cache_stays_below_its_limit(tmp_path: Path, authority: Authority) -> None:
    """The least used object goes first; one that is larger than the cache comes from the server."""
    with Site(tmp_path, authority, "--max-bytes", "250KiB") as site:
        old, used, new, large = (add(site, size) for size in (100_000, 100_001, 100_002, 900_000))
        for objects in (old, used):
            fetch(site, tmp_path, "h1", objects)
        fetch(site, tmp_path, "h2", used)
        for number, objects in enumerate((new, large)):
            fetch(site, tmp_path, f"h{3 + number}", objects)
        names = {path.name[:64] for path in site.kept()}
        assert names == {next(iter(objects)).hex() for objects in (used, new)}
        assert sum(path.stat().st_size for path in site.kept()) <= 250 * 1024


def test_all_that_a_relay_fetches_keeps_to_its_rate_together(tmp_path: Path, authority: Authority) -> None:
    """Two hosts that want different objects at once get them no faster than one; what is in the cache is not held up."""
    with Site(tmp_path, authority, "--max-rate", "40KB/s") as site, ThreadPoolExecutor(2) as pool:
        assert "fetching at most 39.1KiB/s" in (tmp_path / "relay.log").read_text()
        wanted = [add(site, *([20_000] * 4)), add(site, *([20_001] * 4))]
        began = time.monotonic()
        list(pool.map(lambda number: fetch(site, tmp_path, f"h{number}", wanted[number]), range(2)))
        # Each call may bring one object before anything is owed.
        assert time.monotonic() - began > (160_000 - 2 * 20_001) / 40_000 - CREDIT_S
        assert site.said == []
        sent = site.behind.sent_bytes
        fetch(site, tmp_path, "h3", wanted[0])
        assert site.behind.sent_bytes == sent


@pytest.mark.parametrize(
    ("option", "value", "place"),
    [
        ("--max-rate", "fast", "cannot use --max-rate: "),
        ("--max-rate", "", "cannot use --max-rate: "),
        ("--server", "banana", "cannot use "),
        ("--max-bytes", "lots", "cannot use --max-bytes: "),
    ],
)
def test_a_value_that_is_none_is_one_line_and_no_relay(tmp_path: Path, option: str, value: str, place: str) -> None:
    """The relay does not start, and makes nothing."""
    command = [sys.executable, "-m", "towpath_relay.cli", "run", "--dir", str(tmp_path / "relay"), option, value]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_env(), check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"towpath-relay: {place}")
    assert repr(value) in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "relay").exists()


def test_a_bad_rate_of_the_settings_file_is_named_by_its_key_and_file(tmp_path: Path) -> None:
    """So that nobody looks for it among the flags of the unit."""
    (tmp_path / "relay.toml").write_text('max-rate = "fast"\n')
    command = [sys.executable, "-m", "towpath_relay.cli", "run", "--dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_env(), check=False, timeout=60)
    assert f"cannot use max-rate in {tmp_path / 'relay.toml'}: cannot read 'fast' as a rate" in done.stderr


def test_a_relay_goes_out_through_a_proxy(tmp_path: Path, authority: Authority) -> None:
    """Where the site's only way out is an HTTP proxy, tunnel and fetches go through it, by the relay's environment."""
    with ConnectProxy() as proxy, Site(tmp_path, authority, https_proxy=proxy.url) as site:
        eventually(lambda: proxy.asked == [site.server], "it looks for the server when it starts")
        site.host("h1").sync(nonce=NONCE, state_revision=0, boot_id="")
        assert proxy.asked == [site.server] * 2
        fetch(site, tmp_path, "h2", add(site, 70_000))
        assert set(proxy.asked) == {site.server}
        assert len(proxy.asked) > 2
        assert site.said == []


def test_a_relay_that_starts_without_its_server_says_so(site: Site) -> None:
    """Before a host asks for it, and with the system's words alone."""
    site.end_relay()
    site.stop_server()
    site.start_relay()
    why = f"cannot lead hosts to the server at {site.server}: connection refused\n"
    eventually(lambda: why in (site.folder / "relay.log").read_text(), "it says that the server is away")


def test_strangers_get_nothing(site: Site, authority: Authority) -> None:
    """Objects are for hosts: no certificate, another CA's, an operator's and an expired one are refused."""
    (digest,) = add(site, 1_000)
    leaf = shown_leaf(site.relay, RELAY_NAME, site.host("h1")._limits)
    key = pki.new_key()
    csr = pki.make_csr(key)
    times = {"not_before_ms": now_ms() - 10_000, "not_after_ms": now_ms() + 100_000}
    operator = pki.issue(authority.ca_pem, authority.key, csr, uri=f"{OPERATOR_URI}ana", **times)
    expired = authority.issue(csr, "h1", until_ms=now_ms() - 1_000)
    stranger = Authority().identity("h1")
    for identity in (None, (stranger, stranger), (pki.key_to_pem(key), operator), (pki.key_to_pem(key), expired)):
        with channel(site.relay, leaf, identity, name=RELAY_NAME) as strange:
            stub = agent_pb2_grpc.AgentApiStub(strange)
            with pytest.raises(grpc.RpcError):
                list(stub.Fetch(agent_pb2.FetchRequest(wants=[agent_pb2.Want(object_sha256=digest)]), timeout=10))
    assert site.behind.fetches == []


def test_only_objects_come_from_the_relay(site: Site) -> None:
    """Metadata is always the server's: the relay has no old one to offer, and calls itself missing where it is asked."""
    site.behind.metadata["timestamp.json"] = b"one"
    host = site.host("h1")
    assert b"".join(chunk.data for chunk in host.fetch([Want("metadata", "timestamp.json")])) == b"one"
    site.behind.metadata["timestamp.json"] = b"two"
    assert b"".join(chunk.data for chunk in host.fetch([Want("metadata", "timestamp.json")])) == b"two"
    assert site.api.peers == ["h1", "h1"]


def test_what_is_in_the_cache_travels_together(site: Site, tmp_path: Path, authority: Authority) -> None:
    """A host that takes several small objects in one message gets them so; what is still coming is not waited for."""
    objects = add(site, *([900] * 100))
    fetch(site, tmp_path, "h1", objects)
    fresh = add(site, 800)
    leaf = shown_leaf(site.relay, RELAY_NAME, site.host("h2")._limits)
    identity = authority.identity("h2")
    wants = [agent_pb2.Want(object_sha256=digest) for digest in [*objects, *fresh]]
    with channel(site.relay, leaf, (identity, identity), name=RELAY_NAME) as line:
        request = agent_pb2.FetchRequest(wants=wants, packed=True)
        answers = list(agent_pb2_grpc.AgentApiStub(line).Fetch(request, timeout=60))
    together, coming = answers[0], answers[1:]  # the last byte of what is coming may have to wait for the proof
    assert [len(answer.whole) for answer in answers] == [100, *[0] * len(coming)]
    assert together.data == b"".join(site.behind.carried[digest] for digest in objects)
    assert b"".join(answer.data for answer in coming) == site.behind.carried[next(iter(fresh))]
