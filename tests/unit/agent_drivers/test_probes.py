"""What the probes judge, each on its own."""

import socket
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from fakes.clock import FakeClock
from fakes.loopback import answer, dripping, serving, unused_port
from fakes.services import make_instance
from towpath.parameters import Value
from towpath_agent.instance import ServiceState
from towpath_agent.probes import PROBES
from towpath_agent.probes.base import MAX_EVIDENCE_CHARS, ProbeContext, ProbeResult, result
from towpath_agent.system.clock import Deadline, SystemClock
from towpath_agent.system.files import Files

CLOCK = SystemClock()
UP = ServiceState(running=True, pid=7, restarts=2, rss_bytes=400 * 2**20)


def check(
    kind: str,
    options: Mapping[str, Value],
    root: Path,
    state: ServiceState = UP,
    *,
    timeout_s: float = 10.0,
    script: str = "",
) -> ProbeResult:
    instance = make_instance(root, env={"FROM": "release"}, **({"script": script} if script else {}))
    return PROBES[kind](Files(), CLOCK).check(options, ProbeContext(instance, state, timeout_s))


def get(root: Path, handle: object, timeout_s: float = 10.0, path: str = "/", **options: Value) -> ProbeResult:
    with serving(handle) as port:  # type: ignore[arg-type]
        return check("http", {"url": f"http://127.0.0.1:{port}{path}", **options}, root, timeout_s=timeout_s)


def test_http_evidence_shows_status_body_and_time(tmp_path: Path) -> None:
    """A person sees what was asked, what came back and how long it took."""
    seen = get(tmp_path, answer(503, b"database is gone"), path="/healthz")
    assert not seen.ok
    for part in ("/healthz", "status 503", "database is gone", " ms"):
        assert part in seen.evidence


@pytest.mark.parametrize(("status", "wanted", "ok"), [(204, 204, True), (204, "204", True), (200, 204, False)])
def test_http_status_is_compared_also_as_a_filled_parameter(
    tmp_path: Path, status: int, wanted: Value, ok: bool
) -> None:
    """The status asked for may be a number or the text that a parameter left."""
    assert get(tmp_path, answer(status), status=wanted).ok is ok


def test_http_redirect_is_not_followed(tmp_path: Path) -> None:
    """A redirect is its own status: a probe never asks a place that the publisher did not name."""
    asked = threading.Event()

    def elsewhere(connection: socket.socket, _stop: threading.Event) -> None:
        asked.set()

    with serving(elsewhere) as port:
        redirect = answer(302, b"", f"Location: http://127.0.0.1:{port}/\r\n")
        assert not get(tmp_path, redirect).ok
        assert get(tmp_path, redirect, status=302).ok
    assert not asked.is_set()


def test_http_proxy_of_the_environment_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Health is asked of the app itself, whatever proxy the agent's environment names."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{unused_port()}")
    assert get(tmp_path, answer(200)).ok


def test_http_body_must_hold_the_text_in_its_first_4_kib(tmp_path: Path) -> None:
    """The text counts within the first 4 KiB and nowhere later; a missing one is named."""
    assert get(tmp_path, answer(200, b"x" * 4000 + b"ready"), body="ready").ok
    late = get(tmp_path, answer(200, b"x" * 4096 + b"ready"), body="ready")
    assert not late.ok
    assert "body lacks 'ready'" in late.evidence


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n", b"HTTP", b""]
)
def test_http_answer_that_drips_ends_at_the_timeout(tmp_path: Path, head: bytes) -> None:
    """The timeout is for the whole exchange: a byte now and then, in head or body, does not prolong it."""
    deadline = Deadline(CLOCK, 5.0)
    seen = get(tmp_path, dripping(head), timeout_s=0.3)
    assert not deadline.expired
    assert not seen.ok
    assert "timed out" in seen.evidence


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00\xff garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500, b"HTTP/1.1 999999999 x\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n"],
    ids=["nothing", "garbage", "many headers", "strange status", "long header", "bad chunk"],
)  # fmt: skip
def test_http_garbage_is_a_failed_check(tmp_path: Path, data: bytes) -> None:
    """Whatever bytes come back, the check fails with evidence, and nothing is raised."""

    def handle(connection: socket.socket, _stop: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(data)

    seen = get(tmp_path, handle)
    assert not seen.ok
    assert seen.evidence


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/",
        "127.0.0.1:80",
        "http:///x",
        "http://[::1",
        "",
        "http://127.0.0.1:80/a b\n",
    ],
)
def test_http_url_that_cannot_be_asked_is_a_failed_check(tmp_path: Path, url: str) -> None:
    """Other schemes and malformed addresses fail with the address shown."""
    assert not check("http", {"url": url}, tmp_path, timeout_s=1.0).ok


