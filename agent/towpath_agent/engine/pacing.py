"""How long to wait before the next sync or try: pure functions of what happened, with randomness handed in."""

SYNC_INTERVAL_S = 60.0
FIRST_RETRY_S = 0.5
MAX_RETRY_S = 60.0
MAX_WATCH_RETRY_S = 15.0
# A server that is restarted is back within seconds, so its hosts look often at first: about a minute of tries.
SOON_WATCH_RETRY_S = 4.0
SOON_WATCH_TRIES = 25
# A release that could not be fetched is tried again; one that could not be undone too (Stuck).
FETCH_RETRY_S = 5.0
UNDO_RETRY_S = 5.0
MAX_UNDO_RETRY_S = 300.0
RESTART_RETRY_S = 1.0
MAX_RESTART_RETRY_S = 60.0


def sync_delay_s(failures: int, chance: float, interval_s: float = SYNC_INTERVAL_S) -> float:
    """Return seconds until the next sync after `failures` failed ones in a row; `chance` is uniform in [0, 1).

    Jitter of 20 % keeps a fleet that was started together from staying in step; after failures the whole delay is drawn
    (full jitter), so that a server that comes back is not met by everybody at once.
    """
    if failures == 0:
        return interval_s * (0.9 + 0.2 * chance)
    return FIRST_RETRY_S + chance * backoff_s(failures, FIRST_RETRY_S, min(MAX_RETRY_S, interval_s))


def fetch_delay_s(tries: int, chance: float, first_s: float, most_s: float) -> float:
    """Return seconds until a fetch is tried again after `tries` failed ones; `chance` is uniform in [0, 1).

    Half of it is drawn: fifty hosts behind one line that broke do not all come back at the same moment.
    """
    return backoff_s(tries, first_s, most_s) * (0.5 + 0.5 * chance)


def watch_delay_s(failures: int, chance: float) -> float:
    """Return seconds until the stream of hints is opened again after `failures` failed tries; `chance` as above.

    Full jitter, so that a fleet does not come back in one instant: it is spread over some seconds at first, over a
    quarter of a minute where the server stays away.
    """
    most_s = SOON_WATCH_RETRY_S if failures <= SOON_WATCH_TRIES else MAX_WATCH_RETRY_S
    return chance * backoff_s(failures + 1, FIRST_RETRY_S, most_s)


def backoff_s(tries: int, first_s: float, most_s: float) -> float:
    """Return the exponential back-off after `tries` (1 or more) failed tries."""
    return float(min(most_s, first_s * 2 ** min(max(tries - 1, 0), 30)))
