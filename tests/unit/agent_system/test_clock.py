"""Time: the machine's, the simulated, and deadlines on what is real."""

import threading

from fakes.clock import FakeClock
from towpath_agent.system.clock import Clock, Deadline, SystemClock


def test_system_clock_waits_for_the_event_or_the_time() -> None:
    """A set event ends waiting at once; without one, the time passes; no event waits for nothing but time."""
    clock: Clock = SystemClock()
    event = threading.Event()
    assert not clock.wait(event, 0.001)
    assert not clock.wait(None, 0.001)
    assert not clock.wait(None, -1)
    event.set()
    assert clock.wait(event, 3600)
    assert clock.now_unix_ms() > 1_600_000_000_000
    assert clock.monotonic() <= clock.monotonic()


def test_simulated_waiting_advances_time_and_runs_what_was_planned() -> None:
    """Waiting takes no real time; what was planned runs in order at its time, and may end the wait."""
    clock: FakeClock = FakeClock(now_unix_ms=5_000)
    event, seen = threading.Event(), list[tuple[str, int]]()
    clock.at(2.0, lambda: seen.append(("second", clock.now_unix_ms())))
    clock.at(1.0, lambda: seen.append(("first", clock.now_unix_ms())))
    clock.at(3.0, event.set)
    start = clock.monotonic()
    assert clock.wait(event, 3600)
    assert clock.monotonic() - start == 3.0
    assert seen == [("first", 6_000), ("second", 7_000)]
    assert not clock.wait(None, 1.0)
    assert clock.now_unix_ms() == 9_000


def test_simulated_wall_time_may_jump_while_monotonic_time_goes_on() -> None:
    """Setting the wall clock moves nothing else."""
    clock = FakeClock()
    start = clock.monotonic()
    clock.set_wall(0)
    clock.advance(1.5)
    assert (clock.now_unix_ms(), clock.monotonic() - start) == (1500, 1.5)


def test_deadline_ends_by_the_clock() -> None:
    """A deadline has passed once its clock says so, and never has less than nothing left."""
    clock = FakeClock()
    deadline = Deadline(clock, 60.0)
    assert 59.0 < deadline.remaining() <= 60.0
    assert not deadline.expired
    clock.advance(61.0)
    assert deadline.expired
    assert deadline.remaining() == 0.0


def test_deadline_ends_by_real_time_under_a_clock_that_stands_still() -> None:
    """Nobody advances the simulated clock, and still what is real is not waited for without end."""
    deadline = Deadline(FakeClock(), 0.01)
    done = threading.Event()
    while not deadline.expired:
        done.wait(0.005)
    assert deadline.elapsed_ms() >= 10
