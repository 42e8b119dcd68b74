"""The agent's socket under real clients: hanging, killed, rude, many, strangers; and paths of any length."""

import contextlib
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from towpath.errors import InputError, Unavailable
from towpath_agent.control import SOCKET
from towpath_agent.control.client import ask, is_running
from towpath_agent.control.desk import Desk
from towpath_agent.control.listener import MAX_CONNECTIONS, Listener, Patience
from towpath_agent.control.protocol import MAX_REQUEST_BYTES, Answer, Request, encode_request
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.local_socket import close_folder, connect, listen, open_folder_to

WAIT_S = 20.0


class Main:
    """Stands for the agent's main thread: takes tickets and answers them, or is busy."""

    def __init__(self, folder: Path, *, group: int | None = None, patience: Patience | None = None) -> None:
        self.folder = folder
        self.woken = threading.Event()
        self.desk = Desk(self.woken.set)
        self.done: list[Request] = []
        self.by: list[str] = []
        self.free = threading.Event()
        self.free.set()
        self.slow = threading.Event()
        self.slow.set()
        self.log: list[str] = []
        server = listen(folder / SOCKET, group=group)
        self.listener = Listener(server, self.desk, SystemClock(), group=group, patience=patience, log=self.log.append)
        self.stopping = False
        self.thread = threading.Thread(target=self._work)
        self.thread.start()
        self.listener.start()

    def _work(self) -> None:
        while not self.stopping:
            self.woken.wait()
            self.woken.clear()
            self.free.wait()
            for ticket in self.desk.take():
                self.slow.wait()
                self.done.append(ticket.request)
                self.by.append(ticket.by)
                ticket.close(Answer((f"did {ticket.request.command} {ticket.request.app}",), {"n": len(self.done)}))

    def close(self) -> None:
        self.stopping = True
        for event in (self.free, self.slow, self.woken):
            event.set()
        self.thread.join(WAIT_S)
        self.desk.close()
        self.listener.close()


@contextlib.contextmanager
def agent(folder: Path, **fields: object) -> Iterator[Main]:
    main = Main(folder, **fields)  # type: ignore[arg-type]
    try:
        yield main
    finally:
        main.close()


def eventually(look: Callable[[], object], what: str) -> None:
    """Wait for a condition, by the machine's own time."""
    give_up = time.monotonic() + WAIT_S
    while not look():
        assert time.monotonic() < give_up, what
        time.sleep(0.005)


def raw(folder: Path, data: bytes) -> bytes:
    """Send bytes as no client of ours would; return what comes back."""
    with connect(folder / SOCKET, WAIT_S) as line:
        line.sendall(data)
        heard = b""
        with contextlib.suppress(ConnectionResetError):
            while part := line.recv(65536):
                heard += part
        return heard


def test_a_command_is_asked_done_and_answered(tmp_path: Path) -> None:
    """The main thread does it, knows by whom, and the answer comes back; the socket is the owner's alone."""
    with agent(tmp_path) as main:
        answer = ask(tmp_path, Request("hold", "hello", 60_000, "why"))
        assert answer == Answer(("did hold hello",), {"n": 1})
        assert main.done == [Request("hold", "hello", 60_000, "why")]
        ask(tmp_path, Request("release", login="ana"))
        me = os.environ.get("USER") or "root"
        assert main.by[1] == ("ana (root)" if os.geteuid() == 0 else me)
        assert is_running(tmp_path)
        mode = (tmp_path / SOCKET).stat().st_mode
        assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
    assert not is_running(tmp_path)


def test_where_no_agent_runs_one_line_says_how_to_start_it(tmp_path: Path) -> None:
    """No socket, a stale one of a killed agent, and no folder: the same line."""
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match="it does not run; start it: towpath-agent run --dir") as caught:
            ask(folder, Request("release"))
        assert caught.value.code == "not-running"
    listen(tmp_path / SOCKET).close()
    with pytest.raises(InputError, match="it does not run"):
        ask(tmp_path, Request("release"))
    assert not is_running(tmp_path)


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    """A killed agent leaves its socket; the next one takes its place, and nothing else is left in the folder."""
    listen(tmp_path / SOCKET).close()
    with agent(tmp_path):
        assert ask(tmp_path, Request("release")).lines == ("did release ",)
    assert [path.name for path in tmp_path.iterdir()] == [SOCKET]


