"""One tick: follow what changed in an environment, decide its rollouts, write the decisions down.

`tick` is the only place where a host is admitted, withdrawn or sent back (a deploy and an operator's act withdraw who
has not switched). It reads, decides and writes in one transaction on the storage thread, so limits hold however many
hosts sync at the same time.

A tick costs what changed since the one before. The `Roster` keeps the environment's rows and a tally of each rollout in
memory, and reads again only hosts that
- somebody wrote about, this server or another one on the same database (`Transaction.changed_hosts`),
- came or went (`Presence.turned`), or may have by now: a silence or a hold that time ends.
Everything is read anew where more than hosts' own news changed: rules, labels, who is part of it, or a clock set back.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush

from towpath.waves import effective
from towpath_server.domain import hosts, rolling
from towpath_server.domain.budgets import Others, cells
from towpath_server.domain.model import Assignment, Host, RolloutState
from towpath_server.domain.standing import Decision
from towpath_server.domain.tally import Tally
from towpath_server.ports import Transaction
from towpath_server.services.context import Context, decided
from towpath_server.services.leading import leads
from towpath_server.services.rollouts import (
    TICKED,
    Environment,
    Look,
    calendar,
    fleet,
    head,
    load,
    others,
    restore,
    send_back,
)
from towpath_server.services.steering import name_of

Rules = tuple[tuple[str, RolloutState, int], ...]


def _rules(assignments: Iterable[Assignment]) -> Rules:
    """Return what the rows of assignments say about who is part of which rollout."""
    return tuple((one.id, one.state, one.generation) for one in assignments)


@dataclass
class Roster:
    """One environment between two ticks. `change` and `rules`: how far the database was followed.

    `others`: for a rollout with budgets, what it has to know of hosts that it is not about; `moved`: app to the hosts
    that were told something in this tick.
    """

    place: Environment
    change: int
    rules: int
    rows: dict[str, Host]
    tallies: dict[str, Tally] = field(default_factory=dict)
    fleets: dict[str, int] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)
    due: list[tuple[int, str]] = field(default_factory=list)
    others: dict[str, Others] = field(default_factory=dict)
    moved: dict[str, set[str]] = field(default_factory=dict)

    def decide(self, context: Context, tx: Transaction, one: Assignment) -> Decision:
        """Return what is to be done for a rollout, by its tally; the tally is made where there is none that fits."""
        place = self.place
        if one.id not in self.fleets:
            self.fleets[one.id] = fleet(place, one)
        view = head(context, tx, place, one, self.fleets[one.id])
        if not rolling.counts_hosts(view):
            self.forget(one.id)
            return rolling.decided(None, view)
        if one.budgets:
            if one.id not in self.others:
                self.others[one.id] = others(context, place, one, self.moved.get(one.app, ()))
            view = replace(view, others=self.others[one.id].count)
        tally = self.tallies.get(one.id)
        if tally is not None and tally.fits(view, place.now_unix_ms):
            tally.follow(view, place.now_unix_ms)
        else:
            look = Look(context, tx, place, one)
            views = tuple(look.at(host) for host in self.rows.values() if place.covers(one, host))
            tally = self.tallies[one.id] = Tally(replace(view, hosts=views), place.now_unix_ms)
        return rolling.decided(tally, view)

    def forget(self, rollout: str) -> None:
        """Count a rollout's hosts anew where it is decided again."""
        self.tallies.pop(rollout, None)
        self.others.pop(rollout, None)

    def tell(self, one: Assignment, told: Collection[str]) -> None:
        """Let the rollouts that are decided after `one` in this tick count whom it told something."""
        self.moved.setdefault(one.app, set()).update(told)
        for other in self.place.assignments:
            known = self.others.get(other.id)
            if known is not None and other.app == one.app and other.id != one.id:
                for host_id in told:
                    known.put(host_id, cells(other.budgets, self.rows[host_id].labels))


def _load(context: Context, tx: Transaction, name: str) -> Roster:
    place = load(context, tx, name)
    kept = Roster(place, tx.change(), tx.rules(), {host.id: host for host in place.hosts})
    kept.due = [(at, host.id) for host in place.hosts if (at := _turns_unix_ms(context, place, host)) is not None]
    heapify(kept.due)
    return kept


