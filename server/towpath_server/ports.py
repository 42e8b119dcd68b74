"""What the server's use cases ask of the outside: rows, objects, the time, and somebody to wake hosts.

Every implementation of `Storage` and `Blobs`, the in-memory ones of the tests included, passes tests/conformance.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO, Protocol

from towpath.reports import Event
from towpath_server.domain.deltas import Kept, Pair
from towpath_server.domain.metric import Answer
from towpath_server.domain.model import (
    Ahead,
    Assignment,
    AuditEntry,
    CalendarEntry,
    EnrolmentToken,
    EnvironmentRule,
    Gap,
    Host,
    Lease,
    PublishedRelease,
    ReportedApp,
    Retreat,
    RolloutState,
    Setting,
    TokenUse,
)


class Clock(Protocol):
    """The time."""

    def now_unix_ms(self) -> int:
        """Return Unix milliseconds. May jump either way."""
        ...

    def monotonic_ms(self) -> float:
        """Return milliseconds that only ever grow; what they count from means nothing."""
        ...


class Hints(Protocol):
    """Wakes hosts that watch, and the reconciler. Called from the storage thread, after the commit."""

    def changed(self, host_ids: Collection[str]) -> None:
        """Tell these hosts that their desired state may have changed. Never blocks, never raises."""
        ...

    def due(self, environment: str) -> None:
        """Ask for the rollouts of `environment` to be decided again, soon. Never blocks, never raises."""
        ...


# The number (`Transaction.number`) of the newest generation that was given out.
GENERATION = "generation"


class Metrics(Protocol):
    """A Prometheus server, as this server was told where it is. May be used from several threads."""

    def ask(self, query: str) -> Answer:
        """Return what an instant query gives now. Never raises, and ends within seconds: trouble is an answer too."""
        ...


class Transaction(Protocol):
    """Rows, inside one transaction. Reads see the writes before them."""

    def add_host(self, host: Host) -> None:
        """Add a host. InputError `exists` where its id or name is taken."""
        ...

    def put_host(self, host: Host) -> None:
        """Replace the row with the same id. InputError `not-found` where there is none, `exists` for a taken name."""
        ...

    def host(self, host_id: str) -> Host | None:
        """Return the host with this id."""
        ...

    def host_named(self, name: str) -> Host | None:
        """Return the host with this name, revoked ones too."""
        ...

    def host_with_key(self, key_sha256: bytes) -> Host | None:
        """Return a host whose newest certificate is of this key."""
        ...

    def hosts(self, environment: str | None = None) -> list[Host]:
        """Return all hosts (of one environment), sorted by name."""
        ...

    def put_seen(self, seen: Mapping[str, int]) -> None:
        """Raise `last_seen_unix_ms` of hosts by id; unknown ids and older times are ignored."""
        ...

    def add_token(self, token: EnrolmentToken) -> None:
        """Add a token. InputError `exists` where its id is taken."""
        ...

    def token(self, token_id: str) -> EnrolmentToken | None:
        """Return the token with this id."""
        ...

    def spend_token(self, token_id: str) -> bool:
        """Take one use; False where none is left or there is no such token."""
        ...

    def put_token_use(self, use: TokenUse) -> None:
        """Remember (or replace) who enrolled by a token with which key."""
        ...

    def token_use(self, token_id: str, key_sha256: bytes) -> TokenUse | None:
        """Return the enrolment by this token with this key."""
        ...

    def put_metadata(self, files: Mapping[str, bytes]) -> None:
        """Add or replace TUF metadata files by name."""
        ...

    def metadata(self, name: str) -> bytes | None:
        """Return one TUF metadata file."""
        ...

    def metadata_names(self) -> list[str]:
        """Return the names of all TUF metadata files, sorted."""
        ...

    def remove_metadata(self, names: Collection[str]) -> None:
        """Forget these files; unknown names are ignored."""
        ...

    def add_release(self, release: PublishedRelease) -> None:
        """Add a release. InputError `exists` where (app, version) is taken."""
        ...

    def release(self, app: str, version: str) -> PublishedRelease | None:
        """Return one release."""
        ...

    def releases(self, app: str | None = None) -> list[PublishedRelease]:
        """Return all releases (of one app), sorted by app and counter."""
        ...

    def add_assignment(self, assignment: Assignment) -> None:
        """Add an assignment. InputError `exists` where its id or generation is taken."""
        ...

    def put_assignment_state(self, assignment_id: str, state: RolloutState, reason: str) -> None:
        """Set where an assignment stands; unknown ids are ignored."""
        ...

    def put_assignment(self, assignment: Assignment) -> None:
        """Replace the row with the same id. InputError `not-found` where there is none, `exists` for its generation."""
        ...

    def assignment(self, assignment_id: str) -> Assignment | None:
        """Return one assignment."""
        ...

    def assignments(
        self, *, environment: str | None = None, app: str | None = None, removed: bool = False
    ) -> list[Assignment]:
        """Return assignments, newest generation first; removed ones only where asked for."""
        ...

    def next_generation(self) -> int:
        """Return a number above every generation there ever was."""
        ...

    def admit(self, assignment_id: str, host_ids: Collection[str], at_unix_ms: int) -> None:
        """Let hosts in; one that is in already keeps its time."""
        ...

    def withdraw(self, assignment_id: str, host_ids: Collection[str]) -> None:
        """Take admissions back; unknown ones are ignored."""
        ...

    def admissions(self, assignment_id: str) -> dict[str, int]:
        """Return host id to time of admission."""
        ...

    def admitted_to(self, host_ids: Collection[str]) -> dict[str, set[str]]:
        """Return host id to the ids of the assignments that let it in; hosts without any are there with none."""
        ...

    def retreat(self, assignment_id: str, host_ids: Collection[str], at_unix_ms: int) -> None:
        """Note that hosts were told to go back from an assignment; one that was told already keeps its time."""
        ...

    def arrive(self, assignment_id: str, host_ids: Collection[str], at_unix_ms: int) -> None:
        """Note that hosts have gone back; unknown ones are ignored."""
        ...

    def retreats(self, assignment_id: str) -> dict[str, Retreat]:
        """Return host id to its retreat from this assignment."""
        ...

    def change(self) -> int:
        """Return a number that grows when a host, or what is known of it, is changed after this was last asked.

        Whatever a transaction changes after it has asked has a higher number, also in that very transaction.
        """
        ...

    def changed_hosts(self, environment: str, since: int) -> list[str]:
        """Return the ids of hosts whose row, admissions, retreats or reported states changed after `since`.

        Being heard again after so long a silence that the host counted as offline is a change, being heard is none.
        """
        ...

    def rules(self) -> int:
        """Return a number that grows when an assignment is changed after this was last asked, like `change`."""
        ...

    def hosts_of(self, host_ids: Collection[str]) -> list[Host]:
        """Return these hosts, unknown ids left out."""
        ...

    def admissions_of(self, host_ids: Collection[str]) -> dict[str, dict[str, int]]:
        """Return host id to what let it in and when; hosts without any are there with none."""
        ...

    def retreats_of(self, host_ids: Collection[str]) -> list[Retreat]:
        """Return the retreats of these hosts."""
        ...

    def app_states_of(self, host_ids: Collection[str]) -> list[ReportedApp]:
        """Return what these hosts reported."""
        ...

    def stamp(self) -> int:
        """Return a number that differs from the one before where anybody but this storage has committed meanwhile."""
        ...

    def lease(self) -> Lease | None:
        """Return who decides rollouts."""
        ...

    def put_lease(self, lease: Lease) -> None:
        """Replace who decides rollouts."""
        ...

    def add_calendar_entry(self, entry: CalendarEntry) -> None:
        """Add a freeze or a window. InputError `exists` where its id is taken."""
        ...

    def remove_calendar_entry(self, entry_id: str) -> None:
        """Forget an entry of the calendar; unknown ids are ignored."""
        ...

    def calendar(self) -> list[CalendarEntry]:
        """Return all entries of the calendar, oldest first."""
        ...

    def add_events(self, host_id: str, events: Sequence[Event]) -> int:
        """Keep a host's events, each id once; return how many were new."""
        ...

    def events(self, host_id: str, limit: int) -> list[Event]:
        """Return the newest `limit` events of a host in the order in which they arrived, newest last."""
        ...

    def prune_events(self, host_id: str, keep: int) -> None:
        """Forget all but the newest `keep` events of a host."""
        ...

    def replace_app_states(self, host_id: str, states: Iterable[ReportedApp]) -> None:
        """Replace everything that a host reported about its apps."""
        ...

    def app_states(self, host_id: str | None = None, app: str | None = None) -> list[ReportedApp]:
        """Return the reported states (of one host, of one app), sorted by host id and app."""
        ...

    def add_audit(self, entry: AuditEntry) -> None:
        """Append to the audit log."""
        ...

    def audit(self, limit: int) -> list[AuditEntry]:
        """Return the newest `limit` entries, newest last."""
        ...

    def put_environment(self, rule: EnvironmentRule) -> None:
        """Add or replace the environment with this name."""
        ...

    def environments(self) -> list[EnvironmentRule]:
        """Return the environments that were ever put, sorted by name."""
        ...

    def put_setting(self, setting: Setting) -> None:
        """Add or replace the parameter of this environment, label, app and name."""
        ...

    def remove_setting(self, setting: Setting) -> None:
        """Forget the parameter of this environment, label, app and name; an unknown one is ignored."""
        ...

    def settings(self, environment: str | None = None) -> list[Setting]:
        """Return the parameters (of one environment), sorted by environment, app, name and label."""
        ...

    def add_gap(self, gap: Gap, keep: int) -> None:
        """Add a gap, and forget all but the newest `keep`."""
        ...

    def gaps(self) -> list[Gap]:
        """Return the gaps, oldest first."""
        ...

    def put_ahead(self, ahead: Ahead) -> None:
        """Add or replace what is known of a host that is ahead of this database."""
        ...

    def ahead(self) -> list[Ahead]:
        """Return the hosts that are ahead of this database, by name."""
        ...

    def forget_ahead(self, host_id: str) -> None:
        """Forget that this host is ahead; harmless where it is not."""
        ...

    def clear_ahead(self) -> None:
        """Forget every gap and every host that is ahead."""
        ...

    def number(self, name: str) -> int:
        """Return a named number, 0 where it was never set."""
        ...

    def put_number(self, name: str, value: int) -> None:
        """Set a named number."""
        ...


