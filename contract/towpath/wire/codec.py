"""Dataclasses to bytes and back. Field by field, so that a new field is a visible line here."""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from towpath.dsse import MAX_ENVELOPE_BYTES, Envelope, Signature
from towpath.errors import InputError, Refusal
from towpath.handover import Handover
from towpath.index import MAX_INDEX_BYTES, Entries, Entry, EntryType
from towpath.manifest import DesiredApp, Manifest
from towpath.parameters import Parameter, Value
from towpath.release import Artifact, HealthPolicy, Hook, Install, Probe, Release, Run
from towpath.v1 import types_pb2 as pb

MAX_RELEASE_BYTES = 1 * 2**20

_ENTRY_TYPES = {
    EntryType.FILE: pb.Entry.FILE,
    EntryType.DIRECTORY: pb.Entry.DIRECTORY,
    EntryType.LINK: pb.Entry.LINK,
}
# `Index.entries` on the wire: field 1, then a length, seven bits a byte.
_ENTRY_TAG, _LENGTH_DIGITS = 0x0A, 4
_PART_BYTES = 64 * 1024
_ENTRY_NAMES = {number: kind for kind, number in _ENTRY_TYPES.items()}

M = TypeVar("M", bound=Message)


def _parse(message: M, data: bytes, limit: int, what: str) -> M:
    if len(data) > limit:
        raise Refusal(f"cannot read {what}: {len(data)} bytes, at most {limit}", code="endless-data")
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise Refusal(f"cannot read {what}: it is garbled", code="garbled") from error
    return message


def to_value(value: Value) -> pb.Value:
    """Return the message of a parameter's or option's value."""
    if isinstance(value, bool):
        return pb.Value(flag=value)
    if isinstance(value, int):
        return pb.Value(number=value)
    if isinstance(value, str):
        return pb.Value(text=value)
    return pb.Value(list=pb.TextList(items=value))


def from_value(message: pb.Value) -> Value:
    """Return the value of a message; InputError where it holds none."""
    match message.WhichOneof("kind"):
        case "text":
            return message.text
        case "number":
            return message.number
        case "flag":
            return message.flag
        case "list":
            return tuple(message.list.items)
        case _:
            raise InputError("cannot read a value: it is empty")


def _to_options(options: Mapping[str, Value]) -> list[pb.Option]:
    return [pb.Option(name=name, value=to_value(options[name])) for name in sorted(options)]


def _from_options(options: Iterable[pb.Option]) -> dict[str, Value]:
    result: dict[str, Value] = {}
    for option in options:
        if option.name in result:
            raise InputError(f"cannot read option {option.name[:60]!r}: it is there twice")
        result[option.name] = from_value(option.value)
    return result


def encode_release(release: Release) -> bytes:
    """Return the bytes that a publisher signs."""
    return pb.Release(
        app=release.app,
        version=release.version,
        counter=release.counter,
        rollback_floor=release.rollback_floor,
        artifact=pb.Artifact(
            index_sha256=release.artifact.index_sha256,
            index_size=release.artifact.index_size,
            tree_size=release.artifact.tree_size,
        ),
        install=pb.Install(
            kind=release.install.kind,
            options=_to_options(release.install.options),
            keep=release.install.keep,
            keep_bytes=release.install.keep_bytes,
        ),
        run=pb.Run(
            kind=release.run.kind,
            options=_to_options(release.run.options),
            command=release.run.command,
            env=release.run.env,
            stop_timeout_ms=release.run.stop_timeout_ms,
            handover=_to_handover(release.run.handover),
        ),
        hooks=[pb.Hook(point=h.point, command=h.command, timeout_ms=h.timeout_ms) for h in release.hooks],
        probes=[
            pb.Probe(
                kind=probe.kind,
                options=_to_options(probe.options),
                interval_ms=probe.interval_ms,
                timeout_ms=probe.timeout_ms,
                successes=probe.successes,
                failures=probe.failures,
            )
            for probe in release.probes
        ],
        health=pb.HealthPolicy(
            healthy_for_ms=release.health.healthy_for_ms,
            deadline_ms=release.health.deadline_ms,
            probation_ms=release.health.probation_ms,
        ),
        parameters=[
            pb.Parameter(
                name=parameter.name,
                type=parameter.type,
                default=None if parameter.default is None else to_value(parameter.default),
                choices=parameter.choices,
            )
            for parameter in release.parameters
        ],
        requires=pb.Requirements(
            disk_bytes=release.requires_disk_bytes, apps=release.requires_apps, together=release.together
        ),
        platforms=release.platforms,
        environments=release.environments,
        critical=release.critical,
    ).SerializeToString(deterministic=True)


