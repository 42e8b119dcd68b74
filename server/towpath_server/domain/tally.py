"""The hosts of one rollout, counted and ranked by where they stand: a decision reads no host that did not change.

A tick asks how many hosts of the open waves are healthy, who is next, who failed: this keeps the answers and changes
them host by host. `rolling.decide(view, now)` makes one anew, the reconciler keeps one and tells it what changed; both
then decide by the same code. Property tests hold the two against each other after every step of random histories.

What makes a host be looked at again: `update` (its row changed), or a deadline of its own that time passed (`advance`).
What makes the whole be made anew: `fits` says no, or the clock went back.

Pure. Not handled here: which hosts a rollout has and what is known of them (`services.roster`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from heapq import heapify, heappop, heappush, merge
from itertools import islice

from towpath_server.domain.budgets import Quotas, unavailable, values
from towpath_server.domain.ranking import Key, Ranked
from towpath_server.domain.standing import (
    HostView,
    Phase,
    RolloutView,
    Standings,
    busy,
    due_unix_ms,
    may_stay,
    order,
    standing,
    untouched,
)
from towpath_server.domain.waves import membership

_OPEN_ENDS = (Phase.WAITING, Phase.IN_FLIGHT)
_SLACK = 64


class Group(StrEnum):
    """Hosts that a decision names, in the rollout's order. A host is in any number of them."""

    FAILED = "failed"
    BLAMED = "blamed"  # failed, and nobody excused it
    DOUBTED = "doubted"  # inconclusive, and nobody excused it
    CALM = "calm"  # waits for its turn
    DOWN = "down"  # waits for its turn, and is between two releases anyway
    BETWEEN = "between"  # is between two releases, and the rollout did not move it
    IDENTICAL = "identical"  # runs the very release already and was not let in
    HELD = "held"  # let in, and held before its switch
    BLOCKED = "blocked"
    OPEN = "open"  # keeps its wave from finishing; ranked by what people should read first
    AWAY = "away"  # offline; ranked by name
    EXPECTED = "expected"  # offline, and was there when a server was last up; ranked by name
    BARRED = "barred"  # waits, and the calendar bars it; ranked by name
    STOPPED = "stopped"  # let in and barred before its switch
    FREE = "free"  # waits to go back, and going back changes nothing for it
    ARRIVED = "arrived"  # is back, and that is not written down yet


@dataclass(frozen=True, slots=True)
class _Mark:
    """What one host adds: enough to take it out again."""

    phase: Phase
    wave: int
    entries: tuple[tuple[Group, Key], ...]
    out: bool


