"""The server's storage and objects in memory: what `towpath_server.ports` promises, and nothing beside it."""

import copy
import hashlib
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import zstandard

from towpath.errors import Broken, InputError, Refusal
from towpath.reports import Event
from towpath_server.domain.hosts import ONLINE_MS
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
from towpath_server.storage.frames import SHORTEST_BYTES, FrameCheck


@dataclass
class Rows:
    """One transaction's view of everything; also what is committed."""

    _hosts: dict[str, Host] = field(default_factory=dict)
    _tokens: dict[str, EnrolmentToken] = field(default_factory=dict)
    _uses: dict[tuple[str, bytes], TokenUse] = field(default_factory=dict)
    _files: dict[str, bytes] = field(default_factory=dict)
    _releases: dict[tuple[str, str], PublishedRelease] = field(default_factory=dict)
    _assignments: dict[str, Assignment] = field(default_factory=dict)
    _admissions: dict[tuple[str, str], int] = field(default_factory=dict)
    _retreats: dict[tuple[str, str], Retreat] = field(default_factory=dict)
    _calendar: dict[str, CalendarEntry] = field(default_factory=dict)
    _events: dict[str, list[Event]] = field(default_factory=dict)
    _states: dict[tuple[str, str], ReportedApp] = field(default_factory=dict)
    _audit: list[AuditEntry] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)
    _changes: dict[str, int] = field(default_factory=dict)
    _lease: Lease | None = None

    def _touched(self, *host_ids: str) -> None:
        if not host_ids:
            return
        self._numbers["change"] = self.number("change") + 1
        self._changes.update(dict.fromkeys(host_ids, self._numbers["change"]))

    def _rules_changed(self) -> None:
        self._numbers["rules"] = self.number("rules") + 1

    _environments: dict[str, EnvironmentRule] = field(default_factory=dict)
    _gaps: dict[int, Gap] = field(default_factory=dict)
    _ahead: dict[str, Ahead] = field(default_factory=dict)
    _settings: dict[tuple[str, str, str, str], Setting] = field(default_factory=dict)

    def add_host(self, host: Host) -> None:
        if host.id in self._hosts or self.host_named(host.name) is not None:
            raise InputError(f"cannot add host {host.name}: it is there already", code="exists")
        self._hosts[host.id] = host
        self._touched(host.id)

    def put_host(self, host: Host) -> None:
        if host.id not in self._hosts:
            raise InputError(f"cannot change host {host.name}: there is none with its id", code="not-found")
        holder = self.host_named(host.name)
        if holder is not None and holder.id != host.id:
            raise InputError(f"cannot name a host {host.name}: another one has that name", code="exists")
        self._hosts[host.id] = host
        self._touched(host.id)

    def host(self, host_id: str) -> Host | None:
        return self._hosts.get(host_id)

    def host_named(self, name: str) -> Host | None:
        return next((host for host in self._hosts.values() if host.name == name), None)

    def host_with_key(self, key_sha256: bytes) -> Host | None:
        return next((host for host in self._hosts.values() if host.key_sha256 == key_sha256), None)

    def hosts(self, environment: str | None = None) -> list[Host]:
        found = [host for host in self._hosts.values() if environment in (None, host.environment)]
        return sorted(found, key=lambda host: host.name)

    def put_seen(self, seen: Mapping[str, int]) -> None:
        for host_id, at in seen.items():
            host = self._hosts.get(host_id)
            if host is not None and host.last_seen_unix_ms < at:
                if host.last_seen_unix_ms <= at - ONLINE_MS:
                    self._touched(host_id)
                self._hosts[host_id] = replace(host, last_seen_unix_ms=at)

    def add_token(self, token: EnrolmentToken) -> None:
        if token.id in self._tokens:
            raise InputError(f"cannot add token {token.id}: it is there already", code="exists")
        self._tokens[token.id] = token

    def token(self, token_id: str) -> EnrolmentToken | None:
        return self._tokens.get(token_id)

    def spend_token(self, token_id: str) -> bool:
        token = self._tokens.get(token_id)
        if token is None or token.uses_left < 1:
            return False
        self._tokens[token_id] = replace(token, uses_left=token.uses_left - 1)
        return True

    def put_token_use(self, use: TokenUse) -> None:
        self._uses[use.token_id, use.key_sha256] = use

    def token_use(self, token_id: str, key_sha256: bytes) -> TokenUse | None:
        return self._uses.get((token_id, key_sha256))

    def put_metadata(self, files: Mapping[str, bytes]) -> None:
        self._files.update(files)

    def metadata(self, name: str) -> bytes | None:
        return self._files.get(name)

    def metadata_names(self) -> list[str]:
        return sorted(self._files)

    def remove_metadata(self, names: Collection[str]) -> None:
        for name in names:
            self._files.pop(name, None)

    def add_release(self, release: PublishedRelease) -> None:
        if (release.app, release.version) in self._releases:
            raise InputError(f"cannot add release {release.app} {release.version}: it is there already", code="exists")
        self._releases[release.app, release.version] = release

    def release(self, app: str, version: str) -> PublishedRelease | None:
        return self._releases.get((app, version))

    def releases(self, app: str | None = None) -> list[PublishedRelease]:
        found = [release for release in self._releases.values() if app in (None, release.app)]
        return sorted(found, key=lambda release: (release.app, release.counter))

    def add_assignment(self, assignment: Assignment) -> None:
        taken = {one.generation for one in self._assignments.values()}
        if assignment.id in self._assignments or assignment.generation in taken:
            raise InputError(f"cannot add assignment {assignment.id}: it is there already", code="exists")
        self._assignments[assignment.id] = assignment
        self._rules_changed()
        self._numbers["generation"] = max(self.number("generation"), assignment.generation)

    def put_assignment_state(self, assignment_id: str, state: RolloutState, reason: str) -> None:
        self._rules_changed()
        if assignment_id in self._assignments:
            self._assignments[assignment_id] = replace(self._assignments[assignment_id], state=state, reason=reason)

    def put_assignment(self, assignment: Assignment) -> None:
        if assignment.id not in self._assignments:
            raise InputError(f"cannot change assignment {assignment.id}: there is none with its id", code="not-found")
        others = {one.generation for one in self._assignments.values() if one.id != assignment.id}
        if assignment.generation in others:
            raise InputError(f"cannot change assignment {assignment.id}: its generation is taken", code="exists")
        self._assignments[assignment.id] = assignment
        self._rules_changed()
        self._numbers["generation"] = max(self.number("generation"), assignment.generation)

    def assignment(self, assignment_id: str) -> Assignment | None:
        return self._assignments.get(assignment_id)

    def assignments(
        self, *, environment: str | None = None, app: str | None = None, removed: bool = False
    ) -> list[Assignment]:
        found = [
            one
            for one in self._assignments.values()
            if environment in (None, one.environment)
            and app in (None, one.app)
            and (removed or one.state is not RolloutState.REMOVED)
        ]
        return sorted(found, key=lambda one: -one.generation)

    def next_generation(self) -> int:
        self._numbers["generation"] = self.number("generation") + 1
        return self._numbers["generation"]

    def admit(self, assignment_id: str, host_ids: Collection[str], at_unix_ms: int) -> None:
        self._touched(*host_ids)
        for host_id in host_ids:
            self._admissions.setdefault((assignment_id, host_id), at_unix_ms)

    def withdraw(self, assignment_id: str, host_ids: Collection[str]) -> None:
        self._touched(*host_ids)
        for host_id in host_ids:
            self._admissions.pop((assignment_id, host_id), None)

    def admissions(self, assignment_id: str) -> dict[str, int]:
        return {host_id: at for (of, host_id), at in self._admissions.items() if of == assignment_id}

    def admitted_to(self, host_ids: Collection[str]) -> dict[str, set[str]]:
        return {host_id: {of for of, who in self._admissions if who == host_id} for host_id in host_ids}

    def retreat(self, assignment_id: str, host_ids: Collection[str], at_unix_ms: int) -> None:
        self._touched(*host_ids)
        for host_id in host_ids:
            self._retreats.setdefault((assignment_id, host_id), Retreat(assignment_id, host_id, at_unix_ms))

    def arrive(self, assignment_id: str, host_ids: Collection[str], at_unix_ms: int) -> None:
        self._touched(*host_ids)
        for key in [(assignment_id, host_id) for host_id in host_ids]:
            if key in self._retreats:
                self._retreats[key] = replace(self._retreats[key], arrived_unix_ms=at_unix_ms)

    def retreats(self, assignment_id: str) -> dict[str, Retreat]:
        return {host_id: one for (of, host_id), one in self._retreats.items() if of == assignment_id}

    def change(self) -> int:
        return self.number("change")

    def changed_hosts(self, environment: str, since: int) -> list[str]:
        return [one.id for one in self.hosts(environment) if self._changes[one.id] > since]

    def rules(self) -> int:
        return self.number("rules")

    def hosts_of(self, host_ids: Collection[str]) -> list[Host]:
        return [self._hosts[one] for one in host_ids if one in self._hosts]

    def admissions_of(self, host_ids: Collection[str]) -> dict[str, dict[str, int]]:
        return {one: {of: at for (of, who), at in self._admissions.items() if who == one} for one in host_ids}

    def retreats_of(self, host_ids: Collection[str]) -> list[Retreat]:
        return [one for one in self._retreats.values() if one.host_id in host_ids]

    def app_states_of(self, host_ids: Collection[str]) -> list[ReportedApp]:
        return [one for one in self._states.values() if one.host_id in host_ids]

    def stamp(self) -> int:
        return 0  # nobody else can write here

    def lease(self) -> Lease | None:
        return self._lease

    def put_lease(self, lease: Lease) -> None:
        self._lease = lease

    def add_calendar_entry(self, entry: CalendarEntry) -> None:
        if entry.id in self._calendar:
            raise InputError(f"cannot add calendar entry {entry.id}: it is there already", code="exists")
        self._calendar[entry.id] = entry

    def remove_calendar_entry(self, entry_id: str) -> None:
        self._calendar.pop(entry_id, None)

    def calendar(self) -> list[CalendarEntry]:
        return sorted(self._calendar.values(), key=lambda one: (one.created_unix_ms, one.id))

    def add_events(self, host_id: str, events: Sequence[Event]) -> int:
        mine = self._events.setdefault(host_id, [])
        known = {event.id for event in mine}
        fresh: dict[str, Event] = {}
        for event in events:
            if event.id not in known:
                fresh.setdefault(event.id, event)
        mine.extend(fresh.values())
        return len(fresh)

    def events(self, host_id: str, limit: int) -> list[Event]:
        return self._events.get(host_id, [])[-limit:] if limit else []

    def prune_events(self, host_id: str, keep: int) -> None:
        self._events[host_id] = self.events(host_id, keep)

    def replace_app_states(self, host_id: str, states: Iterable[ReportedApp]) -> None:
        self._touched(host_id)
        self._states = {key: one for key, one in self._states.items() if key[0] != host_id}
        self._states.update({(host_id, one.state.app): one for one in states})

    def app_states(self, host_id: str | None = None, app: str | None = None) -> list[ReportedApp]:
        return [
            self._states[key] for key in sorted(self._states) if host_id in (None, key[0]) and app in (None, key[1])
        ]

    def add_audit(self, entry: AuditEntry) -> None:
        self._audit.append(entry)

    def audit(self, limit: int) -> list[AuditEntry]:
        return self._audit[-limit:] if limit else []

    def put_environment(self, rule: EnvironmentRule) -> None:
        self._environments[rule.name] = rule

    def environments(self) -> list[EnvironmentRule]:
        return [self._environments[name] for name in sorted(self._environments)]

    def put_setting(self, setting: Setting) -> None:
        self._settings[setting.environment, setting.app, setting.name, setting.label] = setting

    def remove_setting(self, setting: Setting) -> None:
        self._settings.pop((setting.environment, setting.app, setting.name, setting.label), None)

    def settings(self, environment: str | None = None) -> list[Setting]:
        return [one for _, one in sorted(self._settings.items()) if environment in (None, one.environment)]

    def add_gap(self, gap: Gap, keep: int) -> None:
        self._gaps.setdefault(gap.before, gap)
        self._gaps = dict(sorted(self._gaps.items())[-keep:])

    def gaps(self) -> list[Gap]:
        return [gap for _, gap in sorted(self._gaps.items())]

    def put_ahead(self, ahead: Ahead) -> None:
        self._ahead[ahead.host_id] = ahead

    def ahead(self) -> list[Ahead]:
        return sorted(self._ahead.values(), key=lambda one: one.name)

    def forget_ahead(self, host_id: str) -> None:
        self._ahead.pop(host_id, None)

    def clear_ahead(self) -> None:
        self._gaps, self._ahead = {}, {}

    def number(self, name: str) -> int:
        return self._numbers.get(name, 0)

    def put_number(self, name: str, value: int) -> None:
        self._numbers[name] = value


