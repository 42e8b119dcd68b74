"""Holds between dataclasses and messages. What a host says is checked: it is shown to people and kept in a row."""

from collections.abc import Iterable

from towpath.errors import InputError, Refusal
from towpath.holds import MAX_HOLDS, MAX_UNIX_MS, Hold, check_line
from towpath.names import check_app
from towpath.v1 import types_pb2 as pb


def to_hold(hold: Hold) -> pb.Hold:
    """Return the message of one hold."""
    return pb.Hold(
        app=hold.app,
        by=hold.by,
        reason=hold.reason,
        since_unix_ms=hold.since_unix_ms,
        until_unix_ms=hold.until_unix_ms,
    )


def from_holds(messages: Iterable[pb.Hold]) -> tuple[Hold, ...]:
    """Return the holds that a host says it has, by app; Refusal for too many, a strange text or an impossible time."""
    holds: dict[str, Hold] = {}
    for m in messages:
        try:
            app = check_app(m.app) if m.app else ""
            hold = Hold(app, check_line(m.by, "name"), check_line(m.reason, "reason"), m.since_unix_ms, m.until_unix_ms)
        except InputError as error:
            raise Refusal(f"cannot read a hold: {error}", code="garbled") from error
        if not (0 <= hold.since_unix_ms <= MAX_UNIX_MS and 0 <= hold.until_unix_ms <= MAX_UNIX_MS):
            raise Refusal("cannot read a hold: its time is out of range", code="garbled")
        if app in holds or len(holds) == MAX_HOLDS:
            raise Refusal("cannot read the holds: one app twice, or too many", code="garbled")
        holds[app] = hold
    return tuple(holds[app] for app in sorted(holds))
