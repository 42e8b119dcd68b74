"""The rows of a rollout as a bystander reads them while servers write: every moment's count of hosts in flight.

It reads the database file itself, in one statement each time, so what it sees is what was committed at one moment.
"""

import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_LOOK = """
SELECT a.state, a.wave, a.wave_done_unix_ms > 0,
       (SELECT group_concat(m.host_id) FROM admissions m WHERE m.assignment_id = a.id),
       (SELECT group_concat(s.host_id) FROM app_states s
         WHERE s.app = a.app AND s.generation = a.generation AND s.state IN ('Confirmed', 'Reverted'))
FROM assignments a WHERE a.id = ?
"""
PAUSE_S = 0.005


@dataclass(frozen=True)
class Row:
    """One moment of a rollout, ids of hosts in it."""

    state: str
    wave: int
    finished: bool
    admitted: frozenset[str]
    ended: frozenset[str]

    @property
    def in_flight(self) -> int:
        """How many were let in and have neither proven nor failed it."""
        return len(self.admitted - self.ended)


def look(connection: sqlite3.Connection, rollout: str) -> Row:
    """Return the rollout as it is committed now."""
    state, wave, finished, admitted, ended = connection.execute(_LOOK, (rollout,)).fetchone()
    split = [frozenset(text.split(",")) if text else frozenset() for text in (admitted, ended)]
    return Row(state, wave, bool(finished), *split)


def reading(path: Path) -> sqlite3.Connection:
    """Return a connection that writes nothing."""
    connection = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA query_only=ON")
    return connection


class Bystander:
    """Looks all the time and keeps each moment that differs from the one before. Use as a context manager."""

    def __init__(self, path: Path, rollout: str) -> None:
        """Look at a rollout in the database at `path`."""
        self.moments: list[Row] = []
        self._connection = reading(path)
        self._rollout = rollout
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bystander")

    def _run(self) -> None:
        while not self._stop.is_set():
            now = look(self._connection, self._rollout)
            if not self.moments or self.moments[-1] != now:
                self.moments.append(now)
            self._stop.wait(PAUSE_S)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(60)
        self._connection.close()
