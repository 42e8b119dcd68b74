"""The desk between two threads: done once, called back or answered, never both."""

from towpath.errors import Unavailable
from towpath_agent.control.desk import Desk, Ticket
from towpath_agent.control.protocol import Answer, Request


def ticket(command: str = "hold", told: list[str] | None = None) -> Ticket:
    return Ticket(Request(command), "ana", lambda: (told if told is not None else []).append(command))


def test_what_is_handed_in_wakes_and_is_taken_once_in_order() -> None:
    """The main thread is woken for each; two takers never get the same."""
    woken: list[int] = []
    desk = Desk(lambda: woken.append(1))
    first, second = ticket(), ticket("release")
    desk.put(first)
    desk.put(second)
    assert len(woken) == 2
    assert desk.waiting
    assert desk.take() == [first, second]
    assert desk.take() == []
    assert not desk.waiting


def test_only_what_looks_is_taken_in_the_middle_of_work() -> None:
    """A change waits until the step is over."""
    desk = Desk(lambda: None)
    change, look = ticket("revert"), ticket("explain")
    desk.put(change)
    desk.put(look)
    assert desk.take(only_looks=True) == [look]
    assert desk.take() == [change]


def test_a_ticket_can_be_called_back_until_it_is_taken() -> None:
    """So "nothing was changed" is the truth."""
    desk = Desk(lambda: None)
    waiting, taken = ticket(), ticket()
    desk.put(taken)
    desk.take()
    desk.put(waiting)
    assert desk.call_back(waiting)
    assert not desk.call_back(waiting)
    assert not desk.call_back(taken)
    assert desk.take() == []


def test_an_answer_wakes_who_waits() -> None:
    """The thread that heard the person is told."""
    told: list[str] = []
    one = ticket("hold", told)
    one.close(Answer(("done",)))
    assert told == ["hold"]
    assert one.answer == Answer(("done",))


def test_a_stopping_agent_answers_what_waits_and_what_comes_later() -> None:
    """Nobody is left without an answer, and nothing is done."""
    desk = Desk(lambda: None)
    waits, late = ticket(), ticket()
    desk.put(waits)
    desk.close()
    desk.put(late)
    assert desk.take() == []
    for one in (waits, late):
        assert isinstance(one.answer, Unavailable)
        assert "the agent is stopping" in str(one.answer)
