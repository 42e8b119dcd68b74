"""What every `towpath_agent.services.base.Service` that runs something promises.

A subclass gives the fixture `subject`: driver objects of the same host, made anew as after a restart of the agent.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from towpath_agent.errors import ServiceError
from towpath_agent.instance import Instance
from towpath_agent.services.base import STOPPED, Service
from towpath_agent.system.clock import Deadline, SystemClock, pause

WAIT_S = 20.0


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition; fail with `what` where it never holds."""
    deadline = Deadline(SystemClock(), WAIT_S)
    while not condition():
        assert not deadline.expired, what
        pause(0.005)


@dataclass
class Subject:
    """The service under test.

    `service` makes a new driver object on the same host; `instance` a runnable release, `crash` ends an app from outside,
    `count` tells how many copies of it run on the host, whatever any driver believes.
    """

    service: Callable[[], Service]
    instance: Callable[..., Instance]
    crash: Callable[[Instance], None]
    count: Callable[[Instance], int]
    counts_restarts: bool = True


class ServiceSuite:
    """Run by each service."""

    def test_start_runs_exactly_one_copy(self, subject: Subject) -> None:
        """Start tells that it started something, and one copy runs, with a pid and memory."""
        instance = subject.instance("1")
        service = subject.service()
        assert service.state(instance) == STOPPED
        assert service.start(instance)
        state = service.state(instance)
        assert state.running
        assert state.pid > 0
        assert state.rss_bytes > 0
        assert state.restarts == 0
        assert subject.count(instance) == 1

    def test_starting_again_adopts(self, subject: Subject) -> None:
        """The same release that runs already is left alone, by the same driver and by one after a restart."""
        instance = subject.instance("1")
        service = subject.service()
        service.start(instance)
        before = service.state(instance)
        assert not service.start(instance)
        assert not subject.service().start(instance)
        assert subject.service().drift(instance) == ""
        after = subject.service().state(instance)
        assert (after.pid, after.restarts) == (before.pid, 0)
        assert subject.count(instance) == 1

    def test_another_release_is_not_started_over_a_running_one(self, subject: Subject) -> None:
        """Two releases of an app never run together: the second is refused by name, the first runs on."""
        first, second = subject.instance("1"), subject.instance("2")
        service = subject.service()
        service.start(first)
        with pytest.raises(ServiceError, match=first.release_id):
            service.start(second)
        assert service.state(first).running
        assert not service.state(second).running
        assert subject.count(first) == 1

    def test_other_parameters_are_not_taken_for_the_same(self, subject: Subject) -> None:
        """The same release with another environment is not what runs, and does not replace it silently."""
        service = subject.service()
        service.start(subject.instance("1"))
        other = subject.instance("1", PORT="2")
        assert not service.state(other).running
        with pytest.raises(ServiceError, match="still runs"):
            service.start(other)
        service.stop(other)
        assert service.start(other)
        assert service.state(other).running
        assert subject.count(other) == 1

    def test_stop_ends_it_and_may_be_repeated(self, subject: Subject) -> None:
        """After stop nothing runs; stopping what never ran is fine."""
        instance = subject.instance("1")
        service = subject.service()
        service.stop(instance)
        service.start(instance)
        subject.service().stop(instance)
        assert service.state(instance) == STOPPED
        assert subject.count(instance) == 0
        service.stop(instance)

    def test_stop_ends_whatever_release_runs(self, subject: Subject) -> None:
        """A driver told to stop one release leaves none of the app: after a crash nobody may know which one runs."""
        service = subject.service()
        service.start(subject.instance("1"))
        service.stop(subject.instance("2"))
        assert subject.count(subject.instance("1")) == 0
        assert service.start(subject.instance("2"))

    def test_what_was_just_started_has_not_drifted(self, subject: Subject) -> None:
        """A unit is as its release wants it after a start, and looking changes nothing."""
        instance = subject.instance("1")
        service = subject.service()
        service.start(instance)
        assert service.drift(instance) == ""
        assert service.state(instance).why == ""
        assert isinstance(service.evidence(instance), str)
        assert subject.count(instance) == 1

    def test_crashed_app_is_seen_and_may_start_again(self, subject: Subject) -> None:
        """An app that ended by itself is not running; starting it again starts one copy and is counted."""
        instance = subject.instance("1")
        service = subject.service()
        service.start(instance)
        subject.crash(instance)
        until(lambda: not service.state(instance).running, "a dead app counts as running")
        assert subject.service().start(instance)
        state = service.state(instance)
        assert state.running
        assert subject.count(instance) == 1
        if subject.counts_restarts:
            assert state.restarts == 1
            subject.crash(instance)
            until(lambda: not service.state(instance).running, "a dead app counts as running")
            assert service.state(instance).restarts == 1

    def test_stop_and_another_release_forget_restarts(self, subject: Subject) -> None:
        """Restarts are those of one release since it was first started, so that a new one begins at none."""
        first, second = subject.instance("1"), subject.instance("2")
        service = subject.service()
        for instance in (first, first, second):
            service.start(instance)
            subject.crash(instance)
            until(lambda instance=instance: not service.state(instance).running, "a dead app counts as running")
        service.start(second)
        service.stop(second)
        service.start(second)
        assert service.state(second).restarts == 0


