"""Enrolment and renewal against in-process services over real TLS: what is left on disk after every way it can end."""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from fakes.authority import HOUR_MS, Authority, now_ms
from fakes.grpc_server import AgentApi, FakeEnrolment, Listener, serve_agents, serve_enrolment
from fakes.server import FakeServer
from towpath import pki
from towpath.errors import Broken, InputError, Refusal, Unavailable
from towpath_agent import identity
from towpath_agent.cli import main
from towpath_agent.enroll import Request, enroll
from towpath_agent.errors import DiskError
from towpath_agent.identity import HostRecord
from towpath_agent.renew import Renewal
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files
from towpath_agent.system.host import machine_mark
from towpath_agent.transport.channel import Limits
from towpath_agent.transport.client import GrpcServer

LIMITS = Limits(call_s=5.0)
FILES = Files()


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Return one CA for all tests."""
    return Authority()


@dataclass
class Enrolling:
    """An enrolment service and a folder to enrol in."""

    authority: Authority
    service: FakeEnrolment
    listener: Listener
    folder: Path

    def enroll(self, *, token: str | None = None, name: str = "h1", server: str | None = None) -> HostRecord:
        """Enrol, as `towpath-agent enroll` does."""
        request = Request(server or self.listener.address, token or self.authority.token(), name)
        return enroll(self.folder, FILES, request, limits=LIMITS)

    def left(self) -> set[str]:
        """Return the files in the folder."""
        if not self.folder.exists():
            return set()
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
def enrolling(authority: Authority, tmp_path: Path) -> Iterator[Enrolling]:
    """Return an enrolment service with one usable token."""
    service = FakeEnrolment(authority)
    listener = serve_enrolment(service)
    yield Enrolling(authority, service, listener, tmp_path / "h1")
    listener.stop()


# --- enrolment --------------------------------------------------------------------------------------------------------


def test_enrolment_leaves_a_usable_identity(enrolling: Enrolling) -> None:
    """Key and certificate fit together, facts are recorded, the root is kept, the pending key is gone, all is private."""
    record = enrolling.enroll()
    assert (record.host_id, record.name, record.environment) == ("host-id-1", "h1", "dev")
    assert record.agent_address == "127.0.0.1:7443"
    assert record.enroll_address == enrolling.listener.address
    noted = {"machine"} if machine_mark() else set()
    assert enrolling.left() == {"identity.pem", "ca.pem", "host.json", "trust/root.json", "agent.lock", *noted}
    loaded = identity.load(enrolling.folder, FILES)
    assert loaded.host == record
    facts = pki.identity(loaded.pem)
    assert (facts.name, facts.key_sha256.hex()) == ("host-id-1", record.key_sha256)
    assert pki.csr_key_sha256(pki.make_csr(pki.key_from_pem(loaded.pem))) == facts.key_sha256
    assert (facts.not_before_ms, facts.not_after_ms) == (record.not_before_unix_ms, record.not_after_unix_ms)
    assert (enrolling.folder / "trust/root.json").read_bytes() == b'{"signed": {}, "signatures": []}'
    assert all(path.stat().st_mode & 0o077 == 0 for path in (enrolling.folder, *enrolling.folder.rglob("*")))


def test_a_clone_becomes_another_host_of_the_same_fleet(enrolling: Enrolling) -> None:
    """With new_identity an enrolled folder gets another key, name and id, and keeps all else that is in it."""
    enrolling.enroll()
    before = identity.load(enrolling.folder, FILES)
    (enrolling.folder / "state.db").write_bytes(b"journal")
    enrolling.service.tokens[f"{2:016x}"] = 1
    enrolling.service.host_id = "host-id-2"
    request = Request(enrolling.listener.address, enrolling.authority.token(2), "h2")
    record = enroll(enrolling.folder, FILES, request, limits=LIMITS, new_identity=True)
    assert (record.host_id, record.name) == ("host-id-2", "h2")
    assert identity.load(enrolling.folder, FILES).host == record
    assert record.key_sha256 != before.host.key_sha256
    assert (enrolling.folder / "state.db").read_bytes() == b"journal"


def test_a_new_identity_that_is_refused_leaves_the_old_one(enrolling: Enrolling) -> None:
    """A token of another fleet is refused before the server is called; one that is used up changes nothing either."""
    record = enrolling.enroll()
    calls = len(enrolling.service.requests)
    for token in (Authority().token(), enrolling.authority.token()):
        request = Request(enrolling.listener.address, token, "h2")
        with pytest.raises((InputError, Refusal)):
            enroll(enrolling.folder, FILES, request, limits=LIMITS, new_identity=True)
        assert identity.load(enrolling.folder, FILES).host == record
    assert len(enrolling.service.requests) == calls + 1


def test_a_given_agent_address_is_taken(enrolling: Enrolling) -> None:
    """A server that names its agent port's host is believed; an empty host means the one that was dialled."""
    enrolling.service.answer.agent_address = "agents.example:9443"
    assert enrolling.enroll().agent_address == "agents.example:9443"