class Tally:
    """See the module."""

    def __init__(self, view: RolloutView, now_unix_ms: int) -> None:
        self.now_unix_ms = now_unix_ms
        self.view = replace(view, hosts=())
        self.hosts: dict[str, HostView] = {host.host_id: host for host in view.hosts}
        self._keys = {host.host_id: order(view, host) for host in view.hosts}
        self.quotas = Quotas(view.budgets, view.hosts)
        in_order = sorted(self.hosts.values(), key=lambda host: self._keys[host.host_id])
        waves = () if view.state.returning else view.waves  # a way back has no waves
        self.numbers = membership(waves, [(host.host_id, host.labels) for host in in_order])
        self._marks: dict[str, _Mark] = {}
        self._phases: dict[int, Counter[Phase]] = {}
        self._groups: dict[tuple[Group, int], Ranked[Key]] = {}
        self._due: dict[str, int] = {}
        entries: dict[tuple[Group, int], list[Key]] = {}
        for host in in_order:
            mark = self._mark(host)
            self._marks[host.host_id] = mark
            self._phases.setdefault(mark.wave, Counter())[mark.phase] += 1
            for group, key in mark.entries:
                entries.setdefault((group, mark.wave), []).append(key)
            if view.budgets:
                self._spend(host, None, mark)
        self._groups = {place: Ranked(keys) for place, keys in entries.items()}
        self._heap = [(at, host_id) for host_id, at in self._due.items()]
        heapify(self._heap)

    # --- changes ------------------------------------------------------------------------------------------------------

    def fits(self, view: RolloutView, now_unix_ms: int) -> bool:
        """Return whether this still counts for a rollout as it is written now (`view` without its hosts)."""
        mine = self.view
        same = replace(mine, **{name: getattr(view, name) for name in _UNREAD}, hosts=view.hosts)
        return same == view and now_unix_ms >= self.now_unix_ms

    def follow(self, view: RolloutView, now_unix_ms: int) -> None:
        """Take the rollout's own new row and the time; `fits` was asked before."""
        self.view = replace(view, hosts=())
        self.now_unix_ms = now_unix_ms
        while self._heap and self._heap[0][0] <= now_unix_ms:
            at, host_id = heappop(self._heap)
            if self._due.get(host_id) == at:
                self.update(self.hosts[host_id], now_unix_ms)
        if len(self._heap) > 2 * len(self._due) + _SLACK:
            self._heap = [(at, host_id) for host_id, at in self._due.items()]
            heapify(self._heap)

    def update(self, host: HostView, now_unix_ms: int) -> None:
        """Take what is known of a host now. One of those that were here, with the labels that it had."""
        self.now_unix_ms = max(self.now_unix_ms, now_unix_ms)
        old = self._marks[host.host_id]
        due = self._due.pop(host.host_id, None)
        new = self._mark(host)
        self.hosts[host.host_id] = host
        self._marks[host.host_id] = new
        phases = self._phases[old.wave]
        phases[old.phase] -= 1
        phases[new.phase] += 1
        for entry in old.entries:
            if entry not in new.entries:
                self._groups[entry[0], old.wave].remove(entry[1])
        for entry in new.entries:
            if entry not in old.entries:
                self._groups.setdefault((entry[0], old.wave), Ranked()).add(entry[1])
        if self.view.budgets:
            self._spend(host, old, new)
        after = self._due.get(host.host_id)
        if after is not None and after != due:
            heappush(self._heap, (after, host.host_id))

    def _spend(self, host: HostView, old: _Mark | None, new: _Mark) -> None:
        """Let the budgets know of a host."""
        mine = values(self.view.budgets, host.labels)
        change = int(new.out) - int(old is not None and old.out)
        if change:
            self.quotas.out(mine, change)
        waited, waits = _turn(old), _turn(new)
        if waited == waits:
            return
        if old is not None and waited is not None:
            self.quotas.wait_no_more(old.wave, mine, waited[0], out=waited[1])
        if waits is not None:
            self.quotas.wait(new.wave, mine, waits[0], out=waits[1])

    def _mark(self, host: HostView) -> _Mark:
        where = standing(self.view, host, self.now_unix_ms)
        due = due_unix_ms(self.view, host, where.phase)
        if due is not None:
            self._due[host.host_id] = due
        key = (self._keys[host.host_id], host.host_id)
        groups = _back_groups if self.view.state.returning else _groups
        entries: tuple[tuple[Group, Key], ...] = tuple((group, key) for group in groups(self.view, host, where.phase))
        entries += tuple((group, (*lead, *key)) for group, lead in _by_name(self.view, host, where.phase))
        out = bool(self.view.budgets) and unavailable(self.view, host)
        return _Mark(where.phase, self.numbers[host.host_id], entries, out)

    # --- answers ------------------------------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        """How many hosts there are."""
        return len(self.hosts)

    def unfinished(self, wave: int) -> tuple[Standings, int]:
        """Return the first host that keeps the waves up to `wave` from finishing, and how many do."""
        return self.named(self.first(Group.OPEN, wave, limit=1)), self.size(Group.OPEN, wave)

    def away(self, wave: int) -> tuple[Standings, int]:
        """Return the first by name of the hosts in the waves up to `wave` that are offline, and how many are."""
        return self.named(self.first(Group.AWAY, wave, limit=1)), self.size(Group.AWAY, wave)

    def expected(self, wave: int | None = None) -> tuple[Standings, int]:
        """Return the first by name of the hosts in these waves that were not heard since the start, and how many."""
        return self.named(self.first(Group.EXPECTED, wave, limit=1)), self.size(Group.EXPECTED, wave)

    def proven(self, wave: int) -> bool:
        """Return whether anybody in the waves up to `wave` has proven the release."""
        return self.count(Phase.HEALTHY, wave) > 0

    def count(self, phase: Phase, wave: int | None = None) -> int:
        """Return how many are in a phase, in the waves up to `wave`."""
        return sum(phases[phase] for number, phases in self._phases.items() if wave is None or number <= wave)

    def populated(self, wave: int) -> bool:
        """Return whether anybody is in this wave."""
        return wave in self._phases

    def size(self, group: Group, wave: int | None = None) -> int:
        """Return how many are in a group, in the waves up to `wave`."""
        return sum(len(ranked) for ranked in self._ranked(group, wave))

    def first(self, group: Group, wave: int | None = None, *, limit: int | None = None) -> list[str]:
        """Return the ids of a group in its order, the first `limit` of them, from the waves up to `wave`."""
        return [str(key[-1]) for key in islice(merge(*self._ranked(group, wave)), limit)]

    def next(self, wave: int | None, limit: int) -> list[str]:
        """Return the ids of the calm ones whose turn it is and for whom every budget has room."""
        if self.view.budgets:
            return self.quotas.first(self.view.others, wave, limit)
        return self.first(Group.CALM, wave, limit=limit)

    def named(self, ids: Iterable[str]) -> Standings:
        """Return these hosts with where they stand now."""
        hosts = [self.hosts[host_id] for host_id in ids]
        return [(host, standing(self.view, host, self.now_unix_ms)) for host in hosts]

    def whole(self) -> RolloutView:
        """Return the rollout with its hosts, in the order in which they were given."""
        return replace(self.view, hosts=tuple(self.hosts.values()))

    def _ranked(self, group: Group, wave: int | None) -> Iterator[Ranked[Key]]:
        return (
            ranked for (of, number), ranked in self._groups.items() if of is group and (wave is None or number <= wave)
        )


