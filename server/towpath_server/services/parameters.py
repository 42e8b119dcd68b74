"""Operators set parameters for an environment, or for a label in it.

What is set counts at once on every host that it covers, like a parameter of a single host. Nothing here decides which
text wins: `domain.settings`. Not handled here: parameters of one host (`services.hosting`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from towpath.errors import InputError
from towpath.names import check_app, check_environment
from towpath.parameters import MAX_TEXT, Parameter, parse_value
from towpath.release import Release
from towpath_server.domain import manifests, settings
from towpath_server.domain.model import Host, Setting
from towpath_server.ports import Transaction
from towpath_server.services import ordering, rollouts
from towpath_server.services.context import Act, Context, acting
from towpath_server.services.hosting import check_text

MAX_SETTINGS = 2_000


def list_parameters(context: Context, environment: str, app: str) -> list[Setting]:
    """Return what is set, of one environment and one app where they are not empty."""
    if app:
        check_app(app)
    with context.storage.transaction() as tx:
        if environment:
            _check_environment(tx, environment)
        return [one for one in tx.settings(environment or None) if app in ("", one.app)]


@dataclass(frozen=True, slots=True)
class PlaceChange:
    """What an operator changes for an environment, or for a label in it; names are `app.name`."""

    environment: str
    label: str
    texts: Mapping[str, str]
    unset: Sequence[str]

    @property
    def where(self) -> str:
        """Return what it covers, for people."""
        return f"{self.environment} with {self.label}" if self.label else self.environment


def set_parameters(context: Context, actor: str, change: PlaceChange) -> tuple[int, list[str]]:
    """Set and unset parameters; return how many hosts they cover, and notes. InputError: nothing changed."""
    with acting(context, actor, "parameter.set", f"environment/{change.environment[:64]}") as act:
        return change_parameters(context, act, change)


def change_parameters(context: Context, act: Act, change: PlaceChange) -> tuple[int, list[str]]:
    """Do what `set_parameters` does inside `act`."""
    environment, texts = change.environment, change.texts
    _check_environment(act.tx, environment)
    settings.check_label(change.label)
    _write(act.tx, change)
    place = rollouts.load(context, act.tx, environment)
    probe = Setting(environment, change.label, "", "", "")
    covered = [host for host in place.hosts if settings.covers(probe, host)]
    notes = []
    for app in sorted({manifests.split_parameter(name)[0] for name in (*texts, *change.unset)}):
        known = [one.release for one in context.releases(act.tx, app)]
        if not known:
            notes.append(f"no release of {app} is published yet: its parameters are checked when it is deployed")
        for name, text in texts.items():
            of, parameter = manifests.split_parameter(name)
            if known and of == app:
                check_text(known, parameter, text)
        for host in covered:
            _check_host(place, host, app, known)
    _touch(act, environment, covered)
    words = [f"{name}={text}" for name, text in sorted(texts.items())]
    words += [f"unset {name}" for name in change.unset]
    act.detail = f"{change.where}: {', '.join(words)}"
    return len(covered), notes


def _check_environment(tx: Transaction, environment: str) -> None:
    check_environment(environment)
    if not tx.hosts(environment):
        ordering.check_declared(tx, environment)


def _write(tx: Transaction, change: PlaceChange) -> None:
    environment, label = change.environment, change.label
    for name, text in change.texts.items():
        app, parameter = manifests.split_parameter(name)
        check_app(app)
        parse_value(Parameter(parameter, "string"), text[: MAX_TEXT + 1])
        tx.put_setting(Setting(environment, label, app, parameter, text))
    there = {(one.label, f"{one.app}.{one.name}") for one in tx.settings(environment)}
    for name in change.unset:
        if (label, name) not in there or name in change.texts:
            raise InputError(f"cannot unset {name[:80]}: it is not set for {change.where}", code="not-found")
        app, parameter = manifests.split_parameter(name)
        tx.remove_setting(Setting(environment, label, app, parameter, ""))
    if len(there) > MAX_SETTINGS:
        raise InputError(f"cannot set {len(there)} parameters for {environment}: at most {MAX_SETTINGS}")


def _check_host(place: rollouts.Environment, host: Host, app: str, known: Sequence[Release]) -> None:
    """Raise InputError where labels disagree on the host, or a release that it runs or is to run does not fit."""
    texts = manifests.texts_of(host, app, place.settings)
    bound = {one.version for one in (place.runs(host).get(app), place.owner(host, app)) if one is not None}
    for release in known:
        if release.version in bound:
            try:
                manifests.check_parameters(release, texts, known)
            except InputError as error:
                raise InputError(f"{error}; {host.name} runs or is to run {app} {release.version}") from error


def _touch(act: Act, environment: str, covered: Sequence[Host]) -> None:
    act.hosts.update(host.id for host in covered)
    act.environments.add(environment)
