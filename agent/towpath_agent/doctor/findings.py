"""One line of a doctor's report: the agent's and the server's have the same."""

from towpath.findings import Finding, Level, fail, ok, warn

__all__ = ["Finding", "Level", "fail", "ok", "warn"]
