"""The person's commands of `towpath-agent` against an agent of this process: what is asked, printed and refused."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from towpath.errors import InputError
from towpath_agent import control_cli
from towpath_agent.control import SOCKET
from towpath_agent.control.desk import Desk
from towpath_agent.control.listener import Listener
from towpath_agent.control.protocol import Answer, Contact, Request
from towpath_agent.journal import open_journal
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.local_socket import listen

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _through_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ana be who types."""
    monkeypatch.setenv("SUDO_USER", "ana")


LINES = ("first line", "second \x1b[31m", "see: towpath-agent explain hello")


class Scripted:
    """An agent whose main thread answers as the test says, after it was let."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[Request] = []
        self.answer: Answer | InputError = Answer(LINES, {"app": "hello"})
        self.free = threading.Event()
        self.free.set()
        self._woken = threading.Event()
        self._stop = False
        self.desk = Desk(self._woken.set)
        self.contact = Contact()
        self._listener = Listener(listen(folder / SOCKET), self.desk, SystemClock(), contact=lambda: self.contact)
        self._thread = threading.Thread(target=self._work)
        self._listener.start()
        self._thread.start()

    def _work(self) -> None:
        while not self._stop:
            self._woken.wait()
            self._woken.clear()
            self.free.wait()
            for ticket in self.desk.take():
                self.asked.append(ticket.request)
                ticket.close(self.answer)

    def close(self) -> None:
        self._stop = True
        self.free.set()
        self._woken.set()
        self._thread.join(10)
        self.desk.close()
        self._listener.close()


@pytest.fixture
def agent(folder: Path) -> Iterator[Scripted]:
    """Give an agent that runs in the folder."""
    scripted = Scripted(folder)
    yield scripted
    scripted.close()


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["hold", "--for", "2h", "--reason", "x"], Request("hold", "", 7_200_000, "x", "ana")),
        (["hold", "hello", "--for", "90s", "--reason", " x "], Request("hold", "hello", 90_000, "x", "ana")),
        (["release"], Request("release", login="ana")),
        (["release", "hello"], Request("release", "hello", login="ana")),
        (["revert", "hello"], Request("revert", "hello", login="ana")),
        (["revert", "hello", "--reason", "why"], Request("revert", "hello", reason="why", login="ana")),
        (["retry", "hello"], Request("retry", "hello", login="ana")),
    ],
)
def test_a_command_asks_the_agent_and_prints_its_lines(
    run: Run, folder: Path, agent: Scripted, words: list[str], asked: Request
) -> None:
    """What was typed reaches the agent, with who typed it through sudo; no control character reaches the terminal."""
    code, out, err = run(*words, "--dir", folder)
    assert (code, err) == (0, "")
    assert agent.asked == [asked]
    assert out == f"first line\nsecond  [31m\nsee: towpath-agent explain hello --dir {folder}\n"
    assert json.loads(run(*words, "--dir", folder, "-o", "json")[1]) == {"app": "hello"}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["hold"], 2, "missing option '--for'"),
        (["hold", "--for", "2h"], 2, "missing option '--reason'"),
        (["hold", "--for", "2", "--reason", "x"], 1, "such as 90s"),
        (["hold", "--for", "2h", "--reason", ""], 1, "cannot use an empty reason"),
        (["hold", "--for", "2h", "--reason", "a\nb"], 1, "one line of printable text"),
        (["hold", "../x", "--for", "2h", "--reason", "x"], 1, "as an app name"),
        (["revert"], 2, "missing argument 'APP'"),
        (["revert", "Hello"], 1, "as an app name"),
        (["retry"], 2, "missing argument 'APP'"),
        (["explain"], 2, "missing argument 'APP'"),
    ],
)
def test_a_mistake_is_one_line_and_reaches_no_agent(
    run: Run, folder: Path, agent: Scripted, words: list[str], code: int, message: str
) -> None:
    """Missing and unusable values are named before anything is asked."""
    got, _, err = run(*words, "--dir", folder)
    assert got == code
    assert message in err
    assert err.count("\n") == 1
    assert agent.asked == []


def test_a_no_of_the_agent_is_one_line(run: Run, folder: Path, agent: Scripted) -> None:
    """Its message as it is, on stderr, exit 1."""
    agent.answer = InputError("cannot revert hello: there is nothing to go back to", code="no-previous")
    code, out, err = run("revert", "hello", "--dir", folder)
    assert (code, out) == (1, "")
    assert err == "towpath-agent: cannot revert hello: there is nothing to go back to\n"


def test_a_person_who_waits_is_told_so(
    run: Run, folder: Path, agent: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a moment a line says what it waits for; the answer follows."""
    said = threading.Event()
    monkeypatch.setattr(control_cli, "WAIT_SAID_S", 0.05)
    echo = control_cli.click.echo

    def heard(text: str, *, err: bool = False) -> None:
        echo(text, err=err)
        if text.startswith("waiting for the agent"):
            said.set()
            agent.free.set()

    monkeypatch.setattr(control_cli.click, "echo", heard)
    agent.free.clear()
    code, out, err = run("release", "--dir", folder)
    assert said.is_set()
    assert (code, out.splitlines()[0]) == (0, "first line")
    assert err.startswith("waiting for the agent: it is busy")


