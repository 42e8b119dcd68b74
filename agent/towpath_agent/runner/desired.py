"""What this host should run: one sync, its verification, and what is kept of it for times without a server.

A sync that says nothing new costs one round trip and one signature check here. Anything that would change the host is
verified in full by `trust` (a short-lived child with the TUF library) before it is believed; nothing else is.
Floors are made durable before the desired set is.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from towpath import dsse
from towpath.errors import Refusal
from towpath.holds import Hold
from towpath.manifest import KNOWN_CRITICAL, NONCE_BYTES, OFFLINE_FEATURE, HostFacts, Manifest, ManifestFloor, accept
from towpath.wire import decode_envelope, decode_manifest, encode_manifest
from towpath_agent.engine.planning import Wish
from towpath_agent.errors import DiskError
from towpath_agent.journal import Deployed, Journal
from towpath_agent.ports import Server, Source, Want
from towpath_agent.runner.announced import announcement, refused_announcements
from towpath_agent.runner.floors import FloorsFile
from towpath_agent.store.bundle import BundleFile, bundle_first
from towpath_agent.system.clock import Clock
from towpath_agent.trust.model import AdmittedApp, VerifyRequest, VerifyResult

MAX_METADATA_BYTES = 8 * 2**20
# How much of what the server said last a crash may make a host forget: a bundle of before could win over it.
SAVE_NEWEST_S = 600.0


class Verifier(Protocol):
    """Full verification of an envelope and of every release that it names."""

    def verify(self, request: VerifyRequest, fetch: Callable[[str, str], bytes | None]) -> VerifyResult:
        """Return what may be believed; Refusal with the attack's name, or Unavailable."""
        ...


class Desired:
    """Keeps the desired set of one host up to date."""

    def __init__(
        self,
        *,
        server: Server,
        verifier: Verifier,
        journal: Journal,
        floors: FloorsFile,
        facts: HostFacts,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        metadata_dir: str,
        root: bytes,
        boot_id: str,
        holds: Callable[[], Sequence[Hold]] = tuple,
    ) -> None:
        """Take the parties; `root` is the first TUF root, `metadata_dir` the cache of the TUF library.

        `holds` returns what the server is told of this host's own holds.
        """
        self.holds = holds
        self.server = server
        self.facts = facts
        self._verifier, self._journal, self._floors = verifier, journal, floors
        self._clock, self._random_bytes = clock, random_bytes
        self._metadata_dir, self._root, self._boot_id = metadata_dir, root, boot_id
        # The newest sequence seen since the last durable floor: it need not be durable while nothing is acted upon.
        self._newest: ManifestFloor | None = None
        # None after a start: what was refused is judged once more, perhaps by a newer agent.
        self._verified_snapshot: int | None = None
        self.known_state_revision: int | None = None
        # Why the newest sync was answered without a manifest: the server's database is older than what is known here.
        self.kept = ""
        # A bundle that a person brought: its objects are taken before the server is asked.
        self.bundle: BundleFile | None = None
        self._saved_s = clock.monotonic()

    @property
    def source(self) -> Source:
        """Return where objects are obtained from: the bundle, where there is one, then the server."""
        return self.server if self.bundle is None else bundle_first(self.bundle, self.server)

    def now(self) -> int:
        """Return T = max(clock, time floor): a clock that was set back does not revive what has expired."""
        return max(self._clock.now_unix_ms(), self._floors.floors.time_unix_ms)

    def sync(self, state_revision: int) -> bool:
        """Ask the server once; return whether the desired set changed. Raises Refusal or Unavailable."""
        nonce = self._random_bytes(NONCE_BYTES)
        answer = self.server.sync(
            nonce=nonce,
            state_revision=state_revision,
            boot_id=self._boot_id,
            holds=self.holds(),
            accepted_sequence=(self._newest or self._floors.floors.manifest).sequence,
            features=sorted(KNOWN_CRITICAL - {OFFLINE_FEATURE}),  # what is in no answer need not be said
        )
        self.known_state_revision = answer.known_state_revision
        self.kept = answer.keep
        if answer.keep:  # unsigned, and no more than a server that does not answer could bring about
            return False
        manifest = self._quick(answer.envelope, nonce)
        if manifest is not None and self._is_known(manifest):
            self._remember_newest()
            return False
        self._believe(answer.envelope, nonce)
        return True

    def take(self, bundle: BundleFile) -> Manifest:
        """Believe the manifest of a bundle, verified as an answer of the server is, by what is in the file alone.

        Refusal where the host has heard newer words than it, and for everything that a sync is refused for.
        """
        envelope = bundle.manifest(self.facts.host_id)
        if envelope is None:
            raise Refusal("cannot use the bundle: it has nothing for this host", code="wrong-host")
        try:
            return self._believe(envelope, None, bundle)
        except Refusal as error:
            if error.code != "rollback":
                raise
            raise Refusal(
                f"cannot use the bundle: it is older than what this host has heard since ({error}); make a new one, "
                "unless this host has a line: then its server tells it what to run",
                code=error.code,
            ) from error

    def _remember_newest(self) -> None:
        """Make the newest sequence durable now and then, although nothing came of it."""
        now_s = self._clock.monotonic()
        if self._newest is not None and now_s >= self._saved_s + SAVE_NEWEST_S:
            with suppress(DiskError):  # nothing came of it; it is tried again at the next sync
                self._floors.save(replace(self._floors.floors, manifest=self._newest))
                self._saved_s = now_s

    def _is_known(self, manifest: Manifest) -> bool:
        """Return whether `manifest` says what was verified before. What was refused is judged again on new metadata."""
        if _fingerprint(manifest) != self._journal.meta().get("desired"):
            return False
        refused = refused_apps(self._journal) or refused_announcements(self._journal)
        return not refused or manifest.min_snapshot_version == self._verified_snapshot

    def _quick(self, data: bytes, nonce: bytes) -> Manifest | None:
        """Return the manifest where the keys known so far vouch for it; None where only full verification can say."""
        floors = self._floors.floors
        if not floors.director.keys:
            return None
        envelope = decode_envelope(data)
        try:
            payload = dsse.verify(envelope, dsse.MANIFEST_TYPE, floors.director)
        except Refusal:
            return None  # the director's key may have been rotated; TUF decides
        manifest = decode_manifest(payload)
        digest = hashlib.sha256(payload).digest()
        keys = frozenset(floors.director.keys)
        floor = self._newest or floors.manifest
        accept(manifest, digest, facts=self.facts, nonce=nonce, floor=floor, director_keys=keys, now_unix_ms=self.now())
        self._newest = ManifestFloor(manifest.sequence, digest, keys)
        return manifest

    def _believe(self, envelope: bytes, nonce: bytes | None, bundle: BundleFile | None = None) -> Manifest:
        floors = self._floors.floors
        result = self._verifier.verify(
            VerifyRequest(
                metadata_dir=self._metadata_dir,
                root=self._root,
                envelope=envelope,
                nonce=nonce,
                facts=self.facts,
                manifest_floor=floors.manifest if bundle is None else self._newest or floors.manifest,
                role_floors=floors.roles,
                release_floors=floors.releases,
                now_unix_ms=self._clock.now_unix_ms(),
                time_floor_unix_ms=floors.time_unix_ms,
                bundle=b"" if bundle is None else bundle.statement,
            ),
            self._fetch if bundle is None else bundle.file,
        )
        self._floors.save(
            replace(
                floors,
                manifest=result.manifest_floor,
                roles=dict(result.role_floors),
                director=result.director,
                time_unix_ms=max(floors.time_unix_ms, result.time_floor_unix_ms),
            )
        )
        self._newest = result.manifest_floor
        self._saved_s = self._clock.monotonic()
        refused = {
            it.desired.app: {
                "version": it.desired.version,
                "sha256": it.desired.release_sha256.hex(),
                "generation": it.desired.generation,
                "code": it.code,
                "message": it.message,
            }
            for it in result.refused
        }
        self._journal.set_meta(
            refused=json.dumps(refused),
            assignments=json.dumps({it.desired.app: it.desired.assignment for it in result.apps}),
            **_announcement(result),
        )
        manifest = decode_manifest(result.manifest)
        self._verified_snapshot = manifest.min_snapshot_version
        self._journal.set_desired([_deployed(it) for it in result.apps], _fingerprint(manifest))
        return manifest

    def _fetch(self, kind: str, name: str) -> bytes | None:
        """Return a metadata or target file from the server, None where it has none; Refusal where it never ends."""
        data = bytearray()
        chunks = self.server.fetch([Want("metadata" if kind == "metadata" else "target", name=name)])
        for chunk in chunks:
            if chunk.missing:
                return None
            data += chunk.data
            if len(data) > MAX_METADATA_BYTES:
                raise Refusal(f"cannot accept {name}: more than {MAX_METADATA_BYTES} bytes", code="endless-data")
        return bytes(data)