def test_a_lost_reply_is_repeated_with_the_same_key(enrolling: Enrolling) -> None:
    """Incident 18, enrolment trouble: an enrolment whose reply was lost succeeds when it is repeated, with one key and one use of the token."""
    enrolling.service.lost_replies = 1
    with pytest.raises(Unavailable):
        enrolling.enroll()
    assert not identity.is_enrolled(enrolling.folder, FILES)
    enrolling.enroll()
    keys = {pki.csr_key_sha256(request.csr_der) for request in enrolling.service.requests}
    assert (len(enrolling.service.requests), len(keys)) == (2, 1)
    assert enrolling.service.tokens == {f"{1:016x}": 0}
    assert identity.load(enrolling.folder, FILES).host.key_sha256 == keys.pop().hex()


def test_a_damaged_pending_key_is_replaced(enrolling: Enrolling) -> None:
    """A pending key that cannot be read does not block enrolment for ever."""
    enrolling.folder.mkdir()
    (enrolling.folder / identity.PENDING_KEY).write_bytes(b"garbage")
    enrolling.enroll()
    assert identity.is_enrolled(enrolling.folder, FILES)


def test_a_used_token_is_refused(enrolling: Enrolling) -> None:
    """A token that is used up is the server's refusal, and nothing is enrolled."""
    enrolling.service.tokens.clear()
    with pytest.raises(Refusal, match="used up") as caught:
        enrolling.enroll()
    assert caught.value.code == "bad-token"
    assert enrolling.left() <= {identity.PENDING_KEY, identity.LOCK}


def test_a_server_of_another_ca_never_sees_the_token(enrolling: Enrolling) -> None:
    """An impostor's certificate does not match the token's pin: refused before the token is sent."""
    impostor = FakeEnrolment(enrolling.authority)
    listener = serve_enrolment(impostor, shown=Authority())
    try:
        with pytest.raises(Refusal) as caught:
            enrolling.enroll(server=listener.address)
    finally:
        listener.stop()
    assert caught.value.code == "wrong-ca"
    assert impostor.requests == []
    assert not identity.is_enrolled(enrolling.folder, FILES)


def test_an_expired_server_certificate_is_not_accepted(enrolling: Enrolling) -> None:
    """The pin does not excuse a server certificate that has expired."""
    old = replace(enrolling.authority)
    old.server_pem = pki.issue_server(
        old.ca_pem, old.key, old.server_key, not_before_ms=now_ms() - 2 * HOUR_MS, not_after_ms=now_ms() - HOUR_MS
    )
    listener = serve_enrolment(enrolling.service, shown=old)
    try:
        with pytest.raises(Unavailable):
            enrolling.enroll(server=listener.address)
    finally:
        listener.stop()
    assert enrolling.service.requests == []


