"""A person on a simulated host: says something to the real agent as its socket does, and reads the answer."""

from fakes.host import SimulatedHost
from towpath.errors import TowpathError, Unavailable
from towpath.reports import Event
from towpath_agent.control.desk import Ticket
from towpath_agent.control.protocol import Answer, Request

HOUR_MS = 3_600_000


def ask(host: SimulatedHost, command: str, app: str = "", **fields: object) -> Answer | TowpathError:
    """Say something to the agent as its socket does; it is done at the begin of the next tick."""
    ticket = Ticket(Request(command, app, **fields), "ana", lambda: None)  # type: ignore[arg-type]
    host.agent.desk.put(ticket)
    host.agent.tick()
    assert ticket.answer is not None
    return ticket.answer


def told(host: SimulatedHost, command: str, app: str = "", **fields: object) -> str:
    """Say something that works; return what the person reads."""
    answer = ask(host, command, app, **fields)
    assert isinstance(answer, Answer), answer
    return "\n".join(answer.lines)


def refused(host: SimulatedHost, command: str, app: str = "", **fields: object) -> str:
    """Say something that does not; return the one line, and see that nothing was changed."""
    before = (host.journal.transactions(), host.journal.failures(), host.journal.meta().get("holds"), host.live())
    answer = ask(host, command, app, **fields)
    assert isinstance(answer, TowpathError), answer
    assert str(answer).startswith("cannot ")
    assert (
        host.journal.transactions(),
        host.journal.failures(),
        host.journal.meta().get("holds"),
        host.live(),
    ) == before
    return f"{answer.code}: {answer}"


def hold(host: SimulatedHost, app: str = "", hours: float = 2) -> str:
    return told(host, "hold", app, for_ms=round(hours * HOUR_MS), reason="the till is open")


def reasons(host: SimulatedHost, app: str = "hello") -> str:
    answer = ask(host, "explain", app)
    assert isinstance(answer, Answer)
    return "\n".join(f"{one['fact']} [{one['command']}]" for one in answer.data["reasons"])  # type: ignore[attr-defined]


def running(host: SimulatedHost, *versions: str, probation_over: bool = True) -> None:
    for number, version in enumerate(versions, 1):
        host.assign(host.publish(version), generation=number)
        if not hasattr(host, "agent"):
            host.boot()
        host.settle()
        assert host.state().current_version == version
    if probation_over:
        host.run(120)


def cut_objects(host: SimulatedHost) -> None:
    """Let the line break at every object; metadata comes through."""

    def before(want: int) -> None:
        if host.server.fetches[-1][want].kind == "object":
            raise Unavailable("cannot fetch: the connection broke")

    host.server.before_chunk = before


def of_kind(host: SimulatedHost, kind: str) -> list[Event]:
    return [event for event in host.server.events.values() if event.kind == kind]
