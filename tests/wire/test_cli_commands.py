"""The operator's commands over real gRPC and TLS: what they ask, what they print, and every way to fail."""

import socket
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fakes.cli_shell import CliShell, new_fleet
from fakes.operator_server import OperatorServer
from towpath.errors import Refusal
from towpath.v1 import operator_pb2 as pb
from towpath.v1 import types_pb2 as types


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    return new_fleet(tmp_path / "fleet")


@pytest.fixture
def server(fleet: Path) -> Iterator[OperatorServer]:
    with OperatorServer(fleet / "server") as running:
        yield running


@pytest.fixture
def shell(fleet: Path, server: OperatorServer) -> CliShell:
    return CliShell(fleet, server.address)


def add_host(server: OperatorServer, name: str) -> pb.Host:
    host = pb.Host(id="id-" + name, name=name, environment="dev", status="active", online=True, labels={"role": "web"})
    server.hosts[name] = host
    return host


# -- init, server, version


def test_init(tmp_path: Path) -> None:
    """A new fleet has its three folders, and a second init is one line that changes nothing."""
    shell = CliShell(tmp_path)
    done = shell.type("init", str(tmp_path / "f"), "--operator", "ana", fleet=False)
    assert done.code == 0
    assert "towpath server run --dir" in done.out
    assert sorted(path.name for path in (tmp_path / "f").iterdir()) == ["operator", "publisher", "server"]
    before = {path: path.read_bytes() for path in (tmp_path / "f").rglob("*") if path.is_file()}
    assert "there already" in shell.type("init", str(tmp_path / "f"), fleet=False).line
    assert {path: path.read_bytes() for path in (tmp_path / "f").rglob("*") if path.is_file()} == before


def test_init_with_a_passphrase(tmp_path: Path) -> None:
    """A passphrase, from a file or asked for twice, protects the publisher's keys."""
    shell = CliShell(tmp_path)
    (tmp_path / "word").write_text("correct horse\n")
    words = ["init", str(tmp_path / "a"), "--passphrase-file", str(tmp_path / "word")]
    assert shell.type(*words, fleet=False).code == 0
    assert shell.type("init", str(tmp_path / "b"), "--passphrase", input="x y\nx y\n", fleet=False).code == 0
    for name in ("a", "b"):
        assert b"ENCRYPTED" in (tmp_path / name / "publisher" / "keys" / "root.pem").read_bytes()
    assert "choose one" in shell.type(*words[:1], str(tmp_path / "c"), *words[2:], "--passphrase", fleet=False).line
    assert "No such file" in shell.type("init", str(tmp_path / "d"), "--passphrase-file", "gone", fleet=False).line
    assert not (tmp_path / "d").exists()


def test_server_run_becomes_the_servers_command(tmp_path: Path) -> None:
    """`server run` becomes towpath-server of the same environment, with every argument as typed, --help too."""
    shell = CliShell(tmp_path)
    words = ["--dir", "./fleet/server", "--agent-listen", "127.0.0.1:0", "--help"]
    assert shell.type("server", "run", *words, fleet=False).code == 0
    assert shell.became == [[sys.executable, "-m", "towpath_server.cli", "run", *words]]


def test_version(tmp_path: Path) -> None:
    """The version is printed, for machines too."""
    shell = CliShell(tmp_path)
    assert shell.type("version", fleet=False).out == "towpath 0.1.0\n"
    assert shell.type("version", "-o", "json", fleet=False).json()["version"] == "0.1.0"


# -- tokens and hosts


def test_token_alone_on_stdout(shell: CliShell, server: OperatorServer) -> None:
    """The token stands alone on stdout; environment, labels, uses and life are as typed."""
    words = ["token", "create", "--environment", "dev", "--label", "role=web", "--uses", "5", "--ttl", "1h"]
    done = shell.type(*words)
    assert (done.code, done.out, done.err) == (0, "tp1.token1\n", "")
    asked = server.tokens[0]
    assert (asked.environment, dict(asked.labels), asked.uses, asked.ttl_ms) == ("dev", {"role": "web"}, 5, 3_600_000)
    assert shell.type(*words, "-o", "json").json()["token"] == "tp1.token2"


@pytest.mark.parametrize("words", [["--environment", "D ev"], ["--environment", "dev", "--label", "role"]])
def test_a_wrong_token_request_is_not_sent(shell: CliShell, server: OperatorServer, words: list[str]) -> None:
    """What cannot be right is refused before the server is asked."""
    assert shell.type("token", "create", *words).line
    assert server.tokens == []


