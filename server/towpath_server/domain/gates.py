"""When the next wave of a rollout opens.

A wave passes when every online, unheld host of it and of the waves before has finished, somebody of them has proven the
release, and its gate has passed: it has soaked, or a person has said `advance`. The gate of the last wave ends the
rollout.

Rules, each a named test:
- failed and inconclusive hosts are finished; whether there are too many is the breach's question, which is asked first.
- offline and held hosts neither block nor count, but nobody is no proof: where all of them are away, the wave waits.
- a blocked host (a parameter is missing) has not finished: the wave waits and says so.
- where the policy is to wait for offline hosts, a wave that has finished waits for them too, until its deadline
  (`domain.attendance`).
- a wave that nobody is in passes at once, without a soak.
- the soak counts from when the wave had first finished: a newcomer in it must finish too, but does not start it anew.
  What the server did not see (its own downtime) is no soak.
- an open wave is never closed again.

Pure. Not handled here: who is in which wave (`domain.waves`), who moves within the open ones (`domain.rolling`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from towpath.waves import Wave, effective
from towpath_server.domain.attendance import missing
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


def gate(view: RolloutView, standings: Standings, numbers: Mapping[str, int], now_unix_ms: int) -> Gate:
    """Return where the waves stand now, as many opened as have their gates passed."""
    return opened(view, Listed(standings, numbers), now_unix_ms)


def opened(view: RolloutView, hosts: Counted, now_unix_ms: int) -> Gate:
    """Return `gate` of hosts that are counted already; of `view` only the rollout itself is read."""
    waves = effective(view.waves)
    number, done = min(view.wave, len(waves) - 1), view.wave_done_unix_ms
    while True:
        last = number == len(waves) - 1
        waits = _unfinished(hosts, number) if hosts.total else "no host matches yet"
        if not waits and not last and not hosts.populated(number):
            number, done = number + 1, 0
            continue
        if not waits and not hosts.proven(number):
            waits = "nobody has proven the release yet"
        if waits:
            return Gate(number, done, waits)
        done = done or now_unix_ms
        since = max(done, view.observed_since_unix_ms)
        waits, until = _after_finish(waves[number], since, now_unix_ms)
        away, deadline = missing(view, hosts.away(number), since, now_unix_ms)
        if away:
            waits, until = away, deadline
        if waits or last:
            return Gate(number, done, waits, until, passed=not waits)
        number, done = number + 1, 0


def _after_finish(wave: Wave, since_unix_ms: int, now_unix_ms: int) -> tuple[str, int]:
    """Return what a wave that has finished waits for (empty: nothing), and until when it soaks (0: it does not)."""
    if wave.manual:
        return "a person has to advance it", 0
    until = since_unix_ms + wave.soak_ms
    return (f"soaks until {moment(until)}", until) if now_unix_ms < until else ("", 0)


def _unfinished(hosts: Counted, wave: int) -> str:
    named, count = hosts.unfinished(wave)
    return "".join(
        f"{host.name}{f' and {count - 1} more' if count > 1 else ''} to finish: {where.reason}" for host, where in named
    )


@dataclass(frozen=True, slots=True)
class WaveCount:
    """One wave for people. `state`: passed, open, soaking or closed; `waits`: what keeps it, where it is the newest."""

    number: int
    text: str
    state: str
    waits: str
    soak_until_unix_ms: int
    phases: Mapping[Phase, int]


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
        state = "soaking" if soaking else "passed" if over else "open" if number <= newest else "closed"
        waits = now.waits if current and now.wave == newest else ""
        result.append(WaveCount(number, wave.text, state, waits, now.soak_until_unix_ms if soaking else 0, phases))
    return result, numbers


def _phases(standings: Sequence[tuple[HostView, Standing]]) -> dict[Phase, int]:
    found = [where.phase for _, where in standings]
    return {phase: found.count(phase) for phase in Phase if phase in found}
