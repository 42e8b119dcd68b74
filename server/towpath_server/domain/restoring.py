"""Whether this database is older than what hosts know: it was put back from a backup, and must pull nobody back.

How it shows: sequence numbers of manifests follow the clock and are reserved in the database before they are given
out (`services.syncing`). What lies between the reservation that a starting server finds and its own first number was
given out by nobody who has written to this database: a gap. A host says at each sync which manifest it accepted last.
One whose number lies in a gap was told things by a server whose writing is lost.

Rules, each a named test:
- a stop and a start in good order, or a kill, leave a gap and no host in it; so does a clock that was set.
- while a host of an environment says so, every host there keeps what it has and nothing is decided there: a halt or
  a cancel may be among what was lost. Other environments go on, as no host of theirs was told anything since.
- a person ends it; then the database counts, and who runs what it should runs on (`services.restoring`).

What it does not see: a backup that is less than a minute old, for so far ahead are numbers reserved.
Pure. Not handled here: when it is asked, and what is written (`services.restoring`).
"""

from collections.abc import Iterable, Sequence

from towpath_server.domain.model import Ahead, Gap
from towpath_server.domain.timing import Bar

# Stops of a server, newest first: hosts that were away for longer than so many are judged by the database alone.
MAX_GAPS = 256
# No host may push the generations of a fleet further than so many at once, whatever it claims.
MAX_LOST_GENERATIONS = 1_000_000
COMMAND = "towpath restored show"
_SHOWN = 3


def gap(reserved: int, first: int) -> Gap | None:
    """Return the numbers that nobody gave out between what was `reserved` and the `first` of a server that starts.

    `reserved` 0: a new database. Both ends are exclusive.
    """
    return Gap(reserved, first) if reserved and first > reserved + 1 else None


def lost(gaps: Iterable[Gap], accepted: int) -> bool:
    """Return whether a manifest that a host accepted was given out by a server whose writing is lost."""
    return any(one.after < accepted < one.before for one in gaps)


def notice(ahead: Sequence[Ahead]) -> Bar | None:
    """Return what is to be said of hosts that are ahead, in one environment or in several; None where none is."""
    if not ahead:
        return None
    names = ", ".join(one.name for one in ahead[:_SHOWN]) + (" ..." if len(ahead) > _SHOWN else "")
    where = ", ".join(sorted({one.environment for one in ahead}))
    count = f"{len(ahead)} hosts follow" if len(ahead) > 1 else "a host follows"
    return Bar(
        f"{count} orders that this database knows nothing of ({names}): was it restored from a backup? "
        f"Nobody in {where} is moved until that is settled",
        0,
        COMMAND,
    )


def after(known: int, reported: Iterable[int]) -> int:
    """Return the newest generation there was, by what the database knows and what a host reports: none comes twice."""
    return max(known, min(max(reported, default=0), known + MAX_LOST_GENERATIONS))