@dataclass
class SlotSubject:
    """The service under test, for releases with a handover.

    `instance(version, slot)` is a runnable release; `crash` ends a copy from outside; `count` tells how many copies of the
    app run on the host, in whatever slot.
    """

    service: Callable[[], Service]
    instance: Callable[[str, int | None], Instance]
    crash: Callable[[Instance], None]
    count: Callable[[Instance], int]


class SlotSuite:
    """Run by each service that can run two releases of an app side by side."""

    def test_two_slots_run_side_by_side(self, slotted: SlotSubject) -> None:
        """Another release, and the same one too, runs in the other slot; each has a state of its own."""
        service = slotted.service()
        first, second = slotted.instance("1", 0), slotted.instance("2", 1)
        assert service.start(first)
        assert service.start(second)
        assert not slotted.service().start(first)
        assert slotted.service().state(first).pid != slotted.service().state(second).pid
        assert slotted.count(first) == 2
        service.stop(second)
        again = slotted.instance("1", 1)
        assert not service.state(again).running
        assert service.start(again)
        assert service.state(first).running
        assert slotted.count(first) == 2

    def test_stopping_one_slot_leaves_the_other(self, slotted: SlotSubject) -> None:
        """Stop ends what is in its slot, whichever release; the copy beside it serves on, the same process."""
        service = slotted.service()
        first, second = slotted.instance("1", 0), slotted.instance("2", 1)
        service.start(first)
        pid = service.state(first).pid
        service.start(second)
        slotted.service().stop(slotted.instance("1", 1))
        assert not service.state(second).running
        assert slotted.service().state(first).pid == pid
        assert slotted.count(first) == 1

    def test_a_crash_in_one_slot_is_not_seen_in_the_other(self, slotted: SlotSubject) -> None:
        """One copy that ends is started again without touching the other one."""
        service = slotted.service()
        first, second = slotted.instance("1", 0), slotted.instance("2", 1)
        service.start(first)
        service.start(second)
        pid = service.state(first).pid
        slotted.crash(second)
        until(lambda: not service.state(second).running, "a dead copy counts as running")
        assert service.state(first).running
        assert service.start(second)
        state = service.state(first)
        assert (state.pid, state.restarts) == (pid, 0)
        assert slotted.count(first) == 2

    def test_a_slot_holds_one_release(self, slotted: SlotSubject) -> None:
        """A second release in a slot that is taken is refused by name."""
        service = slotted.service()
        service.start(slotted.instance("1", 1))
        with pytest.raises(ServiceError, match=slotted.instance("1", 1).release_id):
            service.start(slotted.instance("2", 1))

    def test_without_a_slot_nothing_runs_beside(self, slotted: SlotSubject) -> None:
        """A release without a handover may hold what there is only one of: neither order starts both."""
        service = slotted.service()
        alone, slot = slotted.instance("1", None), slotted.instance("2", 1)
        service.start(alone)
        with pytest.raises(ServiceError, match="still runs"):
            service.start(slot)
        service.stop(alone)
        service.start(slot)
        with pytest.raises(ServiceError, match="still runs"):
            service.start(alone)

    def test_stop_without_a_slot_ends_every_copy(self, slotted: SlotSubject) -> None:
        """An app that is removed, or loses its handover, leaves no copy behind."""
        service = slotted.service()
        for slot in (0, 1):
            service.start(slotted.instance("1", slot))
        service.stop(slotted.instance("1", None))
        assert slotted.count(slotted.instance("1", None)) == 0
