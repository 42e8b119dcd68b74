"""What a bundle is asked to be: for whom, of which releases, and whether it may reach them now.

Not handled here: what is in it, and its signatures (`services.bundles`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from towpath.bundle import statement
from towpath.bundle.statement import Carried, check_valid_ms
from towpath.errors import InputError
from towpath_server.domain import bundling, gates
from towpath_server.domain.deltas import Pair
from towpath_server.domain.manifests import KnownRelease
from towpath_server.domain.model import Assignment, Host, HostStatus
from towpath_server.domain.standing import HostView, RolloutView
from towpath_server.ports import Transaction
from towpath_server.services import rollouts
from towpath_server.services.context import Context, Need
from towpath_server.services.hosting import find_host

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator asks for, as texts."""

    hosts: tuple[str, ...]
    releases: tuple[str, ...]
    since: tuple[str, ...] = ()
    valid_ms: int = 0


@dataclass(frozen=True, slots=True)
class Intent:
    """What a bundle is to be. `known` has the releases by (app, version), those of `since` too."""

    order: Order
    hosts: tuple[str, ...]
    carried: tuple[Carried, ...]
    known: Mapping[tuple[str, str], KnownRelease]
    notes: tuple[str, ...] = ()

    def pairs(self) -> list[tuple[Need, Pair]]:
        """Return the deltas that would help, and how to ask for them; between two versions of one tree none would."""
        found = [(one, old, self.pair(one, old)) for one in self.carried for old in one.since]
        return [(Need(one.app, one.version, pair.old), pair) for one, old, pair in found if pair.old != pair.new]

    def pair(self, one: Carried, old: str) -> Pair:
        """Return from which index to which."""
        return Pair(self._index(one.app, old), self._index(one.app, one.version))

    def _index(self, app: str, version: str) -> bytes:
        return self.known[app, version].release.artifact.index_sha256


def intend(context: Context, order: Order) -> Intent:
    """Return what the order means; InputError, `not-found`, where it cannot be. On the storage thread."""
    check_valid_ms(order.valid_ms)
    wanted = list(dict.fromkeys(bundling.parse_release(text) for text in order.releases))
    if not wanted or len({app for app, _ in wanted}) != len(wanted):
        raise InputError("cannot make a bundle: give --release APP@VERSION, each app once")
    if len(wanted) > statement.MAX_RELEASES:
        raise InputError(f"cannot make a bundle of more than {statement.MAX_RELEASES} releases")
    since = bundling.parse_since(order.since, wanted)
    for app, versions in since.items():
        if len(versions) > statement.MAX_RELEASES:
            raise InputError(f"cannot make a bundle since {len(versions)} of {app}: at most {statement.MAX_RELEASES}")
    with context.storage.transaction() as tx:
        hosts = _hosts(tx, order.hosts)
        carried = tuple(Carried(app, version, since.get(app, ())) for app, version in wanted)
        known = {
            (one.app, version): _release(context, tx, one.app, version, since=version in one.since)
            for one in carried
            for version in (one.version, *one.since)
        }
        planned(context, tx, hosts, carried)  # whether it can be, before any work is done
        notes = tuple(
            f"{host.name} has a new certificate that it has not used yet: if it never got it, it refuses the bundle"
            for host in hosts
            if host.previous_serial
        )
    return Intent(order, tuple(host.id for host in hosts), carried, known, notes)


def _hosts(tx: Transaction, texts: Sequence[str]) -> list[Host]:
    found: dict[str, Host] = {}
    for text in texts:
        target = bundling.parse_target(text)
        if isinstance(target, str):
            host = active(find_host(tx, target))
            found[host.id] = host
            continue
        fitting = [
            host
            for host in tx.hosts()
            if host.status is HostStatus.ACTIVE and all(host.labels.get(k) == v for k, v in target.items())
        ]
        if not fitting:
            raise InputError(f"cannot make a bundle: no active host has {text[:80]}; see 'towpath host list'")
        found |= {host.id: host for host in fitting}
    if not found:
        raise InputError("cannot make a bundle: give --for HOST or --for KEY=VALUE")
    if len(found) > statement.MAX_HOSTS:
        raise InputError(f"cannot make a bundle for {len(found)} hosts: at most {statement.MAX_HOSTS}; make several")
    return sorted(found.values(), key=lambda host: host.name)


def active(host: Host) -> Host:
    """Return `host`; InputError where it was revoked."""
    if host.status is not HostStatus.ACTIVE:
        raise InputError(f"cannot make a bundle for {host.name}: it was revoked")
    return host


def _release(context: Context, tx: Transaction, app: str, version: str, *, since: bool) -> KnownRelease:
    known = context.release(tx, app, version)
    if known is None:
        what = f"use --since {app}@{version}" if since else f"carry {app} {version}"
        raise InputError(f"cannot {what}: it is not published; see 'towpath release list {app}'", code="not-found")
    return known


