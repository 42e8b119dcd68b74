"""Waves as operators write them, client and server alike: in which steps a rollout reaches its hosts.

    canary,10%:1h,rack=a+zone=1:manual,100%          WHAT[:GATE], separated by commas

    WHAT   NAME               hosts with the label wave=NAME (a letter first)
           KEY=VALUE[+K=V]    hosts with all these labels
           N                  so many hosts in all, those of earlier waves included
           P%                 such a share of all hosts, rounded up, those of earlier waves included
    GATE   90s, 10m, 2h ...   how long the wave soaks after its last host has finished
           approve[=N]        so many operators, none of them its author, have to approve
           metric=NAME        a metric of the rollout (`towpath.metrics`) has to be good at the end of the soak
           manual             the next wave waits for `towpath rollout advance`; stands alone

Gates of one wave are joined by +: `canary:10m+metric=errors+approve=2` asks for all of them.

Rules: shares and counts grow from wave to wave; nothing follows 100 %; the last wave always covers every host, so
100% is added where it was not written. Not handled here: which host is in which wave (the server's `domain.waves`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from towpath.errors import InputError
from towpath.metrics import check_metric_name
from towpath.names import check_labels
from towpath.quantity import format_duration, parse_duration_ms

MAX_WAVES = 20
MAX_SOAK_MS = 30 * 86_400_000
ALL = 10_000
NAME_LABEL = "wave"
MANUAL = "manual"
APPROVE = "approve"
METRIC = "metric"
MAX_APPROVALS = 20
_COUNT = re.compile(r"[0-9]{1,7}")
_SHARE = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,2}))?%")


@dataclass(frozen=True, slots=True)
class Wave:
    """One step. `what` as it is written; `soak_ms` after its last host has finished; `manual`: wait for a person.

    `approve`: how many operators have to approve; `metrics`: names of those that have to be good.
    """

    what: str
    soak_ms: int = 0
    manual: bool = False
    approve: int = 0
    metrics: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Return it as it is written."""
        gates = [MANUAL] if self.manual else [format_duration(self.soak_ms)] if self.soak_ms else []
        gates += [f"{METRIC}={name}" for name in self.metrics]
        gates += [f"{APPROVE}={self.approve}"] if self.approve else []
        return f"{self.what}:{'+'.join(gates)}" if gates else self.what


WHOLE = Wave("100%")


@dataclass(frozen=True, slots=True)
class Target:
    """Who is in a wave: exactly one of labels, a count of hosts, or a share in hundredths of a percent (10000: all)."""

    labels: Mapping[str, str] = field(default_factory=dict)
    count: int = 0
    share: int = 0


def parse_share(text: str) -> int:
    """Return hundredths of a percent for text such as `5%` or `0.25%`, above 0 and at most 100 %; else InputError."""
    match = _SHARE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"cannot read {text[:40]!r} as a share: write a number and %, such as 10% or 0.5%")
    share = int(match[1]) * 100 + int((match[2] or "0").ljust(2, "0"))
    if not 0 < share <= ALL:
        raise InputError(f"cannot use {text[:40]!r} as a share: above 0% and at most 100%")
    return share


def format_share(share: int) -> str:
    """Return hundredths of a percent as people write them: `10%`, `0.25%`."""
    whole, rest = divmod(share, 100)
    return f"{whole}.{rest:02}".rstrip("0") + "%" if rest else f"{whole}%"


def parse_target(what: str) -> Target:
    """Return who `what` means; InputError where nobody could say."""
    if what.endswith("%"):
        return Target(share=parse_share(what))
    if _COUNT.fullmatch(what):
        if int(what) < 1:
            raise InputError("cannot use a wave of 0 hosts: the least is 1")
        return Target(count=int(what))
    if "=" not in what:
        if not what[:1].isalpha():
            raise InputError(f"cannot read {what[:40]!r} as a wave: write NAME, KEY=VALUE, 5 or 10%")
        return Target(labels=check_labels({NAME_LABEL: what}))
    labels: dict[str, str] = {}
    for pair in what.split("+"):
        key, equals, value = pair.partition("=")
        if not equals or not key or not value or key in labels:
            raise InputError(f"cannot read {what[:40]!r} as a wave: write KEY=VALUE, or KEY=VALUE+KEY=VALUE")
        labels[key] = value
    return Target(labels=check_labels(labels))


