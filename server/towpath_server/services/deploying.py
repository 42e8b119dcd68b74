"""Operators change what should run: deploy, undeploy, parameters and labels of a host, revocation.

Nothing here moves a host: assignments, parameters and labels are written, and the reconciler admits.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from towpath.errors import InputError
from towpath.names import check_app, check_environment, check_labels
from towpath.parameters import MAX_PARAMETERS, MAX_TEXT, Parameter, parse_value
from towpath.release import Release
from towpath_server.domain import assignment as rules
from towpath_server.domain import manifests, rolling
from towpath_server.domain.assignment import owner
from towpath_server.domain.model import Assignment, Host, HostStatus, RolloutState
from towpath_server.ports import Transaction
from towpath_server.services import rollouts
from towpath_server.services.context import Act, Context, acting

_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator asks for with `deploy`. Zeros mean the defaults."""

    app: str
    version: str
    environment: str
    selector: Mapping[str, str]
    max_unavailable: int = 0
    max_failures: int = 0
    progress_deadline_ms: int = 0
    whole_environment: bool = False


@dataclass(frozen=True, slots=True)
class Deployed:
    """The assignment that stands now, how many hosts it covers, and whether it stood before."""

    assignment: Assignment
    hosts: int
    unchanged: bool


def deploy(context: Context, actor: str, order: Order) -> Deployed:
    """Write the assignment; InputError where the release is not published or does not fit a matching host."""
    subject = f"app/{order.app[:64]}"
    with acting(context, actor, "deploy", subject) as act:
        check_app(order.app)
        deadline = rules.check_request(
            environment=order.environment,
            selector=order.selector,
            whole_environment=order.whole_environment,
            progress_deadline_ms=order.progress_deadline_ms,
        )
        tx = act.tx
        known = _release(context, tx, order)
        place = rollouts.load(context, tx, order.environment)
        others = [one.release for one in context.releases(tx, order.app)]
        draft = Assignment(
            id=secrets.token_hex(8),
            app=order.app,
            version=order.version,
            release_sha256=known.sha256,
            environment=order.environment,
            selector=dict(order.selector),
            generation=0,
            max_unavailable=order.max_unavailable,
            max_failures=order.max_failures,
            progress_deadline_ms=deadline,
            created_unix_ms=context.clock.now_unix_ms(),
            created_by=actor,
        )
        _check_hosts(place, draft, known.release, others)
        standing = [
            one for one in place.assignments if rules.same_rule(one, order.app, order.environment, order.selector)
        ]
        limits = (order.max_unavailable, order.max_failures, deadline)
        for one in standing:
            failed = _failed(context, tx, place, one)
            if rules.unchanged(one, release_sha256=known.sha256, limits=limits, failed=failed):
                act.detail = f"{order.version} to {order.environment}: unchanged, generation {one.generation}"
                return Deployed(one, len(place.covered(one)), unchanged=True)
        final = replace(draft, generation=tx.next_generation())
        for one in standing:
            _supersede(context, act, place, one, final)
        tx.add_assignment(final)
        act.environments.add(order.environment)
        where = f"{order.environment} {_words(order.selector)}"
        act.detail = f"{order.version} to {where}: generation {final.generation}, {final.id}"
        covered = len(rollouts.load(context, tx, order.environment).covered(final))
    return Deployed(final, covered, unchanged=False)


def _words(selector: Mapping[str, str]) -> str:
    return ",".join(f"{key}={selector[key]}" for key in sorted(selector)) or "(every host)"


def _release(context: Context, tx: Transaction, order: Order) -> manifests.KnownRelease:
    known = context.release(tx, order.app, order.version)
    if known is None:
        versions = [row.version for row in tx.releases(order.app)][-_SHOWN:]
        published = f"published are {', '.join(versions)}" if versions else f"no release of {order.app} is published"
        raise InputError(
            f"cannot deploy {order.app} {order.version}: there is no such release; {published}", code="not-found"
        )
    allowed = known.release.environments
    if allowed and order.environment not in allowed:
        raise InputError(
            f"cannot deploy {order.app} {order.version} to {order.environment}: its publisher allows only "
            f"{', '.join(allowed)}"
        )
    return known


def _check_hosts(place: rollouts.Environment, draft: Assignment, release: Release, others: Sequence[Release]) -> None:
    for host in place.hosts:
        if rules.matches(draft, host):
            try:
                manifests.check_parameters(release, manifests.texts_of(host, release.app), others)
            except InputError as error:
                raise InputError(
                    f"cannot deploy {release.app} {release.version}: host {host.name}: {error}; "
                    f"towpath host set {host.name} {release.app}.NAME=VALUE"
                ) from error


def _failed(context: Context, tx: Transaction, place: rollouts.Environment, one: Assignment) -> int:
    seen = rollouts.view(context, tx, place, one)
    bad = (rolling.Phase.FAILED, rolling.Phase.INCONCLUSIVE)
    return sum(1 for host in seen.hosts if rolling.standing(seen, host, place.now_unix_ms).phase in bad)


def _supersede(context: Context, act: Act, place: rollouts.Environment, one: Assignment, by: Assignment) -> None:
    """End an assignment; hosts that have not switched are told to stay, the others keep it until they are admitted."""
    stay = rolling.stay(rollouts.view(context, act.tx, place, one))
    act.tx.withdraw(one.id, stay)
    act.hosts.update(stay)
    act.tx.put_assignment_state(one.id, RolloutState.SUPERSEDED, f"by {by.version}, generation {by.generation}")


