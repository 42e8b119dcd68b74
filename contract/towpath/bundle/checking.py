"""The whole proof of a bundle, from a root that the reader pinned: nothing is believed because of where it stands.

Order: roots, timestamp, snapshot, targets; the director's signature over the statement; then the statement; time; each
member that it lists, by length and digest; the app roles; each manifest and each release in it; the indexes; and every
object, expanded and hashed. One pass over the file, memory for what is small alone.
Refusal, by name: truncated, unknown-version, garbled, path-traversal, endless-data (a bomb, a limit), lapsed,
arbitrary-software, arbitrary-manifest, mix-and-match, replay, wrong-digest, corrupt-object, incomplete, wrong-host.
A process that must stay small does not import this module: it loads `tuf`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from towpath import dsse
from towpath.bundle import statement as statements
from towpath.bundle.layout import (
    MAX_METADATA_BYTES,
    MAX_METADATA_FILES,
    Member,
    Read,
    endless,
    garbled,
    truncated,
    walk,
)
from towpath.bundle.statement import Statement, check_lapse, when
from towpath.carried import Proof, carried_cap
from towpath.dsse import MAX_ENVELOPE_BYTES, Keys
from towpath.errors import Refusal
from towpath.index import MAX_INDEX_BYTES, check_entries, objects
from towpath.manifest import MAX_APPS, OFFLINE_FEATURE, DesiredApp, Manifest
from towpath.names import target_path
from towpath.objects import Objects
from towpath.release import Release, check_release
from towpath.repository import Repository, director_keys, open_repository, to_ms
from towpath.wire import MAX_RELEASE_BYTES, decode_envelope, decode_index, decode_manifest, decode_release

PIECE_BYTES = 256 * 1024
MAX_SMALL_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Checked:
    """A bundle that holds what it promises. `manifests` by host id; `size` of the file."""

    statement: Statement
    manifests: Mapping[str, Manifest]
    size: int


class _File:
    """The members, one after the other, with one to look ahead."""

    def __init__(self, read: Read, size: int) -> None:
        self._read, self._walk = read, walk(read, size)
        self.next = next(self._walk, None)

    def take(self) -> Member:
        """Return the next member; Refusal where there is none."""
        member = self.next
        if member is None:
            raise truncated()
        self.next = next(self._walk, None)
        return member

    def below(self, folder: str) -> bool:
        """Return whether the next member is in this folder."""
        return self.next is not None and self.next.name.startswith(folder)

    def pieces(self, member: Member) -> Iterator[bytes]:
        """Yield the content of a member, then see that nothing is hidden behind it."""
        for at in range(member.offset, member.offset + member.size, PIECE_BYTES):
            yield self._exactly(at, min(PIECE_BYTES, member.offset + member.size - at))
        rest = member.end - member.offset - member.size
        if self._exactly(member.end - rest, rest).strip(b"\0"):
            raise garbled(f"something is hidden behind {member.name}")

    def small(self, member: Member, limit: int) -> bytes:
        """Return the content of a member of at most `limit` bytes."""
        if member.size > limit:
            raise endless(member.name, member.size, limit)
        return b"".join(self.pieces(member))

    def _exactly(self, at: int, size: int) -> bytes:
        data = self._read(at, size)
        if len(data) != size:
            raise truncated()
        return data


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Let a Refusal begin with the file that it is of."""
    try:
        yield
    except Refusal as error:
        advice = "; copy it again" if error.code == "corrupt-object" else ""
        raise Refusal(f"{file}: {error}{advice}", code=error.code) from error


def check(read: Read, size: int, *, root: bytes, now_unix_ms: int, host_id: str = "") -> Checked:
    """Return what the file of `size` bytes is, where it is whole and good at that time; Refusal otherwise.

    `host_id`: the host that it has to be for, empty for any.
    """
    file = _File(read, size)
    envelope = decode_envelope(file.small(file.take(), MAX_ENVELOPE_BYTES))
    metadata = _metadata(file)
    director = director_keys(open_repository(metadata, root, ()).targets)
    said = statements.decode(_signed(envelope, statements.TYPE, director))
    check_lapse(said, now_unix_ms)
    if host_id and host_id not in {one.id for one in said.hosts}:
        names = ", ".join(one.name for one in said.hosts[:5])
        raise Refusal(f"cannot use the bundle: it is for {names}, and not for this host", code="wrong-host")
    small = _listed(file, said, metadata)
    manifests = {one.id: _manifest(small, said, one.id, director) for one in said.hosts}
    apps = {desired.app for it in manifests.values() for desired in it.apps} | {one.app for one in said.releases}
    repository = open_repository(metadata, root, apps)
    _check_roles(repository, said)
    releases = {path: _release(repository, path, data) for path, data in small.items() if path.startswith("releases/")}
    for manifest in manifests.values():
        for desired in manifest.apps:
            _check_desired(repository, releases, desired)
    _check_objects(file, said, _needed(small, said, releases))
    if file.next is not None:
        raise garbled(f"{file.next.name} is more than it promises")
    return Checked(said, manifests, size)