@pytest.mark.parametrize(
    ("field_name", "value", "code"),
    [
        ("ca_pem", lambda authority: Authority().ca_pem, "wrong-ca"),
        ("certificate_pem", lambda authority: Authority().issue(pki.make_csr(pki.new_key()), "host-id-1"), "wrong-ca"),
        ("certificate_pem", lambda authority: authority.issue(pki.make_csr(pki.new_key()), "host-id-1"), "wrong-host"),
        ("certificate_pem", lambda authority: authority.server_pem, "wrong-host"),
        ("certificate_pem", lambda authority: b"garbage", "garbled"),
        ("host_id", lambda authority: "another", "wrong-host"),
        ("name", lambda authority: "another", "wrong-host"),
        ("environment", lambda authority: "No Such", "bad-input"),
        ("root_json", lambda authority: b"{", "garbled"),
        ("root_json", lambda authority: b"[]", "garbled"),
        ("root_json", lambda authority: bytes(2**20 + 1), "endless-data"),
        ("agent_address", lambda authority: "nonsense", "bad-input"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_answers_that_do_not_fit_are_refused(
    enrolling: Enrolling, field_name: str, value: Callable[[Authority], object], code: str
) -> None:
    """Whatever in the answer contradicts the token's pin, the own key or the asked name stops the enrolment."""
    setattr(enrolling.service.answer, field_name, value(enrolling.authority))
    with pytest.raises((Refusal, InputError)) as caught:
        enrolling.enroll()
    assert caught.value.code == code
    assert not identity.is_enrolled(enrolling.folder, FILES)


def test_enrolling_twice_changes_nothing(enrolling: Enrolling) -> None:
    """A folder that is enrolled stays as it is; the error says as whom and what to do."""
    enrolling.enroll()
    before = {name: (enrolling.folder / name).read_bytes() for name in enrolling.left()}
    with pytest.raises(InputError, match=r"enrolled already, as h1 in dev; use another --dir") as caught:
        enrolling.enroll(name="h2", token=enrolling.authority.token(2))
    assert caught.value.code == "enrolled"
    assert {name: (enrolling.folder / name).read_bytes() for name in enrolling.left()} == before
    assert len(enrolling.service.requests) == 1


def test_two_enrolments_at_once_do_not_mix(enrolling: Enrolling) -> None:
    """A folder in which another process works is refused by its lock."""
    FILES.make_dirs(enrolling.folder)
    with FILES.lock(enrolling.folder / identity.LOCK), pytest.raises(InputError, match="another process holds it"):
        enrolling.enroll()
    assert enrolling.service.requests == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"token": "nonsense"}, "token"),
        ({"token": "tp1.AAAA"}, "token"),
        ({"name": "Not A Name"}, "host name"),
        ({"server": "nowhere"}, "HOST:PORT"),
    ],
)
def test_bad_input_touches_nothing(enrolling: Enrolling, arguments: dict[str, str], message: str) -> None:
    """A malformed token, name or address is one line, before anything is made or dialled."""
    with pytest.raises(InputError, match=message) as caught:
        enrolling.enroll(**arguments)
    assert "\n" not in str(caught.value)
    assert not enrolling.folder.exists()


def test_a_server_that_is_not_there_is_named(enrolling: Enrolling) -> None:
    """Nobody at the address: one line that names it."""
    enrolling.listener.stop()
    with pytest.raises(Unavailable, match=enrolling.listener.address) as caught:
        enrolling.enroll()
    assert "\n" not in str(caught.value)


def test_the_wrong_port_is_guessed(enrolling: Enrolling) -> None:
    """An agent port, a port that speaks no TLS and one that is silent: each one line that asks for the right one."""
    agents = serve_agents(AgentApi(FakeServer(), enrolling.authority))
    try:
        with pytest.raises(Unavailable, match="is it the enrolment port") as caught:
            enrolling.enroll(server=agents.address)
        assert "\n" not in str(caught.value)
    finally:
        agents.stop()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        request = Request(address, enrolling.authority.token(), "h1")
        with pytest.raises(Unavailable, match="no TLS answer"):
            enroll(enrolling.folder, FILES, request, limits=Limits(call_s=0.2))
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def answer() -> None:
            near, _ = plain.accept()
            near.recv(4096)
            near.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            near.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unavailable, match="speaks no TLS"):
            enrolling.enroll(server=f"127.0.0.1:{plain.getsockname()[1]}")
        thread.join()