class Storage(Protocol):
    """Rows that survive. Used from one thread at a time."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Commit durably at the end of the block; undo everything where it raises."""
        ...

    def close(self) -> None:
        """Give everything back. Nothing may be called after it."""
        ...


class BlobWriter(Protocol):
    """One object on its way in. Not yet visible."""

    def write(self, data: bytes) -> None:
        """Take the next bytes of the carried form.

        Refusal as soon as it cannot become the object: `endless-data` above its length, `corrupt-object` for bytes that
        are no zstandard frame. Memory stays flat whatever the bytes expand to.
        """
        ...

    def finish(self) -> None:
        """Return where what was written is the object, whole and alone; Refusal `corrupt-object` otherwise."""
        ...

    def abort(self) -> None:
        """Forget what was written. Harmless after `publish` and twice."""
        ...


class Blobs(Protocol):
    """Content-addressed objects in their carried form: one zstandard frame each. May be used from several threads."""

    def missing(self, digests: Iterable[bytes], *, anew: bool = False) -> list[bytes]:
        """Return those digests that are not here, in order, each once. Bytes that are too few for a frame are nothing.

        `anew`: nothing that is remembered counts, for somebody else may have put an object aside.
        """
        ...

    def carried_size(self, digest: bytes) -> int | None:
        """Return the length of the carried form, or None where the object is not here."""
        ...

    def chunks(self, digest: bytes, offset: int, chunk_bytes: int) -> Iterator[bytes]:
        """Yield the carried form from `offset`; InputError `not-found` where the object is not here."""
        ...

    def link(self, digest: bytes) -> str | None:
        """Return a URL at which whoever has it may get the carried form for a while; None where there is none."""
        ...

    def writer(self, digest: bytes, size: int) -> BlobWriter:
        """Begin an object whose content has `size` bytes and this SHA-256."""
        ...

    def publish(self, writers: Sequence[BlobWriter]) -> int:
        """Make finished objects visible, durably, all with few waits for the disk; return how many were new.

        What is here with another length than the new one is replaced: it is damaged, or carried in another form.
        """
        ...

    def read(self, digest: bytes, limit: int) -> bytes:
        """Return the verified content; InputError `not-found`, Refusal `endless-data` above `limit`.

        Broken: it is damaged, and was put aside.
        """
        ...

    def set_aside(self, digest: bytes, size: int) -> bool:
        """Read an object whose content has `size` bytes and, where it is damaged, let it be missing.

        So publishing its release uploads it again. Return whether that was done: not where it is whole or missing.
        Broken, Unavailable: it cannot be.
        """
        ...


