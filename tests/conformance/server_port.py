"""What every `towpath_agent.ports.Server` promises; run by the fake and by the real client over real TLS.

A subclass gives the fixture `subject`: the server under test, and the FakeServer that holds what is behind it.
"""

import hashlib
import os
import threading
from dataclasses import dataclass

import pytest
import zstandard

from fakes.server import FakeServer
from towpath.errors import Refusal, Unavailable
from towpath.holds import Hold
from towpath.reports import MAX_EVENTS_PER_REPORT, AppState, Event
from towpath.status import Health, State, Verdict
from towpath_agent.ports import MAX_CHUNK_BYTES, Chunk, Server, Want

WAIT_S = 10.0


@dataclass
class Subject:
    """The server under test and what stands behind it."""

    server: Server
    behind: FakeServer


def joined(chunks: list[Chunk], want: int) -> bytes:
    """Return the bytes that answer one want."""
    return b"".join(chunk.data for chunk in chunks if chunk.want == want)


class ServerPortSuite:
    """Sentences that are true of every server. `WAYS`: over how many ways it says a thing before it gives up."""

    WAYS = 1

    def test_sync_answers_the_nonce(self, subject: Subject) -> None:
        """Sync hands over nonce, state revision and boot id, and returns envelope and known revision unchanged."""
        subject.behind.answer = lambda nonce: b"envelope for " + nonce
        subject.behind.known_state_revision = 7
        answer = subject.server.sync(nonce=b"0123456789abcdef", state_revision=5, boot_id="boot")
        assert answer.envelope == b"envelope for 0123456789abcdef"
        assert answer.known_state_revision == 7
        call = subject.behind.syncs[0]
        assert (call.nonce, call.state_revision, call.boot_id) == (b"0123456789abcdef", 5, "boot")

    def test_sync_tells_the_holds_of_this_host(self, subject: Subject) -> None:
        """All that are in force, every time; a sync without any says that nothing is held."""
        holds = (Hold("", "ana", "audit week", 1, 2**40), Hold("hello", "bo", "the till is open", 3, 4))
        subject.server.sync(nonce=b"n" * 16, state_revision=0, boot_id="", holds=holds)
        subject.server.sync(nonce=b"n" * 16, state_revision=0, boot_id="")
        assert [call.holds for call in subject.behind.syncs] == [holds, ()]

    def test_a_sync_says_what_was_accepted_last_and_hears_that_it_is_to_be_kept(self, subject: Subject) -> None:
        """The sequence of the newest manifest; a server that wants nothing changed gives its reason and no envelope."""
        subject.behind.keep = "restored from a backup?"
        answer = subject.server.sync(nonce=b"n" * 16, state_revision=0, boot_id="b", accepted_sequence=2**41)
        assert (answer.envelope, answer.keep) == (b"", "restored from a backup?")
        subject.behind.keep = ""
        assert subject.server.sync(nonce=b"n" * 16, state_revision=0, boot_id="b").keep == ""
        assert [call.accepted_sequence for call in subject.behind.syncs] == [2**41, 0]

    def test_sync_tells_what_this_agent_knows(self, subject: Subject) -> None:
        """The critical features of manifests; who says none must be sent none."""
        subject.server.sync(nonce=b"n" * 16, state_revision=0, boot_id="", features=("prefetch-1", "waves-2"))
        subject.server.sync(nonce=b"n" * 16, state_revision=0, boot_id="")
        assert [call.features for call in subject.behind.syncs] == [("prefetch-1", "waves-2"), ()]

    def test_unreachable_is_unavailable_for_every_call(self, subject: Subject) -> None:
        """A server that is away raises Unavailable from every call, and works again when it is back."""
        subject.behind.unreachable = True
        calls = [
            lambda: subject.server.sync(nonce=b"n" * 16, state_revision=0, boot_id=""),
            lambda: subject.server.report([], [], 1),
            lambda: list(subject.server.fetch([Want("metadata", "1.root.json")])),
            lambda: subject.server.watch(lambda: None, threading.Event()),
        ]
        for call in calls:
            with pytest.raises(Unavailable):
                call()
        subject.behind.unreachable = False
        subject.server.sync(nonce=b"n" * 16, state_revision=0, boot_id="")

    def test_a_denied_host_gets_the_code_of_the_refusal(self, subject: Subject) -> None:
        """A server's no is a Refusal with the server's own code and message, on every call."""
        subject.behind.refusal = Refusal("cannot sync: this host is revoked", code="revoked")
        for call in (
            lambda: subject.server.sync(nonce=b"n" * 16, state_revision=0, boot_id=""),
            lambda: list(subject.server.fetch([Want("target", "hello/1.release")])),
            lambda: subject.server.report([], [], 1),
            lambda: subject.server.watch(lambda: None, threading.Event()),
        ):
            with pytest.raises(Refusal, match="this host is revoked") as caught:
                call()
            assert caught.value.code == "revoked"

    def test_fetch_answers_many_wants_in_order(self, subject: Subject) -> None:
        """Metadata and targets come as they are, objects as one zstandard frame; each want ends with `last`."""
        content = os.urandom(700_000)
        digest = subject.behind.add_object(content)
        subject.behind.metadata["1.root.json"] = b"root"
        subject.behind.targets["hello/1.0.0.release"] = b"release"
        wants = [Want("object", digest=digest), Want("metadata", "1.root.json"), Want("target", "hello/1.0.0.release")]
        chunks = list(subject.server.fetch(wants))
        assert zstandard.ZstdDecompressor().decompress(joined(chunks, 0)) == content
        assert (joined(chunks, 1), joined(chunks, 2)) == (b"root", b"release")
        assert [chunk.want for chunk in chunks if chunk.last] == [0, 1, 2]
        assert [chunk.want for chunk in chunks] == sorted(chunk.want for chunk in chunks)
        assert all(len(chunk.data) <= MAX_CHUNK_BYTES for chunk in chunks)

    def test_fetch_says_the_carried_size_first(self, subject: Subject) -> None:
        """The first chunk of a want holds the size of its whole carried form, at any offset."""
        digest = subject.behind.add_object(os.urandom(600_000))
        size = len(subject.behind.carried[digest])
        for offset in (0, 1, size - 1):
            first = next(iter(subject.server.fetch([Want("object", digest=digest, offset=offset)])))
            assert first.carried_size == size

    @pytest.mark.parametrize("cut", [1, 255, 262_144, 599_999])
    def test_fetch_starts_at_the_offset(self, subject: Subject, cut: int) -> None:
        """An offset skips exactly that many bytes of the carried form."""
        digest = subject.behind.add_object(os.urandom(600_000))
        chunks = list(subject.server.fetch([Want("object", digest=digest, offset=cut)]))
        assert joined(chunks, 0) == subject.behind.carried[digest][cut:]

    @pytest.mark.parametrize("offset", [0, 1, 299_999])
    def test_a_delta_is_named_by_both_indexes_and_starts_at_the_offset(self, subject: Subject, offset: int) -> None:
        """It travels as it is; its size comes first; of another pair there is none."""
        data = os.urandom(300_000)
        subject.behind.deltas[b"o" * 32, b"n" * 32] = data
        chunks = list(subject.server.fetch([Want("delta", digest=b"n" * 32, base=b"o" * 32, offset=offset)]))
        assert joined(chunks, 0) == data[offset:]
        assert chunks[0].carried_size == len(data)
        (none,) = subject.server.fetch([Want("delta", digest=b"o" * 32, base=b"n" * 32)])
        assert none.missing

    def test_a_server_without_deltas_refuses_the_call(self, subject: Subject) -> None:
        """The refusal has a code that an agent knows for: a want that names nothing."""
        subject.behind.knows_deltas = False
        with pytest.raises(Refusal) as caught:
            list(subject.server.fetch([Want("delta", digest=b"n" * 32, base=b"o" * 32)]))
        assert caught.value.code == "garbled"

    def test_an_offset_at_the_end_is_one_empty_chunk(self, subject: Subject) -> None:
        """A host that has every byte already gets an empty last chunk."""
        digest = subject.behind.add_object(b"all of it")
        size = len(subject.behind.carried[digest])
        chunks = list(subject.server.fetch([Want("object", digest=digest, offset=size)]))
        assert [(chunk.data, chunk.last, chunk.missing) for chunk in chunks] == [(b"", True, False)]

    def test_a_missing_thing_is_said_and_the_rest_still_comes(self, subject: Subject) -> None:
        """What the server lacks is one chunk with `missing` and `last`; the wants after it are answered."""
        subject.behind.metadata["2.root.json"] = b"two"
        wants = [
            Want("metadata", "9.root.json"),
            Want("object", digest=hashlib.sha256(b"nothing").digest()),
            Want("metadata", "2.root.json"),
        ]
        chunks = list(subject.server.fetch(wants))
        assert [(chunk.want, chunk.missing, chunk.last) for chunk in chunks[:2]] == [(0, True, True), (1, True, True)]
        assert joined(chunks, 2) == b"two"

    def test_fetch_of_nothing_asks_nothing(self, subject: Subject) -> None:
        """No wants, no call."""
        assert list(subject.server.fetch([])) == []
        assert subject.behind.fetches == []

    def test_fetch_is_lazy(self, subject: Subject) -> None:
        """Nothing is asked before the first chunk is taken."""
        subject.behind.metadata["1.root.json"] = b"root"
        stream = subject.server.fetch([Want("metadata", "1.root.json")])
        assert subject.behind.fetches == []
        assert next(stream).data == b"root"

    def test_a_stream_that_breaks_is_unavailable_after_its_bytes(self, subject: Subject) -> None:
        """Bytes that came before a break are handed over, then Unavailable is raised."""
        digest = subject.behind.add_object(os.urandom(600_000))
        subject.behind.cut_after = 300_000
        got = b""
        with pytest.raises(Unavailable):
            for chunk in subject.server.fetch([Want("object", digest=digest)]):
                got += chunk.data
        assert got
        assert subject.behind.carried[digest].startswith(got)

    def test_a_slow_server_is_given_up(self, subject: Subject) -> None:
        """A stream below the least rate ends as Unavailable with the attack's name."""
        digest = subject.behind.add_object(os.urandom(600_000))
        subject.behind.slow = True
        with pytest.raises(Unavailable) as caught:
            list(subject.server.fetch([Want("object", digest=digest)]))
        assert caught.value.code == "slow-retrieval"

    def test_reports_are_acknowledged_by_id_and_may_repeat(self, subject: Subject) -> None:
        """Committed events are acknowledged; the same id twice is one event."""
        event = Event("e1", 5, "transition", app="hello", state="Confirmed", reason="was healthy")
        assert subject.server.report([event], [], 1) == ["e1"]
        assert subject.server.report([event, Event("e2", 6, "started")], [], 2) == ["e1", "e2"]
        assert list(subject.behind.events) == ["e1", "e2"]
        assert subject.behind.events["e1"] == event

    def test_the_whole_state_arrives(self, subject: Subject) -> None:
        """Every field of an app's state reaches the server."""
        state = AppState(
            "hello",
            current_version="1.0.0",
            current_sha256=b"c" * 32,
            desired_version="1.1.0",
            desired_sha256=b"d" * 32,
            previous_version="0.9.0",
            state=State.WATCHING,
            health=Health.STARTING,
            verdict=Verdict.NONE,
            reason="waits",
            generation=4,
            since_unix_ms=99,
            parameters={"port": 9001, "name": "x", "on": True},
        )
        subject.server.report([], [state], 3)
        assert subject.behind.apps == {"hello": state}
        assert subject.behind.known_state_revision == 3

    def test_a_lost_acknowledgement_can_be_repeated(self, subject: Subject) -> None:
        """A report whose reply is lost raises Unavailable; sent again it is acknowledged and still one event."""
        subject.behind.lost_reports = self.WAYS
        with pytest.raises(Unavailable):
            subject.server.report([Event("e1", 1, "started")], [], 1)
        assert subject.server.report([Event("e1", 1, "started")], [], 1) == ["e1"]
        assert list(subject.behind.events) == ["e1"]

    def test_many_events_are_all_acknowledged(self, subject: Subject) -> None:
        """More events than one message may carry are all delivered, in order."""
        events = [Event(f"e{number}", number, "started") for number in range(2 * MAX_EVENTS_PER_REPORT + 1)]
        assert subject.server.report(events, [], 1) == [event.id for event in events]
        assert list(subject.behind.events) == [event.id for event in events]

    def test_watch_hints_at_once_and_at_each_change_until_stopped(self, subject: Subject) -> None:
        """A fresh stream gives a hint (changes before it are not lost), each change another; `stop` ends it silently."""
        hints, stop = _Count(), threading.Event()
        thread = threading.Thread(target=subject.server.watch, args=(hints.add, stop))
        thread.start()
        assert hints.wait(1)
        subject.behind.hint()
        assert hints.wait(2)
        stop.set()
        thread.join(WAIT_S)
        assert not thread.is_alive()
        assert subject.behind.wait_watchers(0)

    def test_watch_returns_when_the_server_ends_the_stream(self, subject: Subject) -> None:
        """A stream that the server ends is no error."""
        hints, stop = _Count(), threading.Event()
        thread = threading.Thread(target=subject.server.watch, args=(hints.add, stop))
        thread.start()
        assert hints.wait(1)
        subject.behind.end_watches()
        thread.join(WAIT_S)
        assert not thread.is_alive()

    def test_watch_with_stop_set_returns_at_once(self, subject: Subject) -> None:
        """A stop that came first opens nothing."""
        stop = threading.Event()
        stop.set()
        hints = _Count()
        subject.server.watch(hints.add, stop)
        assert not hints.count

    def test_calls_run_beside_an_open_watch(self, subject: Subject) -> None:
        """All methods may be called from several threads at once."""
        hints, stop = _Count(), threading.Event()
        thread = threading.Thread(target=subject.server.watch, args=(hints.add, stop))
        thread.start()
        try:
            assert hints.wait(1)
            subject.behind.metadata["1.root.json"] = b"root"
            stream = subject.server.fetch([Want("metadata", "1.root.json")])
            subject.server.sync(nonce=b"n" * 16, state_revision=0, boot_id="")
            assert next(stream).data == b"root"
        finally:
            stop.set()
            thread.join(WAIT_S)


class _Count:
    """A counter that another thread can wait for."""

    def __init__(self) -> None:
        self.count = 0
        self._changed = threading.Condition()

    def add(self) -> None:
        with self._changed:
            self.count += 1
            self._changed.notify_all()

    def wait(self, count: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.count >= count, WAIT_S)