def _turn(mark: _Mark | None) -> tuple[Key, bool] | None:
    """Return the key of a host that waits for its turn, and whether it is unavailable anyway."""
    if mark is None:
        return None
    return next(((key, mark.out) for group, key in mark.entries if group is Group.CALM), None)


# What a rollout's own row may change without any host standing elsewhere.
_UNREAD = (
    "reason",
    "wave",
    "wave_done_unix_ms",
    "max_unavailable",
    "max_failures",
    "max_failure_share",
    "on_breach",
    "timing",
    "offline_wait_ms",
    "newcomers",
    "approvers",
    "approvals",
    "metrics",
    "asking_since_unix_ms",
    "trails",
    "entry",
    "others",
)


def _groups(view: RolloutView, host: HostView, phase: Phase) -> Iterator[Group]:
    new, barred = host.admitted_unix_ms is None, bool(view.bars or host.bars)
    if phase is Phase.FAILED:
        yield Group.FAILED
    if phase in (Phase.FAILED, Phase.INCONCLUSIVE) and host.host_id not in view.excused:
        yield Group.BLAMED if phase is Phase.FAILED else Group.DOUBTED
    if phase in (Phase.WAITING, Phase.HELD) and busy(host):
        yield Group.BETWEEN
    if phase is Phase.HELD and not new:
        yield Group.HELD
    if barred and phase is Phase.IN_FLIGHT and may_stay(view, host):
        yield Group.STOPPED
    if host.blocked:
        yield Group.BLOCKED
    elif new and host.online and not barred and phase is Phase.WAITING:
        yield Group.DOWN if busy(host) else Group.CALM
    elif new and host.online and not barred and phase is Phase.HEALTHY:
        yield Group.IDENTICAL


def _by_name(view: RolloutView, host: HostView, phase: Phase) -> Iterator[tuple[Group, Key]]:
    """Yield the groups of which people read the first, with what ranks it before the rollout's own order."""
    if phase in _OPEN_ENDS:
        yield Group.OPEN, (not host.blocked, host.name)
    if phase is Phase.OFFLINE:
        yield Group.AWAY, (host.name,)
        if host.expected:
            yield Group.EXPECTED, (host.name,)
    if phase is Phase.WAITING and (view.bars or host.bars):
        yield Group.BARRED, (host.name,)


def _back_groups(view: RolloutView, host: HostView, phase: Phase) -> Iterator[Group]:
    if phase is Phase.WAITING:
        yield Group.FREE if untouched(view, host) else Group.DOWN if busy(host) else Group.CALM
    if phase is Phase.BACK and host.retreat is not None and not host.retreat.arrived_unix_ms:
        yield Group.ARRIVED
