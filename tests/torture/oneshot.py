"""One agent, real in everything, that works until the host is at rest and then ends: `python -m torture.oneshot DIR`.

It is the daemon without its hint thread, ticked in the main thread, so that all file work is done by one thread in the
same order every time: strace's counts by call and thread then name the same call in every run. Exit codes: 0 at rest,
1 the agent ended itself (as the daemon would, to be started again), 3 not at rest in time.
"""

import sys
import time
from pathlib import Path

from towpath.errors import TowpathError
from towpath_agent.daemon import Daemon

LIMIT_S = 60.0
NEVER_S = 3_600.0


def main(folder: Path) -> int:
    """Return the exit code."""
    try:
        daemon = Daemon(folder, NEVER_S)
        agent, journal, quiet = daemon.agent, daemon._journal, 0
        end = time.monotonic() + LIMIT_S
        while quiet < 2:
            delay = agent.tick()
            calm = not journal.transactions() and journal.desired() is not None and not journal.outbox(1)
            quiet = quiet + 1 if calm and not agent._sync_failures else 0
            if time.monotonic() > end:
                return 3
            if quiet < 2:
                daemon._clock.wait(agent.wake, min(delay, 0.2))
    except (TowpathError, OSError) as error:
        sys.stderr.write(f"agent: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
