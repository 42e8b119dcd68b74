"""Start before stop: a proxy that never sends a request to a port where nothing healthy answers.

The proxy is a file that the publisher's real hook replaces: the port that gets all requests. `Traffic` looks at it at
every change of disk, journal or process: whatever the agent does or dies in, the port in it is one where a healthy copy
runs. So is it at every crash point, which are counted, not listed.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.host import POLICY, Killed, SimulatedHost
from towpath.handover import FEATURE, Handover
from towpath.parameters import Parameter
from towpath.release import Hook, Release, Run
from towpath.status import Health, State, Verdict

BLUE, GREEN = 8081, 8082
PARAMETERS = (Parameter("port", "port", BLUE), Parameter("spare", "port", GREEN))
DRAIN_S = 3.0
RUN = Run(
    "process", command=("bin/serve", "--port", "${port}"), handover=Handover(("port", "spare"), round(DRAIN_S * 1000))
)


class Traffic:
    """The proxy of a host, and what it must never do."""

    def __init__(self, host: SimulatedHost, folder: Path) -> None:
        self.host, self.file = host, folder / "proxy"
        self.watched = False
        self.wrong: list[str] = []
        self.history: list[int] = []
        host.extra_change = self.look

    @property
    def hook(self) -> Hook:
        """The publisher's hook: idempotent, and whole or not at all."""
        script = f'echo "$0" > {self.file}.new && mv {self.file}.new {self.file}'
        return Hook("handover", ("/bin/sh", "-c", script, "${port}"))

    @property
    def port(self) -> int:
        """The port that gets all requests."""
        return int(self.file.read_text()) if self.file.exists() else 0

    def look(self, verb: str, path: Path) -> None:
        """Take a request now."""
        port = self.port
        if port and (not self.history or self.history[-1] != port):
            self.history.append(port)
        if not self.watched:
            return
        healthy = [
            int(copy.command[-1])
            for copy in self.host.world.copies("hello")
            if copy.release_id.rpartition("-")[0] not in self.host.ill
        ]
        if port not in healthy:
            self.wrong.append(f"before {verb} {path.name}: requests go to {port}, healthy are {healthy}")

    def publish(self, version: str, **fields: Any) -> Release:
        """Publish a release with a handover."""
        hooks = (fields.pop("hook", self.hook), *fields.pop("hooks", ()))
        parts = {"run": RUN, "parameters": PARAMETERS, "critical": (FEATURE,), **fields}
        return self.host.publish(version, hooks=hooks, **parts)

    def ports(self) -> list[str]:
        """What runs, with its port."""
        return sorted(
            f"{copy.release_id.rpartition('-')[0]} {copy.command[-1]}" for copy in self.host.world.copies("hello")
        )


def ready(folder: Path) -> tuple[SimulatedHost, Traffic]:
    """Return a host that serves 1.0.0 through its proxy, past probation."""
    host = SimulatedHost(folder)
    traffic = Traffic(host, folder)
    host.assign(traffic.publish("1.0.0"))
    host.boot()
    host.settle()
    host.run(120)
    assert (traffic.port, traffic.ports()) == (BLUE, [f"1.0.0 {BLUE}"])
    traffic.watched = True
    return host, traffic


def log_of(host: SimulatedHost) -> list[tuple[str, str]]:
    return [(verb, release_id.rpartition("-")[0]) for verb, release_id in host.world.log]


def test_the_new_release_serves_before_the_old_one_stops(tmp_path: Path) -> None:
    """Start beside, prove, move traffic, drain, stop; each release takes the port that the one before leaves."""
    host, traffic = ready(tmp_path)
    for number, (version, port) in enumerate([("2.0.0", GREEN), ("3.0.0", BLUE), ("4.0.0", GREEN)], 2):
        host.assign(traffic.publish(version), generation=number)
        host.settle()
        assert (traffic.port, traffic.ports()) == (port, [f"{version} {port}"])
        assert host.state().parameters == {"port": BLUE, "spare": GREEN}
    assert traffic.wrong == []
    assert log_of(host) == [
        ("start", "1.0.0"), ("start", "2.0.0"), ("stop", "1.0.0"), ("start", "3.0.0"), ("stop", "2.0.0"),
        ("start", "4.0.0"), ("stop", "3.0.0"),
    ]  # fmt: skip
    assert host.chain(version="2.0.0")[-4:] == ["Switching", "Switched", "Watching", "Confirmed"]


