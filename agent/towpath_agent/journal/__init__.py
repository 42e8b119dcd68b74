"""The agent's recovery record: what was intended, what runs, what failed, what is still to be reported.

SQLite with synchronous=FULL: a commit that returned survives a power cut. The state of a transaction is committed
BEFORE its action begins. An unreadable journal is set aside, not repaired: `runner.recovery` rebuilds what matters from
facts.
Not here: decisions (`engine`), trust floors (`runner.floors`: they must outlive a lost journal).
"""

from towpath_agent.journal.opening import OTHER_SCHEMA, open_journal, open_readonly, trouble_in
from towpath_agent.journal.records import Deployed, Transaction
from towpath_agent.journal.tables import MAX_EVENTS, SCHEMA_VERSION, Journal
from towpath_agent.journal.texts import wish_from_text, wish_to_text

__all__ = [
    "MAX_EVENTS",
    "OTHER_SCHEMA",
    "SCHEMA_VERSION",
    "Deployed",
    "Journal",
    "Transaction",
    "open_journal",
    "open_readonly",
    "trouble_in",
    "wish_from_text",
    "wish_to_text",
]