def test_explain_shows_facts_and_commands_with_the_folder_they_need(run: Run, folder: Path, agent: Scripted) -> None:
    """A command of ours can be copied as it is; one with a note behind it is left alone."""
    agent.answer = Answer(
        data={
            "app": "hello",
            "reasons": [
                {"fact": "it runs 1.0.0", "command": "towpath-agent revert hello"},
                {"fact": "ill\n", "command": ""},
                {"fact": "no", "command": "towpath release list hello"},
            ],
        }
    )
    assert run("explain", "hello", "--dir", folder)[1] == (
        f"it runs 1.0.0\n    $ towpath-agent revert hello --dir {folder}\nill \nno\n    $ towpath release list hello\n"
    )
    assert json.loads(run("explain", "hello", "--dir", folder, "-o", "json")[1])["app"] == "hello"


def test_without_an_agent_explain_reads_the_journal_and_changes_say_how_to_start_it(run: Run, folder: Path) -> None:
    """An agent that never ran, one that knows no such app, and the line for all that needs a running one."""
    assert "the agent has never run here; start it: towpath-agent run" in run("explain", "hello", "--dir", folder)[2]
    open_journal(folder / "state.db").close()
    assert "this host has no such app; it has none yet" in run("explain", "hello", "--dir", folder)[2]
    code, _, err = run("retry", "hello", "--dir", folder)
    assert code == 1
    assert f"it does not run; start it: towpath-agent run --dir {folder}" in err


def test_status_says_whether_the_agent_runs_and_what_is_held(run: Run, folder: Path) -> None:
    """Running, stopped, or hidden from this user; holds that are over are not shown."""
    journal = open_journal(folder / "state.db")
    far = SystemClock().now_unix_ms() + 3_600_000
    holds = [
        {"app": app, "by": "ana", "reason": "the till is open", "since_unix_ms": 0, "until_unix_ms": until}
        for app, until in (("hello", far), ("over", 1))
    ]
    journal.set_meta(holds=json.dumps({"seen": 0, "holds": holds}))
    journal.close()
    out = run("status", "--dir", folder)[1]
    assert f"agent: does not run; start it: towpath-agent run --dir {folder}\n" in out
    assert "hello held by ana until " in out
    assert "over" not in out
    scripted = Scripted(folder)
    assert "agent: runs\n" in run("status", "--dir", folder)[1]
    table = json.loads(run("status", "--dir", folder, "-o", "json")[1])
    assert table["agent_runs"] is True
    assert [hold["app"] for hold in table["holds"]] == ["hello"]
    scripted.close()
    (folder / SOCKET).unlink(missing_ok=True)
    assert "cannot tell whether it runs" in control_cli.running_line(folder, None)


def test_status_says_since_when_the_server_is_away(run: Run, folder: Path) -> None:
    """What the running agent knows, although its main thread is busy; nothing of the server where no agent runs."""

    def said() -> str:
        lines = run("status", "--dir", folder)[1].splitlines()
        return next((line for line in lines if line.startswith("server")), "")

    def told() -> object:
        return json.loads(run("status", "--dir", folder, "-o", "json")[1])["server"]

    assert (said(), told()) == ("", None)
    scripted = Scripted(folder)
    scripted.free.clear()
    assert said() == "server: has not answered since this agent began"
    scripted.contact = Contact(1_700_000_000_000)
    assert said() == "server: last answered 2023-11-14 22:13:20Z"
    scripted.contact = Contact(1_700_000_000_000, 1_700_000_060_000, "cannot reach h:1:\nrefused")
    assert said() == (
        "server: away since 2023-11-14 22:14:20Z, last answered 2023-11-14 22:13:20Z: cannot reach h:1: refused"
    )
    assert told() == {
        "answered_unix_ms": 1_700_000_000_000,
        "away_since_unix_ms": 1_700_000_060_000,
        "trouble": "cannot reach h:1:\nrefused",
    }
    scripted.close()


def test_doctor_exits_1_where_something_fails_and_0_where_nothing_does(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last line counts; JSON has every finding."""
    code, out, _ = run("doctor", "--dir", folder)
    assert code == 1
    assert out.splitlines()[-1] == "2 checks fail"
    assert "fail  server       agents' port 127.0.0.1:1: the machine answers, but nothing listens there" in out
    found = json.loads(run("doctor", "--dir", folder, "-o", "json")[1])
    assert found["failed"] == 2
    from towpath_agent import doctor

    monkeypatch.setattr(
        doctor, "examine", lambda *_: [doctor.Finding("x", doctor.Level.WARN, "look", "towpath-agent run")]
    )
    code, out, _ = run("doctor", "--dir", folder)
    assert (code, out.splitlines()[-1]) == (0, "nothing fails")
    assert f"$ towpath-agent run --dir {folder}" in out
