"""One line of a doctor's report."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and the next command where there is one."""

    check: str
    level: Level
    text: str
    command: str = ""


def ok(check: str, text: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(check, Level.OK, text)


def warn(check: str, text: str, command: str = "") -> Finding:
    """Return a finding that a person should look at."""
    return Finding(check, Level.WARN, text, command)


def fail(check: str, text: str, command: str = "") -> Finding:
    """Return a finding about something that does not work."""
    return Finding(check, Level.FAIL, text, command)
