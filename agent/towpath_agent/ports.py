"""What the agent asks of a server, as one small port; `transport.client.GrpcServer` implements it.

Promises of every implementation:
- Every call has a deadline. None retries by itself: the caller owns pacing and back-off.
- `Unavailable` means "wait": no connection, deadline, overload, a server that is starting, a too slow stream
  (code "slow-retrieval"). It is never a statement about an app's health.
- `Refusal` means that the server says no to this host: code "revoked", "unauthenticated", or what it named.
- Nothing that comes back is trusted: envelopes, metadata and objects are checked by their readers.
- All methods may be called from different threads at once.
Not handled here: who may call (mTLS), what a manifest means (`towpath.manifest`), where bytes are kept (`store`).
"""

import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from towpath.holds import Hold
from towpath.reports import AppState, Event

# Limits of one Fetch call; a server may refuse more.
MAX_WANTS = 512
CHUNK_BYTES = 256 * 1024
# The largest chunk that is accepted of a server that cuts otherwise.
MAX_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    """A serialized DSSE envelope, unverified, and the state revision that the server knows of this host.

    `keep` not empty: there is no envelope; the host is to keep what it has, for this reason.
    """

    envelope: bytes
    known_state_revision: int
    keep: str = ""


@dataclass(frozen=True, slots=True)
class Want:
    """One thing to fetch: `name` of a metadata file or target, or the `digest` of an object.

    A delta is named by the `digest` of the new release's index and the `base`, that of the old one's.
    `opened`: one that sees into archives is welcome too.
    `offset` skips that many bytes of the carried form: objects travel as one zstandard frame, the others as they are.
    """

    kind: Literal["metadata", "target", "object", "delta"]
    name: str = ""
    digest: bytes = b""
    offset: int = 0
    base: bytes = b""
    opened: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the answer to `wants[want]`. `carried_size` is the whole carried form's, on the want's first chunk.

    `near`: it came over no line, so no limit on rates concerns it. `unneeded`: a relay has no such delta, and all
    objects that it would make.
    """

    want: int
    data: bytes = b""
    last: bool = False
    missing: bool = False
    carried_size: int = 0
    near: bool = False
    unneeded: bool = False

    @property
    def is_pause(self) -> bool:
        """Return whether it says nothing but that nothing came yet: the reader may look up."""
        return not (self.data or self.last or self.missing)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A server's other answer to a want, between parts of the transport: the carried form is at `url`."""

    want: int
    url: str
    carried_size: int


class Source(Protocol):
    """Where things are fetched from."""

    def fetch(self, wants: Sequence[Want]) -> Generator[Chunk, None, None]:
        """Yield chunks of at most MAX_CHUNK_BYTES, each want ended by `last`; a missing one is one chunk.

        Wants in order, but what a relay lacks may come behind the rest. Pauses (`Chunk.is_pause`) may come at any place
        and count for none.
        Lazy: nothing is asked before the first chunk is taken. Closing the iterator ends the call.
        At most MAX_WANTS wants. A stream that ends early or breaks the order raises Unavailable (code "cut-off").
        An `offset` at or behind the end of the carried form is answered by one empty chunk. A server that is too old
        for a kind of want raises Refusal (code "garbled"); a delta that is not ready is a missing one.
        """
        ...

    def distrust(self, digest: bytes) -> bool:
        """Take note that what `fetch` brought for this object, or delta to this index, was not it.

        Whoever carried it is not asked next; return whether that leaves another way.
        """
        ...


class Server(Source, Protocol):
    """The server as this host sees it."""

    def sync(
        self,
        *,
        nonce: bytes,
        state_revision: int,
        boot_id: str,
        holds: Sequence[Hold] = (),
        accepted_sequence: int = 0,
        features: Sequence[str] = (),
    ) -> SyncAnswer:
        """Return the manifest that answers `nonce` (16 random bytes). `holds` are all that are in force here now.

        `accepted_sequence` is that of the newest manifest that was accepted here, 0 for none.
        `features`: the critical features of manifests that the asker knows; no others may be in the answer.
        """
        ...

    def report(self, events: Sequence[Event], apps: Sequence[AppState], state_revision: int) -> list[str]:
        """Return the ids of the events that are committed. Sending an event twice is harmless."""
        ...

    def watch(self, on_hint: Callable[[], None], stop: threading.Event) -> None:
        """Block, calling `on_hint` for each hint that something changed, until the stream ends or `stop` is set.

        Returns within about five seconds of `stop`, at once where the connection is closed. A stream that the server
        ends returns too; one that breaks raises.
        """
        ...
