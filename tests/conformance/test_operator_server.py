"""What an operator may count on, typed as commands: the in-memory fake and the real server answer alike."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fakes.cli_shell import CliShell, new_fleet
from fakes.operator_server import OperatorServer
from towpath.repository import open_repository

FILE = """\
app: hello
artifact: app
install: {kind: tree}
run: {kind: process, command: [bin/serve]}
"""


@contextmanager
def real_server(folder: Path) -> Iterator[str]:
    """Run the real server's command on ports that it chooses; yield the operators' address."""
    listen = [f"--{name}-listen=127.0.0.1:0" for name in ("agent", "enroll", "operator")]
    command = [sys.executable, "-m", "towpath_server.cli", "run", "--dir", str(folder), *listen]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            address = ""
            for line in process.stdout:  # ends with the server, or at the test's own time limit
                if line.startswith("operators on "):
                    address = line.split()[-1]
                if line.startswith("ready"):
                    break
            assert address, "the server did not start"
            yield address
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.e2e)])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CliShell]:
    """Return a shell whose server is the fake, then the real one."""
    fleet = new_fleet(tmp_path / "fleet")
    if request.param == "fake":
        with OperatorServer(fleet / "server") as server:
            yield CliShell(fleet, server.address)
    else:
        with real_server(fleet / "server") as address:
            yield CliShell(fleet, address)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Return a release file with its artifact."""
    (tmp_path / "app" / "bin").mkdir(parents=True)
    (tmp_path / "app" / "bin" / "serve").write_text("#!/bin/sh\n")
    (tmp_path / "app" / "bin" / "serve").chmod(0o755)
    (tmp_path / "app" / "empty").write_bytes(b"")
    (tmp_path / "app" / "data").write_bytes(bytes(range(256)) * 4_000)
    (tmp_path / "towpath.yaml").write_text(FILE)
    return tmp_path / "towpath.yaml"


def test_an_empty_server(shell: CliShell) -> None:
    """A new server has no hosts, releases and states, as empty lists."""
    for words in (["host", "list"], ["release", "list"], ["status"]):
        assert shell.type(*words, "-o", "json").json() == []


def test_publishing(shell: CliShell, app: Path) -> None:
    """Publish, publish again, publish other bytes, publish the next: as promised, and the list tells it."""
    words = ["release", "publish", str(app), "--version"]
    first = shell.type(*words, "1.0.0", "-o", "json").json()
    assert (first["unchanged"], first["uploaded"]["objects"]) == (False, 4)
    assert shell.type(*words, "1.0.0").out == "hello 1.0.0: unchanged, it is published already\n"
    (app.parent / "app" / "new").write_text("new")
    assert "another version" in shell.type(*words, "1.0.0").line
    second = shell.type(*words, "1.1.0", "-o", "json").json()
    assert (second["uploaded"]["objects"], second["uploaded"]["of_objects"]) == (2, 5)
    rows = shell.type("release", "list", "hello", "-o", "json").json()
    assert sorted((row["version"], row["counter"]) for row in rows) == [("1.0.0", 1), ("1.1.0", 2)]


def test_trust_status_verifies(shell: CliShell, app: Path) -> None:
    """After a publish the app's own role is among the roles that verify from the operator's root."""
    shell.type("release", "publish", str(app), "--version", "1.0.0")
    assert "app-hello" in {row["role"] for row in shell.type("trust", "status", "-o", "json").json()}


def test_the_repository_is_whole(shell: CliShell, app: Path) -> None:
    """What the server hands out stands on the publisher's pinned root."""
    from towpath_cli.client import Client
    from towpath_cli.operator_folder import read_identity

    shell.type("release", "publish", str(app), "--version", "1.0.0")
    with Client(shell.server, read_identity(shell.fleet), start="") as client:
        files = client.repository()
    root = (shell.fleet / "publisher" / "root.json").read_bytes()
    assert set(open_repository(files, root).app_targets("hello")) == {"hello/1.0.0.release"}


def test_tokens(shell: CliShell) -> None:
    """Each token is new, stands alone on one line, and begins as tokens do."""
    made = [shell.type("token", "create", "--environment", "dev").out for _ in range(2)]
    assert all(text.startswith("tp1.") and text.count("\n") == 1 for text in made)
    assert made[0] != made[1]


def test_a_host_that_is_not_there(shell: CliShell) -> None:
    """An unknown host is one line that names it."""
    assert "h9" in shell.type("host", "show", "h9").line
