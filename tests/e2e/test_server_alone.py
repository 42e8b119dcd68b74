"""The server's folder alone runs the server, and is not enough to run software on a host."""

import re
from pathlib import Path

import pytest
from bench import calls
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from examples.loopback import EXAMPLES, Fleet, ask
from examples.processes import free_ports, wait_for
from tuf.api.metadata import Role

from fakes.stolen_server import (
    EVIL_VERSION,
    Forgery,
    Loot,
    delegated_to_itself,
    signed_by_the_director,
    stolen_server,
    unsigned,
)
from towpath.repository import open_repository, raw_ed25519
from towpath.v1 import agent_pb2, operator_pb2

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

_PEM = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)
REFUSAL_S = 30.0


def private_keys(folder: Path) -> list[object]:
    """Return every private key that lies in any file below `folder`, databases included."""
    found: list[object] = []
    for path in folder.rglob("*"):
        if path.is_file():
            found += [load_pem_private_key(pem, None) for pem in _PEM.findall(path.read_bytes())]
    return found


def published(fleet: Fleet) -> dict[str, bytes]:
    """Return the metadata that the server gives to any publisher or host."""
    with calls.operator(fleet).channel() as channel:
        data = calls.unary(channel, "/towpath.v1.Releases/GetRepository")(b"", timeout=20)
    return {file.name: file.data for file in operator_pb2.GetRepositoryResponse.FromString(data).files}


def fetch_release(fleet: Fleet, path: str) -> bytes:
    """Return a published release as any host fetches it."""
    request = agent_pb2.FetchRequest(wants=[agent_pb2.Want(target=path)]).SerializeToString()
    with calls.host(fleet, "h1").channel() as channel:
        answers = calls.stream(channel, calls.FETCH)(request, timeout=20)
        return b"".join(agent_pb2.FetchResponse.FromString(data).data for data in answers)


def raw_keys(role: Role, keys: dict[str, object]) -> set[bytes]:
    """Return the raw public keys of a role."""
    return {raw for keyid in role.keyids if (raw := raw_ed25519(keys[keyid])) is not None}  # type: ignore[arg-type]


def serve_hello(fleet: Fleet) -> int:
    """Bring hello 1.0.0 onto h1; return its port."""
    (port,) = free_ports(1)
    fleet.start_server(fleet.fixed_addresses())
    fleet.add_hosts(["h1"])
    fleet.towpath("host", "set", "h1", f"hello.port={port}")
    fleet.publish(EXAMPLES / "hello" / "towpath.yaml", "1.0.0")
    fleet.deploy("hello", "1.0.0")
    return port


def test_the_server_runs_from_its_folder_alone_and_holds_no_key_of_a_publisher(fleet: Fleet, tmp_path: Path) -> None:
    """With the other two folders gone the server serves; no private key in its folder is named by root for root or
    targets, or by targets for an app.
    """
    serve_hello(fleet)
    assert fleet.server is not None
    assert fleet.server.stop() == 0
    alone = tmp_path / "alone" / "server"
    alone.parent.mkdir()
    (fleet.folder / "server").rename(alone)
    elsewhere = tmp_path / "elsewhere"
    fleet.folder.rename(elsewhere)
    fleet.start_server(folder=alone)
    with calls.host(fleet, "h1").channel() as channel:
        assert calls.unary(channel, calls.SYNC)(calls.sync_request(), timeout=20)
    assert fetch_release(fleet, "hello/1.0.0.release")

    fleet.folder = elsewhere  # only for the operator's questions: the server cannot see it
    fleet.wait_online(["h1"])
    repository = open_repository(published(fleet))
    delegations = repository.targets.delegations
    assert delegations is not None
    assert delegations.roles is not None
    forbidden = set()
    for name in ("root", "targets"):
        forbidden |= raw_keys(repository.root.roles[name], dict(repository.root.keys))
    forbidden |= raw_keys(delegations.roles["app-hello"], dict(delegations.keys))
    own = {
        key.public_key().public_bytes_raw() for key in private_keys(alone) if isinstance(key, ed25519.Ed25519PrivateKey)
    }
    allowed = set()
    for name in ("snapshot", "timestamp"):
        allowed |= raw_keys(repository.root.roles[name], dict(repository.root.keys))
    allowed |= raw_keys(delegations.roles["director"], dict(delegations.keys))
    assert len(forbidden) == 3, "one key each for root, targets and releases"
    assert own == allowed, "the three online keys, and no other signing key"
    assert not own & forbidden


@pytest.mark.parametrize("forge", [unsigned, signed_by_the_director, delegated_to_itself], ids=lambda it: it.__name__)
def test_what_a_stolen_server_signs_is_refused_by_the_agent_under_its_name(fleet: Fleet, forge: Forgery) -> None:
    """A thief with the whole server folder offers its own software in three ways; the host keeps running hello 1.0.0."""
    port = serve_hello(fleet)
    loot = Loot.of(fleet.folder / "server", published(fleet), fetch_release(fleet, "hello/1.0.0.release"))
    assert fleet.server is not None
    fleet.server.stop()

    def refused() -> bool:
        row = fleet.own_status("h1")["hello"]
        events = fleet.history("h1")
        by_app = row["verdict"] == "refused" and row["desired_version"] == EVIL_VERSION
        return by_app or any(event["code"] == "arbitrary-software" for event in events)

    with stolen_server(loot, fleet.addresses["agent"], forge):
        wait_for("the agent refuses", refused, REFUSAL_S, lambda: fleet.logs() + str(fleet.agent("h1", "status").out))
    row = fleet.own_status("h1")["hello"]
    events = fleet.history("h1")
    assert "arbitrary-software" in {event["code"] for event in events}
    assert row["current_version"] == "1.0.0"
    assert row["health"] == "healthy"
    assert not [event for event in events if event["version"] == EVIL_VERSION and event["kind"] == "transition"]
    answer = ask(port)
    assert answer is not None
    assert answer.headers["X-Hello-Version"] == "1.0.0"
