"""Rows of the server's domain with everything filled in, so that a test names only what it is about."""

from dataclasses import replace
from typing import Any

from towpath.reports import AppState
from towpath.status import Health, State, Verdict
from towpath_server.domain.model import Assignment, Host, RolloutState
from towpath_server.domain.standing import HostView, RolloutView

DIGEST = b"d" * 32
OLD_DIGEST = b"o" * 32
NOW = 1_700_000_000_000


def host(name: str = "h1", **fields: Any) -> Host:
    row = Host(
        id=f"id-{name}",
        name=name,
        environment="dev",
        serial="1",
        key_sha256=b"k" * 32,
        certificate_pem=b"",
        not_after_unix_ms=NOW + 10_000,
        enrolled_unix_ms=NOW,
        labels={"role": "web"},
    )
    return replace(row, **fields)


def assignment(generation: int = 1, **fields: Any) -> Assignment:
    row = Assignment(
        id=f"a{generation}",
        app="hello",
        version=f"{generation}.0.0",
        release_sha256=DIGEST,
        environment="dev",
        selector={"role": "web"},
        generation=generation,
        max_unavailable=0,
        max_failures=0,
        progress_deadline_ms=60_000,
        created_unix_ms=NOW,
        created_by="operator/ann",
    )
    return replace(row, **fields)


def reported(state: State = State.CONFIRMED, **fields: Any) -> AppState:
    """What a host says that runs the release of generation 1 and has proven it, unless `fields` say otherwise."""
    row = AppState(
        app="hello",
        current_version="1.0.0",
        current_sha256=DIGEST,
        state=state,
        health=Health.HEALTHY,
        verdict=Verdict.SUCCEEDED if state is State.CONFIRMED else Verdict.NONE,
        generation=1,
    )
    return replace(row, **fields)


REVERTED = reported(State.REVERTED, current_sha256=OLD_DIGEST, verdict=Verdict.FAILED, reason="probe http failed")
OLD = reported(current_sha256=OLD_DIGEST, generation=0)


def view(*hosts: HostView, **fields: Any) -> RolloutView:
    row = RolloutView(
        assignment="a1",
        generation=1,
        release_sha256=DIGEST,
        state=RolloutState.ROLLING,
        reason="",
        max_unavailable=1,
        max_failures=0,
        progress_deadline_ms=60_000,
        observed_since_unix_ms=0,
        hosts=hosts,
    )
    return replace(row, **fields)


def seen(name: str, state: AppState | None = None, *, admitted: bool = True, **fields: Any) -> HostView:
    row = HostView(
        host_id=name,
        name=name,
        online=True,
        admitted_unix_ms=NOW if admitted else None,
        state=state,
        progress_unix_ms=NOW,
    )
    return replace(row, **fields)