def test_a_crash_at_any_write_can_be_repeated(authority: Authority, tmp_path: Path) -> None:
    """Stopped at the n-th change of the disk, for every n: enrolling again with the same token ends enrolled."""
    service = FakeEnrolment(authority)
    listener = serve_enrolment(service)
    request = Request(listener.address, authority.token(), "h1")
    try:
        for stop_at in range(1, 200):
            service.tokens = {f"{1:016x}": 1}
            service.issued.clear()
            folder, left = tmp_path / str(stop_at), [stop_at]

            def crash(_verb: str, _path: Path, left: list[int] = left) -> None:
                left[0] -= 1
                if left[0] == 0:
                    raise OSError(5, "Input/output error")

            try:
                enroll(folder, Files(before=crash), request, limits=LIMITS)
            except DiskError:
                if not identity.is_enrolled(folder, FILES):
                    enroll(folder, FILES, request, limits=LIMITS)
            loaded = identity.load(folder, FILES)
            assert pki.public_key_sha256(loaded.pem).hex() == loaded.host.key_sha256
            if left[0] > 0:
                break
        else:
            pytest.fail("enrolment never ended")
    finally:
        listener.stop()


# --- identity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["host.json", "identity.pem", "ca.pem"])
def test_a_damaged_folder_is_one_line(enrolling: Enrolling, name: str) -> None:
    """A missing or garbled file of the identity is named, with the way out."""
    enrolling.enroll()
    path = enrolling.folder / name
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises((Broken, InputError), match="enrol"):
        identity.load(enrolling.folder, FILES)
    if name == "host.json":
        table = json.loads(whole)
        for damaged in (whole[:50], b"[]", b"{}", json.dumps({**table, "extra": 1}).encode(),
                        json.dumps({**table, "name": 5}).encode()):  # fmt: skip
            path.write_bytes(damaged)
            with pytest.raises(Broken, match="damaged"):
                identity.load(enrolling.folder, FILES)


def test_a_fleet_does_not_renew_in_one_minute(enrolling: Enrolling) -> None:
    """Renewal lies between 2/3 and 77 % of a certificate's life, differs by host, and stays over restarts."""
    record = replace(enrolling.enroll(), not_before_unix_ms=0, not_after_unix_ms=1_000_000)
    times = [identity.renew_at_unix_ms(replace(record, host_id=f"host-{number}")) for number in range(1000)]
    assert min(times) >= 666_666
    assert max(times) <= 766_667
    for start in range(670_000, 760_000, 10_000):
        assert 50 < sum(start <= at < start + 10_000 for at in times) < 200
    assert times[7] == identity.renew_at_unix_ms(replace(record, host_id="host-7"))


# --- renewal ----------------------------------------------------------------------------------------------------------


@dataclass
class Renewing:
    """An enrolled host, its agent port and a clock that can be moved."""

    folder: Path
    api: AgentApi
    agents: Listener
    enrolment: FakeEnrolment
    shift_ms: list[int] = field(default_factory=lambda: [0])

    def renewal(self, files: Files = FILES) -> Renewal:
        """Return a renewal of this host."""
        clock = SystemClock()
        clock.now_unix_ms = lambda: now_ms() + self.shift_ms[0]  # type: ignore[method-assign]
        return Renewal(self.folder, files, clock, LIMITS)

    def sync(self) -> None:
        """Use what is in the folder now."""
        who = identity.load(self.folder, FILES)
        with GrpcServer(
            who.host.agent_address, identity_pem=who.pem, ca_pem=who.ca_pem, platform="", agent_version="",
            clock=SystemClock(), limits=LIMITS,
        ) as server:  # fmt: skip
            server.sync(nonce=b"n" * 16, state_revision=0, boot_id="")


