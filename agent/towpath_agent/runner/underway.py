"""What stands on this host and what is under way, in memory, shared by the parts of the loop; one thread uses it.

All of it but `again` and `superseded` is what the journal says, so a crash loses nothing: waiting begins anew, and what
is superseded is decided again by the next plan.
"""

from towpath_agent.journal import Deployed, Journal, Transaction


class Underway:
    """`again`: app to the monotonic time before which it is not driven; `superseded`: app to why it is to stop."""

    def __init__(self, journal: Journal) -> None:
        """Resume where the journal stands."""
        self._journal = journal
        self.transactions: dict[str, Transaction] = {tx.app: tx for tx in journal.transactions()}
        self.current: dict[str, Deployed] = {}
        self.again: dict[str, float] = {}
        self.superseded: dict[str, str] = {}
        self.reload()

    def reload(self) -> None:
        """Read again what is current."""
        self.current = self._journal.deployed("current")
