"""Runs the probes that are due and keeps the verdict: while watching, after confirm, and on what was reverted to."""

from towpath.release import HealthPolicy, Release
from towpath.status import Health
from towpath.wire import decode_release
from towpath_agent.engine.health import HealthTracker, HealthVerdict
from towpath_agent.journal import Deployed
from towpath_agent.probes.base import ProbeContext
from towpath_agent.runner import logmarks
from towpath_agent.runner.site import Drivers, Site, render_options, values_of
from towpath_agent.services.base import ServiceState
from towpath_agent.system.clock import Clock, Deadline

# After confirm an app is probed this often at most: an idle host must stay idle.
STEADY_INTERVAL_S = 10.0


class HealthWatch:
    """Watches one running release."""

    def __init__(
        self, deployed: Deployed, site: Site, drivers: Drivers, clock: Clock, policy: HealthPolicy | None = None
    ) -> None:
        """Begin now; `policy` replaces the release's own clocks."""
        self.deployed = deployed
        self._release: Release = decode_release(deployed.release)
        self._instance = site.instance(deployed)
        self._site, self._drivers, self._clock = site, drivers, clock
        self._steady = False
        self._judged_s = clock.monotonic()
        self._tracker = HealthTracker(self._release.probes, policy or self._release.health, self._judged_s)

    def service_state(self) -> ServiceState:
        """Return whether the app runs, as its service sees it."""
        return self._drivers.services[self._release.run.kind].state(self._instance)

    def relax(self) -> None:
        """Probe at the steady interval from now on."""
        self._steady = True

    def check(self, state: ServiceState) -> HealthVerdict:
        """Run the probes that are due and return the verdict."""
        now = self._clock.monotonic()
        for number in self._tracker.due(now):
            probe = self._release.probes[number]
            context = ProbeContext(
                instance=self._instance,
                service_state=state,
                timeout_s=probe.timeout_ms / 1000,
                marks=logmarks.read(self._site, self.deployed) if probe.kind == "log" else {},
            )
            options = render_options(probe.options, values_of(self.deployed))
            timer = Deadline(self._clock, context.timeout_s)
            result = self._drivers.probes[probe.kind].check(options, context)
            self._tracker.observe(
                number,
                ok=result.ok,
                evidence=result.evidence,
                now_s=self._clock.monotonic(),
                slow_s=STEADY_INTERVAL_S if self._steady else 0.0,
                took_ms=timer.elapsed_ms(),
            )
        self._judged_s = self._clock.monotonic()
        return self._tracker.verdict(self._judged_s)

    def next_due_s(self) -> float:
        """Return the monotonic time at which `check` may find something new."""
        decides = None if self._steady else self._tracker.decides_at_s(self._judged_s)
        times = [time for time in (self._tracker.next_due_s(), decides) if time is not None]
        return min(times, default=self._clock.monotonic() + STEADY_INTERVAL_S)


def is_ill(verdict: HealthVerdict) -> bool:
    """Return whether the verdict calls for going back."""
    return verdict.health is Health.UNHEALTHY
