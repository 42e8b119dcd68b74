"""Probe `prometheus`: which samples count, what the limits mean, and what a person is shown."""

import socket
import threading
from pathlib import Path

import pytest

from fakes.loopback import answer, serving
from fakes.probing import check
from fakes.tls import self_signed, under_tls
from towpath.parameters import Value
from towpath_agent.probes.base import ProbeResult
from towpath_agent.probes.prometheus import MAX_PAGE_BYTES

PAGE = """# TYPE errors_total counter
errors_total{code="500",job="a"} 3
errors_total{code="404",job="a"} 90
errors_total{code="500",job="b"} 8 1395066363000
ratio 0.95
broken NaN
full +Inf
"""


def scrape(root: Path, page: str = PAGE, *, status: int = 200, headers: str = "", **options: Value) -> ProbeResult:
    with serving(answer(status, page.encode(), headers)) as port:
        return check("prometheus", {"url": f"http://127.0.0.1:{port}/metrics", **options}, root)


@pytest.mark.parametrize(
    ("options", "ok", "evidence"),
    [
        ({"metric": "ratio"}, True, "ratio 0.95"),
        ({"metric": "ratio", "min": "0.95", "max": "0.95"}, True, "ratio 0.95"),
        ({"metric": "ratio", "min": "0.951"}, False, "less than 0.951"),
        ({"metric": "ratio", "max": "0.949"}, False, "more than 0.949"),
        ({"metric": "ratio", "min": 1}, False, "less than 1"),
        ({"metric": "errors_total", "max": 100}, True, "(and 2 more)"),
        ({"metric": "errors_total", "labels": ("code=500",), "max": 8}, True, "(and 1 more)"),
        (
            {"metric": "errors_total", "labels": ("code=500",), "max": 7},
            False,
            'errors_total{code="500",job="b"} 8 1395066363000',
        ),
        ({"metric": "errors_total", "labels": ("code=500", "job=a"), "max": 3}, True, '{code="500",job="a"} 3'),
        ({"metric": "errors_total", "labels": ("zone=",), "max": 90}, True, "(and 2 more)"),
        ({"metric": "errors_total", "labels": ("code=418",)}, False, "no sample of errors_total code=418"),
        ({"metric": "error"}, False, "no sample of error"),
        ({"metric": "broken"}, True, "broken NaN"),
        ({"metric": "broken", "max": 1}, False, "more than 1"),
        ({"metric": "broken", "min": 1}, False, "less than 1"),
        ({"metric": "full", "min": 1}, True, "full +Inf"),
        ({"metric": "full", "max": "1e300"}, False, "more than 1e300"),
        ({"metric": "ratio", "min": "nan"}, False, "min 'nan' is no number"),
        ({"metric": "ratio", "labels": ("code",)}, False, "write name=value"),
    ],
)
def test_every_sample_that_fits_must_lie_within_the_limits(
    tmp_path: Path, options: dict[str, Value], ok: bool, evidence: str
) -> None:
    """Limits included; a label that is missing is empty; NaN is within no limits; the sample is the evidence."""
    seen = scrape(tmp_path, **options)
    assert seen.ok is ok, seen.evidence
    assert evidence in seen.evidence


def test_a_page_that_is_no_page_is_said_so(tmp_path: Path) -> None:
    """Another status with its body, a broken line of that metric, a page that is cut off or too long."""
    assert "status 503" in scrape(tmp_path, "no metrics today", status=503, metric="up").evidence
    assert "no metrics today" in scrape(tmp_path, "no metrics today", status=503, metric="up").evidence
    assert "no line of the format" in scrape(tmp_path, "up{ 1", metric="up").evidence

    def short(connection: socket.socket, _stop: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nup 1\n")

    with serving(short) as port:
        seen = check("prometheus", {"url": f"http://127.0.0.1:{port}/", "metric": "up"}, tmp_path)
    assert not seen.ok
    assert "cut off" in seen.evidence
    assert "longer than" in scrape(tmp_path, "up 1\n" + "#" * MAX_PAGE_BYTES, metric="up").evidence
    assert scrape(tmp_path, "up 1\n" + "#" * (MAX_PAGE_BYTES - 5), metric="up").ok


def test_a_page_behind_tls_is_scraped(tmp_path: Path) -> None:
    """With the options that `http` has."""
    ca, context = self_signed(tmp_path)
    with serving(under_tls(context, answer(200, b"up 1\n"))) as port:
        options = {"url": f"https://127.0.0.1:{port}/", "metric": "up", "min": 1}
        assert check("prometheus", {**options, "ca": str(ca)}, tmp_path).ok
        assert not check("prometheus", options, tmp_path).ok


def test_a_page_with_more_samples_than_can_be_read_in_time_times_out(tmp_path: Path) -> None:
    """The timeout is for reading the page too, not only for its transfer."""
    page = "".join(f'up{{instance="{number}"}} 1\n' for number in range(MAX_PAGE_BYTES // 30))
    with serving(answer(200, page.encode())) as port:
        options = {"url": f"http://127.0.0.1:{port}/", "metric": "up"}
        seen = check("prometheus", options, tmp_path, timeout_s=0.3)
    assert not seen.ok
    assert "timed out" in seen.evidence