def test_host_list(shell: CliShell, server: OperatorServer) -> None:
    """Hosts are a table for people and objects for machines; none is a hint what to do."""
    assert "token create" in shell.type("host", "list").out
    assert shell.type("host", "list", "-o", "json").json() == []
    add_host(server, "h1")
    assert shell.type("host", "list").out.splitlines()[1].split()[:5] == ["h1", "dev", "role=web", "active", "yes"]
    (host,) = shell.type("host", "list", "-o", "json").json()
    assert (host["name"], host["labels"], host["online"]) == ("h1", {"role": "web"}, True)


def test_host_show(shell: CliShell, server: OperatorServer) -> None:
    """A host is shown with its apps and events; what a hook printed cannot drive the terminal."""
    state = types.AppState(app="hello", current_version="1.0.0", state="Confirmed", health="healthy")
    event = types.ReportEvent(id="e1", kind="transition", app="hello", state="Reverted", reason="bad \x1b[2J probe")
    host = add_host(server, "h1")
    host.parameters["hello.port"].number = 9001
    server.details["h1"] = pb.GetHostResponse(host=host, apps=[state], events=[event])
    out = shell.type("host", "show", "h1").out
    assert "parameter hello.port=9001" in out
    assert "Confirmed" in out
    assert "\x1b" not in out
    detail = shell.type("host", "show", "h1", "-o", "json").json()
    assert detail["apps"][0]["current_version"] == "1.0.0"
    assert detail["events"][0]["id"] == "e1"
    assert "cannot find host h9" in shell.type("host", "show", "h9").line


def test_host_set(shell: CliShell, server: OperatorServer) -> None:
    """Parameters and labels are set and unset; the server's notes are shown."""
    host = add_host(server, "h1")
    done = shell.type("host", "set", "h1", "hello.port=9001", "--label", "disk=ssd")
    assert done.out.splitlines() == [
        "h1: parameter hello.port=9001, label disk=ssd, label role=web",
        "note: hello.port is checked when hello is published",
    ]
    shell.type("host", "set", "h1", "--unset", "hello.port", "--unset-label", "disk")
    assert (dict(host.parameters), dict(host.labels)) == ({}, {"role": "web"})


@pytest.mark.parametrize(
    "words", [["port=1"], ["hello.port"], ["Hello.port=1"], ["a.b=1", "a.b=2"], ["--unset", "x"], []]
)
def test_a_wrong_setting_is_not_sent(shell: CliShell, server: OperatorServer, words: list[str]) -> None:
    """A parameter without app, value or sense is refused with the right form, and so is setting nothing."""
    add_host(server, "h1")
    assert shell.type("host", "set", "h1", *words).line
    assert dict(server.hosts["h1"].parameters) == {}


def test_revoke(shell: CliShell, server: OperatorServer) -> None:
    """A host is revoked with a reason."""
    assert shell.type("host", "revoke", "h1", "--reason", "stolen").code == 0
    assert (server.revoked[0].name, server.revoked[0].reason) == ("h1", "stolen")


def test_why_in_both_spellings(shell: CliShell, server: OperatorServer) -> None:
    """`why HOST APP` and `host why HOST APP` print the chain of reasons with the commands that change it."""
    server.reasons = [pb.Reason(fact="h1 has no assignment of hello", command="towpath deploy hello 1.0.0")]
    out = shell.type("why", "h1", "hello").out
    assert out == "h1 has no assignment of hello\n    $ towpath deploy hello 1.0.0\n"
    assert shell.type("host", "why", "h1", "hello").out == out
    assert shell.type("why", "h1", "hello", "-o", "json").json()[0]["fact"] == "h1 has no assignment of hello"


# -- status and audit


def test_status(shell: CliShell, server: OperatorServer) -> None:
    """Status is a list of exactly the promised keys, and a table for people."""
    assert shell.type("status", "-o", "json").json() == []
    assert shell.type("status").out.startswith("no host has an app; give it one with: towpath deploy")
    assert shell.type("status", "hello").out.startswith("no host has hello; give it one with: towpath deploy")
    row = {
        "host": "h1",
        "environment": "dev",
        "app": "hello",
        "current": "1.0.0",
        "desired": "1.0.0",
        "state": "Confirmed",
        "health": "healthy",
        "reason": "",
    }
    server.rows = [pb.StatusRow(**row)]
    assert shell.type("status", "-o", "json").json() == [row]
    assert shell.type("status", "hello").out.splitlines()[1].split() == [*list(row.values())[:-1], "-"]
    assert shell.type("status", "other", "-o", "json").json() == []


