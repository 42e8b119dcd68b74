"""What a host tells its server: durable events, and the whole state of its apps.

Events carry an id and may be sent twice. The state is level-triggered: the highest `state_revision` wins, so a lost
report never leaves a server believing something that is no longer so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from towpath.parameters import Value
from towpath.quantity import format_duration, format_rate, format_size
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


class PrefetchState(StrEnum):
    """How far a host is with a release that it was told of and is not told to run."""

    WAITING = "waiting"
    FETCHING = "fetching"
    COMPLETE = "complete"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Prefetch:
    """A release that was announced to a host. `reason`: why it waits or is refused; may be empty."""

    version: str
    sha256: bytes
    state: PrefetchState
    reason: str = ""

    @property
    def text(self) -> str:
        """Return it as people read it, after the app's name."""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.version} {_WORDS[self.state]}{why}"


_WORDS = {
    PrefetchState.WAITING: "is to be downloaded ahead, and that waits",
    PrefetchState.FETCHING: "is being downloaded ahead",
    PrefetchState.COMPLETE: "is downloaded, and waits until this host is let in to it",
    PrefetchState.REFUSED: "was announced and is refused",
}


@dataclass(frozen=True, slots=True)
class Transfer:
    """How far what travels to a host for a release is. Bytes are carried ones; of a delta where one comes.

    `total`: what will have travelled, `about`: that is an estimate; `rate`: bytes a second lately; `remaining_ms`: 0
    where that cannot be told.
    """

    version: str
    done: int
    total: int
    about: bool = False
    rate: int = 0
    remaining_ms: int = 0
    delta: bool = False

    @property
    def text(self) -> str:
        """Return it as people read it."""
        of = "about " if self.about else ""
        what = f"{format_size(self.done)} of {of}{format_size(self.total)}"
        left = f", {format_duration(max(self.remaining_ms, 1000))} left" if self.remaining_ms else ""
        return f"{what}{' of a delta' if self.delta else ''}, {format_rate(self.rate)}{left}"


def more_came(before: Transfer | None, now: Transfer | None) -> bool:
    """Return whether bytes have come since: what travels now is further, or another release's."""
    return now is not None and (before is None or before.version != now.version or now.done > before.done)


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
    prefetch: Prefetch | None = None
    transfer: Transfer | None = None


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