def _to_handover(handover: Handover | None) -> pb.Handover | None:
    return None if handover is None else pb.Handover(ports=handover.ports, drain_ms=handover.drain_ms)


def _from_handover(run: pb.Run) -> Handover | None:
    return Handover(tuple(run.handover.ports), run.handover.drain_ms) if run.HasField("handover") else None


@lru_cache(maxsize=16)
def decode_release(data: bytes) -> Release:
    """Return the release in bytes that TUF vouched for; Refusal where garbled. Not yet checked for sense.

    The same bytes are asked for again and again (an agent looks at what runs at each tick) and are the same release for
    ever: the latest are kept, decoded.
    """
    message = _parse(pb.Release(), data, MAX_RELEASE_BYTES, "a release")
    try:
        return _release(message)
    except InputError as error:
        raise Refusal(f"cannot read a release: {error}", code="garbled") from error


def _release(m: pb.Release) -> Release:
    return Release(
        app=m.app,
        version=m.version,
        counter=m.counter,
        rollback_floor=m.rollback_floor,
        artifact=Artifact(m.artifact.index_sha256, m.artifact.index_size, m.artifact.tree_size),
        install=Install(m.install.kind, _from_options(m.install.options), m.install.keep, m.install.keep_bytes),
        run=Run(
            kind=m.run.kind,
            options=_from_options(m.run.options),
            command=tuple(m.run.command),
            env=dict(m.run.env),
            stop_timeout_ms=m.run.stop_timeout_ms,
            handover=_from_handover(m.run),
        ),
        hooks=tuple(Hook(h.point, tuple(h.command), h.timeout_ms) for h in m.hooks),
        probes=tuple(
            Probe(p.kind, _from_options(p.options), p.interval_ms, p.timeout_ms, p.successes, p.failures)
            for p in m.probes
        ),
        health=HealthPolicy(m.health.healthy_for_ms, m.health.deadline_ms, m.health.probation_ms),
        parameters=tuple(
            Parameter(p.name, p.type, from_value(p.default) if p.HasField("default") else None, tuple(p.choices))
            for p in m.parameters
        ),
        requires_disk_bytes=m.requires.disk_bytes,
        requires_apps=tuple(m.requires.apps),
        together=tuple(m.requires.together),
        platforms=tuple(m.platforms),
        environments=tuple(m.environments),
        critical=tuple(m.critical),
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the bytes that a director signs."""
    return pb.Manifest(
        host_id=manifest.host_id,
        host_key_sha256=manifest.host_key_sha256,
        sequence=manifest.sequence,
        issued_unix_ms=manifest.issued_unix_ms,
        expires_unix_ms=manifest.expires_unix_ms,
        nonce=manifest.nonce,
        min_snapshot_version=manifest.min_snapshot_version,
        environment=manifest.environment,
        apps=[_to_desired(desired) for desired in manifest.apps],
        critical=manifest.critical,
        prefetch=[_to_desired(desired) for desired in manifest.prefetch],
    ).SerializeToString(deterministic=True)


def _to_desired(desired: DesiredApp) -> pb.DesiredApp:
    return pb.DesiredApp(
        app=desired.app,
        version=desired.version,
        target_path=desired.target_path,
        release_size=desired.release_size,
        release_sha256=desired.release_sha256,
        counter=desired.counter,
        parameters={name: to_value(value) for name, value in desired.parameters.items()},
        generation=desired.generation,
        assignment=desired.assignment,
    )


def decode_manifest(data: bytes) -> Manifest:
    """Return the manifest in bytes whose signatures were verified; Refusal where garbled."""
    m = _parse(pb.Manifest(), data, MAX_ENVELOPE_BYTES, "a manifest")
    try:
        return Manifest(
            host_id=m.host_id,
            host_key_sha256=m.host_key_sha256,
            sequence=m.sequence,
            issued_unix_ms=m.issued_unix_ms,
            expires_unix_ms=m.expires_unix_ms,
            nonce=m.nonce,
            min_snapshot_version=m.min_snapshot_version,
            environment=m.environment,
            apps=tuple(_desired(app) for app in m.apps),
            critical=tuple(m.critical),
            prefetch=tuple(_desired(app) for app in m.prefetch),
        )
    except InputError as error:
        raise Refusal(f"cannot read a manifest: {error}", code="garbled") from error


def _desired(m: pb.DesiredApp) -> DesiredApp:
    desired = DesiredApp(
        app=m.app,
        version=m.version,
        release_sha256=m.release_sha256,
        release_size=m.release_size,
        counter=m.counter,
        parameters={name: from_value(value) for name, value in m.parameters.items()},
        generation=m.generation,
        assignment=m.assignment,
    )
    if m.target_path != desired.target_path:
        raise Refusal(f"cannot read a manifest: {m.app[:60]!r} names another app's target", code="mix-and-match")
    return desired


def encode_index(entries: Iterable[Entry]) -> bytes:
    """Return the bytes of an index, the object that a release's artifact names."""
    return pb.Index(
        entries=[
            pb.Entry(
                path=entry.path,
                type=_ENTRY_TYPES[entry.type],
                mode=entry.mode,
                size=entry.size,
                sha256=entry.sha256,
                target=entry.target,
            )
            for entry in entries
        ]
    ).SerializeToString(deterministic=True)


def decode_index(data: bytes) -> Entries:
    """Return the entries of an index whose digest was verified; Refusal where garbled. Not yet checked for safety."""
    return Entries(iter_index([data]))


def iter_index(pieces: Iterable[bytes]) -> Iterator[Entry]:
    """Yield what `decode_index` returns of all `pieces` together, for who does not want it in memory as a whole.

    Refusal where what is garbled begins, so whoever uses what comes before has to be able to take that back.
    """
    for part in _index_parts(pieces):
        for m in _parse(pb.Index(), part, MAX_INDEX_BYTES, "an index").entries:
            kind = _ENTRY_NAMES.get(m.type)
            if kind is None:
                raise Refusal(f"cannot read an index: {m.path[:200]!r} is of an unknown type", code="unknown-entry")
            yield Entry(m.path, kind, m.mode, m.size, m.sha256, m.target)


def _index_parts(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield an index in parts that are indexes too, of some hundred entries: a parsed one takes three times its bytes.

    From where no entry follows, the rest is one part, and protobuf's to judge.
    """
    data, size, at = b"", 0, 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_INDEX_BYTES:
            raise Refusal(f"cannot read an index: {size} bytes, at most {MAX_INDEX_BYTES}", code="endless-data")
        data += piece
        begin = 0
        while at < len(data) and at < (end := _entry_end(data, at)) <= len(data):
            at = end
            if at - begin >= _PART_BYTES:
                yield data[begin:at]
                begin = at
        data, at = data[begin:], at - begin
    yield data


def _entry_end(data: bytes, at: int) -> int:
    """Return where the entry ends that begins at `at`; 0: none does."""
    if data[at] != _ENTRY_TAG:
        return 0
    length = 0
    for digit, byte in enumerate(data[at + 1 : at + 1 + _LENGTH_DIGITS]):
        length |= (byte & 0x7F) << 7 * digit
        if byte < 0x80:
            return at + 2 + digit + length
    return 0


def encode_envelope(envelope: Envelope) -> bytes:
    """Return the bytes of an envelope as it travels."""
    return pb.Envelope(
        payload=envelope.payload,
        payload_type=envelope.payload_type,
        signatures=[pb.Signature(sig=s.sig, keyid=s.keyid) for s in envelope.signatures],
    ).SerializeToString(deterministic=True)


def decode_envelope(data: bytes) -> Envelope:
    """Return the envelope in bytes off the wire; Refusal where garbled or too long."""
    m = _parse(pb.Envelope(), data, MAX_ENVELOPE_BYTES, "an envelope")
    return Envelope(m.payload, m.payload_type, tuple(Signature(s.keyid, s.sig) for s in m.signatures))
