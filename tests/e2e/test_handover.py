"""Start before stop with real processes: load through a real proxy while ten releases come and go, one of them bad."""

import http.client
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import pytest
from examples.loopback import EXAMPLES, Fleet, ask, clean_env
from examples.processes import Daemon, free_ports, wait_for

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("haproxy") is None, reason="needs haproxy; install the Debian package haproxy"),
]

RELEASES = 10
BAD = 5
KEEPING, FRESH = 4, 2


class Load:
    """Clients that ask without a pause: some over one connection each, some over a new one each time. None asks twice."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self.answers: dict[str, int] = {}
        self.failures: list[str] = []
        self._lock = threading.Lock()
        keep = [True] * KEEPING + [False] * FRESH
        self._threads = [threading.Thread(target=self._ask, args=(one,), daemon=True) for one in keep]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    @property
    def count(self) -> int:
        """Answers so far."""
        with self._lock:
            return sum(self.answers.values())

    def _ask(self, keep: bool) -> None:
        client: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            client = client or http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            try:
                client.request("GET", "/", headers={} if keep else {"Connection": "close"})
                response = client.getresponse()
                body = response.read().decode().strip()
                said = body if response.status == 200 else f"status {response.status}: {body[:200]}"
                failed = response.status != 200
            except (OSError, http.client.HTTPException) as error:
                said, failed = repr(error), True
            with self._lock:
                if failed:
                    self.failures.append(said)
                else:
                    self.answers[said] = self.answers.get(said, 0) + 1
            if failed or not keep:
                client.close()
                client = None
        if client is not None:
            client.close()


@pytest.fixture
def short() -> Iterator[Path]:
    """Give a folder with a short name: the path of a socket is limited to 107 bytes."""
    with TemporaryDirectory(prefix="shop-") as folder:
        yield Path(folder)


def release(folder: Path, version: str, *, bad: bool) -> Path:
    shutil.copytree(EXAMPLES / "handover", folder)
    (folder / "app" / "VERSION").write_text(f"{version}\n")
    if bad:
        (folder / "app" / "BROKEN").touch()
    release_file = folder / "towpath.yaml"
    text = release_file.read_text().replace("deadline: 20s", "deadline: 4s" if bad else "deadline: 20s")
    release_file.write_text(text)
    return release_file


@pytest.mark.timeout(420)
def test_ten_releases_under_load_and_not_one_failed_request(fleet: Fleet, short: Path) -> None:
    """Each good release takes over without a failed request; the bad one never gets one; no copy is left behind."""
    front, port, spare = free_ports(3)
    config, admin = short / "haproxy.cfg", short / "admin.sock"
    template = (EXAMPLES / "handover" / "proxy" / "haproxy.cfg").read_text()
    config.write_text(template.replace("SOCKET", str(admin)).replace("FRONT", str(front)).replace(":8081", f":{port}"))
    proxy = Daemon(["haproxy", "-db", "-f", str(config)], log=fleet.root / "logs/proxy.log", env=clean_env(), cwd=short)
    fleet.start_server()
    fleet.add_hosts(["h1"])
    values = {"port": port, "spare": spare, "proxy_socket": admin, "proxy_config": config}
    fleet.towpath("host", "set", "h1", *(f"shop.{name}={value}" for name, value in values.items()))
    fleet.publish(release(fleet.root / "sources" / "1.0.0", "1.0.0", bad=False), "1.0.0")
    proxy.start()
    try:
        wait_for("the proxy listens", admin.exists, 10, proxy.output)
        fleet.deploy("shop", "1.0.0")
        with Load(front) as load:
            for number in range(1, RELEASES + 1):
                version, bad = f"1.0.{number}", number == BAD
                fleet.publish(release(fleet.root / "sources" / version, version, bad=bad), version)
                done = fleet.deploy("shop", version, code=None)
                assert (done.code != 0) is bad, done.out + done.err
                asked = load.count
                wait_for(
                    "the load goes on", lambda asked=asked: load.count > asked + 20, 30, lambda: str(load.failures)
                )
        assert load.failures == []
        good = {f"shop 1.0.{number}" for number in range(RELEASES + 1) if number != BAD}
        assert set(load.answers) == good
        assert load.count > 500
        serving = [one for one in (port, spare) if ask(one) is not None]
        assert len(serving) == 1
        assert f"server shop 127.0.0.1:{serving[0]}" in config.read_text()
    finally:
        proxy.stop()
