"""`towpath-server run` as a real process on ports of its choice, for what only a process can show: ends, kills, locks."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from fakes.live_server import LiveServer, eventually

START_S = 60.0
STOP_S = 30.0
ANY_PORT = tuple(f"--{name}-listen=127.0.0.1:0" for name in ("agent", "enroll", "operator"))


def command(folder: Path, *words: str) -> list[str]:
    """Return the words that run a server of `folder`."""
    return [sys.executable, "-m", "towpath_server.cli", "run", "--dir", str(folder), *words]


def clean_env() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("TOWPATH_")}


def run_to_its_end(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a server that is expected to end by itself."""
    return subprocess.run(
        command(folder, *words), env=clean_env(), capture_output=True, text=True, timeout=START_S, check=False
    )


def sharing(one: "ServerCommand", folder: Path) -> "ServerCommand":
    """Return a second server, not started, on the database and the objects of `one`: what an outgrown machine becomes."""
    first, two = one.fleet / "server", ServerCommand(folder)
    second = two.fleet / "server"
    shutil.rmtree(second)
    shutil.copytree(first, second, ignore=shutil.ignore_patterns("towpath.db*", "objects", "server.lock"))
    for name in ("towpath.db", "objects"):
        (second / name).symlink_to(first / name)
    shutil.rmtree(two.fleet / "operator")
    shutil.copytree(one.fleet / "operator", two.fleet / "operator")
    two.ca_pem = one.ca_pem
    return two


class ServerCommand(LiveServer):
    """A `LiveServer` whose server is a process: the same calls, and `kill`. Its clock is the machine's.

    `listen`: the words that say where, other than ports that are free.
    """

    listen: tuple[str, ...] = ANY_PORT
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start the process; return when it says that it is ready."""
        self.spawn()
        return self.ready()

    def spawn(self) -> None:
        """Start the process and wait for nothing."""
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                command(self.fleet / "server", *self.listen), stdout=out, stderr=subprocess.STDOUT, env=clean_env()
            )

    def ready(self) -> Self:
        """Return when the process says that it is ready."""
        try:
            self._wait_until_ready(self.log)
        except BaseException:
            assert self._process is not None
            self._process.kill()
            self._process.wait(STOP_S)
            raise
        self.dial_as_operator()
        return self

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def stay(self) -> None:
        """Listen on the same ports again after a kill, as a server does that clients know."""
        addresses = {"agent": self.agents, "enroll": self.enrolment, "operator": self.operators}
        self.listen = tuple(f"--{name}-listen={address}" for name, address in addresses.items())

    def _wait_until_ready(self, log: Path) -> None:
        process = self._process
        assert process is not None
        eventually(lambda: b"\nready\n" in log.read_bytes() or process.poll() is not None, "ready", START_S)
        said = log.read_text()
        assert process.poll() is None, said
        lines = dict(line.split(" on ") for line in said.splitlines() if " on 127" in line)
        self.agents, self.enrolment, self.operators = lines["agents"], lines["enrolment"], lines["operators"]

    def end(self, number: signal.Signals) -> int:
        """Send a signal; return the exit code. Channels stay open, as clients' do."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(STOP_S)

    def kill(self) -> None:
        """Take the process away without a word."""
        self.end(signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """Close what is open and end the process, which must go gracefully; nothing is left of it if it does not."""
        for each in self._channels:
            each.close()
        self._channels = []
        if self._process is not None and self._process.poll() is None:
            try:
                assert self.end(signal.SIGTERM) == 0
            except subprocess.TimeoutExpired:
                self.end(signal.SIGKILL)
                raise
        self._process = None