@pytest.fixture
def renewing(enrolling: Enrolling) -> Iterator[Renewing]:
    """Return a host that is enrolled and reaches its agent port."""
    api = AgentApi(FakeServer(), enrolling.authority)
    agents = serve_agents(api)
    enrolling.service.answer.agent_address = agents.address
    enrolling.enroll()
    yield Renewing(enrolling.folder, api, agents, enrolling.service)
    agents.stop()


def test_renewal_waits_until_it_is_due(renewing: Renewing) -> None:
    """A fresh certificate is left alone."""
    before = (renewing.folder / "identity.pem").read_bytes()
    (renewing.folder / "host.json").write_text(
        json.dumps({**json.loads((renewing.folder / "host.json").read_text()), "not_before_unix_ms": now_ms()})
    )
    assert not renewing.renewal().run()
    assert (renewing.folder / "identity.pem").read_bytes() == before
    assert renewing.api.peers == []


def test_renewal_gives_a_new_key_that_was_proven(renewing: Renewing) -> None:
    """A renewed host has another key, used once before the old one is dropped, and the same id, name and environment."""
    old = identity.load(renewing.folder, FILES)
    assert renewing.renewal().run(force=True)
    new = identity.load(renewing.folder, FILES)
    assert new.host.key_sha256 != old.host.key_sha256
    assert new.host == replace(
        old.host,
        key_sha256=new.host.key_sha256,
        identity_sha256=new.host.identity_sha256,
        not_before_unix_ms=new.host.not_before_unix_ms,
        not_after_unix_ms=new.host.not_after_unix_ms,
    )
    assert renewing.api.serials == [pki.identity(old.pem).serial, pki.identity(new.pem).serial]
    assert not (renewing.folder / identity.NEXT_IDENTITY).exists()
    renewing.sync()


def test_an_unreachable_server_leaves_the_old_identity(renewing: Renewing) -> None:
    """Renewal that cannot reach its server changes nothing."""
    before = (renewing.folder / "identity.pem").read_bytes()
    renewing.agents.stop()
    with pytest.raises(Unavailable):
        renewing.renewal().run(force=True)
    assert (renewing.folder / "identity.pem").read_bytes() == before


