"""Keeps what is confirmed running: probes it at leisure, starts it again where it stopped, repairs drift, tells of all.

What keeps coming back is repaired ever more seldom and told once; so is a process that keeps dying, which is started
with growing pauses, so that it cannot burn the host.
"""

from collections.abc import Iterable, Mapping

from towpath.errors import TowpathError
from towpath.release import HealthPolicy
from towpath.status import Health
from towpath.wire import decode_release
from towpath_agent.engine import pacing
from towpath_agent.engine.drift import Tell, told
from towpath_agent.engine.health import HealthVerdict
from towpath_agent.journal import Deployed
from towpath_agent.runner import logmarks
from towpath_agent.runner.drift import Drift, Fetch, Note, no_server
from towpath_agent.runner.health import HealthWatch
from towpath_agent.runner.site import Drivers, Site
from towpath_agent.system.clock import Clock

# Restarts are forgotten once the app has run this long.
CALM_S = 300.0
CRASH_LOOP = 3
SERVICE_CHECK_S = 10.0


class _Kept:
    """One app that is kept running."""

    def __init__(self, watch: HealthWatch) -> None:
        self.watch = watch
        self.restarts = 0
        self.restart_at_s = 0.0
        self.last_restart_s = 0.0
        self.check_at_s = 0.0
        self.cannot_start = False


class Steady:
    """All confirmed apps of a host."""

    def __init__(self, site: Site, drivers: Drivers, clock: Clock, fetch: Fetch = no_server) -> None:
        """Begin with nothing; `keep` says what there is. `fetch` brings objects that the store lacks for a repair."""
        self._site, self._drivers, self._clock = site, drivers, clock
        self._kept: dict[str, _Kept] = {}
        self._drift = Drift(site, drivers, clock, fetch)
        self._notes: list[tuple[str, Note]] = []
        self.verdicts: dict[str, HealthVerdict] = {}

    def adopt(self, app: str, watch: HealthWatch) -> None:
        """Go on with a watch that has proven its release already."""
        watch.relax()
        self._kept[app] = _Kept(watch)
        try:
            self._drift.adopt(watch.deployed)
        except Exception:  # noqa: BLE001 - begun anew, and what is wrong is told, at the next check
            self._drift.forget(app)

    def keep(self, apps: Mapping[str, Deployed], previous: Mapping[str, str]) -> None:
        """Check every app that is due; forget those that are not named. `previous` is app to release id."""
        for app in set(self._kept) - set(apps):
            del self._kept[app]
            self.verdicts.pop(app, None)
            self._drift.forget(app)
        for app, deployed in apps.items():
            kept = self._kept.get(app)
            if kept is None or kept.watch.deployed != deployed:
                # It was proven before; that the agent was restarted is no reason to doubt it for healthy_for.
                policy = HealthPolicy(0, decode_release(deployed.release).health.deadline_ms, 0)
                watch = HealthWatch(deployed, self._site, self._drivers, self._clock, policy)
                kept = self._kept[app] = _Kept(watch)
            if self._clock.monotonic() >= kept.check_at_s:
                self._check(app, kept, previous.get(app))

    def _check(self, app: str, kept: _Kept, previous_id: str | None) -> None:
        try:
            self._notes += [(app, note) for note in self._drift.check(kept.watch.deployed, previous_id)]
            state = kept.watch.service_state()
            if not state.running:
                self._restart(app, kept)
                state = kept.watch.service_state()
            elif kept.restarts and self._clock.monotonic() - kept.last_restart_s > CALM_S:
                kept.restarts = 0
            verdict = kept.watch.check(state)
        except Exception as error:  # noqa: BLE001 - a bug in one driver must not end the agent, at every start anew
            verdict = HealthVerdict(Health.UNKNOWN, f"cannot check: {error}")
        if kept.restarts >= CRASH_LOOP:
            verdict = HealthVerdict(Health.UNHEALTHY, f"it stopped by itself {kept.restarts} times", verdict.evidence)
        if verdict.health is Health.HEALTHY:
            kept.watch.relax()
        self.verdicts[app] = verdict
        kept.check_at_s = min(self._clock.monotonic() + SERVICE_CHECK_S, kept.watch.next_due_s())
        if kept.restart_at_s > self._clock.monotonic():
            kept.check_at_s = min(kept.check_at_s, kept.restart_at_s)

    def _restart(self, app: str, kept: _Kept) -> None:
        now = self._clock.monotonic()
        if now < kept.restart_at_s:
            return
        deployed = kept.watch.deployed
        release = decode_release(deployed.release)
        service, instance = self._drivers.services[release.run.kind], self._site.instance(deployed)
        evidence = f"{service.evidence(instance)}\n{self._site.tail(self._site.log(deployed), 2048)}".strip()
        kept.restarts += 1
        kept.last_restart_s = now
        kept.restart_at_s = now + pacing.backoff_s(kept.restarts, pacing.RESTART_RETRY_S, pacing.MAX_RESTART_RETRY_S)
        try:
            logmarks.start(self._site, service, deployed)
        except (TowpathError, OSError) as error:
            if not kept.cannot_start:
                reason = f"it was not running and cannot be started: {error}; it is tried again"
                self._notes.append((app, Note(Tell.FAILED.value, reason, evidence)))
            kept.cannot_start = True
            raise
        tell = Tell.REPAIRED if kept.cannot_start else told(kept.restarts)
        kept.cannot_start = False
        if tell is not Tell.NOTHING:
            more = "; it keeps stopping, further restarts are not told" if tell is Tell.RECURS else ""
            reason = f"it was not running; started again ({kept.restarts}){more}"
            self._notes.append((app, Note(tell.value, reason, evidence)))

    def take_notes(self) -> list[tuple[str, Note]]:
        """Return what was repaired since the last call, by app."""
        notes, self._notes = self._notes, []
        return notes

    def restarts(self, app: str) -> tuple[int, float]:
        """Return how often `app` was started again of late, and the monotonic time before which it is not again."""
        kept = self._kept.get(app)
        return (kept.restarts, kept.restart_at_s) if kept is not None else (0, 0.0)

    def due_times(self) -> Iterable[float]:
        """Return when each app wants to be looked at again (monotonic)."""
        return [kept.check_at_s for kept in self._kept.values()]
