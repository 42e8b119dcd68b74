"""What is asked of a verification, and what it answers. Plain data, no TUF: the resident agent imports this."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from towpath.dsse import Keys
from towpath.manifest import DesiredApp, HostFacts, ManifestFloor
from towpath.parameters import Value

# Returns the bytes of a file by kind ("metadata": a TUF file name, "target": a target path), None where the server has
# no such file; raises Unavailable for trouble on the way. It should stop at MAX_FILE_BYTES.
Fetch = Callable[[str, str], bytes | None]
MAX_FILE_BYTES = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """One envelope to judge, with everything that this host knows by itself.

    `metadata_dir` is the TUF library's cache; `root` the bootstrap root of the enrolment; `nonce` None for an envelope
    that answers no request; `bundle`: the statement (an envelope) of the
    bundle that it is out of, empty for none. Floors are what was durable before; times
    are Unix milliseconds.
    """

    metadata_dir: str
    root: bytes
    envelope: bytes
    nonce: bytes | None
    facts: HostFacts
    manifest_floor: ManifestFloor
    role_floors: Mapping[str, int]
    release_floors: Mapping[str, int]
    now_unix_ms: int
    time_floor_unix_ms: int
    bundle: bytes = b""


@dataclass(frozen=True, slots=True)
class AdmittedApp:
    """An app that this host may run: the release's bytes as signed, and its filled parameters."""

    desired: DesiredApp
    release: bytes
    parameters: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RefusedApp:
    """An app of a good manifest that this host may not run; `code` is the attack's name."""

    desired: DesiredApp
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """A good manifest. Every desired app is in `apps` or in `refused`.

    Releases that are only announced were verified in the very same way: `prefetch`, `prefetch_refused`.

    The floors are to be made durable before anything is acted upon; the metadata that they stand for already is.
    `expires_unix_ms` is when the first of the metadata that vouches for this lapses.
    """

    manifest: bytes
    apps: tuple[AdmittedApp, ...]
    refused: tuple[RefusedApp, ...]
    role_floors: Mapping[str, int]
    manifest_floor: ManifestFloor
    director: Keys
    expires_unix_ms: int
    time_floor_unix_ms: int
    prefetch: tuple[AdmittedApp, ...] = ()
    prefetch_refused: tuple[RefusedApp, ...] = ()