def _deployed(it: AdmittedApp) -> Deployed:
    wish = Wish(
        app=it.desired.app,
        sha256=it.desired.release_sha256,
        version=it.desired.version,
        parameters=dict(it.parameters),
        generation=it.desired.generation,
    )
    return Deployed(wish, it.release)


def _announcement(result: VerifyResult) -> dict[str, str]:
    refused = {
        it.desired.app: {
            "version": it.desired.version,
            "sha256": it.desired.release_sha256.hex(),
            "code": it.code,
            "message": it.message,
        }
        for it in result.prefetch_refused
    }
    return announcement([_deployed(it) for it in result.prefetch], refused)


def refused_apps(journal: Journal) -> dict[str, dict[str, str | int]]:
    """Return app to why the newest desired release of it was refused: version, sha256, generation, code, message."""
    result: dict[str, dict[str, str | int]] = json.loads(journal.meta().get("refused", "{}"))
    return result


def assignments(journal: Journal) -> dict[str, str]:
    """Return app to the server's assignment that wants it, for people; empty in journals of older agents."""
    result: dict[str, str] = json.loads(journal.meta().get("assignments", "{}"))
    return result


def _fingerprint(manifest: Manifest) -> str:
    """Return a digest of what a manifest asks for, without what differs in every sync."""
    bare = replace(
        manifest,
        host_key_sha256=b"",
        sequence=0,
        issued_unix_ms=0,
        expires_unix_ms=0,
        nonce=b"",
        min_snapshot_version=0,
        apps=tuple(sorted(manifest.apps, key=lambda desired: desired.app)),
        prefetch=tuple(sorted(manifest.prefetch, key=lambda desired: desired.app)),
    )
    return hashlib.sha256(encode_manifest(bare)).hexdigest()
