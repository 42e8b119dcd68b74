"""From probe results to a health verdict. Time is monotonic seconds, handed in.

Clocks (Nomad's): all probes must pass without a break for `healthy_for`, before `deadline`. A probe that has never
passed may still be starting, so only the deadline judges it; one that has passed and then fails `failures` times in a
row is ill at once. Flapping starts `healthy_for` anew: until HEALTHY was said, one failed check is a break; after that,
fewer than `failures` in a row are forgiven.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from towpath.release import HealthPolicy, Probe
from towpath.status import Health

# What all probes together may say in a report; the end of the app's log needs as much again. A line is cut to no less
# than its kind and the beginning of what was seen.
MAX_EVIDENCE_CHARS = 2048
MIN_LINE_CHARS = 60


@dataclass(slots=True)
class _Track:
    """One probe's results in a row."""

    passed: int = 0
    failed: int = 0
    passing: bool = False
    ever_passed: bool = False
    evidence: str = "not run yet"
    took_ms: int = 0
    due: float = 0.0

    @property
    def in_a_row(self) -> str:
        """Return what the last checks were, in words."""
        count, verb = (self.failed, "failed") if self.failed else (self.passed, "passed")
        return f"{verb} {count} times in a row, last in {self.took_ms} ms: " if count else ""


@dataclass(frozen=True, slots=True)
class HealthVerdict:
    """The verdict, and what a person should read about it."""

    health: Health
    reason: str
    evidence: str = ""


class HealthTracker:
    """Follows the probes of one running release. Mutable, but only by what is handed in."""

    def __init__(self, probes: Sequence[Probe], policy: HealthPolicy, started_s: float) -> None:
        """Begin at `started_s`: the deadline counts from there."""
        self._probes = tuple(probes)
        self._policy = policy
        self._started = started_s
        self._tracks = [_Track(due=started_s) for _ in self._probes]
        self._passing_since: float | None = None if self._probes else started_s
        self._proven = (
            False  # HEALTHY was said since then; that time has passed alone is no proof, the next check may fail
        )

    def due(self, now_s: float) -> list[int]:
        """Return which probes to run now."""
        return [number for number, track in enumerate(self._tracks) if track.due <= now_s]

    def next_due_s(self) -> float | None:
        """Return when the next probe is due, or None where there is no probe."""
        return min((track.due for track in self._tracks), default=None)

    def observe(
        self, number: int, *, ok: bool, evidence: str, now_s: float, slow_s: float = 0.0, took_ms: int = 0
    ) -> None:
        """Take one result; the probe is due again after its interval, or `slow_s` where that is longer."""
        probe, track = self._probes[number], self._tracks[number]
        track.evidence, track.took_ms = evidence, took_ms
        track.due = now_s + max(probe.interval_ms / 1000, slow_s)
        if ok:
            track.passed, track.failed = track.passed + 1, 0
            if track.passed >= probe.successes:
                track.passing = track.ever_passed = True
        else:
            track.passed, track.failed = 0, track.failed + 1
            if track.failed >= probe.failures or not track.ever_passed:
                track.passing = False
        since, unbroken = self._passing_since, all(other.passing and not other.failed for other in self._tracks)
        if since is None:
            self._passing_since = now_s if unbroken else None
        elif not unbroken and not (self._proven and all(other.passing for other in self._tracks)):
            self._passing_since, self._proven = None, False

    def verdict(self, now_s: float) -> HealthVerdict:
        """Return STARTING until proven, then HEALTHY; UNHEALTHY with the failing probe's evidence otherwise."""
        ill = [
            (probe, track)
            for probe, track in zip(self._probes, self._tracks, strict=True)
            if track.ever_passed and not track.passing
        ]
        if ill:
            probe, track = ill[0]
            reason = f"probe {probe.kind} failed {track.failed} times in a row: {track.evidence}"
            return HealthVerdict(Health.UNHEALTHY, reason, self._all_evidence())
        healthy_for = self._policy.healthy_for_ms / 1000
        if self._passing_since is not None and now_s - self._passing_since >= healthy_for:
            self._proven = True
            return HealthVerdict(Health.HEALTHY, "all probes pass")
        deadline = self._policy.deadline_ms / 1000
        if now_s - self._started >= deadline:
            waiting = [
                f"probe {probe.kind} does not pass: {track.evidence}"
                for probe, track in zip(self._probes, self._tracks, strict=True)
                if not track.passing
            ]
            why = waiting[0] if waiting else f"not healthy for {healthy_for:g}s without a break"
            return HealthVerdict(
                Health.UNHEALTHY, f"not healthy within the deadline of {deadline:g}s: {why}", self._all_evidence()
            )
        return HealthVerdict(Health.STARTING, "waiting for its probes")

    def decides_at_s(self, now_s: float) -> float | None:
        """Return when time alone may next change the verdict, healthy_for reached or the deadline; None: never."""
        times = [self._started + self._policy.deadline_ms / 1000]
        if self._passing_since is not None:
            times.append(self._passing_since + self._policy.healthy_for_ms / 1000)
        return min((time for time in times if time > now_s), default=None)

    def _all_evidence(self) -> str:
        """Return a line for each probe, those that fail first: of them a person must see all that there is room for."""
        pairs = sorted(zip(self._probes, self._tracks, strict=True), key=lambda pair: not pair[1].failed)
        lines = [f"{probe.kind} {track.in_a_row}{track.evidence}" for probe, track in pairs]
        room = MAX_EVIDENCE_CHARS
        shown: list[str] = []
        for number, line in enumerate(lines):
            later = len(lines) - number - 1
            most = max(MIN_LINE_CHARS, room - later * (MIN_LINE_CHARS + 1))
            shown.append(line if len(line) <= most else f"{line[: most - 3]}...")
            room -= len(shown[-1]) + 1
        return "\n".join(shown)
