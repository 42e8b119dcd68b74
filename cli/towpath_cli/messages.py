"""Generated messages to values of `towpath_cli.model` and back: what the calls of `towpath_cli.client` send and get."""

from towpath.budgets import order_text, parse_budgets, parse_order
from towpath.metrics import Metric
from towpath.v1 import operator_pb2 as pb
from towpath.wire import from_value
from towpath.wire.holds import from_holds
from towpath.wire.reports import from_prefetch, from_transfer
from towpath_cli import model
from towpath_cli.steps import RemoveEntry, SetEnvironment, SetHost, SetParameters, Step, Undeploy


def host(host: pb.Host) -> model.Host:
    """Return a host."""
    return model.Host(
        id=host.id,
        name=host.name,
        environment=host.environment,
        labels=dict(host.labels),
        status=host.status,
        online=host.online,
        last_seen_unix_ms=host.last_seen_unix_ms,
        certificate_expires_unix_ms=host.certificate_expires_unix_ms,
        agent_version=host.agent_version,
        platform=host.platform,
        parameters={name: from_value(value) for name, value in host.parameters.items()},
        holds=from_holds(host.holds),
        parameter_origins=dict(host.parameter_origins),
        own_parameters=dict(host.own_parameters),
    )


def deploy_request(order: model.DeployOrder) -> pb.DeployRequest:
    """Return what a deploy, a promotion or a plan asks for."""
    return pb.DeployRequest(
        app=order.app,
        version=order.version,
        environment=order.environment,
        selector=order.selector,
        max_unavailable=order.max_unavailable,
        max_failures=order.max_failures,
        progress_deadline_ms=order.progress_deadline_ms,
        whole_environment=order.whole_environment,
        waves=[
            pb.Wave(what=one.what, soak_ms=one.soak_ms, manual=one.manual, approve=one.approve, metrics=one.metrics)
            for one in order.waves
        ],
        max_failure_share=order.max_failure_share,
        on_breach=order.on_breach,
        allow_empty=order.allow_empty,
        windows=order.windows,
        at=order.at,
        expires=order.expires,
        override_freeze=order.override_freeze,
        offline_wait_ms=order.offline_wait_ms,
        newcomers=order.newcomers,
        prefetch=order.prefetch,
        approvers=order.approvers,
        metrics=[
            pb.Metric(
                name=one.name,
                query=one.query,
                below=one.below,
                good=one.good,
                bad=one.bad,
                patience_ms=one.patience_ms,
            )
            for one in order.metrics
        ],
        budgets=[one.text for one in order.budgets],
        priority=order.priority,
        order=order_text(order.order_label),
    )


def add_entry_request(order: model.EntryOrder) -> pb.AddEntryRequest:
    """Return what adds a freeze, or a window of an environment."""
    return pb.AddEntryRequest(
        kind=order.kind,
        environment=order.environment,
        everywhere=order.everywhere,
        selector=order.selector,
        weekly=order.weekly,
        begins=order.begins,
        ends=order.ends,
        reason=order.reason,
    )


def apply_step(step: Step) -> pb.ApplyStep:
    """Return one step of a fleet file."""
    match step:
        case SetEnvironment(name, after, healthy_for_ms):
            asked = pb.SetEnvironmentRequest(name=name, after=after, healthy_for_ms=healthy_for_ms)
            return pb.ApplyStep(environment=asked)
        case SetParameters(place, label, texts, unset):
            change = pb.SetParametersRequest(environment=place, label=label, parameters=texts, unset=unset)
            return pb.ApplyStep(parameters=change)
        case SetHost(name, texts, unset):
            return pb.ApplyStep(host=pb.SetHostParameters(name=name, parameters=texts, unset=unset))
        case model.EntryOrder():
            return pb.ApplyStep(add_entry=add_entry_request(step))
        case RemoveEntry(kind, entry):
            return pb.ApplyStep(remove_entry=pb.RemoveEntryRequest(kind=kind, id=entry))
        case model.DeployOrder():
            return pb.ApplyStep(deploy=deploy_request(step))
        case Undeploy(app, place, selector):
            gone = pb.UndeployRequest(app=app, environment=place, selector=selector, by_rule=True)
            return pb.ApplyStep(undeploy=gone)