class DeltaWriter(Protocol):
    """One delta on its way in. Not yet visible, and nobody else makes it meanwhile."""

    def write(self, data: bytes) -> None:
        """Take the next bytes. Broken where the disk does not."""
        ...

    def publish(self) -> None:
        """Make it visible, durably."""
        ...

    def abort(self) -> None:
        """Forget what was written. Harmless after `publish` and twice."""
        ...


class Deltas(Protocol):
    """Deltas between releases, kept beside the objects. Several threads and several servers may use one at a time."""

    def size(self, pair: Pair) -> int | None:
        """Return how many bytes the delta has, or None where it is not here."""
        ...

    def chunks(self, pair: Pair, offset: int, chunk_bytes: int) -> Iterator[bytes]:
        """Yield it from `offset`, and take note that it was used; InputError `not-found` where it is not here."""
        ...

    def room(self) -> int:
        """Return how many bytes the disk has left for deltas; OSError."""
        ...

    def scratch(self) -> IO[bytes]:
        """Return an empty file without a name, for who applies a delta; OSError."""
        ...

    def begin(self, pair: Pair) -> DeltaWriter | None:
        """Begin to make it; None where somebody else does, in this process or another."""
        ...

    def refuse(self, pair: Pair, why: str) -> None:
        """Remember, durably, why there will be none."""
        ...

    def refusal(self, pair: Pair) -> str:
        """Return why there will be none; empty where nothing speaks against it, or no more."""
        ...

    def kept(self) -> list[Kept]:
        """Return what is here, in no order."""
        ...

    def remove(self, pair: Pair) -> None:
        """Forget a delta; whoever reads it reads on. Harmless where it is not here."""
        ...