def parse_waves(text: str, soak_ms: int = 0) -> tuple[Wave, ...]:
    """Return the waves that `text` writes, `soak_ms` for those without a gate of their own; InputError otherwise."""
    waves = []
    for part in text.split(","):
        what, colon, gate = part.strip().partition(":")
        if not what or (colon and not gate):
            raise InputError(f"cannot read {text[:80]!r} as waves: write WHAT[:SOAK], such as canary:10m,10%,100%")
        waves.append(_gated(what, gate.split("+") if colon else [], soak_ms))
    if waves[-1].what != WHOLE.what:
        waves.append(Wave(WHOLE.what, soak_ms))
    return check_waves(waves)


def _gated(what: str, gates: Sequence[str], soak_ms: int) -> Wave:
    """Return the wave with what `gates` ask for, `soak_ms` where they say nothing about a soak."""
    if gates == [MANUAL]:
        return Wave(what, manual=True)
    soak: int | None = None
    approve = 0
    metrics: list[str] = []
    for gate in gates:
        kind, equals, value = gate.partition("=")
        if kind == APPROVE and not approve:
            approve = _approvals(what, value if equals else "1")
        elif kind == METRIC and value not in metrics:
            metrics.append(value)
        elif gate == MANUAL or kind in (APPROVE, METRIC) or soak is not None:
            raise InputError(f"cannot use gate {gate[:40]!r} of wave {what[:40]}: {_ONCE}")
        else:
            soak = parse_duration_ms(gate)
    return Wave(what, soak_ms if soak is None else soak, approve=approve, metrics=tuple(metrics))


_ONCE = "a soak, an approval and each metric stand once, and manual stands alone"


def _approvals(what: str, text: str) -> int:
    if not _COUNT.fullmatch(text) or not 1 <= int(text) <= MAX_APPROVALS:
        raise InputError(f"cannot ask {text[:40]!r} operators to approve wave {what[:40]}: 1 to {MAX_APPROVALS}")
    return int(text)


def check_waves(waves: Sequence[Wave]) -> tuple[Wave, ...]:
    """Return `waves` where a rollout could go by them, ending with all hosts; InputError names what is wrong."""
    if len(waves) > MAX_WAVES:
        raise InputError(f"cannot use {len(waves)} waves: at most {MAX_WAVES}")
    targets = [parse_target(one.what) for one in waves]
    for one in waves:
        if not 0 <= one.soak_ms <= MAX_SOAK_MS:
            raise InputError(f"cannot let wave {one.what} soak that long: the most is 30d")
        if one.manual and (one.soak_ms or one.approve or one.metrics):
            raise InputError(f"cannot use the gates of wave {one.what}: {_ONCE}")
        if not 0 <= one.approve <= MAX_APPROVALS:
            raise InputError(f"cannot ask {one.approve} operators to approve wave {one.what}: 1 to {MAX_APPROVALS}")
        if len(set(one.metrics)) != len(one.metrics):
            raise InputError(f"cannot use the gates of wave {one.what}: {_ONCE}")
        for name in one.metrics:
            check_metric_name(name)
    if any(target.share == ALL for target in targets[:-1]):
        raise InputError("cannot use a wave after 100%: nobody would be left for it")
    repeated = {one.what for n, one in enumerate(waves) if targets[n] in targets[:n]}
    if repeated:
        raise InputError(f"cannot use wave {min(repeated)} twice")
    _check_growing([target.share for target in targets if target.share], [w.what for w in waves if w.what[-1] == "%"])
    _check_growing([target.count for target in targets if target.count], [w.what for w in waves if w.what.isdigit()])
    if not targets or targets[-1].share != ALL:
        raise InputError("cannot use waves that do not end with 100%: some hosts would never be reached")
    return tuple(waves)


def _check_growing(sizes: Iterable[int], texts: Sequence[str]) -> None:
    known = list(sizes)
    for n in range(1, len(known)):
        if known[n] <= known[n - 1]:
            raise InputError(f"cannot use wave {texts[n]} after {texts[n - 1]}: each is of all hosts, so it must grow")


def effective(waves: Sequence[Wave]) -> tuple[Wave, ...]:
    """Return the waves of a rollout: one of all hosts where none were asked for."""
    return tuple(waves) or (WHOLE,)


# What a rule of many hosts gets that was given none: a release that fails everywhere takes down one host.
LARGE = parse_waves("1,1%,10%,100%")


def words(waves: Sequence[Wave]) -> str:
    """Return waves as `parse_waves` reads them."""
    return ",".join(one.text for one in waves)
