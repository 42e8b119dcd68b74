"""The desired state of one host, and the pure decision whether that host may accept it.

Order (DESIGN section 2): envelope type and threshold (`towpath.dsse`) come first, then `accept` here: identity, nonce,
sequence, window, critical features, environment. Releases are checked by `admit_release` once TUF has vouched for them.
Every refusal carries the attack's name. Nothing here reads a clock: times are Unix milliseconds handed in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from towpath.errors import Refusal
from towpath.names import check_app, check_version, target_path
from towpath.parameters import Value
from towpath.release import Release, fill_parameters

# A manifest may announce releases that are to be fetched and not to be run. Whoever does not know that must refuse it.
PREFETCH_FEATURE = "prefetch-1"
# A manifest may be part of a bundle: it answers no sync, its nonce is the bundle's id. One that answers a sync does not
# say so, so that neither can stand for the other.
OFFLINE_FEATURE = "offline-1"
KNOWN_CRITICAL = frozenset({PREFETCH_FEATURE, OFFLINE_FEATURE})
MAX_APPS = 256
NONCE_BYTES = 16
# How far a server's clock may run ahead of a host's before a manifest looks as if from the future.
MAX_SKEW_MS = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class DesiredApp:
    """One app of a manifest: which signed release, with which parameters, by which assignment."""

    app: str
    version: str
    release_sha256: bytes
    release_size: int
    counter: int
    parameters: Mapping[str, Value] = field(default_factory=dict)
    generation: int = 0
    assignment: str = ""

    @property
    def target_path(self) -> str:
        """Return the TUF target path of the release."""
        return target_path(self.app, self.version)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The complete, short-lived desired state of one host.

    `prefetch` is no part of that state: releases to be fetched and verified ahead, and to be run by no word of this
    manifest.
    """

    host_id: str
    host_key_sha256: bytes
    sequence: int
    issued_unix_ms: int
    expires_unix_ms: int
    nonce: bytes
    min_snapshot_version: int
    environment: str
    apps: tuple[DesiredApp, ...] = ()
    critical: tuple[str, ...] = ()
    prefetch: tuple[DesiredApp, ...] = ()


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What the host itself knows and never takes from a server: identity, pinned environment, platform."""

    host_id: str
    host_key_sha256: bytes
    environment: str
    platform: str


@dataclass(frozen=True, slots=True)
class ManifestFloor:
    """The last accepted sequence and the director keys under which it was accepted.

    A floor is bound to its key: when the director key is rotated, a sequence that a thief pushed far ahead
    (fast-forward) no longer counts.
    """

    sequence: int = 0
    payload_sha256: bytes = b""
    director_keys: frozenset[str] = frozenset()


def accept(
    manifest: Manifest,
    payload_sha256: bytes,
    *,
    facts: HostFacts,
    nonce: bytes | None,
    floor: ManifestFloor,
    director_keys: frozenset[str],
    now_unix_ms: int,
    offline: bool = False,
) -> None:
    """Return where this host may act on the verified `manifest` at `now_unix_ms`; Refusal otherwise.

    `nonce` is None for a manifest that was accepted before and is read from the host's own disk. `offline`: it comes
    out of a bundle, whose id is the `nonce`.
    """
    if manifest.host_id != facts.host_id or manifest.host_key_sha256 != facts.host_key_sha256:
        raise Refusal("cannot accept the manifest: it was signed for another host", code="wrong-host")
    if nonce is not None and manifest.nonce != nonce:
        raise Refusal("cannot accept the manifest: it answers another request", code="replay")
    _check_kind(manifest, offline=offline if nonce is not None else None)
    if manifest.environment != facts.environment:
        raise Refusal(
            f"cannot accept the manifest: it is for environment {manifest.environment[:60]!r}, this host is pinned to "
            f"{facts.environment!r}",
            code="wrong-environment",
        )
    if director_keys & floor.director_keys or not floor.director_keys:
        if manifest.sequence < floor.sequence:
            raise Refusal(
                f"cannot accept the manifest: sequence {manifest.sequence} is older than {floor.sequence}",
                code="rollback",
            )
        if manifest.sequence == floor.sequence and payload_sha256 != floor.payload_sha256:
            raise Refusal("cannot accept the manifest: one sequence number, two contents", code="equivocation")
    if manifest.expires_unix_ms <= now_unix_ms:
        raise Refusal("cannot accept the manifest: it has expired", code="freeze")
    if manifest.issued_unix_ms > now_unix_ms + MAX_SKEW_MS or manifest.expires_unix_ms <= manifest.issued_unix_ms:
        raise Refusal("cannot accept the manifest: it was issued in the future", code="fast-forward")
    for named in (manifest.apps, manifest.prefetch):
        if len(named) > MAX_APPS:
            raise Refusal(f"cannot accept the manifest: {len(named)} apps, at most {MAX_APPS}", code="endless-data")
        if len({desired.app for desired in named}) != len(named):
            raise Refusal("cannot accept the manifest: it names an app twice", code="mix-and-match")
        for desired in named:
            check_app(desired.app)
            check_version(desired.version)


def _check_kind(manifest: Manifest, *, offline: bool | None) -> None:
    """Refuse what needs a feature that is not known or not said, and a manifest that came another way than it was for.

    `offline` None: it was accepted before.
    """
    if offline is not None and (OFFLINE_FEATURE in manifest.critical) is not offline:
        what = "it answers a sync, and is out of no bundle" if offline else "it is out of a bundle, and answers no sync"
        raise Refusal(f"cannot accept the manifest: {what}", code="replay")
    unknown = sorted(set(manifest.critical) - KNOWN_CRITICAL)
    if unknown:
        raise Refusal(
            f"cannot accept the manifest: it needs {unknown[0][:60]!r}, which this agent does not know",
            code="unknown-critical",
        )
    if manifest.prefetch and PREFETCH_FEATURE not in manifest.critical:
        raise Refusal(
            f"cannot accept the manifest: it announces releases and does not name the critical feature "
            f"{PREFETCH_FEATURE!r}",
            code="unsaid-critical",
        )


def admit_release(release: Release, desired: DesiredApp, *, facts: HostFacts, floor: int) -> dict[str, Value]:
    """Return the filled parameters where this host may run the TUF-verified `release` as `desired`; Refusal otherwise.

    `floor` is the highest rollback floor among the releases of this app that this host has confirmed.
    """
    if (release.app, release.version, release.counter) != (desired.app, desired.version, desired.counter):
        raise Refusal(
            f"cannot accept {desired.app} {desired.version}: the signed release says {release.app} {release.version}, "
            f"counter {release.counter}",
            code="mix-and-match",
        )
    if release.platforms and facts.platform not in release.platforms:
        raise Refusal(
            f"cannot accept {release.app} {release.version}: it is for {', '.join(release.platforms)}, this host is "
            f"{facts.platform}",
            code="wrong-platform",
        )
    if release.environments and facts.environment not in release.environments:
        raise Refusal(
            f"cannot accept {release.app} {release.version}: it is for {', '.join(release.environments)}, this host is "
            f"pinned to {facts.environment}",
            code="wrong-environment",
        )
    if release.counter < floor:
        raise Refusal(
            f"cannot accept {release.app} {release.version}: counter {release.counter} is below the floor {floor}",
            code="rollback",
        )
    return fill_parameters(release, desired.parameters)
