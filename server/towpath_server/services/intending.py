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
            (one.app, version): _release(context, tx, one.app, version)
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


def _release(context: Context, tx: Transaction, app: str, version: str) -> KnownRelease:
    known = context.release(tx, app, version)
    if known is None:
        raise InputError(
            f"cannot carry {app} {version}: it is not published; see 'towpath release list {app}'", code="not-found"
        )
    return known


def planned(
    context: Context, tx: Transaction, hosts: Sequence[Host], carried: Sequence[Carried]
) -> dict[str, list[Assignment]]:
    """Return host id to the assignments that it has still to be let into; InputError where one of that cannot be."""
    places = {name: rollouts.load(context, tx, name) for name in {host.environment for host in hosts}}
    for bar in (bar for place in places.values() for bar in place.notices):
        # Also for hosts that were let in: the set that is signed for them may lack what was lost.
        raise InputError(f"cannot make a bundle: {bar.fact}; see: {bar.command}", code="not-let-in")
    result: dict[str, list[Assignment]] = {}
    seen: dict[str, _Seen] = {}
    for host in hosts:
        place = places[host.environment]
        runs, lacking, told = place.runs(host), [], False
        for one in carried:
            owner = place.owner(host, one.app)
            now = runs.get(one.app)
            if now is not None and now.version == one.version and (owner is None or owner.id == now.id):
                told = True
                continue
            if owner is None and now is None:
                continue
            if owner is None or owner.version != one.version:
                what = (owner or now or one).version
                raise InputError(
                    f"cannot make a bundle for {host.name}: it is to run {one.app} {what}, not {one.version}; deploy "
                    f"it first: towpath deploy {one.app} {one.version} --environment {host.environment} "
                    f"--select KEY=VALUE",
                    code="not-deployed",
                )
            if owner.id not in seen:
                seen[owner.id] = _Seen.of(rollouts.view(context, tx, place, owner))
            _check_may(seen[owner.id], owner, host, place.now_unix_ms)
            lacking.append(owner)
            told = True
        if not told:
            names = ", ".join(f"{one.app} {one.version}" for one in carried[:_SHOWN])
            first = carried[0]
            raise InputError(
                f"cannot make a bundle for {host.name}: it is not told to run {names}; deploy it first: towpath deploy "
                f"{first.app} {first.version} --environment {host.environment} --select KEY=VALUE",
                code="not-deployed",
            )
        result[host.id] = lacking
    return result


@dataclass(frozen=True, slots=True)
class _Seen:
    """A rollout as it is decided on, its hosts by id, and their waves."""

    view: RolloutView
    hosts: Mapping[str, HostView]
    waves: Mapping[str, int]

    @classmethod
    def of(cls, view: RolloutView) -> "_Seen":
        return cls(view, {host.host_id: host for host in view.hosts}, gates.members(view))


def _check_may(seen: _Seen, one: Assignment, host: Host, now_unix_ms: int) -> None:
    why = bundling.barred(seen.view, seen.hosts[host.id], seen.waves[host.id], now_unix_ms)
    if why:
        raise InputError(
            f"cannot make a bundle for {host.name}: {one.app} {one.version} may not reach it now: {why}; see: towpath "
            f"why {host.name} {one.app}",
            code="not-let-in",
        )
