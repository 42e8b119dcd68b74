"""Probe `prometheus`: a metric on a page in Prometheus' text format lies within limits.

Options: `url` (with `ca` and `verify` as for `http`), `metric`, `labels` (texts `name=value`; a sample must have them
all, others do not matter), `min`, `max`. Every sample that fits must lie within the limits; where none fits, the check
fails. NaN lies within no limits. Without limits it is enough that there is a sample.
Not handled here: rates and sums; a page is one moment.
"""

from collections.abc import Iterator, Mapping

from towpath.errors import TowpathError
from towpath.kinds import is_number
from towpath.parameters import Value
from towpath.probes import split_label
from towpath_agent.probes import web
from towpath_agent.probes.base import ProbeContext, ProbeResult, result
from towpath_agent.probes.exposition import Sample, samples_of
from towpath_agent.system.clock import Clock, Deadline
from towpath_agent.system.files import Files

MAX_PAGE_BYTES = 4 * 2**20
ACCEPT = "text/plain;version=0.0.4"
_SHOWN_CHARS = 200


class PrometheusProbe:
    """See the module."""

    def __init__(self, files: Files, clock: Clock) -> None:
        """Read authorities with `files`, count timeouts on `clock`."""
        self._files, self._clock = files, clock

    def check(self, options: Mapping[str, Value], context: ProbeContext) -> ProbeResult:
        """Scrape and compare once."""
        url, metric = str(options.get("url", "")), str(options.get("metric", ""))
        deadline = Deadline(self._clock, context.timeout_s)
        try:
            low, high = _limit(options, "min"), _limit(options, "max")
            labels = _labels(options.get("labels", ()))
            answer = web.get(options, context.instance, self._files, deadline, limit=MAX_PAGE_BYTES, accept=ACCEPT)
            took = f"after {deadline.elapsed_ms()} ms"
            page = answer.body.decode("utf-8", "replace")
            if answer.status != 200:
                return result(False, f"GET {url}: status {answer.status} {took}: {page[:_SHOWN_CHARS]}")
            if not answer.complete:
                return result(False, f"GET {url}: the page is cut off or longer than {MAX_PAGE_BYTES} bytes {took}")
            found = list(_found(page, metric, labels, deadline))
        except (OSError, TowpathError, ValueError) as error:
            return result(False, f"GET {url}: {web.reason_of(error)} after {deadline.elapsed_ms()} ms")
        if not found:
            wanted = "".join(f" {name}={value}" for name, value in labels.items())
            return result(False, f"GET {url}: no sample of {metric}{wanted} {took}")
        for sample in found:
            # Written so that NaN is outside.
            if low is not None and not sample.value >= low:
                return result(False, f"GET {url}: less than {options['min']} {took}: {sample.line}")
            if high is not None and not sample.value <= high:
                return result(False, f"GET {url}: more than {options['max']} {took}: {sample.line}")
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return result(True, f"GET {url}: {found[0].line}{more} {took}")


def _found(page: str, metric: str, labels: Mapping[str, str], deadline: Deadline) -> Iterator[Sample]:
    """Yield the samples that fit; TimeoutError where there are more of them than can be read in time."""
    for sample in samples_of(page, metric):
        if deadline.expired:
            raise TimeoutError("timed out")
        # A label that is missing is empty, as Prometheus has it.
        if all(sample.labels.get(name, "") == value for name, value in labels.items()):
            yield sample


def _limit(options: Mapping[str, Value], name: str) -> float | None:
    value = options.get(name)
    if value is None:
        return None
    if not is_number(str(value)):
        raise ValueError(f"{name} {value!r} is no number")
    return float(str(value))


def _labels(value: Value) -> dict[str, str]:
    return dict(split_label(text) for text in (value if isinstance(value, tuple) else (str(value),)))
