"""What this host may fetch in a second, and whether its limits contradict one another."""

from collections.abc import Iterator, Mapping

from towpath.quantity import parse_rate, parse_size
from towpath.settings import Setting, read
from towpath_agent.doctor.findings import Finding, ok, warn
from towpath_agent.engine.maxrate import MaxRate, objections, parse_max_rate, rate_at, rate_text
from towpath_agent.system.clock import local_zone
from towpath_agent.transport.channel import Limits


def rates(settings: Mapping[str, Setting], now_unix_ms: int) -> Iterator[Finding]:
    """Look at `max_rate`, `min_rate` and what they limit together; InputError for what cannot be read."""
    limit = read(settings, "max_rate", parse_max_rate) or MaxRate()
    least = read(settings, "min_rate", parse_rate) or Limits().min_rate
    ahead = read(settings, "max_prefetch_bytes", parse_size)
    found = objections(limit, least, ahead)
    for text in found:
        yield warn("rate", text)
    if limit.timed:
        now = rate_text(rate_at(limit, now_unix_ms, local_zone))
        yield ok("rate", f"now {now}; max_rate is {limit.text}")
    elif limit.usual:
        yield ok("rate", f"at most {limit.text} are fetched")
    else:
        yield ok("rate", "fetches have no limit")
