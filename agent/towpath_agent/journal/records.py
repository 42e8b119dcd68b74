"""What the journal keeps of a change: what is deployed, and one attempt to move an app. Their texts: `texts`."""

from dataclasses import dataclass

from towpath.status import State, Verdict
from towpath_agent.engine.planning import Wish


@dataclass(frozen=True, slots=True)
class Deployed:
    """A wish that is live, with the signed release bytes that say how to run, probe and stop it."""

    wish: Wish
    release: bytes


@dataclass(frozen=True, slots=True)
class Transaction:
    """One attempt to move one app: from `old` (None: first install) to `wish` (empty digest: removal)."""

    id: str
    wish: Wish
    release: bytes
    old: Deployed | None
    state: State = State.PLANNED
    touched: bool = False  # the switch was begun: undoing means going back, not just tidying up
    attempts: int = 0
    tries: int = 0  # of an undo that does not succeed
    verdict: Verdict = Verdict.NONE
    reason: str = ""
    code: str = ""
    retry_after_s: float | None = None
    begun_unix_ms: int = 0
    confirmed_unix_ms: int = 0  # probation counts from here
    handed: bool = False  # the hook `handover` of the new release may have run: going back must run the old one's
    seal: str = ""  # the set that it moves with; "" before the first of the set switches
    mates: tuple[Wish, ...] = ()  # once it failed: what should have run of the apps that move with it

    @property
    def app(self) -> str:
        """Return the app that moves."""
        return self.wish.app