def _signed(envelope: dsse.Envelope, payload_type: str, director: Keys) -> bytes:
    try:
        return dsse.verify(envelope, payload_type, director)
    except Refusal as error:
        raise Refusal(
            "cannot use the bundle: it is another fleet's, forged or damaged: "
            f"this fleet's director did not sign all of it ({error})",
            code=error.code,
        ) from error


def _metadata(file: _File) -> dict[str, bytes]:
    """Return the TUF files, before anybody has vouched for how many there are."""
    found: dict[str, bytes] = {}
    total = 0
    while file.below("metadata/"):
        member = file.take()
        name = member.name.removeprefix("metadata/")
        total += member.size
        if len(found) >= MAX_METADATA_FILES or total > MAX_SMALL_BYTES:
            raise endless("metadata/", total, MAX_SMALL_BYTES)
        if name in found:
            raise garbled(f"{member.name} is there twice")
        found[name] = file.small(member, MAX_METADATA_BYTES)
    return found


def _listed(file: _File, said: Statement, metadata: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return what the statement lists but for metadata, and deltas, whose bytes are hashed alone; Refusal otherwise."""
    heads, rest = said.members[: len(metadata)], said.members[len(metadata) :]
    if [one.name for one in heads] != [f"metadata/{name}" for name in metadata]:
        raise garbled("its metadata is not what its statement lists")
    for one, data in zip(heads, metadata.values(), strict=True):
        _same(one.name, one.sha256, hashlib.sha256(data).hexdigest())
    found: dict[str, bytes] = {}
    total = 0
    for one in rest:
        member = file.take()
        if (member.name, member.size) != (one.name, one.size):
            raise garbled(f"{member.name} of {member.size} bytes is where {one.name} of {one.size} should be")
        sha256 = hashlib.sha256()
        if one.name.startswith("deltas/"):
            for piece in file.pieces(member):
                sha256.update(piece)
        else:
            total += member.size
            if total > MAX_SMALL_BYTES:
                raise endless(member.name, total, MAX_SMALL_BYTES)
            found[one.name] = file.small(member, _limit(one.name))
            sha256.update(found[one.name])
        _same(one.name, one.sha256, sha256.hexdigest())
    return found


def _limit(name: str) -> int:
    folder = name.partition("/")[0]
    limits = {"releases": MAX_RELEASE_BYTES, "manifests": MAX_ENVELOPE_BYTES, "indexes": carried_cap(MAX_INDEX_BYTES)}
    return limits.get(folder, 0)


def _same(name: str, promised: str, found: str) -> None:
    if promised != found:
        raise Refusal(f"cannot use the bundle: {name} is not what was signed; copy it again", code="wrong-digest")


def _manifest(small: Mapping[str, bytes], said: Statement, host_id: str, director: Keys) -> Manifest:
    """Return a host's manifest, signed for it and for this very bundle."""
    data = small.get(f"manifests/{host_id}")
    if data is None:
        raise Refusal(f"cannot use the bundle: the manifest of host {host_id[:64]} is missing", code="incomplete")
    manifest = decode_manifest(_signed(decode_envelope(data), dsse.MANIFEST_TYPE, director))
    if manifest.host_id != host_id:
        raise Refusal("cannot use the bundle: a manifest in it is another host's", code="wrong-host")
    if manifest.nonce != said.nonce or OFFLINE_FEATURE not in manifest.critical:
        raise Refusal("cannot use the bundle: a manifest in it was not made for it", code="replay")
    if manifest.expires_unix_ms < said.valid_until_unix_ms:
        raise _lapses("a manifest", manifest.expires_unix_ms, said)
    if len(manifest.apps) > MAX_APPS:
        raise Refusal(f"cannot use the bundle: a manifest of {len(manifest.apps)} apps", code="endless-data")
    return manifest


def _lapses(what: str, at_unix_ms: int, said: Statement) -> Refusal:
    return Refusal(
        f"cannot use the bundle: {what} in it lapses on {when(at_unix_ms)}, before {when(said.valid_until_unix_ms)}",
        code="lapsed",
    )


def _check_roles(repository: Repository, said: Statement) -> None:
    for name, role in repository.roles().items():
        if to_ms(role.expires) < said.valid_until_unix_ms:
            raise _lapses(f"role {name}", to_ms(role.expires), said)


def _release(repository: Repository, name: str, data: bytes) -> Release:
    """Return a release that its publisher signed."""
    release = check_release(decode_release(data))
    path = target_path(release.app, release.version)
    entry = repository.app_targets(release.app).get(path)
    if entry is None or name != f"releases/{path}":
        raise Refusal(f"cannot use the bundle: no publisher signed {name}", code="arbitrary-software")
    if entry.length != len(data) or entry.hashes.get("sha256") != hashlib.sha256(data).hexdigest():
        raise Refusal(f"cannot use the bundle: {name} is not what its publisher signed", code="arbitrary-software")
    return release


def _check_desired(repository: Repository, releases: Mapping[str, Release], desired: DesiredApp) -> None:
    release = releases.get(f"releases/{desired.target_path}")
    if release is None:
        raise Refusal(f"cannot use the bundle: {desired.target_path} is missing", code="incomplete")
    entry = repository.app_targets(desired.app)[desired.target_path]
    if entry.hashes["sha256"] != desired.release_sha256.hex() or release.counter != desired.counter:
        raise Refusal(
            f"cannot use the bundle: a manifest names another {desired.target_path} than was signed",
            code="mix-and-match",
        )


def _needed(small: Mapping[str, bytes], said: Statement, releases: Mapping[str, Release]) -> dict[bytes, int]:
    """Return digest to size of every object that has to be in the bundle."""
    listed = {one.name for one in said.members}
    needed: dict[bytes, int] = {}
    for one in said.releases:
        index, new = _index(small, releases, one.app, one.version)
        if not one.since:
            needed.update(new)
        for version in one.since:
            old, had = _index(small, releases, one.app, version)
            if f"deltas/{old.hex()}/{index.hex()}" not in listed:
                needed |= {digest: size for digest, size in new.items() if digest not in had}
    return needed


def _index(
    small: Mapping[str, bytes], releases: Mapping[str, Release], app: str, version: str
) -> tuple[bytes, Objects]:
    """Return the digest of a release's index, and digest to size of its objects."""
    release = releases.get(f"releases/{target_path(app, version)}")
    digest = release.artifact.index_sha256 if release is not None else b""
    carried = small.get(f"indexes/{digest.hex()}")
    if release is None or carried is None:
        raise Refusal(f"cannot use the bundle: {app} {version} is not wholly in it", code="incomplete")
    proof = Proof(digest, min(release.artifact.index_size, MAX_INDEX_BYTES), keep=True)
    proof.feed(carried)
    return digest, objects(check_entries(decode_index(proof.finish())))


def _check_objects(file: _File, said: Statement, needed: dict[bytes, int]) -> None:
    """Expand and hash every object; Refusal where one is wrong, missing, or more than promised."""
    count = total = 0
    last = b""
    while file.below("objects/"):
        member = file.take()
        digest = bytes.fromhex(member.name.removeprefix("objects/"))
        size = needed.pop(digest, None)
        if size is None or digest <= last:
            raise garbled(f"{member.name} does not belong in it")
        if member.size > carried_cap(size):
            raise endless(member.name, member.size, carried_cap(size))
        proof = Proof(digest, size)
        for piece in file.pieces(member):
            proof.feed(piece)
        proof.finish()
        count, total, last = count + 1, total + member.size, digest
    if needed:
        raise Refusal(
            f"cannot use the bundle: {len(needed)} objects are missing (first {min(needed).hex()[:16]})",
            code="incomplete",
        )
    if (count, total) != (said.objects, said.object_bytes):
        raise garbled("it has other objects than its statement counts")
