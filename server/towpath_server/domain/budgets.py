"""Disruption budgets: how many hosts with the same value of a label may be unavailable at once, and who moves then.

Rules, each a named test:
- unavailable is a host that was told to change and has not ended, that is between two releases, ill, stuck, or silent
  since it was told. One that is merely offline, held or back on its old release is not, nor is one that a bundle was
  made for and that nobody has heard since.
- hosts of every rule of the app in the environment count, those of other rollouts too (`RolloutView.others`).
- who is unavailable anyway may always move: nobody else becomes so.
- on the way back a budget holds as on the way there.
- a host is let in where every budget of its rollout has room; who has none keeps nobody of another rack waiting.
- hosts without the label are one group.

Pure. Not handled here: how budgets are written (`towpath.budgets`), the hosts of others (`services.ticking`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush

from towpath.budgets import Budget
from towpath.reports import AppState
from towpath.status import Health, State, Verdict
from towpath_server.domain.model import Assignment
from towpath_server.domain.ranking import Key, Ranked
from towpath_server.domain.standing import (
    HostView,
    Phase,
    RolloutView,
    Standing,
    Standings,
    between,
    is_back,
)

Cell = tuple[str, str]  # a label and its value
_FREE: tuple[str, ...] = ()  # where hosts wait that no budget keeps
_NAMED = 3


def values(budgets: Sequence[Budget], labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return a host's value of each budget's label, empty for one that it lacks."""
    return tuple(labels.get(one.label, "") for one in budgets)


def cells(budgets: Sequence[Budget], labels: Mapping[str, str]) -> tuple[Cell, ...]:
    """Return the groups in which a host counts, one for each budget."""
    return tuple((one.label, labels.get(one.label, "")) for one in budgets)


def unavailable(view: RolloutView, host: HostView) -> bool:
    """Return whether a host of the rollout counts against a budget."""
    state, back = host.state, host.retreat
    if state is not None and _down(state):
        return True
    if back is not None and not back.arrived_unix_ms:
        return state is not None and not is_back(view, state)
    told = host.admitted_unix_ms is not None and not host.unreached
    return told and not _answered(state, view.generation, view.release_sha256)


def unavailable_elsewhere(
    state: AppState | None, told: Assignment | None, *, leaving: bool, unreached: bool = False
) -> bool:
    """Return whether a host that no rollout at hand is about counts against its budgets.

    `told`: what it runs by its manifest, None: nothing; `leaving`: it was told to go back and has not;
    `unreached`: only a bundle tells it, and it is away.
    """
    if state is not None and _down(state):
        return True
    if told is None:
        return leaving and state is not None and bool(state.current_sha256)
    return not unreached and not _answered(state, told.generation, told.release_sha256)


def _answered(state: AppState | None, generation: int, release_sha256: bytes) -> bool:
    """Return whether what a host says is an end of what it was told, or it was there before."""
    if state is None or state.generation != generation:
        return state is not None and state.current_sha256 == release_sha256
    return state.state.ended or state.verdict is Verdict.REFUSED


def _down(state: AppState) -> bool:
    ill = bool(state.current_sha256) and state.health is not Health.HEALTHY and state.state.ended
    return ill or between(state) or state.state is State.STUCK


@dataclass
class Others:
    """The unavailable hosts that a rollout is not about, counted by the labels of its budgets."""

    count: Counter[Cell] = field(default_factory=Counter)
    _known: dict[str, tuple[Cell, ...]] = field(default_factory=dict)

    def put(self, host_id: str, where: tuple[Cell, ...]) -> None:
        """Let a host count in these groups, and in none of those in which it counted before."""
        self.count.subtract(self._known.pop(host_id, ()))
        if where:
            self._known[host_id] = where
            self.count.update(where)


