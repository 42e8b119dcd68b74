"""The nouns that the server keeps: hosts, tokens, releases, assignments, audit entries.

Every class is one row of `storage`, field by field. Serial numbers are lower-case hexadecimal text (they have up to 160
bits). Times are Unix milliseconds. Parameters of a host are the texts that the operator typed, keyed `app.name`: their
types are known only once a release of that app is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from towpath.budgets import Budget
from towpath.holds import Hold
from towpath.metrics import Metric
from towpath.reports import AppState
from towpath.waves import Wave
from towpath.windows import Window
from towpath_server.domain.approval import Approval

UNKNOWN_REVISION = -1
DEFAULT_PROGRESS_DEADLINE_MS = 600_000


class HostStatus(StrEnum):
    """Whether a host may still talk to this server."""

    ACTIVE = "active"
    REVOKED = "revoked"


class RolloutState(StrEnum):
    """Where an assignment stands; which follows which is `domain.rollout_table`."""

    ROLLING = "rolling"
    PAUSED = "paused"
    DONE = "done"
    HALTED = "halted"
    REVERTING = "reverting"
    REVERTED = "reverted"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    REMOVED = "removed"

    @property
    def active(self) -> bool:
        """True where the assignment is the one that counts for its selector."""
        return self in (RolloutState.ROLLING, RolloutState.PAUSED, RolloutState.DONE, RolloutState.HALTED)

    @property
    def leaving(self) -> bool:
        """True where it counts for those hosts only that it let in and has not brought back."""
        return self in (RolloutState.REVERTING, RolloutState.REVERTED, RolloutState.CANCELLED)

    @property
    def returning(self) -> bool:
        """True where its hosts go back to what they had, or have gone."""
        return self in (RolloutState.REVERTING, RolloutState.REVERTED)


class OnBreach(StrEnum):
    """What a failure limit that is exceeded does to the hosts that took the release."""

    HALT = "halt"
    REVERT = "revert"


class Newcomers(StrEnum):
    """What becomes of hosts that a rule covers only after its rollout was done."""

    JOIN = "join"
    WAIT = "wait"


class EntryKind(StrEnum):
    """What an entry of the calendar says of the time that it names: nobody moves then, or only then."""

    FREEZE = "freeze"
    WINDOW = "window"


@dataclass(frozen=True, slots=True)
class Timing:
    """When a rollout may move hosts: zeros for no limit. `override`: why freezes do not stop it, empty: they do."""

    windows: tuple[Window, ...] = ()
    at_unix_ms: int = 0
    expires_unix_ms: int = 0
    override: str = ""


@dataclass(frozen=True, slots=True)
class CalendarEntry:
    """A time at which the rollouts of `environment` (empty: of all) move nobody, or outside of which they do not.

    `weekly`, or from one moment to another. `selector`: only hosts with these labels are frozen.
    """

    id: str
    kind: EntryKind
    environment: str
    reason: str
    created_unix_ms: int
    created_by: str
    selector: Mapping[str, str] = field(default_factory=dict)
    weekly: Window | None = None
    from_unix_ms: int = 0
    until_unix_ms: int = 0


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
    """A standing rule: hosts matching `selector` in `environment` run this release. `generation` grows fleet-wide.

    `wave` is the newest open one and `wave_done_unix_ms` when its hosts had first finished (0: they have not).
    `max_failure_share` is in hundredths of a percent of the finished hosts, 0 for no such limit; with it, a
    `max_failures` of 0 is no limit either. `excused` failed before a person said "go on". `resumed_unix_ms`: silence
    before it is nobody's failure. `done_unix_ms`: when it was first done; only then can one go back to it.
    `offline_wait_ms`: how long a finished wave waits for hosts that are away, 0 for not at all. `roster`: where
    newcomers wait, who may still come in after it was first done; None before.
    `approvers`: who may approve its waves, nobody named: any operator but `created_by`. `entered_unix_ms`: when its
    first host moved; until then the order of environments may keep it waiting. `prefetch`: hosts fetch the release
    before they are let in.
    `priority`: of several rules that cover a host the highest counts, and moves first where they share a budget.
    `order_label`: hosts go by the value of this label; empty: by hash.
    """

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
    waves: tuple[Wave, ...] = ()
    wave: int = 0
    wave_done_unix_ms: int = 0
    max_failure_share: int = 0
    on_breach: OnBreach = OnBreach.HALT
    excused: tuple[str, ...] = ()
    resumed_unix_ms: int = 0
    done_unix_ms: int = 0
    timing: Timing = field(default_factory=Timing)
    offline_wait_ms: int = 0
    newcomers: Newcomers = Newcomers.JOIN
    roster: tuple[str, ...] | None = None
    approvers: tuple[str, ...] = ()
    approvals: tuple[Approval, ...] = ()
    metrics: tuple[Metric, ...] = ()
    entered_unix_ms: int = 0
    prefetch: bool = False
    budgets: tuple[Budget, ...] = ()
    priority: int = 0
    order_label: str = ""


@dataclass(frozen=True, slots=True)
class EnvironmentRule:
    """An environment: the one that it follows (empty: none), and how long a release has to be healthy there first."""

    name: str
    after: str = ""
    healthy_for_ms: int = 0


@dataclass(frozen=True, slots=True)
class Setting:
    """A parameter's text for the hosts of an environment, or of those with one label there (`rack=7`; empty: all)."""

    environment: str
    label: str
    app: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Retreat:
    """A host that was told to go back from an assignment, and when it had (0: it is on its way)."""

    assignment_id: str
    host_id: str
    at_unix_ms: int
    arrived_unix_ms: int = 0


@dataclass(frozen=True, slots=True)
class Gap:
    """Sequence numbers of manifests that no server with this database gave out: above `after`, below `before`."""

    after: int
    before: int


@dataclass(frozen=True, slots=True)
class Ahead:
    """A host that accepted a manifest with a number out of a gap: it knows more than this database."""

    host_id: str
    name: str
    environment: str
    sequence: int
    at_unix_ms: int


@dataclass(frozen=True, slots=True)
class Lease:
    """Who decides rollouts. `epoch` grows with every other holder, `beat` with every renewal; `seat`: see `leasing`."""

    holder: str
    seat: str
    epoch: int
    beat: int


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