def test_the_old_release_drains_after_traffic_has_moved(tmp_path: Path) -> None:
    """For `drain` both run; only then the old one gets its pre_stop hook and is stopped."""
    host, traffic = ready(tmp_path)
    host.assign(traffic.publish("2.0.0"), generation=2)
    host.run(60, lambda: traffic.port == GREEN)
    moved_s = host.clock.monotonic()
    assert traffic.ports() == [f"1.0.0 {BLUE}", f"2.0.0 {GREEN}"]
    host.run(60, lambda: len(traffic.ports()) == 1)
    assert host.clock.monotonic() - moved_s == pytest.approx(DRAIN_S, abs=0.6)
    assert host.state().state is State.CONFIRMED


def test_a_bad_release_never_gets_a_request_and_the_old_one_is_not_touched(tmp_path: Path) -> None:
    """A copy that fails its probes is stopped; no hook runs, the old process is the same."""
    host, traffic = ready(tmp_path)
    pid = host.world.copies("hello")[0].pid
    host.ill.add("2.0.0")
    host.assign(traffic.publish("2.0.0"), generation=2)
    host.settle()
    assert host.state().verdict is Verdict.FAILED
    assert [copy.pid for copy in host.world.copies("hello")] == [pid]
    assert traffic.history == [BLUE]
    assert traffic.wrong == []
    host.assign(traffic.publish("3.0.0"), generation=3)
    host.settle()
    assert traffic.ports() == [f"3.0.0 {GREEN}"]
    assert traffic.wrong == []


def test_an_old_release_that_dies_meanwhile_is_started_again(tmp_path: Path) -> None:
    """While the new release is proven, the old one is what serves; it is kept."""
    host, traffic = ready(tmp_path)
    host.ready_after["2.0.0"] = 20.0
    host.assign(traffic.publish("2.0.0"), generation=2)
    host.run(60, lambda: len(traffic.ports()) == 2)
    traffic.watched = False  # a crash of the app itself is a gap that no agent can close
    host.world.crash("hello", 0)
    host.run(8)
    assert traffic.ports() == [f"1.0.0 {BLUE}", f"2.0.0 {GREEN}"]
    host.settle()
    assert (traffic.port, traffic.ports()) == (GREEN, [f"2.0.0 {GREEN}"])


def test_a_release_that_fails_while_the_old_one_drains_gives_traffic_back_at_once(tmp_path: Path) -> None:
    """Once its probes fail after the hook, the old release's own hook runs, and the old process never stopped."""
    host, traffic = ready(tmp_path)
    pid = host.world.copies("hello")[0].pid
    host.assign(traffic.publish("2.0.0", run=_draining(30.0)), generation=2)
    host.run(60, lambda: traffic.port == GREEN)
    host.ill.add("2.0.0")
    traffic.watched = False
    host.run(10, lambda: traffic.port == BLUE)
    assert traffic.port == BLUE
    traffic.watched = True
    host.settle()
    assert host.state().verdict is Verdict.FAILED
    assert [copy.pid for copy in host.world.copies("hello")] == [pid]
    assert traffic.history == [BLUE, GREEN, BLUE]
    assert traffic.wrong == []


def _draining(seconds: float) -> Run:
    return replace(RUN, handover=Handover(("port", "spare"), round(seconds * 1000)))


def test_a_release_that_dies_while_the_old_one_drains_gives_traffic_back_at_once(tmp_path: Path) -> None:
    """It is not started again first: what can serve at once is the old release."""
    host, traffic = ready(tmp_path)
    host.assign(traffic.publish("2.0.0", run=_draining(30.0)), generation=2)
    host.run(60, lambda: traffic.port == GREEN)
    traffic.watched = False
    host.world.crash("hello", 1)
    host.settle()
    assert (traffic.port, traffic.ports()) == (BLUE, [f"1.0.0 {BLUE}"])
    assert log_of(host).count(("start", "2.0.0")) == 1
    assert host.state().reason == "the app stopped by itself"


def test_in_probation_the_old_release_is_proven_before_it_takes_traffic_back(tmp_path: Path) -> None:
    """It was stopped by then: it is started beside the ill one, and traffic moves once its probes pass."""
    host, traffic = ready(tmp_path)
    host.fails_from["2.0.0"] = 20.0
    host.assign(traffic.publish("2.0.0"), generation=2)
    host.settle()
    assert traffic.ports() == [f"2.0.0 {GREEN}"]
    host.ready_after["1.0.0"] = 4.0
    host.run(60, lambda: len(traffic.ports()) == 2)
    assert traffic.port == GREEN
    began_s = host.clock.monotonic()
    host.run(60, lambda: traffic.port == BLUE)
    assert 4.0 <= host.clock.monotonic() - began_s < 5.0
    assert traffic.ports() == [f"1.0.0 {BLUE}", f"2.0.0 {GREEN}"]  # drains
    host.settle()
    assert (traffic.port, traffic.ports()) == (BLUE, [f"1.0.0 {BLUE}"])
    assert host.state().verdict is Verdict.FAILED
    assert traffic.wrong == []


