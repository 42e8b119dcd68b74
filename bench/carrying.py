"""Publish and fetch in MB/s (10^6 bytes), beside `cp` (with sync) and `curl` from a plain HTTP server over loopback.

The bytes are random: nothing compresses, so what is measured is reading, hashing, carrying, verifying and storing them.
`fetch` is what a host really does between Fetching and Staged (carry, verify, store, copy into the release, sync);
`fetch_stream` is the gRPC stream alone, read and thrown away, which is what compares with `curl -o /dev/null`.
"""

import contextlib
import functools
import hashlib
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from examples.loopback import Fleet

from bench import apps, calls
from bench.deploys import states, timed_deploy
from bench.measure import forget_peak, note, peak_rss_mib, span
from towpath.v1 import agent_pb2

TIMEOUT_S = 300.0


def measure(fleet: Fleet, mib: int) -> dict[str, object]:
    """Publish a release of `mib` MiB, deploy it to h1, and carry the same file in the ordinary ways."""
    size = mib * apps.MIB
    release_file = apps.bulk(fleet.root / "sources" / "bulk", size)
    source = release_file.parent / "app" / "bulk"

    def rate(seconds: float | None) -> float | None:
        return None if seconds is None else round(size / 1e6 / seconds, 1)

    assert fleet.server is not None
    pids = {"server": fleet.server.pid, "agent": fleet.agents["h1"].pid}
    for pid in pids.values():
        forget_peak(pid)
    with span() as publish:
        fleet.publish(release_file, "1.0.0")
    timed_deploy(fleet, "bulk", "1.0.0", ["h1"])
    reached = states(fleet, "h1", "1.0.0")
    peaks = {name: peak_rss_mib(pid) for name, pid in pids.items()}
    result: dict[str, object] = {
        "mib": mib,
        "publish_mb_s": rate(publish.seconds),
        "fetch_mb_s": rate((reached["Staged"] - reached["Fetching"]) / 1000),
        "fetch_stream_mb_s": rate(_stream_s(fleet, source, size)),
        "cp_sync_mb_s": rate(_cp_s(source, fleet.root / "copy")),
        "curl_mb_s": rate(_curl_s(source)),
        "peak_rss_mib": peaks,
    }
    note(f"  {result}")
    return result


def _stream_s(fleet: Fleet, source: Path, size: int) -> float:
    """Return seconds of one Fetch of the file's object, bytes thrown away."""
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").digest()
    request = agent_pb2.FetchRequest(wants=[agent_pb2.Want(object_sha256=digest)]).SerializeToString()
    channel = calls.host(fleet, "h1").channel()
    carried = 0
    with span() as fetched:
        for message in calls.stream(channel, calls.FETCH)(request, timeout=TIMEOUT_S):
            carried += len(message)
    channel.close()
    if carried < size:
        raise ValueError(f"the stream carried {carried} bytes of {size}")
    return fetched.seconds


def _cp_s(source: Path, copy: Path) -> float:
    """Return seconds of a real copy (no reflink), synced to disk as every state of ours is."""
    with span() as copied:
        subprocess.run(["cp", "--reflink=never", str(source), str(copy)], check=True, timeout=TIMEOUT_S)
        subprocess.run(["sync", str(copy)], check=True, timeout=TIMEOUT_S)
    copy.unlink()
    return copied.seconds


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextlib.contextmanager
def _http(folder: Path) -> Iterator[int]:
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _curl_s(source: Path) -> float | None:
    """Return seconds of curl from Python's own HTTP server (which sends by copying in user space, as gRPC does)."""
    curl = shutil.which("curl")
    if curl is None:
        return None
    with _http(source.parent) as port, span() as fetched:
        url = f"http://127.0.0.1:{port}/{source.name}"
        subprocess.run([curl, "-sS", "-o", "/dev/null", url], check=True, timeout=TIMEOUT_S)
    return fetched.seconds
