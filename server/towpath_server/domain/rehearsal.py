"""A policy on a made-up fleet: how many hosts a bad release harms before it is stopped, how long a good one takes.

The fleet has the labels of real hosts, given out again and again, and runs a release that it can go back to. The seed
decides who fails, who is away and how long each host takes, so a rehearsal can be had again.

Pure. Not handled here: where the policy and the labels come from (the CLI), how numbers are drawn.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from towpath.budgets import Budget
from towpath.errors import InputError
from towpath.reports import AppState
from towpath.status import Health, State, Verdict
from towpath.waves import Wave, effective
from towpath_server.domain.assignment import parse_label
from towpath_server.domain.gates import members
from towpath_server.domain.model import OnBreach, RolloutState
from towpath_server.domain.simulated import Assumptions, Chance, Run, Sample
from towpath_server.domain.simulation import play
from towpath_server.domain.standing import HostView, Phase, RolloutView
from towpath_server.domain.waves import nobody

MAX_HOSTS = 100_000
MAX_SAMPLES = 400
BEGAN_UNIX_MS = 1_700_000_000_000
# Where hosts end, as `WaveNumbers` names and orders it.
ENDS = ("healthy", "harmed", "back", "offline", "unfinished", "not_let_in")
_NEW, _OLD = b"n" * 32, b"o" * 32


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits of a rollout, as an assignment has them."""

    waves: tuple[Wave, ...]
    max_unavailable: int
    max_failures: int
    max_failure_share: int
    on_breach: OnBreach
    progress_deadline_ms: int
    budgets: tuple[Budget, ...] = ()
    order_label: str = ""


@dataclass(frozen=True, slots=True)
class WaveNumbers:
    """One wave: when it opened (-1: never), and how many of its hosts ended where; each host counts once.

    `unfinished` were let in, and told to stay before they had switched, or were still in flight at the end.
    """

    number: int
    text: str
    hosts: int
    opened_ms: int
    healthy: int
    harmed: int
    back: int
    offline: int
    unfinished: int
    not_let_in: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """What came of a rehearsal. `harmed_at_stop` hosts had failed when it stopped; -1 for `stopped_ms`: it did not."""

    state: str
    reason: str
    hosts: int
    took_ms: int
    moved: int
    harmed: int
    harmed_at_stop: int
    stopped_ms: int
    waits: str
    cut: bool
    waves: tuple[WaveNumbers, ...]
    samples: tuple[Sample, ...]


def rehearse(
    policy: Policy, labels: Sequence[Mapping[str, str]], hosts: int, assumptions: Assumptions, chance: Chance
) -> Numbers:
    """Return the numbers of one run over `hosts` hosts; InputError where the policy could not be tried on them."""
    if not 0 < hosts <= MAX_HOSTS:
        raise InputError(f"cannot rehearse with {hosts} hosts: 1 to {MAX_HOSTS} are allowed")
    given = list(labels) or [{}]
    fleet = [given[n % len(given)] for n in range(hosts)]
    empty = nobody(policy.waves, fleet)
    if empty:
        raise InputError(f"cannot rehearse wave {empty}: none of these hosts has the label {parse_label(empty)}")
    missing = [
        label
        for label in (*(one.label for one in policy.budgets), policy.order_label)
        if label and not any(label in one for one in fleet)
    ]
    if missing:
        raise InputError(f"cannot rehearse with the label {missing[0]}: none of these hosts has it")
    view = _view(policy, fleet)
    return _numbers(view, play(view, assumptions, chance, BEGAN_UNIX_MS))


def _view(policy: Policy, fleet: Sequence[Mapping[str, str]]) -> RolloutView:
    old = AppState(
        app="rehearsed",
        current_version="before",
        current_sha256=_OLD,
        state=State.CONFIRMED,
        health=Health.HEALTHY,
        verdict=Verdict.SUCCEEDED,
    )
    return RolloutView(
        assignment="rehearsal",
        generation=1,
        release_sha256=_NEW,
        state=RolloutState.ROLLING,
        reason="",
        max_unavailable=policy.max_unavailable,
        max_failures=policy.max_failures,
        progress_deadline_ms=policy.progress_deadline_ms,
        observed_since_unix_ms=0,
        hosts=tuple(HostView(f"h{n}", f"host-{n + 1}", True, state=old, labels=one) for n, one in enumerate(fleet)),
        fleet=len(fleet),
        waves=policy.waves,
        max_failure_share=policy.max_failure_share,
        on_breach=policy.on_breach,
        budgets=policy.budgets,
        order_label=policy.order_label,
    )


def _numbers(view: RolloutView, run: Run) -> Numbers:
    numbers = members(view)
    waves = effective(view.waves)
    took = {move.host_id for move in run.moves}
    ends: list[Counter[str]] = [Counter() for _ in waves]
    for host, where in run.standings:
        end = ends[numbers[host.host_id]]
        end["hosts"] += 1
        end[_end(host, where.phase, let_in=host.host_id in took)] += 1
    return Numbers(
        str(run.state),
        run.reason,
        len(view.hosts),
        run.took_ms,
        len(run.moves),
        sum(end["harmed"] for end in ends),
        run.harmed_at_stop,
        run.stopped_after_ms,
        run.waits,
        run.cut,
        tuple(
            WaveNumbers(
                n,
                wave.text,
                end["hosts"],
                run.opened.get(n, -1),
                *(end[k] for k in ENDS),
            )
            for n, (wave, end) in enumerate(zip(waves, ends, strict=True))
        ),
        _thinned(run.samples),
    )


def _end(host: HostView, phase: Phase, *, let_in: bool) -> str:
    """Return which of ENDS a host came to."""
    if host.state is not None and host.state.verdict is Verdict.FAILED:
        return "harmed"
    if phase in (Phase.HEALTHY, Phase.OFFLINE):
        return str(phase)
    if not let_in:
        return "not_let_in"
    return "back" if phase is Phase.BACK else "unfinished"


def _thinned(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Return at most MAX_SAMPLES of them, the last one always: a plot shows no more."""
    step = -(-len(samples) // MAX_SAMPLES)
    return (*samples[: len(samples) - 1 : step], samples[-1])
