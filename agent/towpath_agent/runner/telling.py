"""What is said of a host: each thing as a line of the log and as a durable event that the server gets to know.

Rules: what stays the same is told once and not at every look (a manifest or an app that goes on being refused). An
event is in the journal before anybody is told of it.
Not handled here: when reports travel, and the whole state that goes with them (`runner.reporting`).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from towpath.errors import TowpathError
from towpath.reports import Event
from towpath.status import Verdict
from towpath_agent.engine.planning import Wish
from towpath_agent.journal import Journal, Transaction
from towpath_agent.runner.drift import Note
from towpath_agent.runner.reporting import Reporter
from towpath_agent.system.clock import Clock

# App to why its desired release does not move: version, sha256 (hex), generation, code, message.
Refusals = Mapping[str, Mapping[str, str | int]]


class Teller:
    """Says what happened."""

    def __init__(
        self,
        journal: Journal,
        reporter: Reporter,
        clock: Clock,
        *,
        new_id: Callable[[], str],
        log: Callable[[str], None],
        refused: Refusals,
    ) -> None:
        """Take where it is said; `refused` was told before."""
        self._journal, self._reporter, self._clock = journal, reporter, clock
        self._new_id, self.log = new_id, log
        self._refused = refused
        self._trouble = ""

    def trouble(self, error: TowpathError) -> None:
        """Tell of a refused manifest under the attack's name."""
        line = f"{error.code}: {error}"
        self.log(line)
        if line != self._trouble:
            self._trouble = line
            self.add(self.event("refusal", reason=str(error), code=error.code))

    def no_trouble(self) -> None:
        """Take note that a manifest was accepted: the same trouble is worth telling again."""
        self._trouble = ""

    def refusals(self, refused: Refusals) -> None:
        """Tell of each app that is refused under the attack's name; the rest of the manifest goes on."""
        for app, no in refused.items():
            if self._refused.get(app) != no:
                self.log(f"{app}: refused {no['version']}: {no['code']}: {no['message']}")
                event = self.event("refusal", reason=str(no["message"]), code=str(no["code"]))
                sha256 = bytes.fromhex(str(no["sha256"]))
                verdict = Verdict.REFUSED.value
                self.add(replace(event, app=app, version=str(no["version"]), release_sha256=sha256, verdict=verdict))
        self._refused = refused

    def drift(self, app: str, wish: Wish, note: Note) -> None:
        """Tell what of a running release was not as it was signed, and what became of it."""
        self.log(f"{app}: {note.reason}")
        event = self.event("drift", reason=note.reason, code=note.code, evidence=note.evidence)
        self.add(replace(event, app=app, version=wish.version, release_sha256=wish.sha256))

    def note(self, tx: Transaction, *, reason: str, code: str, evidence: str = "", kind: str = "note") -> None:
        """Tell what went wrong without deciding anything, such as a hook that failed after the fact."""
        self.log(f"{tx.app}: {reason}")
        self.add(self.event(kind, tx=tx, reason=reason, code=code, evidence=evidence))

    def notes(self, notes: list[tuple[Transaction, str, str, str]]) -> None:
        """Tell each of `notes` (transaction, code, reason, evidence), oldest first, and take it off the list."""
        while notes:
            tx, code, reason, evidence = notes.pop(0)
            self.note(tx, reason=reason, code=code, evidence=evidence)

    def word(self, kind: str, app: str, reason: str, code: str = "") -> None:
        """Tell what a person did, or what of it is over. `app` empty: to the whole host."""
        self.log(f"{app or 'host'}: {reason}")
        self.add(replace(self.event(kind, reason=reason, code=code), app=app))

    def add(self, event: Event) -> None:
        """Keep an event that stands alone; those of transactions are committed with them."""
        self._journal.add_event(event)
        self._reporter.happened()

    def transition(self, tx: Transaction, reason: str = "", evidence: str = "") -> Event:
        """Return the event of the state that `tx` has now."""
        return self.event("transition", tx=tx, reason=reason, code=tx.code, evidence=evidence)

    def event(
        self, kind: str, *, tx: Transaction | None = None, reason: str = "", code: str = "", evidence: str = ""
    ) -> Event:
        """Return a new event, of a transaction or of none."""
        return Event(
            id=self._new_id(),
            at_unix_ms=self._clock.now_unix_ms(),
            kind=kind,
            app=tx.app if tx else "",
            transaction=tx.id if tx else "",
            state=tx.state.value if tx else "",
            version=tx.wish.version if tx else "",
            release_sha256=tx.wish.sha256 if tx else b"",
            verdict=tx.verdict.value if tx else "",
            reason=reason,
            code=code,
            evidence=evidence,
        )