def calendar_entry(one: pb.CalendarEntry) -> model.CalendarEntry:
    """Return an entry of the calendar."""
    return model.CalendarEntry(
        id=one.id,
        kind=one.kind,
        environment=one.environment,
        selector=dict(one.selector),
        weekly=one.weekly,
        from_unix_ms=one.from_unix_ms,
        until_unix_ms=one.until_unix_ms,
        reason=one.reason,
        created_by=one.created_by,
        created_unix_ms=one.created_unix_ms,
        now=one.now,
    )


def environment(one: pb.Environment) -> model.EnvironmentRow:
    """Return an environment."""
    return model.EnvironmentRow(one.name, one.after, one.healthy_for_ms, one.hosts, one.declared)


def deployed(answer: pb.DeployResponse) -> model.Deployed:
    """Return the answer to a deploy or a promotion."""
    return model.Deployed(answer.assignment, answer.generation, answer.hosts, answer.unchanged, answer.version)


def steered(a: pb.SteerRolloutResponse) -> model.Steered:
    """Return a rollout after an operator's act."""
    return model.Steered(a.assignment, a.app, a.version, a.environment, a.state, a.reason, a.wave)


def rollout(a: pb.GetAssignmentResponse) -> model.Rollout:
    """Return a rollout with its hosts and waves."""
    waves = tuple(
        model.WaveProgress(w.number, w.text, w.state, w.waits, w.soak_until_unix_ms, dict(w.phases), tuple(w.checks))
        for w in a.waves
    )
    return model.Rollout(
        assignment=a.assignment,
        app=a.app,
        version=a.version,
        environment=a.environment,
        state=a.state,
        reason=a.reason,
        hosts=tuple(_progress(host) for host in a.hosts),
        waves=waves,
        wave=a.wave,
        generation=a.generation,
        selector=dict(a.selector),
        created_by=a.created_by,
        created_unix_ms=a.created_unix_ms,
        max_unavailable=a.max_unavailable,
        max_failures=a.max_failures,
        max_failure_share=a.max_failure_share,
        on_breach=a.on_breach,
        windows=tuple(a.windows),
        at_unix_ms=a.at_unix_ms,
        expires_unix_ms=a.expires_unix_ms,
        override_freeze=a.override_freeze,
        offline_wait_ms=a.offline_wait_ms,
        newcomers=a.newcomers,
        bars=tuple(model.Bar(bar.fact, bar.until_unix_ms, bar.command) for bar in a.bars),
        approvers=tuple(a.approvers),
        metrics=tuple(Metric(m.name, m.query, m.below, m.good, m.bad, m.patience_ms) for m in a.metrics),
        progress_deadline_ms=a.progress_deadline_ms,
        prefetch=a.prefetch,
        budgets=parse_budgets(a.budgets),
        priority=a.priority,
        order_label=parse_order(a.order),
    )


def plan(a: pb.PlanResponse) -> model.Plan:
    """Return a plan."""
    hosts = (
        model.PlannedHost(h.host, h.wave, h.turn, h.before, h.stays, h.online, h.at_most_bytes, dict(h.labels))
        for h in a.hosts
    )
    return model.Plan(
        assignment=a.assignment,
        version=a.version,
        unchanged=a.unchanged,
        hosts=tuple(hosts),
        waves=tuple(model.PlannedWave(w.number, w.text, w.hosts, w.asks, w.opens_ms) for w in a.waves),
        delays=tuple(model.PlannedDelay(d.wave, d.waits, d.after_ms, d.lasts_ms) for d in a.delays),
        at_once=a.at_once,
        took_ms=a.took_ms,
        waits=a.waits,
        cut=a.cut,
        at_most_bytes=a.at_most_bytes,
        host_ms=a.host_ms,
        progress_deadline_ms=a.progress_deadline_ms,
    )


def _progress(host: pb.HostProgress) -> model.HostProgress:
    return model.HostProgress(
        host=host.host,
        online=host.online,
        admitted=host.admitted,
        phase=host.phase,
        current=host.state.current_version,
        state=host.state.state,
        health=host.state.health,
        verdict=host.state.verdict,
        reason=host.reason or host.state.reason,
        wave=host.wave,
        evidence=tuple(host.evidence),
        prefetch=from_prefetch(host.state),
        transfer=from_transfer(host.state),
    )