def undeploy(context: Context, actor: str, app: str, environment: str) -> int:
    """Remove every assignment of an app in an environment; its hosts remove the app. Return how many there were."""
    with acting(context, actor, "undeploy", f"app/{app[:64]}") as act:
        check_app(app)
        check_environment(environment)
        found = act.tx.assignments(environment=environment, app=app)
        active = [one for one in found if one.state.active]
        if not active:
            raise InputError(f"cannot undeploy {app}: it is not deployed in {environment}", code="not-found")
        for one in found:
            act.tx.put_assignment_state(one.id, RolloutState.REMOVED, f"by {actor}")
        act.hosts.update(host.id for host in act.tx.hosts(environment))
        act.environments.add(environment)
        act.detail = f"{len(active)} assignments in {environment}"
    return len(active)


@dataclass(frozen=True, slots=True)
class HostChange:
    """What an operator changes about a host."""

    parameters: Mapping[str, str]
    unset_parameters: Sequence[str]
    labels: Mapping[str, str]
    unset_labels: Sequence[str]


def find_host(tx: Transaction, name: str) -> Host:
    """Return the host with that name; InputError `not-found`."""
    host = tx.host_named(name)
    if host is None:
        raise InputError(f"cannot find host {name[:80]!r}: see 'towpath host list'", code="not-found")
    return host


def set_host(context: Context, actor: str, name: str, change: HostChange) -> tuple[Host, list[str]]:
    """Change parameters and labels of a host; return it and notes for the operator. InputError: nothing changed."""
    with acting(context, actor, "host.set", f"host/{name[:64]}") as act:
        before = find_host(act.tx, name)
        after = replace(before, labels=_labels(before, change), parameters=_parameters(before, change))
        notes = _check_parameters(context, act.tx, before, after, change)
        act.tx.put_host(after)
        lost = sorted(set(context.resolved(act.tx, before)) - set(context.resolved(act.tx, after)))
        notes += [f"{app} is not assigned to {name} any more: the host removes it" for app in lost]
        act.hosts.add(after.id)
        act.environments.add(after.environment)
        act.detail = _detail(change)
    return after, notes


def _detail(change: HostChange) -> str:
    words = [f"{key}={value}" for key, value in sorted(change.parameters.items())]
    words += [f"unset {key}" for key in change.unset_parameters]
    words += [f"label {key}={value}" for key, value in sorted(change.labels.items())]
    words += [f"unset label {key}" for key in change.unset_labels]
    return ", ".join(words)


def _labels(host: Host, change: HostChange) -> dict[str, str]:
    missing = [key for key in change.unset_labels if key not in host.labels]
    if missing:
        raise InputError(f"cannot unset label {missing[0][:80]}: {host.name} has no such label", code="not-found")
    labels = {key: value for key, value in host.labels.items() if key not in change.unset_labels}
    return check_labels({**labels, **change.labels})


def _parameters(host: Host, change: HostChange) -> dict[str, str]:
    for name, text in change.parameters.items():
        app, parameter = manifests.split_parameter(name)
        check_app(app)
        parse_value(Parameter(parameter, "string"), text[: MAX_TEXT + 1])
    missing = [name for name in change.unset_parameters if name not in host.parameters]
    if missing:
        raise InputError(f"cannot unset {missing[0][:80]}: it is not set on {host.name}", code="not-found")
    kept = {name: text for name, text in host.parameters.items() if name not in change.unset_parameters}
    result = {**kept, **change.parameters}
    if len(result) > MAX_PARAMETERS * 4:
        raise InputError(f"cannot set {len(result)} parameters on one host: at most {MAX_PARAMETERS * 4}")
    return result


def _check_parameters(context: Context, tx: Transaction, before: Host, after: Host, change: HostChange) -> list[str]:
    """Check the apps that the change touches; return a note for each that is not published yet."""
    names = [*change.parameters, *change.unset_parameters]
    runs = context.resolved(tx, before)
    notes = []
    for app in sorted({manifests.split_parameter(name)[0] for name in names}):
        known = [one.release for one in context.releases(tx, app)]
        if not known:
            notes.append(f"no release of {app} is published yet: its parameters are checked when it is deployed")
            continue
        texts = manifests.texts_of(after, app)
        for name in _set_now(change, app):
            _check_one(known, name, texts[name])
        bound = {one.version for one in (runs.get(app), _owner(tx, after, app)) if one is not None}
        for release in known:
            if release.version in bound:
                manifests.check_parameters(release, texts, known)
    return notes


def _set_now(change: HostChange, app: str) -> list[str]:
    pairs = [manifests.split_parameter(name) for name in change.parameters]
    return [parameter for of, parameter in pairs if of == app]


def _check_one(known: Sequence[Release], name: str, text: str) -> None:
    """Check one text against the newest release that declares it: a coming deploy's parameter may be set before it."""
    for release in reversed(known):
        for parameter in release.parameters:
            if parameter.name == name:
                parse_value(parameter, text)
                return
    shown = ", ".join(sorted({one.name for release in known for one in release.parameters})) or "none"
    raise InputError(f"cannot set {known[0].app}.{name[:80]}: {known[0].app} declares {shown}")


def _owner(tx: Transaction, host: Host, app: str) -> Assignment | None:
    return owner(tx.assignments(environment=host.environment, app=app), host)


def revoke_host(context: Context, actor: str, name: str, reason: str) -> None:
    """Shut a host out at once and for good: its certificates are refused from the next call on."""
    with acting(context, actor, "host.revoke", f"host/{name[:64]}") as act:
        host = find_host(act.tx, name)
        if host.status is HostStatus.REVOKED:
            raise InputError(f"cannot revoke {name}: it is revoked already")
        act.tx.put_host(replace(host, status=HostStatus.REVOKED))
        act.hosts.add(host.id)
        act.environments.add(host.environment)
        act.detail = reason[:200]