def test_the_folder_may_have_a_path_of_any_length(tmp_path: Path) -> None:
    """A name in a Unix address has 107 bytes; ours may lie deeper, and with blanks and letters of any kind."""
    deep = tmp_path / ("d" * 100) / "mit Leerzeichen und \u00e4" / ("e" * 100)
    deep.mkdir(parents=True)
    with agent(deep):
        assert ask(deep, Request("explain", "hello")).lines == ("did explain hello",)


def test_a_client_that_hangs_stops_nobody_and_is_dropped(tmp_path: Path) -> None:
    """Half a request and then silence: others are served meanwhile, and the deadline ends it."""
    with agent(tmp_path, patience=Patience(request_s=3.0)) as main, contextlib.ExitStack() as stack:
        hanging = [stack.enter_context(connect(tmp_path / SOCKET, WAIT_S)) for _ in range(MAX_CONNECTIONS - 1)]
        for line in hanging:
            line.sendall(b'{"v": 1, ')
        began = time.monotonic()
        assert ask(tmp_path, Request("release")).lines == ("did release ",)
        assert time.monotonic() - began < 3.0, "the last free place serves others at once"
        for line in hanging:
            assert line.recv(1) == b"", "dropped without a word"
        eventually(lambda: not main.listener._connections, "all are gone")


def test_two_hundred_clients_at_once_are_all_answered(tmp_path: Path) -> None:
    """More than places and more than the kernel's queue: each gets its own answer, none twice."""
    with agent(tmp_path) as main:
        answers: list[object] = []

        def one(number: int) -> None:
            answers.append(ask(tmp_path, Request("hold", f"a{number}", 1, "x")).data["n"])

        threads = [threading.Thread(target=one, args=(number,)) for number in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        assert sorted(answers, key=int) == list(range(1, 201))  # type: ignore[call-overload]
        assert {request.app for request in main.done} == {f"a{number}" for number in range(200)}


def test_a_flood_of_hanging_clients_delays_a_person_by_the_deadline_at_most(tmp_path: Path) -> None:
    """All places taken by silence: whoever comes is served when the deadline frees them."""
    with agent(tmp_path, patience=Patience(request_s=0.5)), contextlib.ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS + 20):
            stack.enter_context(connect(tmp_path / SOCKET, WAIT_S))
        began = time.monotonic()
        assert ask(tmp_path, Request("release")).lines == ("did release ",)
        assert time.monotonic() - began < 5.0


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x00\xff\xfe garbage \x80\n", "garbled"),
        (b"GET / HTTP/1.1\r\n", "garbled"),
        (b"[" * 5_000 + b"\n", "garbled"),
        (b"x" * (MAX_REQUEST_BYTES + 1), "too-large"),
        (b'{"v": 9}\n', "version"),
        (b'{"v": 1, "command": "format-disk"}\n', "unknown-command"),
    ],
)
def test_garbage_is_refused_in_one_line_and_the_next_is_served(tmp_path: Path, data: bytes, code: str) -> None:
    """Noise, another protocol, endless data and unknown commands reach nobody behind the socket."""
    with agent(tmp_path) as main:
        said = json.loads(raw(tmp_path, data))
        assert (said["ok"], said["code"]) == (False, code)
        assert said["error"].startswith("cannot ")
        assert main.done == []
        assert ask(tmp_path, Request("release")).lines == ("did release ",)
        assert main.log == []


def test_a_client_that_goes_away_in_the_middle_changes_nothing_for_others(tmp_path: Path) -> None:
    """Before, in and after its request: the thread goes on, and what was asked whole is done once."""
    with agent(tmp_path) as main:
        for data in (b"", b'{"v": 1', encode_request(Request("hold", "gone", 1, "x"))):
            with connect(tmp_path / SOCKET, WAIT_S) as line:
                line.sendall(data)
        eventually(lambda: main.done, "the whole request is done")
        assert ask(tmp_path, Request("release")).lines == ("did release ",)
        assert [request.app for request in main.done] == ["gone", ""]


def test_a_killed_client_process_changes_nothing_for_others(tmp_path: Path) -> None:
    """Kill -9 while it waits for its answer."""
    with agent(tmp_path) as main:
        main.free.clear()
        program = (
            "import sys; from pathlib import Path; from towpath_agent.control.client import ask;"
            "from towpath_agent.control.protocol import Request; ask(Path(sys.argv[1]), Request('hold', 'gone'))"
        )
        with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) as client:
            eventually(lambda: main.desk.waiting, "the request is there")
            client.kill()
        main.free.set()
        assert ask(tmp_path, Request("release")).data["n"] == 2
        assert main.log == []


