"""The nouns that the server keeps: hosts, tokens, releases, assignments, audit entries.

Every class is one row of `storage`, field by field. Serial numbers are lower-case hexadecimal text (they have up to 160
bits). Times are Unix milliseconds. Parameters of a host are the texts that the operator typed, keyed `app.name`: their
types are known only once a release of that app is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from towpath.holds import Hold
from towpath.reports import AppState

UNKNOWN_REVISION = -1
DEFAULT_PROGRESS_DEADLINE_MS = 600_000


class HostStatus(StrEnum):
    """Whether a host may still talk to this server."""

    ACTIVE = "active"
    REVOKED = "revoked"


class RolloutState(StrEnum):
    """Where an assignment stands. The last two are history and never come back."""

    ROLLING = "rolling"
    DONE = "done"
    HALTED = "halted"
    SUPERSEDED = "superseded"
    REMOVED = "removed"

    @property
    def active(self) -> bool:
        """True where the assignment is the one that counts for its selector."""
        return self in (RolloutState.ROLLING, RolloutState.DONE, RolloutState.HALTED)


@dataclass(frozen=True, slots=True)
class Host:
    """A machine under management. `serial`: newest certificate; `previous_serial`: the one before, until first use.

    `holds` is what its last sync said; `released_unix_ms` is when the server last saw one of them end.
    """

    id: str
    name: str
    environment: str
    serial: str
    key_sha256: bytes
    certificate_pem: bytes
    not_after_unix_ms: int
    enrolled_unix_ms: int
    labels: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    status: HostStatus = HostStatus.ACTIVE
    previous_serial: str = ""
    agent_version: str = ""
    platform: str = ""
    boot_id: str = ""
    last_seen_unix_ms: int = 0
    state_revision: int = UNKNOWN_REVISION
    holds: tuple[Hold, ...] = ()
    released_unix_ms: int = 0


@dataclass(frozen=True, slots=True)
class EnrolmentToken:
    """What an operator hands to hosts-to-be; only the digest of its secret is kept."""

    id: str
    secret_sha256: bytes
    environment: str
    uses_left: int
    expires_unix_ms: int
    created_unix_ms: int
    created_by: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TokenUse:
    """One enrolment by a token: the same key asking again gets the same certificate."""

    token_id: str
    key_sha256: bytes
    host_id: str
    certificate_pem: bytes


@dataclass(frozen=True, slots=True)
class PublishedRelease:
    """A release as its publisher signed it; `data` is never encoded again."""

    app: str
    version: str
    counter: int
    sha256: bytes
    data: bytes
    published_unix_ms: int
    published_by: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """A standing rule: hosts matching `selector` in `environment` run this release. `generation` grows fleet-wide."""

    id: str
    app: str
    version: str
    release_sha256: bytes
    environment: str
    selector: Mapping[str, str]
    generation: int
    max_unavailable: int
    max_failures: int
    progress_deadline_ms: int
    created_unix_ms: int
    created_by: str
    state: RolloutState = RolloutState.ROLLING
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReportedApp:
    """The last state that a host reported for an app; `progress_unix_ms` is when the server saw it move."""

    host_id: str
    state: AppState
    progress_unix_ms: int


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who did what, and whether it was done or refused."""

    at_unix_ms: int
    actor: str
    act: str
    subject: str
    detail: str = ""
    outcome: str = "done"
