"""Operators change a host: parameters, labels, revocation.

Nothing here moves a host: rows are written, and the reconciler decides what follows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from towpath.errors import InputError
from towpath.names import check_app, check_labels
from towpath.parameters import MAX_PARAMETERS, MAX_TEXT, Parameter, parse_value
from towpath.release import Release
from towpath_server.domain import manifests
from towpath_server.domain.model import Assignment, Host, HostStatus
from towpath_server.ports import Transaction
from towpath_server.services import restoring, rollouts
from towpath_server.services.context import Act, Context, acting


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
        return change_host(context, act, name, change)


def change_host(context: Context, act: Act, name: str, change: HostChange) -> tuple[Host, list[str]]:
    """Do what `set_host` does inside `act`."""
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
    settings = tx.settings(after.environment)
    # Other labels may be other parameters.
    labelled = {one.app for one in settings} if before.labels != after.labels else set()
    runs = context.resolved(tx, before)
    notes = []
    for app in sorted({manifests.split_parameter(name)[0] for name in names} | labelled):
        known = [one.release for one in context.releases(tx, app)]
        texts = manifests.texts_of(after, app, settings)
        if not known and app not in labelled:
            notes.append(f"no release of {app} is published yet: its parameters are checked when it is deployed")
            continue
        for name in _set_now(change, app):
            if known:
                check_text(known, name, texts[name])
        bound = {one.version for one in (runs.get(app), _owner(context, tx, after, app)) if one is not None}
        for release in known:
            if release.version in bound:
                manifests.check_parameters(release, texts, known)
    return notes


def _set_now(change: HostChange, app: str) -> list[str]:
    pairs = [manifests.split_parameter(name) for name in change.parameters]
    return [parameter for of, parameter in pairs if of == app]


def check_text(known: Sequence[Release], name: str, text: str) -> None:
    """Check one text against the newest release that declares it: a coming deploy's parameter may be set before it."""
    for release in reversed(known):
        for parameter in release.parameters:
            if parameter.name == name:
                parse_value(parameter, text)
                return
    shown = ", ".join(sorted({one.name for release in known for one in release.parameters})) or "none"
    raise InputError(f"cannot set {known[0].app}.{name[:80]}: {known[0].app} declares {shown}")


def _owner(context: Context, tx: Transaction, host: Host, app: str) -> Assignment | None:
    return rollouts.load(context, tx, host.environment).owner(host, app)


def revoke_host(context: Context, actor: str, name: str, reason: str) -> None:
    """Shut a host out at once and for good: its certificates are refused from the next call on."""
    with acting(context, actor, "host.revoke", f"host/{name[:64]}") as act:
        host = find_host(act.tx, name)
        if host.status is HostStatus.REVOKED:
            raise InputError(f"cannot revoke {name}: it is revoked already")
        act.tx.put_host(replace(host, status=HostStatus.REVOKED))
        # What it said of a restored database may have been a lie: nobody waits for it any longer.
        act.tx.forget_ahead(host.id)
        act.hosts.add(host.id)
        act.environments.add(host.environment)
        act.detail = reason[:200]
        restoring.follow(context, act.tx)