def test_http_nobody_listening_says_so(tmp_path: Path) -> None:
    """A refused connection is what the evidence says."""
    assert "refused" in check("http", {"url": f"http://localhost:{unused_port()}/"}, tmp_path).evidence


def test_tcp_evidence_names_host_and_port(tmp_path: Path) -> None:
    """Success and refusal both name what was tried; a name that does not resolve is a failed check in time."""
    with serving(lambda _connection, _stop: None) as port:
        assert f"port {port}" in check("tcp", {"port": port, "host": "localhost"}, tmp_path).evidence
    refused = check("tcp", {"port": port}, tmp_path)
    assert not refused.ok
    assert f"port {port}" in refused.evidence
    assert "refused" in refused.evidence
    assert not check("tcp", {"port": 1, "host": "no-such-host.invalid"}, tmp_path, timeout_s=2.0).ok
    assert not check("tcp", {"port": 70000}, tmp_path).ok


def test_exec_runs_in_the_release_with_the_apps_environment(tmp_path: Path) -> None:
    """The program sees the release's folder and variables; its output is the evidence."""
    script = '#!/bin/sh\necho "$PWD $FROM $TOWPATH_APP $1"; exit 4\n'
    seen = check("exec", {"command": ("bin/app", "word")}, tmp_path, script=script)
    assert not seen.ok
    folder = make_instance(tmp_path).folder
    assert seen.evidence == f"bin/app exited 4: {folder} release hello word"


@pytest.mark.parametrize(
    ("command", "reason"),
    [(("bin/gone",), "there is no file"), (("../../app",), "outside its release"), ((), "without a command")],
)
def test_exec_that_cannot_start_is_a_failed_check(tmp_path: Path, command: tuple[str, ...], reason: str) -> None:
    """A program that is missing or lies elsewhere is named in the evidence."""
    seen = check("exec", {"command": command}, tmp_path)
    assert not seen.ok
    assert reason in seen.evidence


@pytest.mark.parametrize(
    ("options", "state", "ok", "evidence"),
    [
        ({}, UP, True, "400.0 MiB resident, 2 restarts"),
        ({"max_rss": 400 * 2**20, "max_restarts": 2}, UP, True, "process 7"),
        ({"max_rss": 400 * 2**20 - 1}, UP, False, "more than 400.0 MiB"),
        ({"max_restarts": 1}, UP, False, "more than 1 restarts"),
        ({}, ServiceState(False, 0, 3, 0), False, "not running, 3 restarts"),
        ({"max_rss": ("1",)}, UP, False, "cannot judge"),
    ],
)
def test_process_probe_judges_what_the_service_saw(
    tmp_path: Path, options: Mapping[str, Value], state: ServiceState, ok: bool, evidence: str
) -> None:
    """Running, memory and restarts are within the limits or not, limits included."""
    seen = check("process", options, tmp_path, state)
    assert seen.ok is ok
    assert evidence in seen.evidence


def test_evidence_is_cut_and_cleaned() -> None:
    """Control characters become spaces, and a long text ends with dots at the limit."""
    assert result(True, "a\x1bb\nc") == ProbeResult(True, "a b c")
    assert result(False, "x" * 9999).evidence == "x" * (MAX_EVIDENCE_CHARS - 3) + "..."
    assert result(False, " one line\n").evidence == "one line"


def test_timeouts_count_on_the_given_clock(tmp_path: Path) -> None:
    """Under a simulated clock a probe of an hour ends as soon as somebody lets that hour pass."""
    clock = FakeClock()

    def drip(connection: socket.socket, stop: threading.Event) -> None:
        clock.advance(3601)
        dripping(b"HTTP/1.1 200 OK\r\nX: ")(connection, stop)

    with serving(drip) as port:
        context = ProbeContext(make_instance(tmp_path), UP, 3600.0)
        seen = PROBES["http"](Files(), clock).check({"url": f"http://127.0.0.1:{port}/"}, context)
    assert "timed out" in seen.evidence