def _turns_unix_ms(context: Context, place: Environment, host: Host) -> int | None:
    """Return when time alone may change what is known of a host: it counts as offline, or a hold of it ends."""
    now = place.now_unix_ms
    if context.presence.watching(host.id):
        return None  # the end of its watch is told
    if context.presence.online(host, now):
        return context.presence.last_seen_unix_ms(host, now) + hosts.ONLINE_MS
    return min((one.until_unix_ms for one in host.holds if one.until_unix_ms > now), default=None)


def follow(context: Context, tx: Transaction, kept: Roster | None, name: str) -> Roster:
    """Return the environment as it is now: what was `kept`, with what changed since; or read anew."""
    now = context.clock.now_unix_ms()
    if kept is None or now < kept.place.now_unix_ms:
        return _load(context, tx, name)
    # Nothing is decided while there are notices, so that those of a roster are none.
    place = replace(kept.place, now_unix_ms=now, calendar=calendar(tx, name), notices=())
    if place.settings != tuple(tx.settings(name)):
        return _load(context, tx, name)
    rules = tx.rules()
    if rules != kept.rules:
        assignments = tuple(tx.assignments(environment=name))
        if _rules(assignments) != _rules(place.assignments):
            return _load(context, tx, name)
        place = replace(place, assignments=assignments)
    written = set(tx.changed_hosts(name, kept.change))
    change = tx.change()
    looked = written | kept.pending
    looked |= _late(context, kept, now)
    rows = {host.id: host for host in tx.hosts_of(looked)}
    if not all(_same_part(kept.rows.get(host_id), rows.get(host_id)) for host_id in looked):
        return _load(context, tx, name)
    kept.place, kept.change, kept.rules, kept.pending, kept.moved = place, change, rules, set(), {}
    _take(context, tx, kept, rows)
    return kept


def _late(context: Context, kept: Roster, now_unix_ms: int) -> set[str]:
    """Return the hosts for which time may have changed something; one that was heard meanwhile is none of them."""
    found = set()
    while kept.due and kept.due[0][0] <= now_unix_ms:
        host_id = heappop(kept.due)[1]
        host = kept.rows[host_id]
        last = context.presence.last_seen_unix_ms(host, now_unix_ms)
        if context.presence.online(host, now_unix_ms) and last + hosts.ONLINE_MS > now_unix_ms:
            if not context.presence.watching(host_id):
                heappush(kept.due, (last + hosts.ONLINE_MS, host_id))
        else:
            found.add(host_id)
    return found


def _same_part(before: Host | None, after: Host | None) -> bool:
    """Return whether a host is part of the same rules, in the same waves."""
    if before is None or after is None:
        return False
    return (before.status, before.labels, before.name) == (after.status, after.labels, after.name)


def _take(context: Context, tx: Transaction, kept: Roster, rows: dict[str, Host]) -> None:
    """Take the news of these hosts into the rows and the tallies."""
    place = kept.place
    kept.rows.update(rows)
    place.admitted.update(tx.admissions_of(rows))
    for key in [(host_id, one.app) for host_id in rows for one in place.assignments]:
        place.reported.pop(key, None)
    place.reported.update({(one.host_id, one.state.app): one for one in tx.app_states_of(rows)})
    for them in place.retreats.values():
        for host_id in rows:
            them.pop(host_id, None)
    for back in tx.retreats_of(rows) if place.retreats else ():
        if back.assignment_id in place.retreats:
            place.retreats[back.assignment_id][back.host_id] = back
    for host in rows.values():
        at = _turns_unix_ms(context, place, host)
        if at is not None:
            heappush(kept.due, (at, host.id))
    for one in place.assignments:
        if one.id in kept.tallies:
            _count(context, tx, kept, one, rows)


def _count(context: Context, tx: Transaction, kept: Roster, one: Assignment, rows: dict[str, Host]) -> None:
    """Tell a tally the news; forget it where its rollout is about other hosts by now."""
    look, tally, now = Look(context, tx, kept.place, one), kept.tallies[one.id], kept.place.now_unix_ms
    for host in rows.values():
        covered = kept.place.covers(one, host)
        if covered != (host.id in tally.hosts):
            kept.forget(one.id)
            return
        if covered:
            tally.update(look.at(host), now)
        if one.id in kept.others:
            online = context.presence.online(host, now)
            out = not covered and kept.place.unavailable(host, one.app, online=online)
            kept.others[one.id].put(host.id, cells(one.budgets, host.labels) if out else ())


