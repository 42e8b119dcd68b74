"""Making a bundle: what is in it, the signatures, and its bytes in order.

Three steps, so that nothing slow holds the storage thread: `intending.intend` says what is asked for and whether it may
be, `gather` looks at objects (on a worker), `seal` lets hosts in, signs, and audits. `stream` then yields the file
with flat memory, whatever it carries. What fails before `seal` changes nothing.
"""

import contextlib
import hashlib
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from towpath.bundle import layout, statement
from towpath.bundle.statement import For, Statement, check_valid_ms, listed
from towpath.errors import Broken, InputError, Refusal
from towpath.index import objects
from towpath.manifest import NONCE_BYTES, OFFLINE_FEATURE, DesiredApp, Manifest
from towpath.names import target_path
from towpath.wire import decode_index, encode_envelope, encode_manifest
from towpath_server.deltas import pairing
from towpath_server.deltas.pairing import Named, Pairing
from towpath_server.deltas.proving import prove
from towpath_server.domain import bundling
from towpath_server.domain.deltas import Pair
from towpath_server.domain.metadata import travelling
from towpath_server.domain.model import Host
from towpath_server.domain.standing import CARRIED_UNIX_MS
from towpath_server.ports import Transaction
from towpath_server.services.context import Context, acting
from towpath_server.services.intending import Intent, active, planned
from towpath_server.services.rollouts import send_back

