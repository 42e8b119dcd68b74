"""The real agent tells how far what travels is: on the host, to its server, rarely, and nothing when it is over."""

import hashlib
import random
from pathlib import Path

import pytest

from fakes.delta_host import DeltaHost
from fakes.host import SimulatedHost
from towpath.reports import PrefetchState, Transfer
from towpath.status import State
from towpath_agent.engine.planning import Wish
from towpath_agent.engine.transfer import LEAST_TELL_S
from towpath_agent.journal import Deployed
from towpath_agent.ports import CHUNK_BYTES, Want
from towpath_agent.runner.transferring import FACT, told

CHUNK_S = 3.0
CHUNKS = 20
DATA = random.Random(3).randbytes(CHUNKS * CHUNK_BYTES)


class Seen:
    """Lets each piece of a fetch take a while, and notes what the server knows of the app meanwhile."""

    def __init__(self, host: SimulatedHost) -> None:
        self.host = host
        self.transfers: list[Transfer] = []
        self.stop_after = 10**9
        host.server.before_chunk = self._before

    def _before(self, _: int) -> None:
        self.host.clock.advance(CHUNK_S)
        state = self.host.server.apps.get("hello")
        if state is not None and state.transfer is not None and state.transfer not in self.transfers:
            self.transfers.append(state.transfer)
        self.stop_after -= 1
        if not self.stop_after:
            self.host.server.unreachable = True


def begun(folder: Path) -> tuple[SimulatedHost, Seen]:
    """A host on its way to a release of CHUNKS pieces."""
    host = SimulatedHost(folder)
    host.assign(host.publish("1.0.0", files={"data": DATA}))
    host.boot()
    return host, Seen(host)


def test_a_long_fetch_is_told_while_it_goes_on(tmp_path: Path) -> None:
    """More each time, of one total, as fast as it comes, ever less time left; a report every few seconds at most."""
    host, seen = begun(tmp_path)
    host.settle()
    assert host.live() == "1.0.0"
    told_of = seen.transfers
    assert 5 <= len(told_of) <= CHUNKS * CHUNK_S / LEAST_TELL_S
    assert [it.done for it in told_of] == sorted({it.done for it in told_of})
    assert all(abs(it.total - len(DATA)) < CHUNK_BYTES for it in told_of)
    assert all(it.rate == pytest.approx(CHUNK_BYTES / CHUNK_S, rel=0.2) for it in told_of[2:])
    left = [it.remaining_ms for it in told_of[2:]]
    assert left == sorted(left, reverse=True)


def test_nothing_is_told_when_it_is_over(tmp_path: Path) -> None:
    """The server's view, and the journal's, show what travels only while it does."""
    host, seen = begun(tmp_path)
    host.settle()
    assert seen.transfers
    assert host.server.apps["hello"].transfer is None
    assert told(host.journal) == {}
    reports = host.server.report_calls
    host.run(600)
    assert host.server.report_calls - reports < 5


def test_a_restarted_agent_goes_on_counting(tmp_path: Path) -> None:
    """What came before the restart is done, and the total is what it was."""
    host, seen = begun(tmp_path)
    seen.stop_after = 10
    host.run(1)
    before = seen.transfers[-1]
    host.boot()
    assert told(host.journal)["hello"].done >= before.done
    host.server.unreachable = False
    seen.stop_after = 10**9
    seen.transfers.clear()
    host.settle()
    assert host.live() == "1.0.0"
    assert all(it.done >= before.done for it in seen.transfers)
    after = seen.transfers[-1]
    assert after.done > before.done
    assert abs(after.total - len(DATA)) < CHUNK_BYTES


def test_a_line_that_is_down_has_no_rate(tmp_path: Path) -> None:
    """What stands still is not told as if it went on."""
    host, seen = begun(tmp_path)
    seen.stop_after = 10
    host.run(60)
    assert told(host.journal)["hello"].rate == 0
    host.server.unreachable = False
    host.run(5, until=lambda: host.server.apps["hello"].transfer is not None)
    transfer = host.server.apps["hello"].transfer
    assert transfer is None or transfer.done >= seen.transfers[-1].done


def test_an_object_that_the_disk_damaged_comes_anew(tmp_path: Path) -> None:
    """It is found when it is used, after nothing had to travel: the release is no worse for that."""
    host = SimulatedHost(tmp_path)
    host.assign(host.publish("1.0.0"))
    host.boot()
    host.settle()
    release = host.publish("2.0.0", files={"data": DATA})
    objects = tmp_path / "store" / "objects"
    (objects / hashlib.sha256(DATA).hexdigest()).write_bytes(bytes(len(DATA)))
    host.assign(release)
    host.settle()
    assert host.live() == "2.0.0"
    assert "driver-bug" not in str(host.log)


def test_of_a_delta_the_delta_is_what_travels(tmp_path: Path) -> None:
    """The total is what comes, not what it makes."""
    it = DeltaHost(tmp_path)
    it.host.server.deltas[it.pair] = DATA
    it.host.server.before_chunk = lambda _: it.host.clock.advance(LEAST_TELL_S + 1)
    told_of: list[Transfer] = []
    transfers = it.host.agent._actions.staging.transfers
    transfers.say = lambda: told_of.extend(transfers.told.values())
    wish = Wish("hello", b"sha256 of the release", "2.0.0")
    want = Want("delta", digest=it.pair[1], base=it.pair[0], offset=CHUNK_BYTES)
    watched = transfers.watch(Deployed(wish, b""))
    watched.expect({it.pair[1]: 400}, 10**9)
    assert len(list(watched.over(it.host.server).fetch([want]))) == CHUNKS - 1
    assert all(it.delta and not it.about and it.total == len(DATA) for it in told_of)
    assert [it.done for it in told_of][:2] == [2 * CHUNK_BYTES, 3 * CHUNK_BYTES]


def test_what_is_fetched_ahead_is_told_too(tmp_path: Path) -> None:
    """Beside what runs, whose state stays as it is."""
    host = SimulatedHost(tmp_path)
    host.assign(host.publish("1.0.0"))
    host.boot()
    host.settle()
    host.run(120)
    host.announce(host.publish("2.0.0", files={"data": DATA}))
    seen = Seen(host)

    def complete() -> bool:
        ahead = host.server.apps["hello"].prefetch
        return ahead is not None and ahead.state is PrefetchState.COMPLETE

    host.run(3600, until=complete)
    assert complete()
    assert {it.version for it in seen.transfers} == {"2.0.0"}
    assert host.server.apps["hello"].transfer is None
    assert host.server.apps["hello"].state is State.CONFIRMED


def test_a_garbled_fact_counts_as_missing(tmp_path: Path) -> None:
    """What is lost is how far it was, nothing else."""
    host, _ = begun(tmp_path)
    host.journal.set_meta(**{FACT: '{"hello": {"version": 1}}'})
    assert told(host.journal) == {}
    host.boot()
    host.settle()
    assert host.live() == "1.0.0"
