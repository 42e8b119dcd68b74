"""Probe `http` over TLS: who is believed, and for how long it is waited."""

import socket
import threading
from pathlib import Path

import pytest

from fakes.loopback import answer, dripping, serving, silent
from fakes.probing import check
from fakes.tls import self_signed, under_tls
from towpath_agent.system.clock import Deadline, SystemClock


def test_a_certificate_is_believed_by_the_authority_that_is_given(tmp_path: Path) -> None:
    """`ca` names a PEM file; the page behind it is read and shown as over plain HTTP."""
    ca, context = self_signed(tmp_path)
    with serving(under_tls(context, answer(200, b"fine"))) as port:
        seen = check("http", {"url": f"https://127.0.0.1:{port}/", "ca": str(ca), "body": "fine"}, tmp_path)
    assert seen.ok, seen.evidence
    assert "status 200" in seen.evidence
    assert "fine" in seen.evidence


def test_the_authority_lies_in_the_release_where_its_path_is_relative(tmp_path: Path) -> None:
    """A release may ship it."""
    ca, context = self_signed(tmp_path)
    with serving(under_tls(context, answer(200))) as port:
        options = {"url": f"https://127.0.0.1:{port}/", "ca": "tls/ca.pem"}
        assert "No such file" in check("http", options, tmp_path).evidence
        folder = next((tmp_path / "apps/hello/releases").iterdir()) / "tls"
        folder.mkdir()
        (folder / "ca.pem").write_bytes(ca.read_bytes())
        assert check("http", options, tmp_path).ok


def test_a_certificate_that_nobody_vouches_for_fails_unless_unverified_is_asked(tmp_path: Path) -> None:
    """By default the machine's authorities decide; `verify: false` takes what an app made for itself."""
    _, context = self_signed(tmp_path)
    with serving(under_tls(context, answer(200))) as port:
        url = f"https://127.0.0.1:{port}/"
        seen = check("http", {"url": url}, tmp_path)
        assert not seen.ok
        assert "CERTIFICATE_VERIFY_FAILED" in seen.evidence
        assert check("http", {"url": url, "verify": False}, tmp_path).ok


@pytest.mark.parametrize(("address", "days"), [("127.0.0.2", 1), ("127.0.0.1", -1)], ids=["other name", "expired"])
def test_name_and_time_of_a_certificate_count(tmp_path: Path, address: str, days: int) -> None:
    """A certificate of another host, or one of yesterday, is not believed though its authority is."""
    ca, context = self_signed(tmp_path, address, days=days)
    with serving(under_tls(context, answer(200))) as port:
        seen = check("http", {"url": f"https://127.0.0.1:{port}/", "ca": str(ca)}, tmp_path)
    assert not seen.ok
    assert "CERTIFICATE_VERIFY_FAILED" in seen.evidence


def test_only_loopback_is_asked_unverified(tmp_path: Path) -> None:
    """A host that a parameter named later is not asked blindly either."""
    seen = check("http", {"url": "https://192.0.2.1/", "verify": False}, tmp_path)
    assert not seen.ok
    assert "only loopback" in seen.evidence


def test_an_authority_that_is_none_is_a_failed_check(tmp_path: Path) -> None:
    """A file of something else is said so; nothing is raised."""
    (tmp_path / "ca").write_text("not a certificate")
    _, context = self_signed(tmp_path)
    with serving(under_tls(context, answer(200))) as port:
        seen = check("http", {"url": f"https://127.0.0.1:{port}/", "ca": str(tmp_path / "ca")}, tmp_path)
    assert not seen.ok
    assert seen.evidence


def _plain(connection: socket.socket, _stop: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_a_server_that_speaks_no_tls_is_a_failed_check(tmp_path: Path) -> None:
    """An answer in plain HTTP ends the handshake with a reason."""
    with serving(_plain) as port:
        assert not check("http", {"url": f"https://127.0.0.1:{port}/", "verify": False}, tmp_path).ok


def test_the_timeout_is_for_handshake_head_and_body_together(tmp_path: Path) -> None:
    """A server that never shakes hands, and one that drips a byte now and then under TLS, both end at the timeout."""
    _, context = self_signed(tmp_path)
    drip = under_tls(context, dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n"))
    for handle in (silent, drip):
        deadline = Deadline(SystemClock(), 5.0)
        with serving(handle) as port:
            seen = check("http", {"url": f"https://127.0.0.1:{port}/", "verify": False}, tmp_path, timeout_s=0.3)
        assert not deadline.expired
        assert not seen.ok
        assert "timed out" in seen.evidence