def test_a_busy_agent_says_that_nothing_was_changed_and_that_is_true(tmp_path: Path) -> None:
    """What the main thread could not take in time is called back: it is not done later, when nobody expects it."""
    with agent(tmp_path, patience=Patience(take_s=0.2)) as main:
        main.free.clear()
        with pytest.raises(InputError, match="the agent is busy .* nothing was changed") as caught:
            ask(tmp_path, Request("hold", "hello", 1, "x"))
        assert caught.value.code == "busy"
        main.free.set()
        assert ask(tmp_path, Request("release")).data["n"] == 1
        assert main.done == [Request("release")]


def test_a_command_that_takes_long_once_begun_is_not_called_undone(tmp_path: Path) -> None:
    """From the moment it was taken the truth is "being done", with where to look."""
    with agent(tmp_path, patience=Patience(take_s=0.2, do_s=0.2)) as main:
        main.slow.clear()
        with pytest.raises(InputError, match="cannot say how it went yet: it is being done"):
            ask(tmp_path, Request("revert", "hello"))
        main.slow.set()
        eventually(lambda: main.done, "it was done")


def test_a_stopping_agent_answers_those_who_wait(tmp_path: Path) -> None:
    """No client is left with a closed connection and no word."""
    main = Main(tmp_path)
    main.free.clear()
    said: list[Exception] = []

    def one() -> None:
        try:
            ask(tmp_path, Request("hold", "hello", 1, "x"))
        except (InputError, Unavailable) as error:
            said.append(error)

    thread = threading.Thread(target=one)
    thread.start()
    eventually(lambda: main.desk.waiting, "the request is there")
    main.desk.close()
    main.listener.close()
    thread.join(WAIT_S)
    main.close()
    assert len(said) == 1
    assert "the agent is stopping; nothing was changed" in str(said[0])


def as_nobody(act: Callable[[], object], *, groups: list[int]) -> str:
    """Run `act` in a child as a user without rights; return what it returned or raised, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setgid(65534)
            os.setuid(65534)
            said = str(act())
        except BaseException as error:  # noqa: BLE001 - the child must end here, whatever happens
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork with threads: the child only asks and exits
def test_a_stranger_is_kept_out_twice_and_a_member_of_the_group_is_let_in(
    request: pytest.FixtureRequest,
) -> None:
    """By the rights of the file first; where these were loosened, by what the kernel says of the peer."""
    folder = Path("/tmp") / f"towpath-control-{os.getpid()}"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    request.addfinalizer(lambda: [(folder / SOCKET).unlink(missing_ok=True), folder.rmdir()])
    hold = Request("hold", "hello", 1, "x")
    with agent(folder) as main:
        assert "permission denied; be root or the agent's own user" in as_nobody(lambda: ask(folder, hold), groups=[])
        (folder / SOCKET).chmod(0o666)
        assert "only root and root may" in as_nobody(lambda: ask(folder, hold), groups=[])
        assert main.done == []
    open_folder_to(folder, 65534)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o710
    with agent(folder, group=65534) as main:
        assert stat.S_IMODE((folder / SOCKET).stat().st_mode) == 0o660
        assert "did hold hello" in as_nobody(lambda: ask(folder, hold).lines, groups=[])
        assert main.by == ["nobody"]
        bundle = Request("bundle", path="/etc/shadow")
        assert "cannot take a bundle of nobody: only root and root may" in as_nobody(
            lambda: ask(folder, bundle), groups=[]
        )
        assert main.by == ["nobody"], "a path is opened with the agent's rights"
    close_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    close_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755, "only what it opened itself"
    with agent(folder, group=12345) as main:
        (folder / SOCKET).chmod(0o666)
        assert "cannot let nobody control the agent" in as_nobody(lambda: ask(folder, hold), groups=[])
        assert main.done == []


def test_a_socket_cannot_be_made_where_the_folder_is_gone(tmp_path: Path) -> None:
    """One error of the disk, and nothing is left over."""
    from towpath_agent.errors import DiskError

    with pytest.raises(DiskError, match="cannot listen on"):
        listen(tmp_path / "missing" / SOCKET)


def test_another_program_at_the_socket_is_said(tmp_path: Path) -> None:
    """What answers no request of ours is garbled, not a traceback."""
    from towpath.errors import Broken

    server = listen(tmp_path / SOCKET)
    server.setblocking(True)

    def serve() -> None:
        end, _ = server.accept()
        with end:
            end.recv(65536)
            end.sendall(b"220 mail.example.org ESMTP\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(Broken, match="cannot read the agent's answer"):
        ask(tmp_path, Request("release"))
    thread.join(WAIT_S)
    server.close()
