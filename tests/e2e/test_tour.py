"""The README's tour, typed line by line, and the mistakes that people make on it."""

import hashlib
import os
import re
import shlex
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.loopback import EXAMPLES, Done, ask, clean_env, run
from examples.processes import Daemon, end_apps_below, free_ports, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

# As the README types them; where one is taken on this machine, a free one takes its place through flags and variables.
TYPED_PORTS = (7443, 7444, 7445, 9001, 7453, 7454, 9002)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Shell:
    """A person in a folder of their own: types lines, leaves some commands running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[Daemon] = []
        free = free_ports(len(TYPED_PORTS))
        self.ports = {
            typed: typed if _is_free(typed) else other for typed, other in zip(TYPED_PORTS, free, strict=True)
        }
        agents, enrolment, operators, self.app_port = (self.ports[typed] for typed in TYPED_PORTS[:4])
        self.env = clean_env(
            PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            TOWPATH_AGENT_LISTEN=f"127.0.0.1:{agents}",
            TOWPATH_ENROLL_LISTEN=f"127.0.0.1:{enrolment}",
            TOWPATH_OPERATOR_LISTEN=f"127.0.0.1:{operators}",
            TOWPATH_SERVER=f"127.0.0.1:{operators}",
        )
        if all(typed == used for typed, used in self.ports.items()):
            for name in [name for name in self.env if name.startswith("TOWPATH_")]:
                del self.env[name]
        (folder / "examples").symlink_to(EXAMPLES)

    def words(self, line: str) -> list[str]:
        """Return the line's words, ports replaced where they must be, the comment dropped."""
        words = shlex.split(line, comments=True)
        for typed, used in self.ports.items():
            words = [word.replace(str(typed), str(used)) for word in words]
        return words

    def type(self, line: str, code: int = 0) -> Done:
        """Type one line and see how it ends."""
        done = run(self.words(line), env=self.env, cwd=self.folder, timeout_s=90)
        assert done.code == code, f"{line}: {done.code}\n{done.out}\n{done.err}"
        return done

    def mistype(self, line: str) -> str:
        """Type a line that must fail with one line that says what to do; return it."""
        done = run(self.words(line), env=self.env, cwd=self.folder)
        assert done.code not in (0, None), f"{line} did not fail: {done.out}"
        lines = done.err.strip().splitlines()
        assert len(lines) == 1, f"{line} said more than one line:\n{done.err}"
        assert "cannot " in lines[0], lines[0]
        assert "Traceback" not in done.err
        return lines[0]

    def leave_running(self, line: str, until: str) -> Daemon:
        """Type a line that goes on, and wait until it says `until`."""
        log = self.folder / f"log{len(self.daemons)}"
        words = self.words(line)
        program = str(Path(sys.executable).parent / words[0])
        daemon = Daemon([program, *words[1:]], log=log, env=self.env, cwd=self.folder)
        self.daemons.append(daemon)
        daemon.start()
        if until:
            daemon.wait_for_line(until)
        return daemon

    def close(self) -> None:
        """End what was left running, newest first, and the apps."""
        for daemon in reversed(self.daemons):
            daemon.stop()
        end_apps_below(self.folder)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Give a shell in an empty folder beside the examples."""
    shell = Shell(tmp_path)
    try:
        yield shell
    finally:
        shell.close()


def digests(folder: Path) -> dict[str, str]:
    """Return every file below `folder` with its digest; a database's side files come and go and are left out."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def test_the_tour_works_as_typed(shell: Shell) -> None:
    """Every command of the README's tour, in order, does what the README says of it."""
    shell.type("towpath init ./fleet")
    assert {path.name for path in (shell.folder / "fleet").iterdir()} == {"publisher", "operator", "server"}
    shell.leave_running("towpath server run --dir ./fleet/server", until="^ready")
    token = shell.type("towpath token create --environment dev --label role=web --uses 5 --ttl 1h").out
    assert token.startswith("tp1.")
    assert len(token.split()) == 1, "the token stands alone on stdout"
    shell.type(f"towpath-agent enroll --server 127.0.0.1:7444 --token {token.strip()} --name h1 --dir ./h1")
    agent = shell.leave_running("towpath-agent run --dir ./h1", until="")
    shell.type("towpath host set h1 hello.port=9001")
    shell.type("towpath release lint    examples/hello/towpath.yaml")
    shell.type("towpath release publish examples/hello/towpath.yaml --version 1.0.0")
    shell.type("towpath deploy hello 1.0.0 --environment dev --select role=web --wait --timeout 60s")
    answer = ask(shell.app_port)
    assert answer is not None
    assert answer.body == "Hello from 1.0.0.\n"

    (row,) = shell.type("towpath status -o json").json()
    assert set(row) == {"host", "environment", "app", "current", "desired", "state", "health", "reason"}
    assert (row["host"], row["environment"], row["app"]) == ("h1", "dev", "hello")
    assert (row["current"], row["desired"], row["state"], row["health"]) == ("1.0.0", "1.0.0", "Confirmed", "healthy")
    assert shell.type("towpath status hello -o json").json() == [row]
    for line in ("towpath status", "towpath status hello", "towpath host show h1", "towpath-agent status --dir ./h1"):
        assert "1.0.0" in shell.type(line).out, line
    assert "h1" in shell.type("towpath host list").out
    assert "Confirmed" in shell.type("towpath-agent history --dir ./h1").out
    assert shell.type("towpath host why h1 hello").out.strip()
    assert "threshold" in shell.type("towpath trust status").out.lower()

    shell.type("towpath release publish examples/hello-broken/towpath.yaml --version 1.2.0")
    shell.type("towpath deploy hello 1.2.0 --environment dev --select role=web --wait --timeout 60s", code=1)
    wait_for("the old version serves again", lambda: (a := ask(shell.app_port)) and a.status == 200, 20)
    (row,) = shell.type("towpath status -o json").json()
    assert (row["current"], row["state"], row["health"]) == ("1.0.0", "Reverted", "healthy")
    assert agent.running
    events = shell.type("towpath-agent history --dir ./h1 -o json").json()
    (seen,) = [event["evidence"] for event in events if (event["version"], event["state"]) == ("1.2.0", "Reverting")]
    reported = shell.type("towpath host show h1 -o json").json()["events"]
    assert seen in [event["evidence"] for event in reported]
    why = shell.type("towpath host why h1 hello").out
    for words in (r"http failed \d+ times in a row, last in \d+ ms: GET http://\S+/healthz: status 500 after \d+ ms: \S",
                  r"process passed \d+ times in a row, last in \d+ ms: process \d+, .* MiB resident, 0 restarts"):  # fmt: skip
        assert re.search(words, seen), seen
        assert re.search(words, why), why