def test_a_handover_hook_that_fails_reverts_and_is_run_back(tmp_path: Path) -> None:
    """The proxy may have been half changed, so the old release's hook points it to where it was."""
    host, traffic = ready(tmp_path)
    half = Hook("handover", ("/bin/sh", "-c", f'echo "$0" > {traffic.file}; exit 3', "${port}"))
    host.assign(traffic.publish("2.0.0", hook=half), generation=2)
    host.settle()
    assert (traffic.port, traffic.ports()) == (BLUE, [f"1.0.0 {BLUE}"])
    assert "hook handover exited 3" in host.state().reason
    assert traffic.history == [BLUE, GREEN, BLUE]
    assert traffic.wrong == []


def test_a_proxy_that_cannot_be_pointed_back_keeps_both_and_is_tried_again(tmp_path: Path) -> None:
    """Stuck, said loudly: while traffic may go to the new copy it is not stopped; once the hook works, all is well."""
    host, traffic = ready(tmp_path)
    broken = tmp_path / "broken"
    once = Hook("handover", ("/bin/sh", "-c", f'test ! -e {broken} && echo "$0" > {traffic.file}', "${port}"))
    host.assign(traffic.publish("2.0.0", hook=once), generation=2)
    host.settle()
    broken.touch()
    assert host.state().current_version == "2.0.0"
    host.run(120)
    fails = Hook("handover", ("/bin/sh", "-c", f'touch {broken}; echo "$0" > {traffic.file}; exit 1', "${port}"))
    host.assign(traffic.publish("3.0.0", hook=fails), generation=3)
    host.run(60, lambda: host.state().state is State.STUCK)
    assert "hook handover exited 1" in host.state().reason
    assert traffic.ports() == [f"2.0.0 {GREEN}", f"3.0.0 {BLUE}"]
    broken.unlink()
    host.settle(1200)
    assert (traffic.port, traffic.ports()) == (GREEN, [f"2.0.0 {GREEN}"])
    assert traffic.wrong == []


def test_a_newer_wish_in_the_drain_gives_traffic_back_and_then_moves_on(tmp_path: Path) -> None:
    """A superseded release leaves as a failed one does, without a gap, and is blamed for nothing."""
    host, traffic = ready(tmp_path)
    host.assign(traffic.publish("2.0.0", run=_draining(30.0)), generation=2)
    host.run(60, lambda: traffic.port == GREEN)
    host.assign(traffic.publish("3.0.0"), generation=3)
    tick, ticks = host.agent.tick, []

    def counted() -> float:
        ticks.append(host.clock.monotonic())
        return tick()

    host.agent.tick = counted  # type: ignore[method-assign]
    host.settle()
    assert len(ticks) < 500, "the agent does not sleep while the copy that leaves drains"
    assert (traffic.port, traffic.ports()) == (GREEN, [f"3.0.0 {GREEN}"])
    assert traffic.history == [BLUE, GREEN, BLUE, GREEN]
    assert host.transitions(version="2.0.0")[-1].verdict == Verdict.SUPERSEDED
    assert traffic.wrong == []


def test_the_same_release_with_another_parameter_moves_to_the_other_port(tmp_path: Path) -> None:
    """Two copies of the very same bits are kept apart by their slot."""
    host, traffic = ready(tmp_path)
    named = replace(RUN, env={"NAME": "${name}"})
    parameters = (*PARAMETERS, Parameter("name", "string", "a"))
    release = traffic.publish("2.0.0", run=named, parameters=parameters)
    host.assign(release, generation=2)
    host.settle()
    host.assign(release, generation=3, parameters={"name": "b"})
    host.settle()
    assert traffic.ports() == [f"2.0.0 {BLUE}"]
    assert traffic.port == BLUE
    assert traffic.wrong == []


def test_a_new_generation_alone_leaves_the_copy_in_its_slot(tmp_path: Path) -> None:
    """What runs already is adopted where it is; nothing is started or stopped."""
    host, traffic = ready(tmp_path)
    release = traffic.publish("2.0.0")
    host.assign(release, generation=2)
    host.settle()
    log = list(host.world.log)
    host.assign(release, generation=3)
    host.settle()
    host.run(120)
    assert host.world.log == log
    assert traffic.ports() == [f"2.0.0 {GREEN}"]
    host.assign(traffic.publish("3.0.0"), generation=4)
    host.settle()
    assert traffic.ports() == [f"3.0.0 {BLUE}"]
    assert traffic.wrong == []


