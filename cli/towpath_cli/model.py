"""What a server tells an operator, as plain values: the commands show these and never touch a wire message."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from towpath.budgets import Budget
from towpath.holds import Hold
from towpath.metrics import Metric
from towpath.parameters import Value
from towpath.reports import AppState, Event, Prefetch, Transfer
from towpath.waves import Wave


@dataclass(frozen=True, slots=True)
class NewToken:
    """An enrolment token; the server keeps only its hash, so this is the one time it is seen."""

    token: str
    expires_unix_ms: int


@dataclass(frozen=True, slots=True)
class Host:
    """One enrolled host."""

    id: str
    name: str
    environment: str
    labels: Mapping[str, str]
    status: str
    online: bool
    last_seen_unix_ms: int
    certificate_expires_unix_ms: int
    agent_version: str
    platform: str
    parameters: Mapping[str, Value]
    holds: tuple[Hold, ...] = ()
    parameter_origins: Mapping[str, str] = field(default_factory=dict)
    own_parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HostDetail:
    """A host with what it reported, newest event last."""

    host: Host
    apps: tuple[AppState, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class HostChange:
    """The changes that `host set` asks for."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    unset_parameters: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    unset_labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reason:
    """One link of a chain of reasons, and the command that would change it."""

    fact: str
    command: str


@dataclass(frozen=True, slots=True)
class WayToRelease:
    """From another release, that `hosts` run: carried bytes without a delta, and of the delta, or why there is none."""

    version: str
    hosts: int
    objects: int
    delta: int | None
    no_delta: str


@dataclass(frozen=True, slots=True)
class ReleaseWeight:
    """Bytes of a release: unpacked, and carried in `objects` objects."""

    unpacked: int
    carried: int
    objects: int
    ways: tuple[WayToRelease, ...]


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """One published release."""

    app: str
    version: str
    counter: int
    sha256: bytes
    published_unix_ms: int
    published_by: str


@dataclass(frozen=True, slots=True)
class DeployOrder:
    """What `deploy` asks for; zero leaves a number to the server's default."""

    app: str
    version: str
    environment: str
    selector: Mapping[str, str]
    whole_environment: bool = False
    max_unavailable: int = 0
    max_failures: int = 0
    progress_deadline_ms: int = 0
    waves: tuple[Wave, ...] = ()
    max_failure_share: int = 0
    on_breach: str = ""
    allow_empty: bool = False
    windows: tuple[str, ...] = ()
    at: str = ""
    expires: str = ""
    override_freeze: str = ""
    offline_wait_ms: int = 0
    newcomers: str = ""
    approvers: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    prefetch: bool = False
    budgets: tuple[Budget, ...] = ()
    priority: int = 0
    order_label: str = ""


@dataclass(frozen=True, slots=True)
class Deployed:
    """The server's answer to a deploy."""

    assignment: str
    generation: int
    hosts: int
    unchanged: bool
    version: str = ""


@dataclass(frozen=True, slots=True)
class HostProgress:
    """One host of a rollout; `wave` counts from 0.

    `phase`: waiting, held, in_flight, healthy, failed, inconclusive, offline, newcomer, going_back or
    back.
    """

    host: str
    online: bool
    admitted: bool
    phase: str
    current: str
    state: str
    health: str
    verdict: str
    reason: str
    wave: int = 0
    evidence: tuple[str, ...] = ()
    prefetch: Prefetch | None = None
    transfer: Transfer | None = None


@dataclass(frozen=True, slots=True)
class WaveProgress:
    """One wave of a rollout. `state`: passed, open, soaking or closed; `waits`: what keeps the newest open one."""

    number: int
    text: str
    state: str
    waits: str
    soak_until_unix_ms: int
    phases: Mapping[str, int]
    checks: tuple[str, ...] = ()

    @property
    def hosts(self) -> int:
        """Return how many hosts are in it."""
        return sum(self.phases.values())


@dataclass(frozen=True, slots=True)
class Bar:
    """What the clock or the calendar says against letting hosts in, until when (0: nobody knows), and the way out."""

    fact: str
    until_unix_ms: int
    command: str


@dataclass(frozen=True, slots=True)
class EntryOrder:
    """What `freeze add` and `window add` ask for: `weekly`, or from `begins` to `ends`."""

    kind: str
    environment: str
    reason: str
    everywhere: bool = False
    selector: Mapping[str, str] = field(default_factory=dict)
    weekly: str = ""
    begins: str = ""
    ends: str = ""


@dataclass(frozen=True, slots=True)
class CalendarEntry:
    """A freeze, or a window of an environment (empty: of all). `now`: to come, on, off or over."""

    id: str
    kind: str
    environment: str
    selector: Mapping[str, str]
    weekly: str
    from_unix_ms: int
    until_unix_ms: int
    reason: str
    created_by: str
    created_unix_ms: int
    now: str


