"""A budget of processor time for code whose cost nobody knows."""

import re
import signal
import threading
import time

import pytest

from towpath.errors import Broken
from towpath_agent.system.cpu import CpuBudget, OutOfTime


def test_matching_that_would_take_years_ends_in_time() -> None:
    """The middle of a match is interrupted; what follows runs as ever."""
    budget, begin = CpuBudget(0.1), time.process_time()
    with pytest.raises(OutOfTime), budget.spend():
        re.search("(a+)+$", "a" * 60 + "b")
    assert 0.05 < time.process_time() - begin < 5
    assert not budget.untouched
    with pytest.raises(OutOfTime), budget.spend():
        pytest.fail("a budget that is used up lets nothing begin")


def test_a_budget_is_shared_by_its_blocks_and_waiting_costs_nothing() -> None:
    """Only computing counts, and what one block took the next one lacks."""
    budget = CpuBudget(0.5)
    assert budget.untouched
    with budget.spend():
        threading.Event().wait(0.2)
    left = budget.left_s
    assert 0.3 < left <= 0.5
    with budget.spend():
        # The timer counts ticks in user mode, so most of this has to be that. How much of its time a process spent there
        # is no measure: the kernel scales that number, and in an old process it leaps.
        end = time.thread_time() + 0.15
        while time.thread_time() < end:
            sum(range(20_000))
    assert budget.left_s < left - 0.02


def test_a_signal_that_comes_late_does_nothing() -> None:
    """After the block neither the timer nor a stray signal can hurt whoever runs then."""
    with CpuBudget(5.0).spend():
        pass
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    signal.raise_signal(signal.SIGVTALRM)


def test_other_threads_are_refused() -> None:
    """A signal reaches the main thread alone."""
    caught: list[Exception] = []

    def work() -> None:
        try:
            with CpuBudget(1.0).spend():
                pass
        except Broken as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])
