"""Publishing over real gRPC and TLS: what travels, what is signed, what is refused."""

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.cli_shell import CliShell, new_fleet
from fakes.operator_server import OperatorServer
from towpath.errors import TowpathError, Unavailable
from towpath.repository import open_repository

FILE = """\
app: hello
artifact: app
install: {kind: tree}
run: {kind: process, command: [bin/serve]}
"""


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


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Return a release file with its artifact."""
    (tmp_path / "app" / "bin").mkdir(parents=True)
    (tmp_path / "app" / "bin" / "serve").write_text("#!/bin/sh\n")
    (tmp_path / "app" / "bin" / "serve").chmod(0o755)
    (tmp_path / "app" / "big").write_bytes(os.urandom(700_000))
    (tmp_path / "towpath.yaml").write_text(FILE)
    return tmp_path / "towpath.yaml"


def test_publish(shell: CliShell, server: OperatorServer, app: Path) -> None:
    """A release is uploaded, signed and published, and the server can verify it; the list shows it."""
    done = shell.type("release", "publish", str(app), "--version", "1.0.0")
    assert (done.code, done.err) == (0, "")
    assert "published hello 1.0.0: 2 files" in done.out
    assert "hello/1.0.0.release" in open_repository(server.files).app_targets("hello")
    assert shell.type("release", "list", "-o", "json").json() == [
        {
            "app": "hello",
            "version": "1.0.0",
            "counter": 1,
            "sha256": server.releases[0].sha256.hex(),
            "published_unix_ms": 0,
            "published_by": "ana",
        }
    ]
    assert "hello  1.0.0" in shell.type("release", "list", "hello").out
    assert "nothing is published" in shell.type("release", "list", "other").out


def test_only_new_objects_travel(shell: CliShell, server: OperatorServer, app: Path) -> None:
    """A second version uploads only what changed, and gets the next counter."""
    shell.type("release", "publish", str(app), "--version", "1.0.0")
    (app.parent / "app" / "new").write_text("new")
    done = shell.type("release", "publish", str(app), "--version", "1.0.1", "-o", "json").json()
    assert done["uploaded"]["objects"] == 2  # the file and the new index
    assert hashlib.sha256(b"new").digest() in server.uploads[1]
    assert [release.counter for release in server.releases] == [1, 2]


def test_the_same_again_is_unchanged(shell: CliShell, server: OperatorServer, app: Path) -> None:
    """The same bytes again say so, exit 0 and change nothing, also after another version."""
    shell.type("release", "publish", str(app), "--version", "1.0.0")
    shell.type("release", "publish", str(app), "--version", "1.0.1")
    before = dict(server.files)
    again = shell.type("release", "publish", str(app), "--version", "1.0.0")
    assert (again.code, again.out) == (0, "hello 1.0.0: unchanged, it is published already\n")
    assert (server.files, len(server.uploads)) == (before, 1)


def test_other_bytes_under_a_taken_version(shell: CliShell, server: OperatorServer, app: Path) -> None:
    """Other bytes under a published version are refused before anything travels, with the way out."""
    shell.type("release", "publish", str(app), "--version", "1.0.0")
    before = dict(server.files)
    (app.parent / "app" / "big").write_text("other")
    line = shell.type("release", "publish", str(app), "--version", "1.0.0").line
    assert "1.0.0" in line
    assert "another version" in line
    assert (server.files, len(server.uploads)) == (before, 1)


def test_a_lost_race_is_one_line(shell: CliShell, server: OperatorServer, app: Path) -> None:
    """What the server refuses at the last step is its own one line."""
    server.fail["Publish"] = deque([TowpathError("cannot publish: after app-hello 1 comes 1 alone; try again")])
    assert "try again" in shell.type("release", "publish", str(app), "--version", "1.0.0").line
    assert shell.type("release", "publish", str(app), "--version", "1.0.0").code == 0


def test_an_upload_that_breaks_is_taken_up_again(shell: CliShell, server: OperatorServer, app: Path) -> None:
    """After a break the upload goes on with what has not arrived."""
    server.fail["Upload"] = deque([Unavailable("cannot go on: the server stops")])
    assert shell.type("release", "publish", str(app), "--version", "1.0.0").code == 0
    assert [len(batch) for batch in server.uploads] == [1, 2]
    assert len(shell.slept) == 1


def test_protected_keys(tmp_path: Path, app: Path) -> None:
    """Protected keys take their passphrase from a file; without one, or with a wrong one, one line says so."""
    fleet = new_fleet(tmp_path / "safe", b"correct horse")
    (tmp_path / "good").write_text("correct horse\n")
    (tmp_path / "bad").write_text("wrong\n")
    (tmp_path / "empty").write_text("\n")
    with OperatorServer(fleet / "server") as server:
        shell = CliShell(fleet, server.address)
        words = ["release", "publish", str(app), "--version", "1.0.0"]
        assert "--passphrase-file" in shell.type(*words).line
        assert "passphrase" in shell.type(*words, "--passphrase-file", str(tmp_path / "bad")).line
        assert "first line" in shell.type(*words, "--passphrase-file", str(tmp_path / "empty")).line
        assert server.releases == []
        assert shell.type(*words, "--passphrase-file", str(tmp_path / "good")).code == 0


def test_publishing_needs_the_publishers_folder(shell: CliShell, fleet: Path, app: Path) -> None:
    """An operator without publisher/ cannot publish, and is told which folder is missing."""
    (fleet / "publisher").rename(fleet / "elsewhere")
    assert "publisher" in shell.type("release", "publish", str(app), "--version", "1.0.0").line


@pytest.mark.parametrize("version", ["../2", "a b", ""])
def test_a_wrong_version(shell: CliShell, server: OperatorServer, app: Path, version: str) -> None:
    """A version that is none is refused before anything is read or sent."""
    assert "version" in shell.type("release", "publish", str(app), "--version", version).line
    assert server.uploads == []


def test_a_version_is_asked_for(shell: CliShell, app: Path) -> None:
    """A file without a version, published without one, says what to type."""
    assert "--version" in shell.type("release", "publish", str(app)).line


def test_a_broken_release_publishes_nothing(shell: CliShell, server: OperatorServer, app: Path) -> None:
    """A release whose program is not in its tree is refused with its line, and nothing is uploaded."""
    app.write_text(FILE.replace("bin/serve", "bin/sevre"))
    assert (
        "line 4: the tree has no file 'bin/sevre'" in shell.type("release", "publish", str(app), "--version", "1").line
    )
    assert server.uploads == []


def test_lint_needs_no_server(tmp_path: Path, app: Path) -> None:
    """Lint says what would be published, without fleet and server."""
    shell = CliShell(tmp_path / "nowhere")
    done = shell.type("release", "lint", str(app), fleet=False)
    assert done.code == 0
    assert "would publish 2 files, 683.6 KiB, tree sha256:" in done.out
    facts = shell.type("release", "lint", str(app), "--version", "1.2", "-o", "json", fleet=False).json()
    assert (facts["app"], facts["version"], facts["files"], facts["bytes"]) == ("hello", "1.2", 2, 700_010)


def test_lint_lists_every_problem(tmp_path: Path, app: Path) -> None:
    """Lint prints one line for each problem and exits 1."""
    app.write_text(FILE.replace("app: hello", "app: Hello") + "probse: []\n")
    done = CliShell(tmp_path).type("release", "lint", str(app), fleet=False)
    assert (done.code, done.out) == (1, "")
    assert [line.split(": ")[1].rpartition(", ")[2] for line in done.err.splitlines()] == ["line 1", "line 5"]


def test_schema(tmp_path: Path) -> None:
    """The schema is one JSON document."""
    assert CliShell(tmp_path).type("release", "schema", fleet=False).json()["title"] == "Towpath release file"


def test_trust_status(shell: CliShell, fleet: Path) -> None:
    """Roles, thresholds and expiries are shown, verified from the operator's own root."""
    done = shell.type("trust", "status")
    assert done.code == 0
    assert "1 of 1" in done.out
    roles = {row["role"]: row for row in shell.type("trust", "status", "-o", "json").json()}
    assert set(roles) == {"root", "targets", "snapshot", "timestamp", "director"}
    other = new_fleet(fleet.parent / "other")
    (fleet / "operator" / "root.json").write_bytes((other / "operator" / "root.json").read_bytes())
    assert shell.type("trust", "status").line
