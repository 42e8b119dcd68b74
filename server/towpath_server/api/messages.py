"""Rows to messages of the operator's services."""

from towpath.v1 import operator_pb2 as pb
from towpath.wire import to_value
from towpath.wire.holds import to_hold
from towpath.wire.reports import to_app_state
from towpath_server.domain.model import Assignment, AuditEntry, PublishedRelease
from towpath_server.services.reading import HostCard, StatusRow
from towpath_server.services.rollouts import Progress


def host_message(card: HostCard) -> pb.Host:
    """Return a host as operators see it."""
    host = card.host
    return pb.Host(
        id=host.id,
        name=host.name,
        environment=host.environment,
        labels=host.labels,
        status=str(host.status),
        online=card.online,
        last_seen_unix_ms=card.last_seen_unix_ms,
        certificate_expires_unix_ms=host.not_after_unix_ms,
        agent_version=host.agent_version,
        platform=host.platform,
        parameters={name: to_value(value) for name, value in card.parameters.items()},
        holds=[to_hold(hold) for hold in card.holds],
    )


def release_message(row: PublishedRelease) -> pb.ReleaseInfo:
    """Return a published release without its bytes."""
    return pb.ReleaseInfo(
        app=row.app,
        version=row.version,
        counter=row.counter,
        sha256=row.sha256,
        published_unix_ms=row.published_unix_ms,
        published_by=row.published_by,
    )


def progress_message(one: Assignment, hosts: list[Progress]) -> pb.GetAssignmentResponse:
    """Return an assignment and where its hosts stand."""
    return pb.GetAssignmentResponse(
        assignment=one.id,
        app=one.app,
        version=one.version,
        environment=one.environment,
        state=str(one.state),
        reason=one.reason,
        hosts=[
            pb.HostProgress(
                host=each.host.name,
                online=each.online,
                admitted=each.admitted,
                phase=str(each.standing.phase),
                state=to_app_state(each.state) if each.state is not None else None,
                reason=each.standing.reason,
            )
            for each in hosts
        ],
    )


def status_message(row: StatusRow) -> pb.StatusRow:
    """Return one row of `towpath status`."""
    return pb.StatusRow(
        host=row.host,
        environment=row.environment,
        app=row.app,
        current=row.current,
        desired=row.desired,
        state=row.state,
        health=row.health,
        reason=row.reason,
    )


def audit_message(entry: AuditEntry) -> pb.AuditEntry:
    """Return one entry of the audit log."""
    return pb.AuditEntry(
        at_unix_ms=entry.at_unix_ms,
        actor=entry.actor,
        act=entry.act,
        subject=entry.subject,
        detail=entry.detail,
        outcome=entry.outcome,
    )
