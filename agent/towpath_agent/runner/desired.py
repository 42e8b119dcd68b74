"""What this host should run: one sync, its verification, and what is kept of it for times without a server.

A sync that says nothing new costs one round trip and one signature check here. Anything that would change the host is
verified in full by `trust` (a short-lived child with the TUF library) before it is believed; nothing else is.
Floors are made durable before the desired set is.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from towpath import dsse
from towpath.errors import Refusal
from towpath.holds import Hold
from towpath.manifest import NONCE_BYTES, HostFacts, Manifest, ManifestFloor, accept
from towpath.wire import decode_envelope, decode_manifest, encode_manifest
from towpath_agent.engine.planning import Wish
from towpath_agent.journal import Deployed, Journal
from towpath_agent.ports import Server, Want
from towpath_agent.runner.floors import FloorsFile
from towpath_agent.system.clock import Clock
from towpath_agent.trust.model import VerifyRequest, VerifyResult

MAX_METADATA_BYTES = 8 * 2**20


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

    def now(self) -> int:
        """Return T = max(clock, time floor): a clock that was set back does not revive what has expired."""
        return max(self._clock.now_unix_ms(), self._floors.floors.time_unix_ms)

    def sync(self, state_revision: int) -> bool:
        """Ask the server once; return whether the desired set changed. Raises Refusal or Unavailable."""
        nonce = self._random_bytes(NONCE_BYTES)
        answer = self.server.sync(nonce=nonce, state_revision=state_revision, boot_id=self._boot_id, holds=self.holds())
        self.known_state_revision = answer.known_state_revision
        manifest = self._quick(answer.envelope, nonce)
        if manifest is not None and self._is_known(manifest):
            return False
        self._believe(answer.envelope, nonce)
        return True

    def _is_known(self, manifest: Manifest) -> bool:
        """Return whether `manifest` says what was verified before. What was refused is judged again on new metadata."""
        if _fingerprint(manifest) != self._journal.meta().get("desired"):
            return False
        return not refused_apps(self._journal) or manifest.min_snapshot_version == self._verified_snapshot

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

    def _believe(self, envelope: bytes, nonce: bytes) -> None:
        floors = self._floors.floors
        result = self._verifier.verify(
            VerifyRequest(
                metadata_dir=self._metadata_dir,
                root=self._root,
                envelope=envelope,
                nonce=nonce,
                facts=self.facts,
                manifest_floor=floors.manifest,
                role_floors=floors.roles,
                release_floors=floors.releases,
                now_unix_ms=self._clock.now_unix_ms(),
                time_floor_unix_ms=floors.time_unix_ms,
            ),
            self._fetch,
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
        apps = [
            Deployed(
                Wish(
                    app=it.desired.app,
                    sha256=it.desired.release_sha256,
                    version=it.desired.version,
                    parameters=dict(it.parameters),
                    generation=it.desired.generation,
                ),
                it.release,
            )
            for it in result.apps
        ]
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
        )
        manifest = decode_manifest(result.manifest)
        self._verified_snapshot = manifest.min_snapshot_version
        self._journal.set_desired(apps, _fingerprint(manifest))

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
    )
    return hashlib.sha256(encode_manifest(bare)).hexdigest()
