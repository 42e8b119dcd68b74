"""When the next wave of a rollout opens.

A wave passes when every online, unheld host of it and of the waves before has finished, somebody of them has proven the
release, and its gate has passed: it has soaked, or a person has said `advance`. The gate of the last wave ends the
rollout.

Rules, each a named test:
- failed and inconclusive hosts are finished; whether there are too many is the breach's question, which is asked first.
- offline and held hosts neither block nor count, but nobody is no proof: where all of them are away, the wave waits.
- a server that has just started has not heard anybody yet: a wave waits for its hosts that were there when a server was
  last up, for as long as their silence would make them offline (`domain.attendance`). Else every wave would pass.
- a blocked host (a parameter is missing) has not finished: the wave waits and says so.
- where the policy is to wait for offline hosts, a wave that has finished waits for them too, until its deadline
  (`domain.attendance`).
- a wave that nobody is in passes at once, without a soak.
- the soak counts from when the wave had first finished: a newcomer in it must finish too, but does not start it anew.
  What the server did not see (its own downtime) is no soak.
- an open wave is never closed again.
- a wave may ask for approvals (`domain.approval`) and metrics (`domain.metric`) too; approvals are asked for even where
  nobody is in it.
- where the order of environments keeps the rollout waiting (`domain.environments`), nothing is open yet.

Pure. Not handled here: who is in which wave (`domain.waves`), who moves within the open ones (`domain.rolling`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from towpath.waves import effective
from towpath_server.domain import approval, metric
from towpath_server.domain.attendance import missing, unheard
from towpath_server.domain.metric import Finding
from towpath_server.domain.model import RolloutState
from towpath_server.domain.standing import HostView, Phase, RolloutView, Standing, Standings, in_order
from towpath_server.domain.waves import membership
from towpath_server.domain.windows import moment

_OPEN_ENDS = (Phase.WAITING, Phase.IN_FLIGHT)


@dataclass(frozen=True, slots=True)
class Gate:
    """Where the waves stand: the newest open one, when it had finished (0: not yet), what it waits for (for people).

    `soak_until_unix_ms` 0: it does not soak now. `passed`: the last one has passed, so the rollout is done.
    """

    wave: int
    done_unix_ms: int = 0
    waits: str = ""
    soak_until_unix_ms: int = 0
    passed: bool = False


def members(view: RolloutView) -> dict[str, int]:
    """Return host id to number of its wave."""
    return membership(view.waves, [(host.host_id, host.labels) for host in in_order(view)])


class Counted(Protocol):
    """What a gate asks about the hosts: a `Tally` answers it from its counts, `Listed` by going through them."""

    @property
    def total(self) -> int:
        """How many hosts there are."""
        ...

    def populated(self, wave: int) -> bool:
        """Return whether anybody is in this wave."""
        ...

    def proven(self, wave: int) -> bool:
        """Return whether anybody in the waves up to `wave` has proven the release."""
        ...

    def unfinished(self, wave: int) -> tuple[Standings, int]:
        """Return the first host that keeps the waves up to `wave` from finishing, and how many do."""
        ...

    def away(self, wave: int) -> tuple[Standings, int]:
        """Return the first by name of the hosts in the waves up to `wave` that are offline, and how many are."""
        ...

    def expected(self, wave: int) -> tuple[Standings, int]:
        """Return the first by name of those that are not offline but were not heard yet, and how many they are."""
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """Standings and numbers of waves that somebody has at hand."""

    standings: Standings
    numbers: Mapping[str, int]

    @property
    def total(self) -> int:
        """See `Counted`."""
        return len(self.standings)

    def _open(self, wave: int) -> Standings:
        return [(host, where) for host, where in self.standings if self.numbers[host.host_id] <= wave]

    def populated(self, wave: int) -> bool:
        """See `Counted`."""
        return wave in self.numbers.values()

    def proven(self, wave: int) -> bool:
        """See `Counted`."""
        return any(where.phase is Phase.HEALTHY for _, where in self._open(wave))

    def unfinished(self, wave: int) -> tuple[Standings, int]:
        """See `Counted`."""
        left = [(host, where) for host, where in self._open(wave) if where.phase in _OPEN_ENDS]
        return sorted(left, key=lambda one: (not one[0].blocked, one[0].name))[:1], len(left)

    def away(self, wave: int) -> tuple[Standings, int]:
        """See `Counted`."""
        left = [(host, where) for host, where in self._open(wave) if where.phase is Phase.OFFLINE]
        return sorted(left, key=lambda one: one[0].name)[:1], len(left)

    def expected(self, wave: int) -> tuple[Standings, int]:
        """See `Counted`."""
        left = [one for one in self._open(wave) if one[1].phase is Phase.OFFLINE and one[0].expected]
        return sorted(left, key=lambda one: one[0].name)[:1], len(left)


def gate(view: RolloutView, standings: Standings, numbers: Mapping[str, int], now_unix_ms: int) -> Gate:
    """Return where the waves stand now, as many opened as have their gates passed."""
    return opened(view, Listed(standings, numbers), now_unix_ms)


def opened(view: RolloutView, hosts: Counted, now_unix_ms: int) -> Gate:
    """Return `gate` of hosts that are counted already; of `view` only the rollout itself is read."""
    waves = effective(view.waves)
    number, done = min(view.wave, len(waves) - 1), view.wave_done_unix_ms
    if view.entry:
        return Gate(number, done, view.entry)
    while True:
        last = number == len(waves) - 1
        waits = _unfinished(hosts, number) if hosts.total else "no host matches yet"
        if not waits and not last and not hosts.populated(number) and not waves[number].approve:
            number, done = number + 1, 0
            continue
        if not waits:
            waits = unheard(view, hosts.expected(number), now_unix_ms)
        if not waits and not hosts.proven(number):
            waits = "nobody has proven the release yet"
        if waits:
            return Gate(number, done, waits)
        done = done or now_unix_ms
        waits, until = _after_finish(view, number, done, now_unix_ms)
        away, deadline = missing(view, hosts.away(number), max(done, view.observed_since_unix_ms), now_unix_ms)
        if away:
            waits, until = away, deadline
        if waits or last:
            return Gate(number, done, waits, until, passed=not waits)
        number, done = number + 1, 0


def _after_finish(view: RolloutView, number: int, done_unix_ms: int, now_unix_ms: int) -> tuple[str, int]:
    """Return what a wave that has finished waits for (empty: nothing), and until when it soaks (0: it does not)."""
    wave = effective(view.waves)[number]
    until = max(done_unix_ms, view.observed_since_unix_ms) + wave.soak_ms
    soaks = not wave.manual and now_unix_ms < until
    waits = ["a person has to advance it"] if wave.manual else [f"soaks until {moment(until)}"] if soaks else []
    waits += [one.text for one in looks(view, number, done_unix_ms, now_unix_ms) if one.finding is not Finding.GOOD]
    waits += [text for text in [approval.waits(wave, number, view.approvals, view.approvers)] if text]
    return "; ".join(waits), until if soaks else 0


def asked_since(view: RolloutView, done_unix_ms: int) -> int:
    """Return from when on a metric's answers count, for a wave that had finished then."""
    return max(done_unix_ms, view.observed_since_unix_ms, view.resumed_unix_ms, view.asking_since_unix_ms or 0)


