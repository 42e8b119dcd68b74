"""What the probe `log` has found in one log: lines in, findings out, nothing read here.

Rules: a line is searched once it has its end; of a line the first MAX_LINE_BYTES count; what was found stays found. The
processor time of searching is limited by the caller's budget: what it did not reach is searched the next time.
"""

import re
from collections.abc import Mapping

from towpath_agent.system.cpu import CpuBudget, OutOfTime

MAX_LINE_BYTES = 4096


class Scan:
    """The findings of one log since one start: `found` has the first line that each named pattern matched."""

    def __init__(self, patterns: Mapping[str, re.Pattern[str]]) -> None:
        """Look for `patterns`, by name."""
        self._patterns = patterns
        self._tail = b""
        self.found: dict[str, str] = {}
        self.lines = 0

    def feed(self, data: bytes, budget: CpuBudget) -> int:
        """Search the whole lines of `data`; return of how many bytes nothing more is to be done.

        OutOfTime where one line alone takes more than an untouched budget: then no later try will go further.
        """
        done, untouched = 0, budget.untouched
        try:
            with budget.spend():
                for line in data.split(b"\n")[:-1]:
                    self._search(line)
                    self.lines += 1
                    done += len(line) + 1
        except OutOfTime:
            if untouched and not done:
                raise
        return done

    def feed_end(self, rest: bytes, budget: CpuBudget) -> None:
        """Search the last line, which has no end yet, where it is as it was at the call before."""
        if rest and rest == self._tail:
            self.feed_piece(rest, budget)
        self._tail = rest

    def feed_piece(self, data: bytes, budget: CpuBudget) -> bool:
        """Search a piece of a line that is too long to wait for its end; False where it is for the next time."""
        untouched = budget.untouched
        try:
            with budget.spend():
                self._search(data)
        except OutOfTime:
            if untouched:
                raise
            return False
        return True

    def _search(self, line: bytes) -> None:
        text = line[:MAX_LINE_BYTES].decode("utf-8", "replace")
        for name, pattern in self._patterns.items():
            if name not in self.found and pattern.search(text) is not None:
                self.found[name] = text