def test_a_certificate_for_another_key_is_refused(renewing: Renewing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers with another key's certificate is refused; the old identity stays."""
    before = (renewing.folder / "identity.pem").read_bytes()
    issue = renewing.api.authority.issue
    monkeypatch.setattr(
        renewing.api.authority, "issue", lambda csr, host_id: issue(pki.make_csr(pki.new_key()), host_id)
    )
    with pytest.raises(Refusal, match="another host or key"):
        renewing.renewal().run(force=True)
    assert (renewing.folder / "identity.pem").read_bytes() == before


def test_a_crash_at_any_write_of_a_renewal_leaves_a_working_identity(renewing: Renewing) -> None:
    """Stopped at the n-th change of the disk, for every n: what is there works, and the next run finishes the rest.

    The server is strict: once a newer certificate was used, older ones are refused.
    """
    for stop_at in range(1, 100):
        left = [stop_at]

        def crash(_verb: str, _path: Path, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise OSError(5, "Input/output error")

        done = False
        with contextlib.suppress(DiskError):
            done = renewing.renewal(Files(before=crash)).run(force=True)
        renewing.api.refused_serials = set(renewing.api.serials[:-1]) - set(renewing.api.serials[-1:])
        if not done:
            record = identity.load(renewing.folder, FILES).host
            pending = (renewing.folder / identity.NEXT_IDENTITY).exists()
            assert identity.renewal_is_due(renewing.folder, FILES, record, 0) == pending
            renewing.renewal().run()
        renewing.sync()
        loaded = identity.load(renewing.folder, FILES)
        assert pki.public_key_sha256(loaded.pem).hex() == loaded.host.key_sha256
        if left[0] > 0:
            return
    pytest.fail("renewal never ended")


@pytest.mark.parametrize("damage", ["garbage", "another host", "another CA"])
def test_a_pending_identity_that_does_not_fit_is_dropped(renewing: Renewing, damage: str) -> None:
    """What lies in identity.next.pem is believed only where it is this host's."""
    pending = renewing.folder / identity.NEXT_IDENTITY
    before = (renewing.folder / "identity.pem").read_bytes()
    pending.write_bytes(
        {
            "garbage": b"garbage",
            "another host": renewing.api.authority.identity("host-id-2"),
            "another CA": Authority().identity("host-id-1"),
        }[damage]
    )
    renewing.renewal().run()
    assert not pending.exists()
    assert (renewing.folder / "identity.pem").read_bytes() == before


def test_an_expired_certificate_recovers_on_the_enrolment_port(renewing: Renewing) -> None:
    """Incident 13, certificate trouble: after a long outage the old key still proves who asks, and the host is back without a token."""
    shrink_life(renewing)
    assert renewing.renewal().run()
    renewing.sync()
    assert renewing.enrolment.requests[1:] == []


def test_a_pending_identity_that_expired_is_what_recovers(renewing: Renewing) -> None:
    """A host that was off for long right after a renewal was issued recovers with that one: the server's newest."""
    shrink_life(renewing)
    key = pki.new_key()
    pending = renewing.api.authority.issue(
        pki.make_csr(key), "host-id-1", from_ms=now_ms() - 2 * HOUR_MS, until_ms=now_ms() - HOUR_MS
    )
    (renewing.folder / identity.NEXT_IDENTITY).write_bytes(pki.key_to_pem(key) + pending)
    assert renewing.renewal().run()
    assert [pki.identity(pem).serial for pem in renewing.enrolment.recovered] == [pki.identity(pending).serial]
    renewing.sync()
    assert not (renewing.folder / identity.NEXT_IDENTITY).exists()


def test_recovery_outside_the_grace_window_is_refused(renewing: Renewing) -> None:
    """The server's no is final and said in its words; the old identity stays."""
    shrink_life(renewing)
    renewing.enrolment.grace = False
    before = (renewing.folder / "identity.pem").read_bytes()
    with pytest.raises(Refusal, match="enrol again"):
        renewing.renewal().run()
    assert (renewing.folder / "identity.pem").read_bytes() == before


def shrink_life(renewing: Renewing) -> None:
    """Replace the identity by one of the same key that has expired."""
    loaded = identity.load(renewing.folder, FILES)
    key = pki.key_from_pem(loaded.pem)
    expired = renewing.api.authority.issue(
        pki.make_csr(key), "host-id-1", from_ms=now_ms() - 2 * HOUR_MS, until_ms=now_ms() - HOUR_MS
    )
    identity.save(renewing.folder, FILES, loaded.host, pki.key_to_pem(key) + expired)


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_enrols(
    enrolling: Enrolling, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`towpath-agent enroll` takes the token from the environment, settings from agent.toml, and says what comes next."""
    enrolling.folder.mkdir()
    (enrolling.folder / "agent.toml").write_text(f'server = "{enrolling.listener.address}"\nname = "from-file"\n')
    monkeypatch.setenv("TOWPATH_TOKEN", enrolling.authority.token())
    with pytest.raises(SystemExit) as caught:
        main(["enroll", "--name", "h1", "--dir", str(enrolling.folder)])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == (
        f"enrolled h1 in dev; start it: towpath-agent run --dir {enrolling.folder}"
    )
    assert os.environ["TOWPATH_TOKEN"] not in "".join(path.read_text() for path in enrolling.folder.rglob("*.json"))


def test_the_command_reads_a_token_file(enrolling: Enrolling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--token-file` keeps the token out of the list of processes."""
    monkeypatch.delenv("TOWPATH_TOKEN", raising=False)
    (tmp_path / "token").write_text(enrolling.authority.token() + "\n")
    with pytest.raises(SystemExit) as caught:
        main(
            ["enroll", "--server", enrolling.listener.address, "--token-file", str(tmp_path / "token"), "--name", "h1",
             "--dir", str(enrolling.folder)]
        )  # fmt: skip
    assert caught.value.code == 0