def test_a_drawn_table_on_a_terminal(shell: CliShell, server: OperatorServer) -> None:
    """On a terminal the same rows are drawn."""
    server.rows = [pb.StatusRow(host="h1", app="hello", health="healthy")]
    shell.tty = True
    assert "healthy" in shell.type("status").out


def test_audit(shell: CliShell, server: OperatorServer) -> None:
    """The newest entries are shown, as many as asked for."""
    server.entries = [pb.AuditEntry(at_unix_ms=n, actor="operator/ana", act=f"act{n}") for n in range(1, 6)]
    assert [entry["act"] for entry in shell.type("audit", "--limit", "2", "-o", "json").json()] == ["act4", "act5"]
    assert "operator/ana" in shell.type("audit").out


# -- failures


def test_no_server(fleet: Path) -> None:
    """A server that is not there is one line with its address and the command that starts it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        line = CliShell(fleet, address).type("status").line
    assert line == (
        f"cannot reach the server at {address}: connection refused; "
        f"start it with: towpath server run --dir {fleet}/server"
    )


def test_no_fleet(tmp_path: Path) -> None:
    """A folder that is no fleet says how to name or make one."""
    line = CliShell(tmp_path / "gone", "127.0.0.1:1").type("status").line
    assert "--dir" in line
    assert "towpath init" in line
    gone = f"{tmp_path / 'gone'}/operator/root.json cannot be read (No such file or directory)"
    line = CliShell(tmp_path / "gone").type("bundle", "verify", str(tmp_path / "b.tpb")).line
    assert line == f"cannot verify the server's metadata: {gone}; name the fleet's folder with --dir (or TOWPATH_DIR)"


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "http://x:1", ""])
def test_a_wrong_address(fleet: Path, address: str) -> None:
    """An address that is none says what one looks like."""
    assert "HOST:PORT" in CliShell(fleet).type("status", "--server", address).line


def test_an_operator_of_another_fleet(tmp_path: Path, server: OperatorServer) -> None:
    """Server and operator of different fleets do not talk, and the line says whose certificate is wrong."""
    other = new_fleet(tmp_path / "other")
    assert "its certificate is not of this fleet" in CliShell(other, server.address).type("status").line


def test_an_operator_that_the_server_does_not_know(tmp_path: Path, fleet: Path, server: OperatorServer) -> None:
    """A foreign operator certificate is refused in the handshake, in one line."""
    other = new_fleet(tmp_path / "other")
    (fleet / "operator" / "operator.pem").write_bytes((other / "operator" / "operator.pem").read_bytes())
    assert "cannot reach the server" in CliShell(fleet, server.address).type("status").line


@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_a_damaged_identity(fleet: Path, server: OperatorServer, damage: str) -> None:
    """An operator.pem that is missing or damaged is one line that names it."""
    path = fleet / "operator" / "operator.pem"
    data = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"" if damage == "empty" else data[: len(data) // 2])
    assert "operator.pem" in CliShell(fleet, server.address).type("status").line


def test_not_a_towpath_server(fleet: Path) -> None:
    """A port on which something else listens is one line."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.listen()
        shell = CliShell(fleet, f"127.0.0.1:{listener.getsockname()[1]}")
        listener.settimeout(10)

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        answering = threading.Thread(target=hang_up)
        answering.start()
        line = shell.type("status").line
        answering.join(10)
    assert "cannot reach the server" in line


def test_a_servers_refusal_is_its_own_line(shell: CliShell, server: OperatorServer) -> None:
    """What the server says is shown in its words, in one line."""
    server.fail["CreateToken"] = deque([Refusal("cannot make a token: operator ana may not\nmake tokens")])
    line = shell.type("token", "create", "--environment", "dev").line
    assert line == "cannot make a token: operator ana may not make tokens"


def test_an_error_that_is_not_ours(shell: CliShell, server: OperatorServer) -> None:
    """An error without a towpath code, such as a crash of the server, is still one line."""
    server.fail["ListHosts"] = deque([grpc.StatusCode.INTERNAL])
    line = shell.type("host", "list").line
    assert "INTERNAL" in line
    assert "boom second" in line
