"""How the journal's records are written as text, and read again; texts of older versions are understood for ever.

Reading raises ValueError, KeyError, TypeError or AttributeError where a text is garbled: `journal.opening` sees to that
before anybody else reads. Not handled here: where the texts lie (`journal.tables`).
"""

import json
from collections.abc import Mapping
from dataclasses import fields, replace

from towpath.parameters import Value
from towpath.reports import AppState, Event, fit
from towpath.status import Health, State, Verdict
from towpath_agent.engine.planning import Failure, Wish
from towpath_agent.journal.records import Deployed, Transaction

_BODY_FIELDS = (
    "touched",
    "attempts",
    "tries",
    "verdict",
    "reason",
    "code",
    "retry_after_s",
    "confirmed_unix_ms",
    "handed",
)


def _wish_to_json(wish: Wish) -> dict[str, object]:
    return {
        "app": wish.app,
        "sha256": wish.sha256.hex(),
        "version": wish.version,
        "parameters": {k: list(v) if isinstance(v, tuple) else v for k, v in wish.parameters.items()},
        "generation": wish.generation,
        "slot": wish.slot,
    }


def _parameters(raw: Mapping[str, object]) -> dict[str, Value]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}  # type: ignore[misc]


def wish_to_text(wish: Wish) -> str:
    """Return `wish` as JSON text."""
    return json.dumps(_wish_to_json(wish), sort_keys=True)


def wish_from_text(text: str) -> Wish:
    """Return the wish in JSON text that `wish_to_text` wrote."""
    raw = json.loads(text)
    return Wish(
        app=raw["app"],
        sha256=bytes.fromhex(raw["sha256"]),
        version=raw["version"],
        parameters=_parameters(raw["parameters"]),
        generation=raw["generation"],
        slot=raw.get("slot", 0),  # journals and records of the first version have none
    )


def _wishes(raw: Mapping[str, list[str]]) -> tuple[Wish, ...]:
    """Return the wishes of a set; a journal that was written before there were sets has none."""
    return tuple(wish_from_text(text) for text in raw.get("mates", ()))


def transaction_to_text(tx: Transaction) -> str:
    """Return all of `tx` that has no column of its own."""
    body = {name: getattr(tx, name) for name in _BODY_FIELDS}
    body["old"] = None if tx.old is None else wish_to_text(tx.old.wish)
    body["wish"] = wish_to_text(tx.wish)
    body["seal"] = tx.seal
    body["mates"] = [wish_to_text(wish) for wish in tx.mates]
    return json.dumps(body, sort_keys=True)


def transaction_from_text(tx_id: str, state: str, body: str, releases: tuple[bytes, bytes], begun: int) -> Transaction:
    """Return the transaction; `releases` are the new one and the old one."""
    raw = json.loads(body)
    old = raw.pop("old")
    wish = wish_from_text(raw.pop("wish"))
    raw["mates"] = _wishes(raw)
    raw["verdict"] = Verdict(raw["verdict"])
    release, old_release = releases
    return Transaction(
        id=tx_id,
        wish=wish,
        release=release,
        old=None if old is None else Deployed(wish_from_text(old), old_release),
        state=State(state),
        begun_unix_ms=begun,
        **raw,
    )


def failure_to_text(failure: Failure) -> str:
    """Return `failure` as JSON text."""
    body = {
        "wish": wish_to_text(failure.wish),
        "reason": failure.reason,
        "verdict": failure.verdict.value,
        "retry_unix_ms": failure.retry_unix_ms,
        "mates": [wish_to_text(wish) for wish in failure.mates],
    }
    return json.dumps(body)


def failure_from_text(text: str) -> Failure:
    """Return the failure in JSON text that `failure_to_text` wrote."""
    raw = json.loads(text)
    wish = wish_from_text(raw["wish"])
    return Failure(wish, raw["reason"], Verdict(raw["verdict"]), raw["retry_unix_ms"], _wishes(raw))


def event_to_text(event: Event) -> str:
    """Return `event`, cut to what a server takes, as JSON text."""
    event = fit(event)
    raw = {f.name: getattr(event, f.name) for f in fields(event)}
    raw["release_sha256"] = event.release_sha256.hex()
    return json.dumps(raw)


def event_from_text(text: str) -> Event:
    """Return the event in JSON text that `event_to_text` wrote."""
    raw = json.loads(text)
    raw["release_sha256"] = bytes.fromhex(raw["release_sha256"])
    return Event(**raw)


_BESIDE = ("prefetch", "transfer")
_DIGESTS = ("current_sha256", "desired_sha256")


def app_state_to_text(state: AppState) -> str:
    """Return `state` as JSON text, without what travels or is fetched ahead.

    An older agent would call the journal damaged, and both are facts of their own in it.
    """
    raw: dict[str, object] = {f.name: getattr(state, f.name) for f in fields(state) if f.name not in _BESIDE}
    for name in _DIGESTS:
        raw[name] = getattr(state, name).hex()
    raw["parameters"] = {k: list(v) if isinstance(v, tuple) else v for k, v in state.parameters.items()}
    return json.dumps(raw)


def app_state_from_text(text: str) -> AppState:
    """Return the state in JSON text that `app_state_to_text` wrote."""
    raw = json.loads(text)
    state = AppState(**raw)
    return replace(
        state,
        current_sha256=bytes.fromhex(raw["current_sha256"]),
        desired_sha256=bytes.fromhex(raw["desired_sha256"]),
        state=State(state.state),
        health=Health(state.health),
        verdict=Verdict(state.verdict),
        parameters=_parameters(state.parameters),
    )
