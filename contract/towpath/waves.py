"""Waves as operators write them, client and server alike: in which steps a rollout reaches its hosts.

    canary,10%:1h,rack=a+zone=1:manual,100%          WHAT[:GATE], separated by commas

    WHAT   NAME               hosts with the label wave=NAME (a letter first)
           KEY=VALUE[+K=V]    hosts with all these labels
           N                  so many hosts in all, those of earlier waves included
           P%                 such a share of all hosts, rounded up, those of earlier waves included
    GATE   90s, 10m, 2h ...   how long the wave soaks after its last host has finished
           manual             the next wave waits for `towpath rollout advance`

Rules: shares and counts grow from wave to wave; nothing follows 100 %; the last wave always covers every host, so
100% is added where it was not written. Not handled here: which host is in which wave (the server's `domain.waves`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from towpath.errors import InputError
from towpath.names import check_labels
from towpath.quantity import format_duration, parse_duration_ms

MAX_WAVES = 20
MAX_SOAK_MS = 30 * 86_400_000
ALL = 10_000
NAME_LABEL = "wave"
MANUAL = "manual"
_COUNT = re.compile(r"[0-9]{1,7}")
_SHARE = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,2}))?%")


@dataclass(frozen=True, slots=True)
class Wave:
    """One step. `what` as it is written; `soak_ms` after its last host has finished; `manual`: wait for a person."""

    what: str
    soak_ms: int = 0
    manual: bool = False

    @property
    def text(self) -> str:
        """Return it as it is written."""
        gate = MANUAL if self.manual else format_duration(self.soak_ms) if self.soak_ms else ""
        return f"{self.what}:{gate}" if gate else self.what


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
        if gate == MANUAL:
            waves.append(Wave(what, manual=True))
        else:
            waves.append(Wave(what, parse_duration_ms(gate) if colon else soak_ms))
    if waves[-1].what != WHOLE.what:
        waves.append(Wave(WHOLE.what, soak_ms))
    return check_waves(waves)


def check_waves(waves: Sequence[Wave]) -> tuple[Wave, ...]:
    """Return `waves` where a rollout could go by them, ending with all hosts; InputError names what is wrong."""
    if len(waves) > MAX_WAVES:
        raise InputError(f"cannot use {len(waves)} waves: at most {MAX_WAVES}")
    targets = [parse_target(one.what) for one in waves]
    for one in waves:
        if not 0 <= one.soak_ms <= MAX_SOAK_MS:
            raise InputError(f"cannot let wave {one.what} soak that long: the most is 30d")
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


def words(waves: Sequence[Wave]) -> str:
    """Return waves as `parse_waves` reads them."""
    return ",".join(one.text for one in waves)
