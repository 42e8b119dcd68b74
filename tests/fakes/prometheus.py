"""A real Prometheus server as a process of its own, and something for it to scrape whose value a test sets."""

import contextlib
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

import pytest

READY_S = 60.0
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="no prometheus on this machine: apt-get install prometheus"
)


class Exporter:
    """A page in Prometheus' text format with one gauge, `errors`; None: the gauge is not on it."""

    def __init__(self) -> None:
        self.value: float | None = 0.0
        exporter = self

        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = "" if exporter.value is None else f"errors {exporter.value}\n"
                with contextlib.suppress(ConnectionError):  # who asked may have ended
                    self.send_response(200)
                    self.send_header("Content-Type", "text/plain; version=0.0.4")
                    self.end_headers()
                    self.wfile.write(page.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(20)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class RealPrometheus:
    """The server's own binary; `set` returns when it has scraped the value. Start and stop at will, on one port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.exporter = Exporter()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        target = f"127.0.0.1:{self.exporter.port}"
        config = {
            "global": {"scrape_interval": "100ms", "scrape_timeout": "100ms"},
            "scrape_configs": [{"job_name": "app", "static_configs": [{"targets": [target]}]}],
        }
        folder.mkdir(parents=True)
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.exporter.close()

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        self._until("errors", bool)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(30)
            self._process = None

    def set(self, value: float | None) -> None:
        """Have the gauge be `value` (None: nothing), and wait until Prometheus says so."""
        self.exporter.value = value
        self._until("errors", lambda found: found == ([] if value is None else [value]))

    def ask(self, query: str) -> list[float] | None:
        """Return the values of a query; None where it does not answer."""
        question = urllib.parse.urlencode({"query": query})
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query?{question}", timeout=5) as answer:
                rows = json.load(answer)["data"]["result"]
        except OSError:
            return None
        return [float(row["value"][1]) for row in rows]

    def _until(self, query: str, good: Any) -> None:
        deadline = time.monotonic() + READY_S
        pause = threading.Event()
        while (found := self.ask(query)) is None or not good(found):
            assert time.monotonic() < deadline, (self._folder / "log").read_text()[-2000:]
            pause.wait(0.05)