PIECE_BYTES = 256 * 1024
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Goods:
    """What is carried: indexes by digest, deltas with length and SHA-256, objects with their carried lengths.

    `notes` are for people: what is taken instead of what was damaged here.
    """

    indexes: Mapping[bytes, bytes]
    deltas: Mapping[Pair, tuple[int, str]]
    objects: Mapping[bytes, int]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A bundle that is ready to be sent."""

    statement: Statement
    heads: tuple[tuple[str, bytes], ...]
    goods: Goods
    size: int = field(default=0)


def gather(context: Context, intent: Intent) -> Goods:
    """Return what has to be in the file. On a worker: it reads indexes, proves deltas and looks at every object.

    A delta that is wrong goes, for a host at a site without a line could not fetch objects instead.
    """
    indexes: dict[bytes, bytes] = {}
    deltas: dict[Pair, tuple[int, str]] = {}
    needed: set[bytes] = set()
    notes: list[str] = []
    named: dict[tuple[str, str], Named] = {}
    trees: dict[tuple[str, str], set[bytes]] = {}
    for key, known in intent.known.items():
        artifact = known.release.artifact
        index = context.blobs.read(artifact.index_sha256, artifact.index_size)
        indexes[artifact.index_sha256] = b"".join(context.blobs.chunks(artifact.index_sha256, 0, PIECE_BYTES))
        named[key] = Named(decode_index(index), artifact.index_sha256, artifact.index_size)
        trees[key] = set(objects(named[key].entries))
    for one in intent.carried:
        tree = trees[one.app, one.version]
        if not one.since:
            needed |= tree
        for old in one.since:
            pair = intent.pair(one, old)
            if pair.old == pair.new:
                continue
            try:
                found = _delta(context, pair, pairing.pair(named[one.app, old], named[one.app, one.version]))
            except Refusal:
                notes.append(f"the delta of {one.app} {old} to {one.version} was damaged on the server and is removed")
                found = None
            if found is not None:
                deltas[pair] = found
            else:
                needed |= tree - trees[one.app, old]
    sizes: dict[bytes, int] = {}
    for digest in sorted(needed):
        size = context.blobs.carried_size(digest)
        if size is None:
            raise Broken(f"cannot make a bundle: object {digest.hex()[:16]} is lost; run: towpath-server doctor")
        sizes[digest] = size
    return Goods(indexes, deltas, sizes, tuple(notes))


def _delta(context: Context, pair: Pair, made_of: Pairing) -> tuple[int, str] | None:
    """Return the length and SHA-256 of a delta that does what it should; None where there is none that can be proven.

    Refusal: it is wrong, and was removed; it is made anew when it is asked for again.
    """
    deltas = context.deltas
    if deltas is None or deltas.size(pair) is None:
        return None
    size, sha256 = 0, hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        nonlocal size
        for piece in deltas.chunks(pair, 0, PIECE_BYTES):
            size += len(piece)
            sha256.update(piece)
            yield piece

    try:
        with deltas.scratch() as scratch:
            prove(context.blobs, made_of, pieces(), scratch)
    except Refusal:
        with contextlib.suppress(OSError):  # it is found again where it stays
            deltas.remove(pair)
        raise
    except (InputError, Broken, OSError):  # it went to make room, what it stands on is damaged, or there is no room
        return None
    return size, sha256.hexdigest()


def seal(context: Context, actor: str, intent: Intent, goods: Goods, sequences: Sequence[int]) -> Sealed:
    """Let hosts in or take them back, sign, audit; return the bundle. On the storage thread.

    `sequences`: one for each host.
    """
    names = ", ".join(f"{one.app}@{one.version}" for one in intent.carried)
    with acting(context, actor, "bundle.create", f"bundle/{names}"[:200]) as act:
        now = context.clock.now_unix_ms()
        until = (now + check_valid_ms(intent.order.valid_ms)) // 1000 * 1000
        # Whoever was revoked while deltas were made is not left out in silence.
        hosts = [active(host) for host in (act.tx.host(one) for one in intent.hosts) if host is not None]
        for host_id, moves in planned(context, act.tx, hosts, intent.carried).items():
            for one in moves.into:
                act.tx.admit(one.id, [host_id], CARRIED_UNIX_MS)
            for one in moves.back:
                send_back(act.tx, one.environment, one, [host_id], CARRIED_UNIX_MS)
        sets = _sets(context, act.tx, hosts)
        carried, since = {one.app: one.version for one in intent.carried}, {o.app: o.since for o in intent.carried}
        for host in hosts:
            states = {it.state.app: it.state for it in act.tx.app_states(host_id=host.id)}
            bundling.check_complete(host.name, sets[host.id], carried, since, states)
        apps = {desired.app for desired_set in sets.values() for desired in desired_set} | set(carried)
        newest = context.cache.metadata
        metadata = travelling(newest, apps, context.keys, now_ms=now, until_ms=until)
        act.tx.put_metadata(metadata.after)
        id_ = secrets.token_bytes(NONCE_BYTES)
        heads = [(f"metadata/{name}", data) for name, data in sorted(metadata.files.items())]
        heads += _releases(act.tx, intent, sets.values())
        for host, sequence in zip(hosts, sequences, strict=True):
            manifest = Manifest(
                host_id=host.id,
                host_key_sha256=host.key_sha256,
                sequence=sequence,
                issued_unix_ms=now,
                expires_unix_ms=until,
                nonce=id_,
                min_snapshot_version=metadata.snapshot_version,
                environment=host.environment,
                apps=sets[host.id],
                critical=(OFFLINE_FEATURE,),
            )
            signed = context.keys.sign_manifest(encode_manifest(manifest))
            heads.append((f"manifests/{host.id}", encode_envelope(signed)))
        heads += [(f"indexes/{digest.hex()}", data) for digest, data in sorted(goods.indexes.items())]
        members = [listed(name, data) for name, data in heads]
        members += [
            statement.Listed(_delta_name(pair), size, sha256)
            for pair, (size, sha256) in sorted(goods.deltas.items(), key=lambda one: _delta_name(one[0]))
        ]
        said = Statement(
            id=id_.hex(),
            created_unix_ms=now,
            valid_until_unix_ms=until,
            created_by=actor,
            hosts=tuple(For(host.id, host.name, host.environment) for host in hosts),
            releases=intent.carried,
            members=tuple(members),
            objects=len(goods.objects),
            object_bytes=sum(goods.objects.values()),
        )
        heads.insert(0, (layout.STATEMENT, encode_envelope(context.keys.sign_bundle(statement.encode(said)))))
        sizes = [len(data) for _, data in heads] + [size for size, _ in goods.deltas.values()]
        size = layout.length(iter([*sizes, *goods.objects.values()]))
        shown = ", ".join(host.name for host in hosts[:_SHOWN]) + (" ..." if len(hosts) > _SHOWN else "")
        act.detail = f"{said.id} for {shown}, good until {statement.when(until)}, {size} bytes"
        act.hosts.update(intent.hosts)
        act.environments.update(host.environment for host in hosts)
    context.cache.set_metadata({**context.cache.metadata, **metadata.after})
    return Sealed(said, tuple(heads), goods, size)


def _sets(context: Context, tx: Transaction, hosts: Sequence[Host]) -> dict[str, tuple[DesiredApp, ...]]:
    """Return host id to the complete set that it is told, as it is in this transaction."""
    sets = {}
    for host in hosts:
        context.cache.entries.pop(host.id, None)
        entry = context.entry(tx, host.id)
        context.cache.entries.pop(host.id, None)  # of rows that may never be committed
        if entry is None or not entry.apps:
            raise Broken(f"cannot make a bundle for {host.name}: it is told to run nothing")
        sets[host.id] = entry.apps
    return sets


def _releases(tx: Transaction, intent: Intent, sets: Collection[tuple[DesiredApp, ...]]) -> list[tuple[str, bytes]]:
    """Return the serialized releases that the manifests name, and those that hosts may come from."""
    wanted = {(desired.app, desired.version) for apps in sets for desired in apps} | set(intent.known)
    found = []
    for app, version in sorted(wanted):
        row = tx.release(app, version)
        if row is None:
            raise Broken(f"cannot make a bundle: {app} {version} is not stored")
        found.append((f"releases/{target_path(app, version)}", row.data))
    return found


def _delta_name(pair: Pair) -> str:
    return f"deltas/{pair.old.hex()}/{pair.new.hex()}"


def stream(context: Context, sealed: Sealed) -> Iterator[bytes]:
    """Yield the file in pieces of some hundred KiB. On a worker; Broken where what was gathered is gone meanwhile."""
    buffer = bytearray()
    for piece in _pieces(context, sealed):
        buffer += piece
        if len(buffer) >= PIECE_BYTES:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer)


def _pieces(context: Context, sealed: Sealed) -> Iterator[bytes]:
    for name, data in sealed.heads:
        yield from _member(name, len(data), iter((data,)))
    deltas, goods = context.deltas, sealed.goods
    for pair in sorted(goods.deltas, key=_delta_name):
        if deltas is not None:  # it was there when they were gathered
            yield from _member(_delta_name(pair), goods.deltas[pair][0], deltas.chunks(pair, 0, PIECE_BYTES))
    for digest, size in goods.objects.items():
        yield from _member(f"objects/{digest.hex()}", size, context.blobs.chunks(digest, 0, PIECE_BYTES))
    yield layout.END


def _member(name: str, size: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield layout.header(name, size)
    left = size
    for piece in pieces:
        left -= len(piece)
        yield piece
    if left:
        raise Broken(f"cannot make a bundle: {name} is not as long as it was; make it again")
    yield bytes(layout.padding(size))
