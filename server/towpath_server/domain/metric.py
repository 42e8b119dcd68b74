"""What a metric says about a wave: good, bad, or inconclusive; and for how long nobody may not know.

A trail is what the looks at one metric have said since its wave had finished. Rules, each a named test:
- one bad answer is a breach, whatever comes after it: how far to smooth is said in the query.
- the gate opens where the newest answer is good and no older than a minute.
- no answer, no sample, NaN, and a value between the limits are inconclusive: the wave waits and says why.
- inconclusive for longer than the metric's patience: the rollout halts, and blames no release.
- of several samples the worst counts.
- what was said before the wave had finished, before a person said "go on", or before this server started or took the
  decision over from another one is forgotten.

Pure: answers in, a decision out. Not handled here: asking (`towpath_server.prometheus`), when (`services.sampling`).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from towpath.metrics import Metric
from towpath.quantity import format_duration

STALE_MS = 60_000
MAX_SAMPLES = 1_000
_MAX_SAID = 160
_BAD_REQUEST = 400


class Finding(StrEnum):
    """What an answer means."""

    GOOD = "good"
    INCONCLUSIVE = "inconclusive"
    BAD = "bad"


_WORST = (Finding.BAD, Finding.INCONCLUSIVE, Finding.GOOD)


@dataclass(frozen=True, slots=True)
class Answer:
    """The values of a query at one moment, or why there are none. `wrong`: the query itself is, and stays so."""

    values: tuple[float, ...] = ()
    trouble: str = ""
    wrong: bool = False


@dataclass(frozen=True, slots=True)
class Trail:
    """The looks at one metric since `since_unix_ms`: the newest one, and since when it was inconclusive (0: it is not).

    A bad one is the newest for good.
    """

    since_unix_ms: int
    at_unix_ms: int
    finding: Finding
    said: str
    unclear_since_unix_ms: int = 0


def judge(metric: Metric, answer: Answer) -> tuple[Finding, str]:
    """Return what the answer means, and the words for people."""
    if answer.trouble or not answer.values:
        return Finding.INCONCLUSIVE, answer.trouble or "it has no sample"
    found = [(_of_value(metric, value), value) for value in answer.values]
    finding = min((each for each, _ in found), key=_WORST.index)
    clear = [value for each, value in found if each is finding and not math.isnan(value)]
    if not clear:
        return finding, "it is not a number"
    return finding, f"it is {max(clear) if metric.below else min(clear):g}"


def _of_value(metric: Metric, value: float) -> Finding:
    if math.isnan(value):
        return Finding.INCONCLUSIVE
    good, bad = (
        (value <= metric.good, value > metric.bad) if metric.below else (value >= metric.good, value < metric.bad)
    )
    return Finding.GOOD if good else Finding.BAD if bad else Finding.INCONCLUSIVE


def follow(before: Trail | None, metric: Metric, answer: Answer, *, since_unix_ms: int, at_unix_ms: int) -> Trail:
    """Return the trail with one more look."""
    if before is None or before.since_unix_ms != since_unix_ms:
        before = Trail(since_unix_ms, since_unix_ms, Finding.GOOD, "")
    if before.finding is Finding.BAD:
        return before
    finding, said = judge(metric, answer)
    unclear = (before.unclear_since_unix_ms or at_unix_ms) if finding is Finding.INCONCLUSIVE else 0
    return Trail(since_unix_ms, at_unix_ms, finding, said, unclear)


@dataclass(frozen=True, slots=True)
class Look:
    """Where a metric of a finished wave stands now. `over`: it was inconclusive for longer than it may be."""

    metric: Metric
    finding: Finding
    said: str
    over: bool = False

    @property
    def text(self) -> str:
        """Return it for people."""
        return f"metric {self.metric.name} is {self.finding}: {self.said}, asked for {self.metric.limits}"


def look(metric: Metric, trail: Trail | None, since_unix_ms: int, now_unix_ms: int) -> Look:
    """Return where a metric of a wave that had finished at `since_unix_ms` stands."""
    if trail is None or trail.since_unix_ms != since_unix_ms:
        finding, said, unclear = Finding.INCONCLUSIVE, "it was not asked yet", since_unix_ms
    elif trail.finding is Finding.GOOD and now_unix_ms - trail.at_unix_ms > STALE_MS:
        age = format_duration(now_unix_ms - trail.at_unix_ms)
        # The clock jumped, or nobody asked: the wave waits for the next look, which says how things are.
        return Look(metric, Finding.INCONCLUSIVE, f"its newest answer is {age} old")
    else:
        finding, said, unclear = trail.finding, trail.said, trail.unclear_since_unix_ms
    over = finding is Finding.INCONCLUSIVE and now_unix_ms - unclear > metric.patience_ms
    return Look(metric, finding, said, over)


def looks(
    metrics: Sequence[Metric], asked: Sequence[str], trails: Mapping[str, Trail], since_unix_ms: int, now_unix_ms: int
) -> list[Look]:
    """Return where those of `metrics` stand that a wave asks for."""
    return [look(one, trails.get(one.name), since_unix_ms, now_unix_ms) for one in metrics if one.name in asked]


def unasked(metrics: Sequence[Metric], asked: Sequence[str]) -> list[Look]:
    """Return `looks` where another server on the database asks, which alone knows what is said."""
    said = "another server on this database decides and asks for it"
    return [Look(one, Finding.INCONCLUSIVE, said) for one in metrics if one.name in asked]


def read_answer(status: int, body: bytes) -> Answer:
    """Return what Prometheus' answer to an instant query says; anything unexpected is trouble, never an error."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return Answer(trouble=f"Prometheus answered {status}, not in JSON")
    if not isinstance(answer, dict) or answer.get("status") != "success":
        said = answer.get("error", "") if isinstance(answer, dict) else ""
        why = f"Prometheus answered {status}: {_line(said) or 'no reason was given'}"
        return Answer(trouble=why, wrong=status == _BAD_REQUEST)
    data = answer.get("data")
    kind, result = (data.get("resultType"), data.get("result")) if isinstance(data, dict) else (None, None)
    try:
        if kind == "scalar":
            return Answer((_number(result),))
        if kind == "vector" and isinstance(result, list):
            if len(result) > MAX_SAMPLES:
                return Answer(trouble=f"it has {len(result)} samples, at most {MAX_SAMPLES} are judged")
            return Answer(tuple(_number(one["value"]) for one in result))
    except (ValueError, TypeError, LookupError):
        return Answer(trouble="Prometheus answered with a value that is no number")
    return Answer(trouble=f"the query gives a {_line(kind)}; ask for a number or an instant vector", wrong=True)


def _number(sample: object) -> float:
    """Return the value of `[time, "value"]`."""
    if not isinstance(sample, list) or len(sample) != 2:
        raise ValueError("no sample")
    return float(sample[1])


def _line(text: object) -> str:
    return " ".join(str(text).split())[:_MAX_SAID]
