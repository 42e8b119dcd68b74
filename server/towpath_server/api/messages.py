"""Rows to messages of the operator's services."""

from collections.abc import Mapping

from towpath.budgets import order_text
from towpath.metrics import Metric
from towpath.v1 import operator_pb2 as pb
from towpath.waves import Wave
from towpath.wire import to_value
from towpath.wire.holds import to_hold
from towpath.wire.reports import to_app_state
from towpath_server.domain.freezes import Draft
from towpath_server.domain.model import Assignment, AuditEntry, PublishedRelease
from towpath_server.services.approving import Approved
from towpath_server.services.calendar import Shown
from towpath_server.services.deploying import Deployed, Order
from towpath_server.services.evidence import Failure
from towpath_server.services.ordering import EnvironmentRow
from towpath_server.services.reading import HostCard, StatusRow
from towpath_server.services.rollouts import Picture, Progress


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
        parameter_origins=card.origins,
        own_parameters=host.parameters,
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


def progress_message(picture: Picture, failures: Mapping[str, Failure] | None = None) -> pb.GetAssignmentResponse:
    """Return an assignment and where its hosts and waves stand; `failures` are by host id."""
    one = picture.assignment
    known = failures or {}
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
                reason=_reason(one, each, known.get(each.host.id)),
                wave=each.wave,
                evidence=known[each.host.id].lines if each.host.id in known else (),
            )
            for each in picture.hosts
        ],
        waves=[
            pb.WaveProgress(
                number=wave.number,
                text=wave.text,
                state=wave.state,
                waits=wave.waits,
                soak_until_unix_ms=wave.soak_until_unix_ms,
                phases={str(phase): count for phase, count in wave.phases.items()},
                checks=wave.checks,
            )
            for wave in picture.waves
        ],
        wave=one.wave,
        generation=one.generation,
        selector=one.selector,
        created_by=one.created_by,
        created_unix_ms=one.created_unix_ms,
        max_unavailable=one.max_unavailable,
        max_failures=one.max_failures,
        max_failure_share=one.max_failure_share,
        on_breach=str(one.on_breach),
        windows=[window.text for window in one.timing.windows],
        at_unix_ms=one.timing.at_unix_ms,
        expires_unix_ms=one.timing.expires_unix_ms,
        override_freeze=one.timing.override,
        offline_wait_ms=one.offline_wait_ms,
        newcomers=str(one.newcomers),
        bars=[pb.Bar(fact=bar.fact, until_unix_ms=bar.until_unix_ms, command=bar.command) for bar in picture.bars],
        approvers=one.approvers,
        metrics=[metric_message(metric) for metric in one.metrics],
        progress_deadline_ms=one.progress_deadline_ms,
        prefetch=one.prefetch,
        budgets=[budget.text for budget in one.budgets],
        priority=one.priority,
        order=order_text(one.order_label),
    )


def _reason(one: Assignment, each: Progress, failure: Failure | None) -> str:
    """Return why a host is where it is; one that is sent back keeps why it failed what it comes from."""
    said = each.standing.reason
    if failure is None or not failure.reason or not one.state.returning or failure.reason in said:
        return said
    return f"{said}; {one.version} failed: {failure.reason}"


def metric_message(one: Metric) -> pb.Metric:
    """Return a metric of a rollout."""
    return pb.Metric(
        name=one.name, query=one.query, below=one.below, good=one.good, bad=one.bad, patience_ms=one.patience_ms
    )


def order_of(request: pb.DeployRequest) -> Order:
    """Return what a deploy asks for."""
    return Order(
        app=request.app,
        version=request.version,
        environment=request.environment,
        selector=dict(request.selector),
        max_unavailable=request.max_unavailable,
        max_failures=request.max_failures,
        progress_deadline_ms=request.progress_deadline_ms,
        whole_environment=request.whole_environment,
        waves=tuple(
            Wave(wave.what, wave.soak_ms, wave.manual, wave.approve, tuple(wave.metrics)) for wave in request.waves
        ),
        max_failure_share=request.max_failure_share,
        on_breach=request.on_breach,
        allow_empty=request.allow_empty,
        windows=tuple(request.windows),
        at=request.at,
        expires=request.expires,
        override_freeze=request.override_freeze,
        offline_wait_ms=request.offline_wait_ms,
        newcomers=request.newcomers,
        approvers=tuple(request.approvers),
        metrics=tuple(
            Metric(one.name, one.query, one.below, one.good, one.bad, one.patience_ms) for one in request.metrics
        ),
        prefetch=request.prefetch,
        budgets=tuple(request.budgets),
        priority=request.priority,
        order=request.order,
    )


def draft_of(request: pb.AddEntryRequest) -> Draft:
    """Return the entry of the calendar that is asked for."""
    return Draft(
        kind=request.kind,
        environment=request.environment,
        everywhere=request.everywhere,
        selector=dict(request.selector),
        weekly=request.weekly,
        begins=request.begins,
        ends=request.ends,
        reason=request.reason,
    )


def deployed_message(deployed: Deployed) -> pb.DeployResponse:
    """Return the answer to a deploy or a promotion."""
    one = deployed.assignment
    return pb.DeployResponse(
        assignment=one.id,
        generation=one.generation,
        hosts=deployed.hosts,
        unchanged=deployed.unchanged,
        version=one.version,
    )


def steered_message(one: Assignment) -> pb.SteerRolloutResponse:
    """Return a rollout after an operator's act."""
    return pb.SteerRolloutResponse(
        assignment=one.id,
        app=one.app,
        version=one.version,
        environment=one.environment,
        state=str(one.state),
        reason=one.reason,
        wave=one.wave,
    )


def approved_message(approved: Approved) -> pb.ApproveRolloutResponse:
    """Return the answer to an approval."""
    one = approved.assignment
    return pb.ApproveRolloutResponse(
        assignment=one.id,
        app=one.app,
        version=one.version,
        environment=one.environment,
        wave=approved.wave,
        names=approved.names,
        needed=approved.needed,
        again=approved.again,
    )


def environment_message(row: EnvironmentRow) -> pb.Environment:
    """Return an environment as operators see it."""
    rule = row.rule
    return pb.Environment(
        name=rule.name, after=rule.after, healthy_for_ms=rule.healthy_for_ms, hosts=row.hosts, declared=row.declared
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


def entry_message(shown: Shown) -> pb.CalendarEntry:
    """Return an entry of the calendar."""
    entry = shown.entry
    return pb.CalendarEntry(
        id=entry.id,
        kind=str(entry.kind),
        environment=entry.environment,
        selector=entry.selector,
        weekly=entry.weekly.text if entry.weekly is not None else "",
        from_unix_ms=entry.from_unix_ms,
        until_unix_ms=entry.until_unix_ms,
        reason=entry.reason,
        created_by=entry.created_by,
        created_unix_ms=entry.created_unix_ms,
        now=str(shown.now),
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
