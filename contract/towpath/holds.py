"""A hold: a person on the host says "nothing new here for a while", and everybody can see who, until when and why.

Parties: made on the host by its agent (`towpath-agent hold`), told to the server at every sync, shown to operators.
Rules: a hold ends by itself; it stops changes, never what runs. Texts in it are typed by people: one line, capped.
Not handled here: what a hold does to a host's plan (agent) or to a rollout (server).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from towpath.errors import InputError

MAX_HOLDS = 64
MAX_TEXT_CHARS = 200
MIN_HOLD_MS = 1_000
MAX_HOLD_MS = 30 * 86_400_000
# The last second of year 9999, the last that a date can name.
MAX_UNIX_MS = 253_402_300_799_000


@dataclass(frozen=True, slots=True)
class Hold:
    """No change to `app` (empty: to any app of the host) before `until_unix_ms`. `by`: a person, as the host saw it."""

    app: str
    by: str
    reason: str
    since_unix_ms: int
    until_unix_ms: int

    def covers(self, app: str) -> bool:
        """Return whether `app` may not be changed by this hold."""
        return self.app in ("", app)

    @property
    def text(self) -> str:
        """Return it as people read it, the same on the host and on the server."""
        until = datetime.fromtimestamp(self.until_unix_ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        return f"held by {self.by} until {until}: {self.reason}"


def check_line(text: str, what: str) -> str:
    """Return `text` without outer blanks where it is one short printable line; InputError names `what` otherwise."""
    line = text.strip()
    if not line:
        raise InputError(f"cannot use an empty {what}: say why, so that others can see it")
    if len(line) > MAX_TEXT_CHARS:
        raise InputError(f"cannot use a {what} of {len(line)} characters: at most {MAX_TEXT_CHARS}")
    if not line.isprintable():
        raise InputError(f"cannot use that {what}: it must be one line of printable text")
    return line


def covering(holds: Iterable[Hold], app: str) -> Hold | None:
    """Return the hold on `app` that lasts longest, None where it is free."""
    return max((hold for hold in holds if hold.covers(app)), key=lambda hold: hold.until_unix_ms, default=None)
