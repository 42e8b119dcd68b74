"""What a host tells its server: durable events, and the whole state of its apps.

Events carry an id and may be sent twice. The state is level-triggered: the highest `state_revision` wins, so a lost
report never leaves a server believing something that is no longer so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from towpath.parameters import Value
from towpath.status import Health, State, Verdict

MAX_EVIDENCE_CHARS = 4096
MAX_REASON_CHARS = 1024
MAX_EVENTS_PER_REPORT = 200


@dataclass(frozen=True, slots=True)
class AppState:
    """One app on one host. Digests are of the serialized Release; empty where there is none."""

    app: str
    current_version: str = ""
    current_sha256: bytes = b""
    desired_version: str = ""
    desired_sha256: bytes = b""
    previous_version: str = ""
    state: State = State.PLANNED
    health: Health = Health.UNKNOWN
    verdict: Verdict = Verdict.NONE
    reason: str = ""
    generation: int = 0
    since_unix_ms: int = 0
    parameters: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened on a host. `code` is an error's stable code or an attack's name."""

    id: str
    at_unix_ms: int
    kind: str
    app: str = ""
    transaction: str = ""
    state: str = ""
    version: str = ""
    release_sha256: bytes = b""
    verdict: str = ""
    reason: str = ""
    code: str = ""
    evidence: str = ""