@dataclass(frozen=True, slots=True)
class Moves:
    """What a bundle tells a host that nobody has told it: rollouts that let it in, and some that take it back."""

    into: tuple[Assignment, ...]
    back: tuple[Assignment, ...]


def planned(context: Context, tx: Transaction, hosts: Sequence[Host], carried: Sequence[Carried]) -> dict[str, Moves]:
    """Return host id to what is to be written for it; InputError where one of that cannot be."""
    places = {name: rollouts.load(context, tx, name) for name in {host.environment for host in hosts}}
    for bar in (bar for place in places.values() for bar in place.notices):
        # Also for hosts that were let in: the set that is signed for them may lack what was lost.
        raise InputError(f"cannot make a bundle: {bar.fact}; see: {bar.command}", code="not-let-in")
    seen = {name: _Seen(context, tx, place) for name, place in places.items()}
    return {host.id: _moves(seen[host.environment], host, carried) for host in hosts}


def _moves(seen: "_Seen", host: Host, carried: Sequence[Carried]) -> Moves:
    into, back, told, place = [], [], False, seen.place
    runs = place.runs(host)
    for one in carried:
        owner, now = place.owner(host, one.app), runs.get(one.app)
        if owner is None:
            told = told or (now is not None and now.version == one.version)
            if now is not None and now.version != one.version:
                raise _not_deployed(host, one, now.version)
            continue
        told = True
        if owner.state.returning:
            if _goes_back(seen, owner, host, one):
                back.append(owner)
            continue
        if owner.version != one.version:
            raise _not_deployed(host, one, owner.version)
        _check_may(seen.rollout(owner), owner, host, place.now_unix_ms)
        if now is None or now.id != owner.id:
            into.append(owner)
    if not told:
        names = ", ".join(f"{one.app} {one.version}" for one in carried[:_SHOWN])
        first = carried[0]
        raise InputError(
            f"cannot make a bundle for {host.name}: it is not told to run {names}; deploy it first: towpath deploy "
            f"{first.app} {first.version} --environment {host.environment} --select KEY=VALUE",
            code="not-deployed",
        )
    return Moves(tuple(into), tuple(back))


def _not_deployed(host: Host, one: Carried, version: str) -> InputError:
    return InputError(
        f"cannot make a bundle for {host.name}: it is to run {one.app} {version}, not {one.version}; deploy it first: "
        f"towpath deploy {one.app} {one.version} --environment {host.environment} --select KEY=VALUE",
        code="not-deployed",
    )


def _goes_back(seen: "_Seen", owner: Assignment, host: Host, one: Carried) -> bool:
    """Return whether the host is still to be told to go back; InputError where it may not, or not to that release."""
    target = rollouts.counting_before(seen.place.of_app(one.app), owner)
    if target is None or target.version != one.version:
        instead = f"; carry what it goes back to: --release {one.app}@{target.version}" if target is not None else ""
        raise InputError(
            f"cannot make a bundle for {host.name}: {one.app} {owner.version} is taken back there{instead}",
            code="not-deployed",
        )
    view = seen.rollout(owner).hosts[host.id]
    why = bundling.barred_back(view)
    if why:
        raise InputError(
            f"cannot make a bundle for {host.name}: it may not be taken back to {one.app} {one.version} now: {why}; "
            f"see: towpath why {host.name} {one.app}",
            code="not-let-in",
        )
    return view.retreat is None


@dataclass(frozen=True, slots=True)
class _Rollout:
    """A rollout as it is decided on, its hosts by id, and their waves."""

    view: RolloutView
    hosts: Mapping[str, HostView]
    waves: Mapping[str, int]


class _Seen:
    """One environment, and its rollouts as far as they were looked at: each once."""

    def __init__(self, context: Context, tx: Transaction, place: rollouts.Environment) -> None:
        self.place = place
        self._context, self._tx = context, tx
        self._rollouts: dict[str, _Rollout] = {}

    def rollout(self, one: Assignment) -> _Rollout:
        if one.id not in self._rollouts:
            view = rollouts.view(self._context, self._tx, self.place, one)
            hosts = {host.host_id: host for host in view.hosts}
            self._rollouts[one.id] = _Rollout(view, hosts, gates.members(view))
        return self._rollouts[one.id]


def _check_may(seen: _Rollout, one: Assignment, host: Host, now_unix_ms: int) -> None:
    why = bundling.barred(seen.view, seen.hosts[host.id], seen.waves[host.id], now_unix_ms)
    if why:
        raise InputError(
            f"cannot make a bundle for {host.name}: {one.app} {one.version} may not reach it now: {why}; see: towpath "
            f"why {host.name} {one.app}",
            code="not-let-in",
        )
