"""A whole fleet on loopback: one server and any number of agents, all real processes of this environment's commands.

The demo, the benches and the end-to-end tests drive their fleets through this one class, with the commands that a
person would type. Everything lives below one folder; leaving the `with` block ends every process, apps too.

Not handled here: how processes are started and ended (`examples.processes`), and what should be true of a fleet.
"""

import contextlib
import http.client
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from examples.processes import START_TIMEOUT_S, Daemon, FleetError, end_apps_below, free_ports, wait_for

COMMAND_TIMEOUT_S = 60.0
HTTP_TIMEOUT_S = 2.0
EXAMPLES = Path(__file__).resolve().parent
_BIN = Path(sys.executable).parent
_LISTENERS = {"agent": "agents", "enroll": "enrolment", "operator": "operators"}


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return its output as JSON; FleetError where it is none."""
        try:
            return json.loads(self.out)
        except ValueError as error:
            raise FleetError(f"cannot read the output of {' '.join(self.argv)} as JSON: {self.out[:400]!r}") from error


@dataclass(frozen=True, slots=True)
class Answer:
    """What an app answered over HTTP."""

    status: int
    body: str
    headers: dict[str, str]


def command(name: str) -> str:
    """Return the path of an installed command of the environment that runs this."""
    path = _BIN / name
    if not path.exists():
        raise FleetError(f"cannot find {path}: install towpath into the environment of {sys.executable} first")
    return str(path)


def clean_env(**more: str) -> dict[str, str]:
    """Return this process's environment without Towpath's own variables, so that only what a test says counts."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TOWPATH_")}
    return {**kept, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **more}