@dataclass(frozen=True, slots=True)
class Rollout:
    """An assignment, its hosts and its waves; `wave` is the newest open one, from 0.

    `state`: rolling, paused, done, halted, reverting, reverted, cancelled, superseded or removed.
    """

    assignment: str
    app: str
    version: str
    environment: str
    state: str
    reason: str
    hosts: tuple[HostProgress, ...]
    waves: tuple[WaveProgress, ...] = ()
    wave: int = 0
    generation: int = 0
    selector: Mapping[str, str] = field(default_factory=dict)
    created_by: str = ""
    created_unix_ms: int = 0
    max_unavailable: int = 0
    max_failures: int = 0
    max_failure_share: int = 0
    on_breach: str = ""
    windows: tuple[str, ...] = ()
    at_unix_ms: int = 0
    expires_unix_ms: int = 0
    override_freeze: str = ""
    offline_wait_ms: int = 0
    newcomers: str = ""
    bars: tuple[Bar, ...] = ()
    approvers: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    progress_deadline_ms: int = 0
    prefetch: bool = False
    budgets: tuple[Budget, ...] = ()
    priority: int = 0
    order_label: str = ""


@dataclass(frozen=True, slots=True)
class Approved:
    """A wave (from 0) of a rollout with who has approved it; `again`: this operator had before."""

    assignment: str
    app: str
    version: str
    environment: str
    wave: int
    names: tuple[str, ...]
    needed: int
    again: bool


@dataclass(frozen=True, slots=True)
class EnvironmentRow:
    """An environment and the one that it follows; `declared` False: it is only there because hosts are in it."""

    name: str
    after: str
    healthy_for_ms: int
    hosts: int
    declared: bool


@dataclass(frozen=True, slots=True)
class ParameterRow:
    """A parameter's text for an environment, or for a label in it (`rack=7`; empty: every host)."""

    environment: str
    label: str
    app: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class PlannedHost:
    """One host of a plan; `wave` counts from 0, `turn` from 1 (0: none was seen). `stays`: why it does not move."""

    host: str
    wave: int
    turn: int
    before: str
    stays: str
    online: bool
    at_most_bytes: int
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PlannedWave:
    """One wave of a plan. `opens_ms` after the beginning, -1: not seen."""

    number: int
    text: str
    hosts: int
    asks: str
    opens_ms: int


@dataclass(frozen=True, slots=True)
class PlannedDelay:
    """What a wave waits for while no host moves."""

    wave: int
    waits: str
    after_ms: int
    lasts_ms: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a deploy would do, hosts by wave and turn. `waits`: what it would wait for without end."""

    assignment: str
    version: str
    unchanged: bool
    hosts: tuple[PlannedHost, ...]
    waves: tuple[PlannedWave, ...]
    delays: tuple[PlannedDelay, ...]
    at_once: int
    took_ms: int
    waits: str
    cut: bool
    at_most_bytes: int
    host_ms: int
    progress_deadline_ms: int


@dataclass(frozen=True, slots=True)
class Steered:
    """A rollout after an operator's act."""

    assignment: str
    app: str
    version: str
    environment: str
    state: str
    reason: str
    wave: int


@dataclass(frozen=True, slots=True)
class StatusRow:
    """One app on one host."""

    host: str
    environment: str
    app: str
    current: str
    desired: str
    state: str
    health: str
    reason: str


@dataclass(frozen=True, slots=True)
class RestoredRow:
    """An app on a host of an environment in question. `ahead`: this host knows more than the server's database."""

    host: str
    environment: str
    ahead: bool
    app: str
    current: str
    desired: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act, done or refused."""

    at_unix_ms: int
    actor: str
    act: str
    subject: str
    detail: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of one object's carried form (one zstandard frame), as it travels to the server.

    `size` is of the uncompressed object; `first` and `last` mark the ends of the object.
    """

    sha256: bytes
    size: int
    data: bytes
    first: bool
    last: bool


@dataclass(frozen=True, slots=True)
class BundleOrder:
    """A bundle to make: for which hosts, of which releases, since which versions; texts as they were typed."""

    hosts: tuple[str, ...]
    releases: tuple[str, ...]
    since: tuple[str, ...]
    valid_ms: int
    delta_wait_ms: int


@dataclass(frozen=True, slots=True)
class BundlePiece:
    """A note for people, or some bytes of a bundle; `size` is the whole file's, on the first of them."""

    note: str
    size: int
    data: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class ImportedReports:
    """What a file of reports said; `state`: what it says of the apps was news."""

    host: str
    events: int
    added: int
    state: bool
    made_unix_ms: int