class MemoryStorage:
    """`ports.Storage`: a transaction works on a copy that is committed as a whole, one after the other."""

    def __init__(self) -> None:
        self._rows = Rows()
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[Rows]:
        with self._lock:
            working = copy.deepcopy(self._rows)
            yield working
            self._rows = working

    def close(self) -> None:
        """Nothing to give back."""


class MemoryBlobs:
    """`ports.Blobs`."""

    def __init__(self) -> None:
        self.carried: dict[bytes, bytes] = {}

    def _check(self, digest: bytes) -> bytes:
        if len(digest) != 32:
            raise InputError("cannot look up an object: a digest has 32 bytes")
        return digest

    def missing(self, digests: Iterable[bytes], *, anew: bool = False) -> list[bytes]:
        return [digest for digest in dict.fromkeys(digests) if self.carried_size(digest) is None]

    def carried_size(self, digest: bytes) -> int | None:
        size = len(self.carried.get(self._check(digest), b""))
        return size if size >= SHORTEST_BYTES else None

    def link(self, digest: bytes) -> None:
        return None

    def chunks(self, digest: bytes, offset: int, chunk_bytes: int) -> Iterator[bytes]:
        data = self._get(digest)
        yield from (data[at : at + chunk_bytes] for at in range(offset, len(data), chunk_bytes))

    def _get(self, digest: bytes) -> bytes:
        if self.carried_size(digest) is None:
            raise InputError("cannot read an object: it is not here", code="not-found")
        return self.carried[digest]

    def writer(self, digest: bytes, size: int) -> "MemoryWriter":
        return MemoryWriter(self._check(digest), size)

    def publish(self, writers: Sequence["MemoryWriter"]) -> int:
        fresh = {
            writer.digest: writer.data for writer in writers if self.carried_size(writer.digest) != len(writer.data)
        }
        self.carried.update(fresh)
        return len(fresh)

    def read(self, digest: bytes, limit: int) -> bytes:
        try:
            data = zstandard.ZstdDecompressor().decompress(self._get(digest), max_output_size=2**24)
        except zstandard.ZstdError as error:
            del self.carried[digest]
            raise Broken("cannot read an object: it is damaged") from error
        if len(data) > limit:
            raise Refusal("cannot read an object: it is too long", code="endless-data")
        if hashlib.sha256(data).digest() != digest:
            del self.carried[digest]
            raise Broken("cannot read an object: it is damaged")
        return data

    def set_aside(self, digest: bytes, size: int) -> bool:
        check = FrameCheck(self._check(digest), size)
        try:
            check.feed(self._get(digest))
            check.finish()
        except InputError:
            return False
        except Refusal:
            del self.carried[digest]
            return True
        return False


