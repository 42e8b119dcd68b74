"""What this host may fetch in a second, and whether its limits contradict one another."""

from collections.abc import Iterator, Mapping

from towpath.quantity import parse_rate, parse_size
from towpath_agent.doctor.findings import Finding, ok, warn
from towpath_agent.engine.maxrate import MaxRate, objections, parse_max_rate, rate_at, rate_text
from towpath_agent.system.clock import local_zone
from towpath_agent.transport.channel import Limits


def rates(settings: Mapping[str, str], now_unix_ms: int) -> Iterator[Finding]:
    """Look at `max_rate`, `min_rate` and what they limit together; InputError for what cannot be read."""
    limit = parse_max_rate(settings["max_rate"]) if "max_rate" in settings else MaxRate()
    least = parse_rate(settings["min_rate"]) if "min_rate" in settings else Limits().min_rate
    ahead = parse_size(settings["max_prefetch_bytes"]) if "max_prefetch_bytes" in settings else None
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