def looks(view: RolloutView, number: int, done_unix_ms: int, now_unix_ms: int) -> list[metric.Look]:
    """Return where the metrics stand that a finished wave asks for."""
    trails = view.trails if number == view.wave else {}
    wave = effective(view.waves)[number]
    if view.asking_since_unix_ms is None:
        return metric.unasked(view.metrics, wave.metrics)
    return metric.looks(view.metrics, wave.metrics, trails, asked_since(view, done_unix_ms), now_unix_ms)


def breached(view: RolloutView, now_unix_ms: int) -> metric.Look | None:
    """Return the metric that stops the rollout: a bad one, else one that was inconclusive for too long; or None."""
    if view.state is not RolloutState.ROLLING or not view.wave_done_unix_ms:
        return None
    now = looks(view, min(view.wave, len(effective(view.waves)) - 1), view.wave_done_unix_ms, now_unix_ms)
    stops = [one for one in now if one.finding is Finding.BAD or one.over]
    return min(stops, key=lambda one: one.finding is not Finding.BAD, default=None)


def _unfinished(hosts: Counted, wave: int) -> str:
    named, count = hosts.unfinished(wave)
    return "".join(
        f"{host.name}{f' and {count - 1} more' if count > 1 else ''} to finish: {where.reason}" for host, where in named
    )


@dataclass(frozen=True, slots=True)
class WaveCount:
    """One wave for people. `state`: passed, open, soaking or closed; `waits`: what keeps it, where it is the newest.

    `checks`: what its approvals and metrics say.
    """

    number: int
    text: str
    state: str
    waits: str
    soak_until_unix_ms: int
    phases: Mapping[Phase, int]
    checks: tuple[str, ...] = ()


def counts(view: RolloutView, standings: Standings, now_unix_ms: int) -> tuple[list[WaveCount], dict[str, int]]:
    """Return every wave with how many of its hosts are in which phase, and host id to number of its wave."""
    numbers = members(view)
    now = gate(view, standings, numbers, now_unix_ms)
    newest = min(view.wave, len(effective(view.waves)) - 1)
    result = []
    for number, wave in enumerate(effective(view.waves)):
        phases = _phases([one for one in standings if numbers[one[0].host_id] == number])
        current = number == newest and view.state.value in ("rolling", "paused")
        soaking = current and now.wave == newest and now.soak_until_unix_ms > 0
        over = view.state.value == "done" or number < newest
        closed = number > newest or (current and bool(view.entry))
        state = "soaking" if soaking else "passed" if over else "closed" if closed else "open"
        waits = now.waits if current and now.wave == newest else ""
        result.append(
            WaveCount(
                number,
                wave.text,
                state,
                waits,
                now.soak_until_unix_ms if soaking else 0,
                phases,
                _checks(view, number, current, now_unix_ms),
            )
        )
    return result, numbers


def _checks(view: RolloutView, number: int, current: bool, now_unix_ms: int) -> tuple[str, ...]:
    """Return what is known of a wave's own gates, for people."""
    wave, names = effective(view.waves)[number], approval.given(view.approvals, number)
    said = [f"approved by {', '.join(names)}, {len(names)} of {wave.approve}"] if names else []
    if current and view.wave_done_unix_ms:
        said += [one.text for one in looks(view, number, view.wave_done_unix_ms, now_unix_ms)]
    return tuple(said)


def _phases(standings: Sequence[tuple[HostView, Standing]]) -> dict[Phase, int]:
    found = [where.phase for _, where in standings]
    return {phase: found.count(phase) for phase in Phase if phase in found}
