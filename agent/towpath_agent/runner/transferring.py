"""Watches what travels to this host, so that people on it and its server can see how far that is.

The journal keeps what was told last, as one fact (`transfers`: app to what travels for it), so that `status` shows it
and a restarted agent goes on counting. It is told every few seconds at most, and only while bytes come.
Not handled here: the numbers (`engine.transfer`), how they travel to the server (`runner.reporting`).
"""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict

from towpath.reports import Transfer
from towpath_agent.engine.transfer import Tracker
from towpath_agent.journal import Deployed, Journal
from towpath_agent.ports import Chunk, Source, Want
from towpath_agent.system.clock import Clock

FACT = "transfers"


def told(journal: Journal) -> dict[str, Transfer]:
    """Return app to what was told last of what travels for it."""
    try:
        raw = json.loads(journal.meta().get(FACT, "{}"))
        return {
            str(app): Transfer(
                version=str(it["version"]),
                done=int(it["done"]),
                total=int(it["total"]),
                about=bool(it["about"]),
                rate=int(it["rate"]),
                remaining_ms=int(it["remaining_ms"]),
                delta=bool(it["delta"]),
            )
            for app, it in raw.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


class Transfers:
    """All that travels to one host; `say` is called where there is something to tell."""

    def __init__(self, journal: Journal, clock: Clock, say: Callable[[], None] = lambda: None) -> None:
        """Go on with what an earlier agent told."""
        self._journal, self._clock, self.say = journal, clock, say
        self._trackers: dict[str, tuple[bytes, Tracker]] = {}
        self.told = told(journal)

    def watch(self, it: Deployed) -> "Watched":
        """Return what counts the bytes of a release that is fetched now, whenever that was begun."""
        app, version, digest = it.wish.app, it.wish.version, it.wish.sha256
        known = self._trackers.get(app)
        if known is None or known[0] != digest:
            before = self.told.get(app)
            done = before.done if before is not None and before.version == version else 0
            known = self._trackers[app] = digest, Tracker(version, self._clock.monotonic(), done)
        return Watched(self, app, known[1], self._clock)

    def look(self, app: str, tracker: Tracker) -> None:
        """Tell of it where that is due."""
        now_s = self._clock.monotonic()
        if not tracker.is_due(now_s):
            return
        self.told = {**self.told, app: tracker.seen(now_s)}
        self._keep()
        self.say()

    def stops(self, app: str) -> None:
        """Take note that nothing comes for now; told with what is told next, where that was said to go on."""
        known = self._trackers.get(app)
        if known is None:  # all of it came, and what is wrong was found when it was used
            return
        now_s, (_, tracker) = self._clock.monotonic(), known
        tracker.stops(now_s)
        if app in self.told and self.told[app].rate and tracker.is_due(now_s):
            self.told = {**self.told, app: tracker.seen(now_s)}
            self._keep()

    def end(self, app: str) -> None:
        """Forget what travelled for `app`: it is here, or not wanted any more."""
        self._trackers.pop(app, None)
        if app in self.told:
            self.told = {name: it for name, it in self.told.items() if name != app}
            self._keep()

    def _keep(self) -> None:
        raw = {app: asdict(it) for app, it in self.told.items()}
        self._journal.set_meta(**{FACT: json.dumps(raw, sort_keys=True)})


class Watched:
    """The bytes of one release that come in one attempt."""

    def __init__(self, transfers: Transfers, app: str, tracker: Tracker, clock: Clock) -> None:
        """Count for `tracker`."""
        self._transfers, self._app, self._tracker, self._clock = transfers, app, tracker, clock

    def expect(self, sizes: Mapping[bytes, int], content: int) -> None:
        """Take what may come from now on, by digest, and how many bytes of content are lacking."""
        self._tracker.expect(sizes, content)

    def over(self, source: Source) -> Source:
        """Return `source`, counted."""
        return _Counted(source, self)

    def begins(self, want: Want, chunk: Chunk) -> None:
        """Take note of the first chunk that answers `want`."""
        self._tracker.begins(want.digest, want.offset, chunk.carried_size, delta=want.kind == "delta")

    def came(self, count: int) -> None:
        """Take note of carried bytes."""
        self._tracker.came(count, self._clock.monotonic())

    def look(self) -> None:
        """Tell of it where that is due."""
        self._transfers.look(self._app, self._tracker)


class _Counted(Source):
    def __init__(self, inner: Source, watched: Watched) -> None:
        self._inner, self._watched = inner, watched

    def fetch(self, wants: Sequence[Want]) -> Generator[Chunk, None, None]:
        """Yield what the inner one yields; look up when the reader is done with a chunk, so that it is on disk."""
        begun = -1
        with closing(self._inner.fetch(wants)) as chunks:
            for chunk in chunks:
                if not chunk.is_pause and not chunk.missing:
                    if chunk.want != begun:
                        begun = chunk.want
                        self._watched.begins(wants[begun], chunk)
                    self._watched.came(len(chunk.data))
                yield chunk
                self._watched.look()

    def distrust(self, digest: bytes) -> bool:
        """Let the inner one know."""
        return self._inner.distrust(digest)
