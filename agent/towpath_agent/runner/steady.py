"""Keeps what is confirmed running: probes it at leisure, starts it again where it stopped, tells of both.

A process that keeps dying is started with growing pauses, so that it cannot burn the host.
"""

from collections.abc import Iterable, Mapping

from towpath.release import HealthPolicy
from towpath.status import Health
from towpath.wire import decode_release
from towpath_agent.engine import pacing
from towpath_agent.engine.health import HealthVerdict
from towpath_agent.journal import Deployed
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


class Steady:
    """All confirmed apps of a host."""

    def __init__(self, site: Site, drivers: Drivers, clock: Clock) -> None:
        """Begin with nothing; `keep` says what there is."""
        self._site, self._drivers, self._clock = site, drivers, clock
        self._kept: dict[str, _Kept] = {}
        self._notes: list[tuple[str, str, str]] = []
        self.verdicts: dict[str, HealthVerdict] = {}

    def adopt(self, app: str, watch: HealthWatch) -> None:
        """Go on with a watch that has proven its release already."""
        watch.relax()
        self._kept[app] = _Kept(watch)

    def keep(self, apps: Mapping[str, Deployed]) -> None:
        """Check every app that is due; forget those that are not named."""
        for app in set(self._kept) - set(apps):
            del self._kept[app]
            self.verdicts.pop(app, None)
        for app, deployed in apps.items():
            kept = self._kept.get(app)
            if kept is None or kept.watch.deployed != deployed:
                # It was proven before; that the agent was restarted is no reason to doubt it for healthy_for.
                policy = HealthPolicy(0, decode_release(deployed.release).health.deadline_ms, 0)
                watch = HealthWatch(deployed, self._site, self._drivers, self._clock, policy)
                kept = self._kept[app] = _Kept(watch)
            if self._clock.monotonic() >= kept.check_at_s:
                self._check(app, kept)

    def _check(self, app: str, kept: _Kept) -> None:
        try:
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
        evidence = self._site.tail(self._site.log(deployed), 2048)
        self._drivers.services[release.run.kind].start(self._site.instance(deployed))
        kept.restarts += 1
        kept.last_restart_s = now
        kept.restart_at_s = now + pacing.backoff_s(kept.restarts, pacing.RESTART_RETRY_S, pacing.MAX_RESTART_RETRY_S)
        self._notes.append((app, f"it was not running; started again ({kept.restarts})", evidence))

    def take_notes(self) -> list[tuple[str, str, str]]:
        """Return what was repaired since the last call: (app, reason, evidence)."""
        notes, self._notes = self._notes, []
        return notes

    def due_times(self) -> Iterable[float]:
        """Return when each app wants to be looked at again (monotonic)."""
        return [kept.check_at_s for kept in self._kept.values()]
