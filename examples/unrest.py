"""What goes on beside a rollout: somebody looks at every app and every agent's log, and somebody kills agents.

Both are threads that end with their `with` block. The watcher's record is evidence that no status report can replace:
what callers of the apps really saw. What agents log is only told, never judged.
"""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Self

from examples.loopback import Fleet, ask

LOOK_EVERY_S = 0.1
NOBODY = "nobody"
# States worth telling, as what the host does.
TOLD = {
    "Fetching": "pulls",
    "Watching": "proves",
    "Confirmed": "confirms",
    "Reverting": "REVERTS",
    "Reverted": "has reverted",
    "Stuck": "IS STUCK with",
}
MAX_LINE = 110
_STATE = re.compile(r"^hello: (\w+) (.*)$", re.MULTILINE)
# Between two kills, and until the killed agent is started again.
KILL_PAUSE_S = (0.3, 2.0)
DOWN_S = (0.0, 0.5)


class _Beside:
    """A thread that runs until its `with` block is left; an error in it is raised there."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._guarded, daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None and args[0] is None:
            raise self._error

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._error = error

    def _run(self) -> None:
        raise NotImplementedError


class AppWatcher(_Beside):
    """Asks every app every tenth of a second which version answers, and keeps each change; tells what agents log."""

    def __init__(self, ports: Mapping[str, int], logs: Path, say: Callable[[str], None]) -> None:
        super().__init__()
        self._ports = dict(ports)
        self._logs = logs
        self._read: dict[str, int] = {}
        self._say = say
        self._began = time.monotonic()
        self._seen: dict[str, list[str]] = {host: [] for host in ports}

    def look(self, host: str) -> str:
        """Return the version that answers now: `1.0.0`, `1.2.0 (500)` or `nobody`."""
        answer = ask(self._ports[host])
        if answer is None:
            return NOBODY
        version = answer.headers.get("X-Hello-Version", "?")
        return version if answer.status == 200 else f"{version} ({answer.status})"

    def serves(self, host: str) -> str:
        """Return what was seen last."""
        return self._seen[host][-1] if self._seen[host] else NOBODY

    def versions(self, host: str) -> list[str]:
        """Return what was served, in turn; moments in which nobody answered are left out."""
        answered = [seen for seen in self._seen[host] if seen != NOBODY]
        return [seen for number, seen in enumerate(answered) if number == 0 or answered[number - 1] != seen]

    def went_back(self, host: str, version: str, to: str) -> bool:
        """Return whether `version` was seen last before `to`."""
        served = self.versions(host)
        return len(served) >= 2 and served[-1] == to and served[-2].startswith(version)

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            for host in self._ports:
                for state, rest in self._logged(host):
                    self._tell(host, f"{TOLD[state]} {rest}")
                seen = self.look(host)
                if seen != self.serves(host):
                    self._seen[host].append(seen)
                    if seen != NOBODY:
                        self._tell(host, f"answers as {seen}")

    def _tell(self, host: str, what: str) -> None:
        self._say(f"{time.monotonic() - self._began:5.1f}s  {host}  {what[:MAX_LINE]}")

    def _logged(self, host: str) -> list[tuple[str, str]]:
        """Return the states that the agent logged since the last look, each with version and reason."""
        with contextlib.suppress(FileNotFoundError), (self._logs / f"{host}.log").open("rb") as log:
            log.seek(self._read.get(host, 0))
            whole, newline, _ = log.read().rpartition(b"\n")
            self._read[host] = self._read.get(host, 0) + len(whole) + len(newline)
            found = _STATE.findall(whole.decode(errors="replace"))
            return [(state, rest) for state, rest in found if state in TOLD]
        return []


class Killer(_Beside):
    """Kills a random agent (-9) at random moments and starts it again; all run when it ends."""

    def __init__(self, fleet: Fleet, seed: int, say: Callable[[str], None]) -> None:
        super().__init__()
        self._fleet = fleet
        self._random = Random(seed)
        self._say = say
        self.kills = 0

    def _run(self) -> None:
        names = sorted(self._fleet.agents)
        while not self._stop.wait(self._random.uniform(*KILL_PAUSE_S)):
            name = self._random.choice(names)
            self._fleet.agents[name].kill()
            self.kills += 1
            self._say(f"agent of {name} killed (-9), {self.kills} by now")
            self._stop.wait(self._random.uniform(*DOWN_S))
            self._fleet.start_agent(name)