class MemoryWriter:
    """`ports.BlobWriter`: checks as it goes, small objects only."""

    def __init__(self, digest: bytes, size: int) -> None:
        self.digest = digest
        self.data = b""
        self._size = size

    def _content(self) -> tuple[bytes, bool]:
        """Return what the bytes so far expand to, and whether the frame is whole."""
        reader = zstandard.ZstdDecompressor().decompressobj()
        try:
            content = reader.decompress(self.data) if self.data else b""
        except zstandard.ZstdError as error:
            raise Refusal("cannot store the object: it is no frame", code="corrupt-object") from error
        if len(content) > self._size:
            raise Refusal("cannot store the object: it expands beyond its length", code="endless-data")
        if reader.eof and reader.unused_data:
            raise Refusal("cannot store the object: something follows its frame", code="corrupt-object")
        return content, reader.eof

    def write(self, data: bytes) -> None:
        self.data += data
        self._content()
        if len(self.data) > self._size + (self._size >> 8) + 1024:
            raise Refusal("cannot store the object: its carried form is too long", code="endless-data")

    def finish(self) -> None:
        content, whole = self._content()
        if not whole or len(content) != self._size or hashlib.sha256(content).digest() != self.digest:
            raise Refusal("cannot store the object: it is cut off or another one", code="corrupt-object")

    def abort(self) -> None:
        """Nothing was visible."""
