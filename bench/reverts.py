"""How long a revert takes: from the first failed verdict to the old version serving. `python -m bench.reverts`.

Ends with ONE line of JSON on stdout; what goes on is told on stderr. One host of real processes on loopback runs an app
that answers healthily, or, in every second release, ill. Three numbers for each kind of revert, in ms, medians:

- `verdict_to_serving_ms`: from the journal's Reverting to the first answer of the old version to a client that asks all
  the time;
- `app_start_ms`: the app's own start in the same run, from exec to its first answer, started here without an agent;
- `beyond_app_start_ms`: the difference, which is what Towpath adds (goal: under 1000).

Kinds: `stop_then_start` (the old release was stopped and is started again), `handover` (the old one still runs, so it
adds no start). `gap_ms` is the longest time in which that client got no answer.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Self

from examples.loopback import EXAMPLES, Fleet, ask
from examples.processes import free_ports, wait_for

from bench.deploys import states
from bench.measure import median, note, report, span

POLL_S = 0.005
# An agent gives an app this search path and nothing of its own; another `python3` may take longer to start.
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass
class Watcher:
    """Asks a port without a pause and keeps when which version answered (Unix ms). Use as a context manager."""

    port: int
    seen: list[tuple[float, str]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _look(self) -> None:
        while not self._stop.wait(POLL_S):
            answer = ask(self.port)
            if answer is not None:
                self.seen.append((time.time_ns() / 1e6, answer.body.strip()))

    def first(self, version: str, since_ms: float) -> float:
        """Return when `version` answered first at or after `since_ms`."""
        return next(at for at, said in self.seen if at >= since_ms and said == f"shop {version}")

    def longest_gap_ms(self, since_ms: float) -> float:
        """Return the longest time between two answers after `since_ms`."""
        times = [at for at, _ in self.seen if at >= since_ms]
        return max((second - first for first, second in pairwise(times)), default=0.0)


def shop(folder: Path, version: str, *, bad: bool, handover: bool) -> Path:
    """Return the release file of the shop, with a handover whose hook has no proxy to speak to, or without one."""
    shutil.copytree(EXAMPLES / "handover", folder)
    (folder / "app" / "VERSION").write_text(f"{version}\n")
    serve = folder / "app" / "bin" / "serve"
    serve.write_text(serve.read_text().replace("WARM_UP_S = 0.7", "WARM_UP_S = 0.0"))
    if bad:
        # Well at first, so that a verdict decides and not a deadline.
        text = serve.read_text().replace("BROKEN else 200", "BROKEN and time.monotonic() > BEGAN + 0.7 else 200")
        serve.write_text(text.replace("WARM_UP_S = 0.0", "WARM_UP_S = 0.0\nBEGAN = time.monotonic()"))
        (folder / "app" / "BROKEN").touch()
    run = "  handover: {ports: [port, spare], drain: 300ms}\n" if handover else ""
    hooks = 'hooks: {handover: [/bin/true, "${port}"]}\n' if handover else ""
    release_file = folder / "towpath.yaml"
    release_file.write_text(
        "app: shop\nartifact: ./app\ninstall: {kind: tree, keep: 3}\n"
        'run:\n  kind: process\n  command: [bin/serve, "--port", "${port}"]\n' + run + hooks + "probes:\n"
        '  - http: {url: "http://127.0.0.1:${port}/healthz", status: 200, interval: 100ms, timeout: 2s}\n'
        "health: {healthy_for: 3s, deadline: 20s, probation: 1s}\n"
        "parameters: {port: {type: port, default: 8081}, spare: {type: port, default: 8082}}\n"
    )
    return release_file


def app_start_ms(app: Path, repeats: int) -> float:
    """Return the median of the app's own start, without an agent."""
    times = []
    for _ in range(repeats):
        (port,) = free_ports(1)
        began = time.monotonic()
        argv = [str(app / "bin" / "serve"), "--port", str(port)]
        process = subprocess.Popen(argv, env=ENVIRONMENT, cwd=app, stdout=subprocess.DEVNULL)
        try:
            wait_for("the app answers", lambda port=port: ask(port), 20)
            times.append((time.monotonic() - began) * 1000)
        finally:
            process.terminate()
            process.wait(10)
    return median(times, 0)


def reverts(fleet: Fleet, repeats: int, *, handover: bool) -> dict[str, float]:
    """Deploy `repeats` bad releases over a good one and return what each revert took."""
    kind = "handover" if handover else "plain"
    port, spare = free_ports(2)
    fleet.towpath("host", "set", "h1", f"shop.port={port}", f"shop.spare={spare}")
    good = f"1.0.0-{kind}"
    sources = fleet.root / "sources"
    fleet.publish(shop(sources / good, good, bad=False, handover=handover), good)
    fleet.deploy("shop", good)
    serving = next(one for one in (port, spare) if ask(one) is not None)
    to_serving, whole, gaps = [], [], []
    for number in range(1, repeats + 1):
        version = f"1.{number}.0-{kind}"
        fleet.publish(shop(sources / version, version, bad=True, handover=handover), version)
        with Watcher(serving) as watcher:
            began_ms = time.time_ns() / 1e6
            fleet.deploy("shop", version, code=1)
            # The command may return before the client has asked again.
            wait_for("the old version answers", lambda serving=serving: _said(serving) == f"shop {good}", 20)
            time.sleep(10 * POLL_S)
        at = states(fleet, "h1", version)
        whole.append(at["Reverted"] - at["Reverting"])
        to_serving.append(watcher.first(good, at["Reverting"]) - at["Reverting"])
        gaps.append(watcher.longest_gap_ms(began_ms))
    start = app_start_ms(sources / good / "app", repeats)
    serving_ms = median(to_serving, 0)
    return {
        "verdict_to_serving_ms": serving_ms,
        "app_start_ms": 0.0 if handover else start,
        "beyond_app_start_ms": serving_ms if handover else round(serving_ms - start, 0),
        "worst_verdict_to_serving_ms": round(max(to_serving), 0),
        "reverting_to_reverted_ms": median(whole, 0),
        "gap_ms": median(gaps, 0),
    }


def _said(port: int) -> str:
    answer = ask(port)
    return "" if answer is None else answer.body.strip()


def measure(folder: Path, repeats: int) -> dict[str, object]:
    """Return all numbers."""
    result: dict[str, object] = {
        "bench": "reverts",
        "goal_beyond_app_start_ms": 1000,
        "repeats": repeats,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "kernel": platform.release()},
    }
    with Fleet(folder) as fleet, span() as whole:
        fleet.init()
        fleet.start_server()
        fleet.add_hosts(["h1"])
        note(f"{repeats} bad releases, stop then start")
        result["stop_then_start"] = reverts(fleet, repeats, handover=False)
        note(f"{repeats} bad releases, start before stop")
        result["handover"] = reverts(fleet, repeats, handover=True)
    result["seconds"] = round(whole.seconds, 1)
    return result


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="two reverts of each kind: a test of the bench")
    arguments = parser.parse_args()
    return report(lambda folder: measure(folder, 2 if arguments.quick else 7))


if __name__ == "__main__":
    sys.exit(main())