@pytest.mark.parametrize("first", ["plain", "handed"])
def test_a_release_that_gains_or_loses_its_handover_is_stopped_first(tmp_path: Path, first: str) -> None:
    """One of the two was not made to run beside another."""
    host = SimulatedHost(tmp_path)
    traffic = Traffic(host, tmp_path)
    plain = host.publish("1.0.0")
    handed = traffic.publish("2.0.0")
    old, new = (plain, handed) if first == "plain" else (handed, plain)
    host.assign(old)
    host.boot()
    host.settle()
    host.assign(new, generation=2)
    host.settle()
    assert log_of(host) == [("start", old.version), ("stop", old.version), ("start", new.version)]
    assert traffic.port == BLUE


def test_a_removed_app_leaves_no_copy(tmp_path: Path) -> None:
    """Removal ends what runs, in whatever slot."""
    host, traffic = ready(tmp_path)
    host.assign(traffic.publish("2.0.0"), generation=2)
    host.settle()
    traffic.watched = False
    host.assign()
    host.settle()
    assert traffic.ports() == []


def test_a_reboot_in_the_drain_starts_again_and_ends_with_one_copy(tmp_path: Path) -> None:
    """Nothing runs after a reboot: the new release is proven once more, and traffic goes to it."""
    host, traffic = ready(tmp_path)
    host.assign(traffic.publish("2.0.0", run=_draining(30.0)), generation=2)
    host.run(60, lambda: traffic.port == GREEN)
    traffic.watched = False
    host.world.reboot()
    host.boot()
    host.agent.hint()
    host.settle()
    assert (traffic.port, traffic.ports()) == (GREEN, [f"2.0.0 {GREEN}"])


Scene = Callable[[SimulatedHost, Traffic], tuple[str, int]]


def _upgrade(host: SimulatedHost, traffic: Traffic) -> tuple[str, int]:
    host.assign(traffic.publish("2.0.0"), generation=2)
    return "2.0.0", GREEN


def _bad_upgrade(host: SimulatedHost, traffic: Traffic) -> tuple[str, int]:
    host.ill.add("2.0.0")
    host.assign(traffic.publish("2.0.0"), generation=2)
    return "1.0.0", BLUE


def _bad_hook(host: SimulatedHost, traffic: Traffic) -> tuple[str, int]:
    half = Hook("handover", ("/bin/sh", "-c", f'echo "$0" > {traffic.file}; exit 3', "${port}"))
    host.assign(traffic.publish("2.0.0", hook=half), generation=2)
    return "1.0.0", BLUE


def _ill_in_probation(host: SimulatedHost, traffic: Traffic) -> tuple[str, int]:
    probation = replace(POLICY, probation_ms=600_000)
    host.fails_from["2.0.0"] = 25.0
    host.assign(traffic.publish("2.0.0", health=probation), generation=2)
    return "1.0.0", BLUE


def _ill_in_drain(host: SimulatedHost, traffic: Traffic) -> tuple[str, int]:
    host.fails_from["2.0.0"] = 4.0
    host.assign(traffic.publish("2.0.0", run=_draining(10.0)), generation=2)
    return "1.0.0", BLUE


SCENES: dict[str, Scene] = {
    "upgrade": _upgrade,
    "ill in drain": _ill_in_drain,
    "bad upgrade": _bad_upgrade,
    "bad hook": _bad_hook,
    "ill in probation": _ill_in_probation,
}


def _end(host: SimulatedHost, name: str) -> None:
    host.settle(600)
    if name == "ill in probation":
        host.run(100)
        host.settle(600)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SCENES)
def test_killed_at_any_change_no_request_is_lost_and_one_copy_serves(tmp_path: Path, name: str) -> None:
    """Kill -9 at every change of every scene: the proxy always has a healthy copy behind it, and one is left."""
    count, traffic = ready(tmp_path / "count")
    before = count.changes
    SCENES[name](count, traffic)
    _end(count, name)
    assert traffic.wrong == []
    points = count.changes - before
    assert points > 30
    for point in range(1, points + 1):
        host, traffic = ready(tmp_path / f"{point}")
        expected, port = SCENES[name](host, traffic)
        host.kill_at = host.changes + point
        for _ in range(3):
            try:
                _end(host, name)
            except Killed:
                host.kill_at = None
                host.boot()
                host.agent.hint()
            else:
                break
        where = f"{name}, killed at change {point} ({', '.join(host.steps)})"
        assert host.steps, where
        assert traffic.wrong == [], where
        assert (traffic.port, traffic.ports(), host.live()) == (port, [f"{expected} {port}"], expected), where
        state = host.state()
        assert (state.current_version, state.health) == (expected, Health.HEALTHY), where
        log = list(host.world.log)
        host.boot()
        host.agent.hint()
        host.settle()
        assert host.world.log == log, f"{where}: a second recovery touched what runs"
