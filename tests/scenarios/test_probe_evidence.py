"""A real app under the real agent: real processes, real probes, the machine's clock; what is told of a failure."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.host import SimulatedHost
from fakes.loopback import unused_port
from fakes.services import end_all
from towpath.parameters import Parameter
from towpath.release import HealthPolicy, Probe, Release
from towpath.reports import MAX_EVIDENCE_CHARS
from towpath.status import State, Verdict
from towpath_agent.probes import PROBES
from towpath_agent.probes.base import Probe as ProbeDriver
from towpath_agent.services import SERVICES
from towpath_agent.services.base import Service
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files

APP = f"""#!{sys.executable} -I
import http.server, pathlib, sys
STATUS, ERRORS, LINE = @
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'app_errors_total{{code="500"}} %d' % ERRORS if self.path == "/metrics" else b"I am %d" % STATUS
        self.send_response(200 if self.path == "/metrics" else STATUS)
        self.end_headers()
        self.wfile.write(body + b"\\n")
    def log_message(self, *_words):
        pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), Page)
pathlib.Path("beat").write_text("alive")
print(LINE, flush=True)
print("ready on", sys.argv[2], flush=True)
server.serve_forever()
"""

FAST = {"interval_ms": 50, "timeout_ms": 2_000}
PAGE = "http://127.0.0.1:${port}"
PROBES_OF_APP = (
    Probe("http", {"url": f"{PAGE}/healthz", "body": "I am"}, **FAST),
    Probe("prometheus", {"url": f"{PAGE}/metrics", "metric": "app_errors_total", "labels": ("code=500",), "max": "2.5"}, **FAST),
    Probe("log", {"pattern": "ready on ${port}", "forbid": "^FATAL"}, **FAST),
    Probe("fresh", {"path": "beat", "max_age": 3_600_000, "min_size": 5}, **FAST),
    Probe("process", {"max_rss": 2**30}, **FAST),
    Probe("disk", {"free": 1}, **FAST),
    Probe("memory", {"available": 1}, **FAST),
)  # fmt: skip


class Host(SimulatedHost):
    """Apps are real processes, judged by the real probes; server and trust are as ever in scenarios."""

    port: int

    def services(self, files: Files) -> dict[str, Service]:
        return {kind: make(files, self.clock) for kind, make in SERVICES.items()}

    def probes(self, files: Files) -> dict[str, ProbeDriver]:
        return {kind: make(files, self.clock) for kind, make in PROBES.items()}

    def release(
        self, version: str, *, status: int = 200, errors: int = 0, line: str = "hello", deadline_ms: int = 3_000
    ) -> Release:
        """Publish the app with that page, that many errors and that first line in its log."""
        return self.publish(
            version,
            content=APP.replace("@", repr((status, errors, line))),
            probes=PROBES_OF_APP,
            health=HealthPolicy(healthy_for_ms=200, deadline_ms=deadline_ms, probation_ms=60_000),
            parameters=(Parameter("port", "port", self.port),),
        )


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Return a host on which 1.0.0 runs; what runs on it ends with the test."""
    host = Host(tmp_path, clock=SystemClock())
    host.port = unused_port()
    try:
        host.assign(host.release("1.0.0", deadline_ms=30_000))
        host.boot()
        host.settle(60)
        assert host.state().state is State.CONFIRMED, host.state().reason
        yield host
    finally:
        end_all(tmp_path)


def failure(host: Host, version: str) -> list[str]:
    """Return the lines of evidence with which a version was given up."""
    (event,) = [event for event in host.transitions(version=version) if event.state == "Reverting"]
    assert len(event.evidence) <= MAX_EVIDENCE_CHARS
    (kept,) = [it for it in host.journal.events() if it.id == event.id]
    assert kept.evidence == event.evidence
    return event.evidence.splitlines()


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ({"status": 503}, "http", "status 503 after "),
        ({"errors": 3}, "prometheus", "more than 2.5 after "),
        ({"line": "FATAL: no database"}, "log", "a line that '^FATAL' forbids: FATAL: no database"),
    ],
)
def test_a_release_that_fails_is_told_with_all_that_its_probes_saw(
    host: Host, fault: dict[str, Any], kind: str, words: str
) -> None:
    """The failing probe first, with times; every other probe; the end of the log. The previous release serves again."""
    host.assign(host.release("2.0.0", **fault), generation=2)
    host.settle(60)
    assert (host.state().verdict, host.state().current_version) == (Verdict.FAILED, "1.0.0")
    lines = failure(host, "2.0.0")
    assert lines[0].startswith(f"{kind} failed ")
    assert " times in a row, last in " in lines[0]
    assert words in lines[0]
    assert {line.split()[0] for line in lines[:7]} == {probe.kind for probe in PROBES_OF_APP}
    assert lines[7] == "its log ends:"
    assert any(line.startswith("ready on ") for line in lines[8:])
    if kind == "http":
        assert "I am 503" in lines[0]
    if kind == "prometheus":
        assert 'app_errors_total{code="500"} 3' in lines[0]


@pytest.mark.timeout(90)
def test_the_log_probe_counts_from_each_start_also_for_an_agent_that_comes_back(host: Host) -> None:
    """A new agent on a running app finds what proved it; going back to it does not take its old log for proof."""
    (log,) = (host.folder / "apps/hello/logs").glob("1.0.0-*.log")
    assert log.read_text().count("ready on") == 1
    host.boot()
    host.settle(60)
    assert host.state().current_version == "1.0.0"
    (note,) = (host.folder / "apps/hello/records").glob("1.0.0-*.marks")
    before = note.read_text()
    with log.open("a") as file:
        file.write("FATAL: old news\n")
    host.assign(host.release("2.0.0", line="FATAL: new"), generation=2)
    host.settle(60)
    assert host.state().current_version == "1.0.0"
    assert host.state().verdict is Verdict.FAILED, "1.0.0 was proven anew behind its old lines"
    assert note.read_text() != before
    assert log.read_text().count("ready on") == 2