def hear(context: Context) -> set[str]:
    """Note which hosts came or went since the last time; return them."""
    turned = context.presence.turned()
    for kept in context.cache.rosters.values():
        kept.pending.update(turned & kept.rows.keys())
    return turned


def tick(context: Context, environments: Collection[str]) -> bool:
    """Decide the rollouts of these environments once; return True where time alone may change one of them.

    Nothing is decided where another server on this database does, nor where hosts know more than it (`restoring`).
    """
    again = moved = False
    before = context.claim
    changed: set[str] = set()
    turned = hear(context)
    rosters = context.cache.rosters
    try:
        with context.storage.transaction() as tx:
            # Who takes part in a decision is written down with it: after a crash the next server expects these hosts.
            came = {host_id: at for host_id, at in context.presence.unwritten().items() if host_id in turned}
            if came:
                tx.put_seen(came)
            decides = leads(context, tx)
            behind = {one.environment for one in tx.ahead()} if decides else set()
            for name in set(environments) - behind if decides else ():
                kept = rosters[name] = follow(context, tx, rosters.get(name), name)
                context.cache.waiting.discard(name)
                for one in sorted(kept.place.assignments, key=_turn):
                    if one.state.active or one.state.returning:
                        decision = _decide(context, tx, kept, one, changed)
                        # Who arrived belongs to another rollout now, which was perhaps decided before it did.
                        if decision.waits_for_time or decision.arrived:
                            context.cache.waiting.add(name)
                        again = again or decision.state in TICKED or name in context.cache.waiting
                        moved = moved or decision.state is not one.state
            if moved:
                context.follow_announcements(tx)
    except BaseException:
        rosters.clear()  # half of it may be of rows that were never committed
        context.cache.rules = -1
        context.claim = before
        raise
    context.presence.written(came)
    context.changed(changed)
    return again


def _turn(one: Assignment) -> tuple[int, int]:
    """Return what puts rollouts in the order in which they take what they share: higher priority first, then newer."""
    return -one.priority, -one.generation


def _decide(context: Context, tx: Transaction, kept: Roster, one: Assignment, changed: set[str]) -> Decision:
    place = kept.place
    decision = kept.decide(context, tx, one)
    if decision.admit:
        tx.admit(one.id, decision.admit, place.now_unix_ms)
    if decision.withdraw:
        tx.withdraw(one.id, decision.withdraw)
    after = _after(one, decision, place.now_unix_ms)
    if decision.state is RolloutState.REVERTING and one.state is not RolloutState.REVERTING:
        restore(tx, place, one, place.now_unix_ms, other_release=True)
    if decision.state is RolloutState.CANCELLED and one.state is not RolloutState.CANCELLED:
        restore(tx, place, one, place.now_unix_ms, other_release=False)
    if decision.retreat:
        send_back(tx, place.name, one, decision.retreat, place.now_unix_ms)
    if decision.arrived:
        tx.arrive(one.id, decision.arrived, place.now_unix_ms)
    if after != one:
        tx.put_assignment(after)
        _note(context, tx, one, after)
    changed.update(decision.admit, decision.withdraw, decision.retreat)
    kept.tell(one, (*decision.admit, *decision.retreat))
    return decision


def _note(context: Context, tx: Transaction, one: Assignment, after: Assignment) -> None:
    """Audit what nobody ordered: a wave that opened, a state that was reached. So the log alone tells a rollout."""
    if after.state is not one.state:
        act, what = f"rollout.{after.state}", f"{one.state} to {after.state}, {after.reason}"
    elif after.wave != one.wave:
        waves = effective(one.waves)
        act, what = "rollout.wave", f"wave {after.wave + 1} of {len(waves)} ({waves[after.wave].text}) is open"
    else:
        return
    decided(context, tx, act, f"rollout/{one.id}", f"{name_of(one)}: {what}")


def _after(one: Assignment, decision: Decision, now_unix_ms: int) -> Assignment:
    done = one.done_unix_ms
    if decision.state is RolloutState.DONE:
        done = done or now_unix_ms
    elif decision.state is not one.state:
        done = 0  # a breach after all: nobody shall be brought back to it
    return replace(
        one,
        state=decision.state,
        reason=decision.reason,
        wave=decision.wave,
        wave_done_unix_ms=decision.wave_done_unix_ms,
        done_unix_ms=done,
        entered_unix_ms=one.entered_unix_ms or (now_unix_ms if decision.admit else 0),
        roster=decision.roster if decision.roster is not None else one.roster,
    )
