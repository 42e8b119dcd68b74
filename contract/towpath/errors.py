"""Errors that more than one party raises, grouped by who must act.

    TowpathError
    ├── InputError        the person at the keyboard: a value, a file, a flag
    ├── Refusal           nobody may: what was asked would break a trust decision; `code` is the attack's name
    ├── Unavailable       wait: the other side does not answer; retryable
    └── Broken            us or the machine: a broken promise of disk, database or code

Every error has a stable `code` (reports, tests, scripts) and says whether trying again can help. A message reads
"cannot ...: reason" and ends with the way out where there is one.
"""

from typing import ClassVar


class TowpathError(Exception):
    """Base of all errors that a user may see as one line."""

    code: str = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, code: str | None = None) -> None:
        """Keep `message` for people and `code` for machines."""
        super().__init__(message)
        if code is not None:
            self.code = code


class InputError(TowpathError):
    """Bad input; nothing was changed."""

    code = "bad-input"


class Refusal(TowpathError):
    """A trust decision said no. `code` names the attack (FAULTS: rollback, freeze, wrong-host ...)."""

    code = "refused"


class Unavailable(TowpathError):
    """The other side does not answer now; trying again later can help."""

    code = "unavailable"
    retryable = True


class Broken(TowpathError):
    """Disk, database or code broke a promise."""

    code = "broken"
