"""When to ask the server for the desired state, and what became of it: hints, pacing, back-off.

Not handled here: what the answer means (`runner.desired`, `runner.planner`).
"""

import threading
from collections.abc import Callable

from towpath.errors import TowpathError, Unavailable
from towpath_agent.control.protocol import Contact
from towpath_agent.engine import pacing
from towpath_agent.runner.desired import Desired
from towpath_agent.runner.reporting import Reporter
from towpath_agent.runner.telling import Teller
from towpath_agent.system.clock import Clock

# A server that restarts, or a line that drops, is no news to a person.
LOUD_AFTER = 3


class Pull:
    """The syncs of one agent.

    `due_s` is the monotonic time of the next one, `trouble` what the newest failed with, or why it was told nothing.
    `synced`: one has succeeded since the agent began. `contact`: the same for people; any thread may read it, as it is
    put in place whole.
    """

    def __init__(
        self,
        *,
        desired: Desired,
        reporter: Reporter,
        teller: Teller,
        clock: Clock,
        uniform: Callable[[], float],
        interval_s: float,
    ) -> None:
        """Be due at once; `uniform` gives the jitter."""
        self._desired, self._reporter, self._teller, self._clock = desired, reporter, teller, clock
        self._uniform, self._interval_s = uniform, interval_s
        self._hinted = threading.Event()
        self.due_s = clock.monotonic()
        self.failures = 0
        self.trouble = ""
        self.synced = False
        self.contact = Contact()
        self._silent_since_unix_ms = 0

    def hint(self) -> None:
        """Be due now: something changed. Safe from any thread."""
        self._hinted.set()

    @property
    def hinted(self) -> bool:
        """Return whether somebody hinted since the last sync."""
        return self._hinted.is_set()

    def sync(self) -> None:
        """Ask once; what fails is told and tried again, ever more seldom."""
        self._hinted.clear()
        try:
            changed = self._desired.sync(self._reporter.revision)
        except TowpathError as error:
            self.failures += 1
            self.trouble = str(error)
            self._note(answered=not isinstance(error, Unavailable))
            if not isinstance(error, Unavailable):
                self._teller.trouble(error)
            elif self.failures == LOUD_AFTER:
                self._teller.log(f"{error}; what runs goes on, and the server is asked again and again")
        else:
            if changed:
                self._teller.log("desired state changed")
            if self._desired.kept and self._desired.kept != self.trouble:
                self._teller.log(f"keeping what is here: {self._desired.kept}")
            if self.failures >= LOUD_AFTER:
                self._teller.log("the server answers again")
            self.failures, self.trouble, self.synced = 0, self._desired.kept, True
            self._teller.no_trouble()
            self._reporter.server_knows(self._desired.known_state_revision)
            self._note(answered=True)
        delay = pacing.sync_delay_s(self.failures, self._uniform(), self._interval_s)
        self.due_s = self._clock.monotonic() + delay

    def _note(self, *, answered: bool) -> None:
        """Keep what became of the newest sync for people who ask."""
        now = self._clock.now_unix_ms()
        if answered:
            self._silent_since_unix_ms = 0
            self.contact = Contact(now, 0, self.trouble)
        else:
            self._silent_since_unix_ms = self._silent_since_unix_ms or now
            away = self._silent_since_unix_ms if self.failures >= LOUD_AFTER else 0
            self.contact = Contact(self.contact.answered_unix_ms, away, self.trouble)