class Quotas:
    """The hosts of one rollout by the groups of its budgets: who is unavailable, and who waits for room."""

    def __init__(self, budgets: Sequence[Budget], hosts: Iterable[HostView]) -> None:
        self.budgets = budgets
        self._sizes = Counter(cell for host in hosts for cell in cells(budgets, host.labels))
        self._used: Counter[Cell] = Counter()
        self._waiting: dict[tuple[int, tuple[str, ...]], Ranked[Key]] = {}

    def out(self, mine: tuple[str, ...], change: int) -> None:
        """Count a host with these values as unavailable (1), or no more (-1)."""
        for budget, value in zip(self.budgets, mine, strict=True):
            self._used[budget.label, value] += change

    def wait(self, wave: int, mine: tuple[str, ...], key: Key, *, out: bool) -> None:
        """Let a host wait for its turn; who is `out` anyway needs no room."""
        self._waiting.setdefault((wave, _FREE if out else mine), Ranked()).add(key)

    def wait_no_more(self, wave: int, mine: tuple[str, ...], key: Key, *, out: bool) -> None:
        """Take back what `wait` said."""
        self._waiting[wave, _FREE if out else mine].remove(key)

    def first(self, others: Mapping[Cell, int], wave: int | None, limit: int) -> list[str]:
        """Return the ids of who moves next, `limit` of them at most, from the waves up to `wave`, in their order."""
        taken: Counter[Cell] = Counter()
        found: list[str] = []
        heads = [
            (next(line), mine, line)
            for (number, mine), ranked in self._waiting.items()
            if limit and len(ranked) and (wave is None or number <= wave) and self._room(others, mine, taken)
            for line in (iter(ranked),)
        ]
        heapify(heads)  # keys differ, so that nothing behind them is compared
        while heads and len(found) < limit:
            key, mine, line = heappop(heads)
            if not self._room(others, mine, taken):
                continue
            found.append(str(key[-1]))
            if mine:
                taken.update((budget.label, value) for budget, value in zip(self.budgets, mine, strict=True))
            after = next(line, None)
            if after is not None:
                heappush(heads, (after, mine, line))
        return found

    def _room(self, others: Mapping[Cell, int], mine: tuple[str, ...], taken: Mapping[Cell, int]) -> bool:
        return not mine or not self._full(others, mine, taken)

    def _full(self, others: Mapping[Cell, int], mine: tuple[str, ...], taken: Mapping[Cell, int]) -> list[Cell]:
        """Return the groups of a host that have no room."""
        return [
            cell
            for budget, value in zip(self.budgets, mine, strict=True)
            for cell in ((budget.label, value),)
            if self._used[cell] + others.get(cell, 0) + taken.get(cell, 0) >= budget.allows(self._sizes[cell])
        ]

    def said(self, others: Mapping[Cell, int], wave: int | None) -> str:
        """Return which groups have no room while hosts of the waves up to `wave` wait there; empty for none."""
        full = sorted(
            {
                cell
                for (number, mine), ranked in self._waiting.items()
                if mine and len(ranked) and (wave is None or number <= wave)
                for cell in self._full(others, mine, {})
            }
        )
        named = ", ".join(_group(cell) for cell in full[:_NAMED])
        more = f" and {len(full) - _NAMED} more" if len(full) > _NAMED else ""
        return f"no room in the budget of {named}{more}" if full else ""

    def keeps(self, others: Mapping[Cell, int], host: HostView) -> str:
        """Return why no budget has room for a host that is not unavailable, for people; empty where one has."""
        said = []
        for budget, cell in zip(self.budgets, cells(self.budgets, host.labels), strict=True):
            count, most = self._used[cell] + others.get(cell, 0), budget.allows(self._sizes[cell])
            if count >= most:
                group = f"{count} of {_group(cell)} unavailable, {most} allowed"
                said.append(f"waits for the budget {budget.text}: {group}")
        return "; ".join(said)


def _group(cell: Cell) -> str:
    label, value = cell
    return f"{label}={value}" if value else f"those without {label}"


def explained(view: RolloutView, standings: Standings) -> Standings:
    """Return standings in which who waits for a budget says so."""
    if not view.budgets:
        return standings
    quotas = Quotas(view.budgets, view.hosts)
    out = {host.host_id: unavailable(view, host) for host, _ in standings}
    for host in view.hosts:
        if out[host.host_id]:
            quotas.out(values(view.budgets, host.labels), 1)
    return [(host, _explained(view, quotas, host, where, out=out[host.host_id])) for host, where in standings]


def _explained(view: RolloutView, quotas: Quotas, host: HostView, where: Standing, *, out: bool) -> Standing:
    if where.phase is not Phase.WAITING or out or host.blocked or view.bars or host.bars:
        return where
    kept = quotas.keeps(view.others, host)
    return replace(where, reason=kept) if kept else where
