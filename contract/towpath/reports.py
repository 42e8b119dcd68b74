"""What a host tells its server: durable events, and the whole state of its apps.

Events carry an id and may be sent twice. The state is level-triggered: the highest `state_revision` wins, so a lost
report never leaves a server believing something that is no longer so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from towpath.parameters import Value
from towpath.status import Health, State, Verdict

MAX_EVIDENCE_CHARS = 4096
MAX_REASON_CHARS = 1024
MAX_EVENTS_PER_REPORT = 200
_GAP = "\n[...]\n"


def shorten(text: str, limit: int) -> str:
    """Return `text` in at most `limit` characters: its beginning and its end, where causes stand, around a gap."""
    if len(text) <= limit:
        return text
    head = (limit - len(_GAP)) // 2
    return text[:head] + _GAP + text[len(text) - (limit - len(_GAP) - head) :]


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


def fit(event: Event) -> Event:
    """Return `event` with reason and evidence as long as a journal keeps and a report carries."""
    if len(event.reason) <= MAX_REASON_CHARS and len(event.evidence) <= MAX_EVIDENCE_CHARS:
        return event
    return replace(event, reason=event.reason[:MAX_REASON_CHARS], evidence=shorten(event.evidence, MAX_EVIDENCE_CHARS))
