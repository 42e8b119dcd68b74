"""The verifying child: a real process, fed over pipes, gone afterwards; and what the resident agent does not load."""

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fakes.repository import RepositorySimulator, SimulatedHost, unreachable
from towpath.errors import Broken, Refusal, Unavailable
from towpath.parameters import Parameter
from towpath_agent.system.conversation import Conversation
from towpath_agent.trust.child import reader, serve
from towpath_agent.trust.client import TrustClient
from towpath_agent.trust.codec import to_error_frame, to_request_frame
from towpath_agent.trust.frames import Frame, decode, encode
from towpath_agent.trust.verifier import verify


def test_the_child_returns_what_the_verifier_returns(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """Over the pipes nothing is lost or altered: releases, parameters, refusals, floors, keys, times."""
    parameters = (Parameter("name", "string", "ä€"), Parameter("flag", "bool", default=True), Parameter("n", "int", 3))
    good = sim.publish("good", "1.0.0", 1, parameters=parameters)
    bad = sim.publish("bad", "1.0.0", 1, platforms=("linux/arm64",))
    wishes = [sim.desire(bad), sim.desire(good, parameters={"n": -(2**60)}, assignment="a", generation=7)]
    envelope = sim.sign(sim.manifest(host.facts, wishes))
    here = verify(host.request(envelope), sim.fetch)
    there = TrustClient().verify(host.request(envelope), sim.fetch)
    assert there == here
    assert [app.desired.app for app in there.apps] == ["good"]
    assert [app.code for app in there.refused] == ["wrong-platform"]


@pytest.mark.parametrize(
    ("lie", "code"), [({"host_id": "other"}, "wrong-host"), ({"nonce": b""}, "replay"), ({"sequence": 0}, "rollback")]
)
def test_a_refusal_keeps_its_name(
    sim: RepositorySimulator, host: SimulatedHost, lie: dict[str, object], code: str
) -> None:
    """A refusal in the child is the same refusal in the agent."""
    host.take()
    with pytest.raises(Refusal) as caught:
        TrustClient().verify(host.request(sim.sign(sim.manifest(host.facts, **lie))), sim.fetch)
    assert caught.value.code == code


def test_an_unreachable_server_stays_unavailable(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """Trouble while the agent fetches for the child comes back as it was."""
    with pytest.raises(Unavailable, match="connection refused"):
        TrustClient().verify(host.request(sim.sign(sim.manifest(host.facts))), unreachable)


def test_endless_files_do_not_reach_the_child(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A file above every cap is refused by the agent before it is handed on."""
    sim.served["timestamp.json"] = b"x" * 5_000_001
    with pytest.raises(Refusal) as caught:
        TrustClient().verify(host.request(sim.sign(sim.manifest(host.facts))), sim.fetch)
    assert caught.value.code == "endless-data"


def test_a_fault_of_ours_ends_the_child_only(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """An error that fetch was not meant to raise reaches the caller, and no child is left."""

    def faulty(_kind: str, _name: str) -> bytes | None:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        TrustClient().verify(host.request(sim.sign(sim.manifest(host.facts))), faulty)
    assert children() == []


def children() -> list[str]:
    path = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children")
    return [pid for pid in path.read_text().split() if "trust.child" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_no_child_stays(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """After a verification its process is gone, whether it went well or not."""
    TrustClient().verify(host.request(sim.sign(sim.manifest(host.facts))), sim.fetch)
    with pytest.raises(Refusal):
        TrustClient().verify(host.request(b"nonsense"), sim.fetch)
    assert children() == []


def test_a_child_that_dies_is_broken(tmp_path: Path, sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A child that ends without a verdict admits nothing."""
    dead = tmp_path / "python"
    dead.write_text("#!/bin/sh\nexit 3\n")
    dead.chmod(0o755)
    with pytest.raises(Broken, match="cannot go on"):
        TrustClient(str(dead)).verify(host.request(sim.sign(sim.manifest(host.facts))), sim.fetch)
    with pytest.raises(Broken, match="cannot start"):
        TrustClient(str(tmp_path / "missing")).verify(host.request(b""), sim.fetch)


def test_a_child_that_hangs_is_ended(tmp_path: Path, sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A child that says nothing is killed at the deadline, and the verification can be tried again."""
    stuck = tmp_path / "python"
    stuck.write_text("#!/bin/sh\nexec sleep 600\n")
    stuck.chmod(0o755)
    with pytest.raises(Unavailable, match="deadline"):
        TrustClient(str(stuck), deadline_s=0.2).verify(host.request(b"x" * 300_000), sim.fetch)
    assert children() == []


@pytest.mark.parametrize(
    "output", [b"\xff\xff\xff\xff", b"\0\0\0\x02{}", b"\0\0\0\x27" + b'{"kind":"surprise","fields":{},"blobs":[]}'[:39]]
)
def test_a_child_that_talks_nonsense_is_broken(
    tmp_path: Path, sim: RepositorySimulator, host: SimulatedHost, output: bytes
) -> None:
    """What a child says is capped and checked: nonsense admits nothing."""
    (tmp_path / "out").write_bytes(output)
    mad = tmp_path / "python"
    mad.write_text(f"#!/bin/sh\ncat {tmp_path}/out\nexec sleep 600\n")
    mad.chmod(0o755)
    with pytest.raises(Broken):
        TrustClient(str(mad), deadline_s=20).verify(host.request(b""), sim.fetch)


def _script(folder: Path, body: str) -> str:
    """Return a stand-in for Python that runs `body` instead of the child, whatever its arguments are."""
    script = folder / "stand-in"
    script.write_text(f"#!{sys.executable}\nimport sys\nfrom towpath_agent.trust.frames import Frame, encode\n{body}\n")
    script.chmod(0o755)
    return str(script)


def test_a_child_that_asks_without_end_is_ended(tmp_path: Path, sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A child that runs in circles is stopped after a number of questions that no honest one needs."""
    question = "encode(Frame('fetch', {'kind': 'metadata', 'name': 'x'}))"
    script = _script(
        tmp_path,
        f"import threading\nthreading.Thread(target=sys.stdin.buffer.read, daemon=True).start()\nfor _ in range(3000): sys.stdout.buffer.write({question})",
    )
    with pytest.raises(Broken, match="without end"):
        TrustClient(script).verify(host.request(b""), sim.fetch)


def test_results_without_end_are_refused(tmp_path: Path, sim: RepositorySimulator, host: SimulatedHost) -> None:
    """More bytes of releases than an agent should hold at once are refused."""
    body = (
        "frame = encode(Frame('admitted', {}, (bytes(8 * 2**20),)))\nfor _ in range(9): sys.stdout.buffer.write(frame)"
    )
    with pytest.raises(Refusal) as caught:
        TrustClient(_script(tmp_path, body)).verify(host.request(b""), sim.fetch)
    assert caught.value.code == "endless-data"


def test_a_child_that_does_not_listen_is_broken(tmp_path: Path, sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A child that ends before it has read its request is broken, however long the request is."""
    with pytest.raises(Broken, match="cannot go on"):
        TrustClient(_script(tmp_path, "sys.exit(3)")).verify(host.request(b"x" * 2**20), sim.fetch)


@pytest.mark.parametrize("reachable", [True, False])
def test_the_childs_side_of_the_talk(sim: RepositorySimulator, host: SimulatedHost, reachable: bool) -> None:
    """The child asks for files one by one and ends with a verdict on each app, or with one error."""
    release = sim.publish("hello", "1.0.0", 1)
    bad = sim.publish("bad", "1.0.0", 1, platforms=("linux/arm64",))
    envelope = sim.sign(sim.manifest(host.facts, [sim.desire(release), sim.desire(bad)]))
    inbox = bytearray(encode(to_request_frame(host.request(envelope))))
    said: list[Frame] = []

    def receive(size: int) -> bytes:
        part = bytes(inbox[:size])
        del inbox[:size]
        return part

    def send(data: bytes) -> None:
        frame = decode(reader(io.BytesIO(data)))
        said.append(frame)
        if frame.kind == "fetch":
            found = sim.fetch(frame.fields["kind"], frame.fields["name"])
            answer = Frame("none") if found is None else Frame("file", blobs=(found,))
            inbox.extend(encode(answer if reachable else to_error_frame(Unavailable("cannot reach the server"))))

    serve(receive, send)
    ends = [frame.kind for frame in said if frame.kind != "fetch"]
    assert ends == (["admitted", "refused", "result"] if reachable else ["error"])
    assert not inbox


def test_the_agents_environment_stays_with_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child sees neither the agent's variables, nor its folder."""
    from towpath_agent.system.clock import SystemClock

    monkeypatch.setenv("TOWPATH_TOKEN", "secret")
    program = "import os,sys; sys.stdout.write(str('TOWPATH_TOKEN' in os.environ)[0] + os.getcwd())"
    with Conversation([sys.executable, "-I", "-c", program], clock=SystemClock(), seconds=20) as child:
        assert child.pid > 0
        assert child.receive(2) == b"F/"


def test_what_a_library_prints_is_no_frame() -> None:
    """Everything that the child prints by accident goes to stderr, never between its frames."""
    program = (
        "from towpath_agent.system.conversation import child_streams\n"
        "reader, writer = child_streams()\n"
        "print('noise'); import os; os.write(1, b'noise'); os.write(1, os.read(0, 5))\n"
        "writer.write(reader.read(4))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=b"data", capture_output=True, check=True)
    assert done.stdout == b"data"
    assert done.stderr.count(b"noise") == 2


@pytest.mark.parametrize("module", ["model", "guard", "client"])
def test_the_resident_agent_loads_no_tuf(module: str) -> None:
    """What stays in memory between changes imports neither the TUF library nor certificates."""
    program = (
        f"import sys, towpath_agent.trust.{module}\n"
        "heavy = ('tuf', 'securesystemslib', 'urllib3', 'cryptography.x509')\n"
        "found = [name for name in sys.modules if name in heavy or name.split('.')[0] in heavy]\n"
        "sys.exit(','.join(found) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