def test_the_tours_site_works_as_typed(shell: Shell) -> None:
    """Step 8: a second host behind a relay, a bundle; and the end of the tour."""
    shell.type("towpath init ./fleet")
    shell.leave_running("towpath server run --dir ./fleet/server", until="^ready")
    token = shell.type("towpath token create --environment dev --label role=web --uses 5 --ttl 1h").out.strip()
    shell.type(f"towpath-agent enroll --server 127.0.0.1:7444 --token {token} --name h1 --dir ./h1")
    agent = shell.leave_running("towpath-agent run --dir ./h1", until="")
    shell.type("towpath host set h1 hello.port=9001")
    shell.type("towpath release publish examples/hello/towpath.yaml --version 1.0.0")
    shell.type("towpath deploy hello 1.0.0 --environment dev --select role=web --wait --timeout 60s")
    relay = "towpath relay run --dir ./site --agent-dir ./h1 --listen 127.0.0.1:7453 --enroll-listen 127.0.0.1:7454"
    shell.leave_running(relay, until="^ready")
    shell.type(f"towpath-agent enroll --server 127.0.0.1:7454 --token {token} --name h2 --dir ./h2")
    shell.type("towpath host set h2 hello.port=9002")
    shell.leave_running("towpath-agent run --dir ./h2 --relay 127.0.0.1:7453", until="")
    wait_for("the second host serves", lambda: (a := ask(shell.ports[9002])) and a.status == 200, 60)
    shell.type("towpath bundle create --release hello@1.0.0 --for h1 -o hello.tpb")
    assert "h1" in shell.type("towpath bundle verify hello.tpb").out
    shell.type("towpath undeploy hello --environment dev")
    wait_for("no app is left", lambda: not shell.type("towpath status -o json").json(), 60)
    assert ask(shell.app_port) is None
    assert agent.running


def test_each_mistake_is_one_line_that_says_what_to_do_and_changes_nothing(shell: Shell) -> None:
    """Init twice, a used token, a wrong version, other bytes under a published version, a server that is not there."""
    shell.type("towpath init ./fleet")
    before = digests(shell.folder / "fleet")
    assert "fleet" in shell.mistype("towpath init ./fleet")
    assert digests(shell.folder / "fleet") == before

    assert "127.0.0.1:7445".replace("7445", str(shell.ports[7445])) in shell.mistype("towpath status")
    assert shell.mistype("towpath-agent enroll --server 127.0.0.1:7444 --token nonsense --name h1 --dir ./h1")
    assert not (shell.folder / "h1" / "host.json").exists()

    server = shell.leave_running("towpath server run --dir ./fleet/server", until="^ready")
    token = shell.type("towpath token create --environment dev --label role=web --uses 1 --ttl 1h").out.strip()
    shell.type(f"towpath-agent enroll --server 127.0.0.1:7444 --token {token} --name h1 --dir ./h1")
    hosts = shell.type("towpath host list -o json").json()
    shell.mistype(f"towpath-agent enroll --server 127.0.0.1:7444 --token {token} --name h2 --dir ./h2")
    assert not (shell.folder / "h2" / "host.json").exists()
    assert (
        [host["name"] for host in shell.type("towpath host list -o json").json()]
        == ["h1"]
        == [h["name"] for h in hosts]
    )

    shell.type("towpath release publish examples/hello/towpath.yaml --version 1.0.0")
    releases = shell.type("towpath release list -o json").json()
    publisher = digests(shell.folder / "fleet" / "publisher")
    assert "9.9.9" in shell.mistype(
        "towpath deploy hello 9.9.9 --environment dev --select role=web --wait --timeout 5s"
    )
    assert "../2" in shell.mistype("towpath release publish examples/hello/towpath.yaml --version ../2")
    assert "1.0.0" in shell.mistype("towpath release publish examples/hello-1.1/towpath.yaml --version 1.0.0")
    assert shell.type("towpath release list -o json").json() == releases
    assert shell.type("towpath status -o json").json() == []
    assert digests(shell.folder / "fleet" / "publisher") == publisher
    again = shell.type("towpath release publish examples/hello/towpath.yaml --version 1.0.0")
    assert again.code == 0, "the same bytes again are no mistake"
    assert shell.type("towpath release list -o json").json() == releases

    assert "server" in shell.mistype("towpath server run --dir ./fleet/server")
    assert server.stop() == 0
    shell.mistype("towpath release publish examples/hello-1.1/towpath.yaml --version 1.1.0")
    shell.mistype("towpath deploy hello 1.0.0 --environment dev --select role=web --wait --timeout 5s")
    shell.mistype(f"towpath-agent enroll --server 127.0.0.1:7444 --token {token} --name h2 --dir ./h2")
