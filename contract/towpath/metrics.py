"""Metrics as operators write them, client and server alike: a Prometheus query and what is good enough.

    errors=sum(rate(http_errors_total[1m])) < 0.01          NAME=QUERY < LIMIT
    errors=sum(rate(http_errors_total[1m])) < 0.01..0.05    NAME=QUERY < GOOD..BAD
    uptime=min(probe_success) > 0.99..0.9                   NAME=QUERY > GOOD..BAD

With `<`, GOOD and less passes, more than BAD is a breach, and what lies between is inconclusive; with `>` the other way
round. The last comparison of the text is ours, all before it is Prometheus's own language.

Not handled here: asking (the server's `prometheus`), judging an answer (the server's `domain.metric`).
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from towpath.errors import InputError
from towpath.quantity import format_duration

MAX_METRICS = 8
MAX_QUERY = 2_000
DEFAULT_PATIENCE_MS = 600_000
MIN_PATIENCE_MS = 1_000
MAX_PATIENCE_MS = 7 * 86_400_000

_NUMBER = r"[+-]?(?:[0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(?:[eE][+-]?[0-9]{1,3})?"
_METRIC = re.compile(rf"([^=\s]*)=\s*(.*\S)\s*([<>])\s*({_NUMBER})(?:\.\.({_NUMBER}))?", re.DOTALL)
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


@dataclass(frozen=True, slots=True)
class Metric:
    """A query with its band. `below`: smaller is better. Between `good` and `bad` (both of them not bad) nobody knows.

    `patience_ms`: how long it may stay inconclusive before the rollout halts.
    """

    name: str
    query: str
    below: bool
    good: float
    bad: float
    patience_ms: int = DEFAULT_PATIENCE_MS

    @property
    def limits(self) -> str:
        """Return the band as it is written."""
        band = f"{self.good:g}" if self.good == self.bad else f"{self.good:g}..{self.bad:g}"
        return f"{'<' if self.below else '>'} {band}"


def check_metric_name(name: str) -> str:
    """Return `name` where a metric may have it, else raise InputError."""
    if _NAME.fullmatch(name) is None:
        raise InputError(
            f"cannot use {name[:60]!r} as the name of a metric: allowed are 1 to 40 lower-case letters, digits, '_' "
            "and '-', a letter first"
        )
    return name


def parse_metric(text: str, patience_ms: int = DEFAULT_PATIENCE_MS) -> Metric:
    """Return the metric that `text` writes; InputError otherwise."""
    match = _METRIC.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"cannot read {text[:80]!r} as a metric: write NAME=QUERY < GOOD..BAD, such as "
            "'errors=sum(rate(http_errors_total[1m])) < 0.01..0.05'"
        )
    name, query, sign, good, bad = match.groups()
    return check_metric(Metric(name, query, sign == "<", float(good), float(bad or good), patience_ms))


def check_metric(metric: Metric) -> Metric:
    """Return `metric` where it can be judged by, else raise InputError."""
    check_metric_name(metric.name)
    if not metric.query.strip() or len(metric.query) > MAX_QUERY or not metric.query.isprintable():
        raise InputError(
            f"cannot use metric {metric.name}: a query has 1 to {MAX_QUERY} printable characters, in one line"
        )
    if not (math.isfinite(metric.good) and math.isfinite(metric.bad)):
        raise InputError(f"cannot use metric {metric.name}: its limits are finite numbers")
    if (metric.bad < metric.good) if metric.below else (metric.bad > metric.good):
        sign, order = ("<", "above") if metric.below else (">", "below")
        raise InputError(
            f"cannot use metric {metric.name} {metric.limits}: with {sign} the second limit, the bad one, is not "
            f"{order} the first; write {sign} GOOD..BAD, BAD {order} GOOD"
        )
    if not MIN_PATIENCE_MS <= metric.patience_ms <= MAX_PATIENCE_MS:
        limits = f"{format_duration(MIN_PATIENCE_MS)} to {format_duration(MAX_PATIENCE_MS)}"
        raise InputError(f"cannot wait that long for metric {metric.name} to be conclusive: {limits} are allowed")
    return metric


def check_metrics(metrics: Sequence[Metric], asked: Iterable[str]) -> tuple[Metric, ...]:
    """Return `metrics` where they are those that the waves ask for (by name), all of them and no other."""
    if len(metrics) > MAX_METRICS:
        raise InputError(f"cannot use {len(metrics)} metrics: at most {MAX_METRICS}")
    names = [check_metric(one).name for one in metrics]
    wanted = set(asked)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"cannot use metric {twice[0]} twice: give each a name of its own")
    unknown = sorted(wanted - set(names))
    if unknown:
        raise InputError(
            f"cannot ask for metric {unknown[0]}: nothing says what it is, such as --metric '{unknown[0]}=QUERY < 1'"
        )
    idle = sorted(set(names) - wanted)
    if idle:
        raise InputError(
            f"cannot use metric {idle[0]}: no wave asks for it, such as --waves canary:10m+metric={idle[0]}"
        )
    return tuple(metrics)
