"""Reports between dataclasses and messages."""

from towpath.errors import InputError, Refusal
from towpath.quantity import MAX_SIZE
from towpath.reports import (
    MAX_EVIDENCE_CHARS,
    MAX_REASON_CHARS,
    AppState,
    Event,
    Prefetch,
    PrefetchState,
    Transfer,
    fit,
)
from towpath.status import Health, State, Verdict
from towpath.v1 import types_pb2 as pb
from towpath.wire.codec import from_value, to_value

MAX_ID_CHARS = 128


def to_app_state(state: AppState) -> pb.AppState:
    """Return the message of one app's state."""
    return pb.AppState(
        app=state.app,
        current_version=state.current_version,
        current_sha256=state.current_sha256,
        desired_version=state.desired_version,
        desired_sha256=state.desired_sha256,
        previous_version=state.previous_version,
        state=state.state.value,
        health=state.health.value,
        verdict=state.verdict.value,
        reason=state.reason[:MAX_REASON_CHARS],
        generation=state.generation,
        since_unix_ms=state.since_unix_ms,
        parameters={name: to_value(value) for name, value in state.parameters.items()},
        prefetch=_to_prefetch(state.prefetch),
        transfer=_to_transfer(state.transfer),
    )


def _to_transfer(it: Transfer | None) -> pb.Transfer | None:
    if it is None:
        return None
    return pb.Transfer(
        version=it.version,
        done=it.done,
        total=it.total,
        about=it.about,
        rate=it.rate,
        remaining_ms=it.remaining_ms,
        delta=it.delta,
    )


def from_transfer(m: pb.AppState) -> Transfer | None:
    """Return what a host says of what travels to it now, None where it says nothing; numbers capped."""
    if not m.HasField("transfer"):
        return None
    it = m.transfer
    done, total, rate, remaining_ms = (min(one, MAX_SIZE) for one in (it.done, it.total, it.rate, it.remaining_ms))
    return Transfer(it.version[:MAX_ID_CHARS], done, total, it.about, rate, remaining_ms, it.delta)


def _to_prefetch(it: Prefetch | None) -> pb.Prefetch | None:
    if it is None:
        return None
    return pb.Prefetch(version=it.version, sha256=it.sha256, state=it.state.value, reason=it.reason[:MAX_REASON_CHARS])


def from_prefetch(m: pb.AppState) -> Prefetch | None:
    """Return what a host says of a release that it fetches ahead, None where it says nothing."""
    if not m.HasField("prefetch"):
        return None
    it = m.prefetch
    return Prefetch(it.version[:MAX_ID_CHARS], it.sha256[:32], PrefetchState(it.state), it.reason[:MAX_REASON_CHARS])


def from_app_state(m: pb.AppState) -> AppState:
    """Return one app's state, every text capped; Refusal for a word that is none of ours or an empty value."""
    try:
        return AppState(
            app=m.app[:MAX_ID_CHARS],
            current_version=m.current_version[:MAX_ID_CHARS],
            current_sha256=m.current_sha256[:32],
            desired_version=m.desired_version[:MAX_ID_CHARS],
            desired_sha256=m.desired_sha256[:32],
            previous_version=m.previous_version[:MAX_ID_CHARS],
            state=State(m.state),
            health=Health(m.health),
            verdict=Verdict(m.verdict),
            reason=m.reason[:MAX_REASON_CHARS],
            generation=m.generation,
            since_unix_ms=m.since_unix_ms,
            parameters={name: from_value(value) for name, value in m.parameters.items()},
            prefetch=from_prefetch(m),
            transfer=from_transfer(m),
        )
    except (ValueError, InputError) as error:
        raise Refusal(f"cannot read a report: {str(error)[:120]}", code="garbled") from error


def to_event(event: Event) -> pb.ReportEvent:
    """Return the message of one event."""
    event = fit(event)
    return pb.ReportEvent(
        id=event.id,
        at_unix_ms=event.at_unix_ms,
        kind=event.kind,
        app=event.app,
        transaction=event.transaction,
        state=event.state,
        version=event.version,
        release_sha256=event.release_sha256,
        verdict=event.verdict,
        reason=event.reason,
        code=event.code,
        evidence=event.evidence,
    )


def from_event(m: pb.ReportEvent) -> Event:
    """Return one event, every text capped."""
    if not m.id or len(m.id) > MAX_ID_CHARS:
        raise Refusal("cannot read a report: an event without a usable id", code="garbled")
    return Event(
        id=m.id,
        at_unix_ms=m.at_unix_ms,
        kind=m.kind[:MAX_ID_CHARS],
        app=m.app[:MAX_ID_CHARS],
        transaction=m.transaction[:MAX_ID_CHARS],
        state=m.state[:MAX_ID_CHARS],
        version=m.version[:MAX_ID_CHARS],
        release_sha256=m.release_sha256[:32],
        verdict=m.verdict[:MAX_ID_CHARS],
        reason=m.reason[:MAX_REASON_CHARS],
        code=m.code[:MAX_ID_CHARS],
        evidence=m.evidence[:MAX_EVIDENCE_CHARS],
    )