def run(argv: Iterable[str], *, env: dict[str, str], cwd: Path, timeout_s: float = COMMAND_TIMEOUT_S) -> Done:
    """Run a command to its end; FleetError after `timeout_s`."""
    words = tuple(argv)
    try:
        done = subprocess.run(
            words,
            env=env,
            cwd=cwd,
            timeout=timeout_s,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FleetError(f"cannot wait longer than {timeout_s:g}s for {' '.join(words)}") from error
    return Done(words, done.returncode, done.stdout, done.stderr)


def ask(port: int, path: str = "/", headers: dict[str, str] | None = None) -> Answer | None:
    """Return what the app on `port` answers, or None where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HTTP_TIMEOUT_S)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        return Answer(response.status, response.read(65536).decode(errors="replace"), dict(response.getheaders()))
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class Fleet:
    """Server, agents and operator below one folder. Use as a context manager."""

    def __init__(self, root: Path, said: Callable[[str], object] = str) -> None:
        """Keep the folder (made where missing); nothing runs yet. `said` hears the operator's commands."""
        root.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()
        self._said = said
        self.folder = self.root / "fleet"
        self.server_folder = self.folder / "server"
        self.addresses: dict[str, str] = {}
        self.agents: dict[str, Daemon] = {}
        self.server: Daemon | None = None

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything that runs, whatever happened."""
        self.close()

    def close(self) -> None:
        """End agents, then apps (agents would start them again), then the server."""
        with ThreadPoolExecutor(max(1, len(self.agents))) as pool:
            list(pool.map(Daemon.stop, self.agents.values()))
        end_apps_below(self.root)
        if self.server is not None:
            self.server.stop()

    # The operator and the publisher

    def env(self) -> dict[str, str]:
        """Return the environment of the operator's commands: folder and server in their variables."""
        more = {"TOWPATH_DIR": str(self.folder)}
        if "operator" in self.addresses:
            more["TOWPATH_SERVER"] = self.addresses["operator"]
        return clean_env(**more)

    def towpath(self, *words: str, code: int | None = 0, timeout_s: float = COMMAND_TIMEOUT_S) -> Done:
        """Run one command of the operator; FleetError where its exit code is not `code` (None: any)."""
        if "json" not in words:  # only looks
            self._said(shlex.join(["towpath", *words]))
        done = run([command("towpath"), *words], env=self.env(), cwd=self.root, timeout_s=timeout_s)
        if code is not None and done.code != code:
            shown = (done.err or done.out).strip()[-2000:]
            raise FleetError(f"cannot go on: towpath {' '.join(words)} ended with {done.code}, not {code}: {shown}")
        return done

    def init(self) -> None:
        """Make the three parties' folders."""
        self.towpath("init", str(self.folder))

    def token(self, *, environment: str = "dev", uses: int = 1, label: str = "role=web") -> str:
        """Return a new enrolment token."""
        words = ("token", "create", "--environment", environment, "--label", label, "--uses", str(uses), "--ttl", "1h")
        return self.towpath(*words).out.strip()

    def publish(self, release_file: Path, version: str) -> Done:
        """Publish one release."""
        return self.towpath("release", "publish", str(release_file), "--version", version)

    def deploy(self, app: str, version: str, *words: str, code: int | None = 0, timeout_s: float = 60.0) -> Done:
        """Deploy to every web host of dev and wait for the end; `words` are more options."""
        head = ("deploy", app, version, "--environment", "dev", "--select", "role=web")
        tail = ("--wait", "--timeout", f"{timeout_s:g}s", *words)
        return self.towpath(*head, *tail, code=code, timeout_s=timeout_s + 30)

    def status(self, app: str = "hello") -> dict[str, dict[str, Any]]:
        """Return the server's view of `app`: host name to row."""
        return {row["host"]: row for row in self.towpath("status", app, "-o", "json").json()}

    # The server

    def start_server(self, listen: dict[str, str] | None = None, folder: Path | None = None) -> None:
        """Start the server and wait until it is ready; without `listen` on ports of its choice, later on the same."""
        self.server_folder = folder or self.server_folder
        chosen = listen or self.addresses or dict.fromkeys(_LISTENERS, "127.0.0.1:0")
        words = [word for kind in _LISTENERS for word in (f"--{kind}-listen", chosen[kind])]
        self.server = Daemon(
            [command("towpath"), "server", "run", "--dir", str(self.server_folder), *words],
            log=self.root / "logs" / "server.log",
            env=clean_env(),
            cwd=self.root,
        )
        self.server.start()
        self.server.wait_for_line(r"^ready")
        for kind, said in _LISTENERS.items():
            self.addresses[kind] = self.server.wait_for_line(rf"^{said} on (\S+:\d+)\s*$")[1]

    @staticmethod
    def fixed_addresses(host: str = "127.0.0.1") -> dict[str, str]:
        """Return free addresses outside the range of outgoing connections: a killed server surely gets them back."""
        return {kind: f"{host}:{port}" for kind, port in zip(_LISTENERS, free_ports(3), strict=True)}

    # The agents

    def agent_dir(self, name: str) -> Path:
        """Return the folder of one agent."""
        return self.root / name

    def agent(self, name: str, *words: str, code: int | None = 0) -> Done:
        """Run one of the agent's commands on a host, such as `status`."""
        argv = [command("towpath-agent"), words[0], "--dir", str(self.agent_dir(name)), *words[1:]]
        done = run(argv, env=clean_env(), cwd=self.root)
        if code is not None and done.code != code:
            raise FleetError(f"cannot go on: {' '.join(argv)} ended with {done.code}: {(done.err or done.out)[-2000:]}")
        return done

    def own_status(self, name: str) -> dict[str, dict[str, Any]]:
        """Return the host's own view, from its journal: app to row."""
        return {row["app"]: row for row in self.agent(name, "status", "-o", "json").json()["apps"]}

    def history(self, name: str) -> list[dict[str, Any]]:
        """Return every event in the host's journal, the newest last."""
        events: list[dict[str, Any]] = self.agent(name, "history", "-o", "json", "--limit", "10000").json()
        return events

    def enrol(self, name: str, token: str) -> None:
        """Enrol one host."""
        self.agent(name, "enroll", "--server", self.addresses["enroll"], "--token", token, "--name", name)

    def start_agent(self, name: str) -> None:
        """Start an agent, the first time or again after a kill."""
        if name not in self.agents:
            self.agents[name] = Daemon(
                [command("towpath-agent"), "run", "--dir", str(self.agent_dir(name))],
                log=self.root / "logs" / f"{name}.log",
                env=clean_env(),
                cwd=self.root,
            )
        self.agents[name].start()

    def add_hosts(self, names: list[str], *, label: str = "role=web") -> None:
        """Enrol all `names` with one token, two at a time, and start their agents; return when all are online."""
        token = self.token(uses=len(names), label=label)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda name: self.enrol(name, token), names))
        for name in names:
            self.start_agent(name)
        self.wait_online(names)

    def online(self) -> set[str]:
        """Return the names of the hosts that the server sees online."""
        return {row["name"] for row in self.towpath("host", "list", "-o", "json").json() if row["online"]}

    def wait_online(self, names: Iterable[str], timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when all `names` are online."""
        wanted = set(names)
        wait_for(f"{', '.join(sorted(wanted))} are online", lambda: wanted <= self.online(), timeout_s, self.logs)

    def logs(self) -> str:
        """Return the last lines of every log: the evidence of a failure."""
        lines = []
        for log in sorted((self.root / "logs").glob("*.log")):
            with contextlib.suppress(OSError):
                lines += [f"--- {log.name}", *log.read_text(errors="replace").splitlines()[-8:]]
        return "\n".join(lines)
