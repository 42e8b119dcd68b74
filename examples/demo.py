"""The main job, seen: a server and five agents on loopback pull releases, prove them, and go back from a bad one.

    .venv/bin/python examples/demo.py [--keep] [--kill-agents SEED] [-o json]

Everything is real: the installed commands, mTLS, signatures, an HTTP app. Each step announces what must come out of it
and compares that with three witnesses: the server's status, the agent's own, and what each app answers over HTTP. The
exit code is 0 only where all agree. `--kill-agents` kills agents (-9) at random moments all the while and starts them
again; nothing in the final table may differ.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a script's own folder is no place to import from

from examples.loopback import EXAMPLES, Fleet
from examples.processes import FleetError, free_ports, interrupt_on_signals, wait_for
from examples.unrest import MAX_LINE, AppWatcher, Killer

HOSTS = ("h1", "h2", "h3", "h4", "h5")
SETTLE_TIMEOUT_S = 60.0
DEPLOY_TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class Step:
    """One deploy, and what must come out of it."""

    title: str
    version: str
    words: tuple[str, ...]
    exit_code: int
    serves: str  # by every host, afterwards
    reverted: int  # hosts that tried `version` and went back by themselves
    moved: int  # hosts that run `version` now


STEPS = (
    Step("the first release, everywhere at once", "1.0.0", ("--max-unavailable", "5"), 0, "1.0.0", 0, 5),
    Step("a better one, two hosts at a time", "1.1.0", ("--max-unavailable", "2"), 0, "1.1.0", 0, 5),
    Step("a bad one: the first host reverts, the rollout halts", "1.2.0", (), 1, "1.1.0", 1, 0),
    Step(
        "the bad one forced on all: each host reverts by itself",
        "1.2.0",
        ("--max-unavailable", "5", "--max-failures", "5"),
        1,
        "1.1.0",
        5,
        0,
    ),
)
SOURCES = {"1.0.0": "hello", "1.1.0": "hello-1.1", "1.2.0": "hello-broken"}


@dataclass(frozen=True, slots=True)
class Row:
    """One host in the final table."""

    host: str
    port: int
    current: str
    state: str
    health: str
    agent_says: str
    serves: str
    journey: list[str]


@dataclass(slots=True)
class Result:
    """What the demo prints for machines. `differences` empty: everything was as announced."""

    ok: bool = False
    seconds: float = 0.0
    kills: int = 0
    steps: list[dict[str, object]] = field(default_factory=list)
    table: list[Row] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


class Demo:
    """One run: sets up, walks the steps, gathers differences instead of stopping at the first."""

    def __init__(self, fleet: Fleet, say: Callable[[str], None], seed: int | None) -> None:
        self.fleet = fleet
        self.say = say
        self.seed = seed
        self.ports = dict(zip(HOSTS, free_ports(len(HOSTS)), strict=True))
        self.result = Result()
        self.watcher = AppWatcher(self.ports, fleet.root / "logs", lambda line: say(f"    {line}"))

    def run(self) -> None:
        """Set up, walk all steps, compare."""
        self._set_up()
        with self.watcher, self._unrest():
            for step in STEPS:
                self._walk(step)
        self._final_table()

    @contextmanager
    def _unrest(self) -> Iterator[None]:
        if self.seed is None:
            yield
            return
        with Killer(self.fleet, self.seed, lambda line: self.say(f"    {line}")) as killer:
            yield
        self.result.kills = killer.kills

    def _set_up(self) -> None:
        self.say("A fleet: publisher, operator and server each get their own folder and keys.")
        self.fleet.init()
        self.fleet.start_server()
        self.fleet.add_hosts(list(HOSTS))
        with ThreadPoolExecutor(2) as pool:
            list(
                pool.map(lambda host: self.fleet.towpath("host", "set", host, f"hello.port={self.ports[host]}"), HOSTS)
            )

    def _walk(self, step: Step) -> None:
        self.say(f"\n{step.version}: {step.title}.")
        began = time.monotonic()
        if not any(walked["version"] == step.version for walked in self.result.steps):
            self.fleet.publish(EXAMPLES / SOURCES[step.version] / "towpath.yaml", step.version)
        since = {host: len(self.fleet.history(host)) for host in HOSTS}
        done = self.fleet.deploy("hello", step.version, *step.words, code=None, timeout_s=DEPLOY_TIMEOUT_S)
        for line in (done.out + done.err).strip().splitlines()[-1:]:
            self.say(f"    {line[:MAX_LINE]}")
        if done.code != step.exit_code:
            self._differ(f"deploy of {step.version} ended with {done.code}, not {step.exit_code}: {done.err.strip()}")
        self._settle(step)
        journeys = {host: self._journey(host, since[host], step.version) for host in HOSTS}
        for host, journey in journeys.items():
            if journey:
                self.say(f"    {host}: {' > '.join(journey)}")
        reverted = [host for host, journey in journeys.items() if journey and journey[-1].startswith("Reverted")]
        if len(reverted) != step.reverted:
            self._differ(f"{len(reverted)} hosts reverted {step.version}, not {step.reverted}: {', '.join(reverted)}")
        for host in reverted:
            if not self.watcher.went_back(host, step.version, step.serves):
                self._differ(f"{host} was not seen serving {step.version} and then {step.serves} again")
        seconds = round(time.monotonic() - began, 1)
        self.result.steps.append(
            {"version": step.version, "exit_code": done.code, "seconds": seconds, "journeys": journeys}
        )

    def _settle(self, step: Step) -> None:
        """Wait until every host serves what was announced and the server knows it; a difference otherwise."""

        def settled() -> bool:
            rows = self.fleet.status().values()
            moved = sum(row["current"] == step.version for row in rows)
            busy = [row for row in rows if row["state"] not in ("Confirmed", "Reverted") or row["health"] != "healthy"]
            serving = all(self.watcher.serves(host) == step.serves for host in HOSTS)
            return moved == step.moved and not busy and serving

        try:
            wait_for(f"all hosts settled after {step.version}", settled, SETTLE_TIMEOUT_S, lambda: str(self._views()))
        except FleetError as error:
            self._differ(str(error))

    def _views(self) -> list[tuple[object, ...]]:
        rows = self.fleet.status()
        return [
            (host, row["current"], row["state"], row["health"], row["reason"], self.watcher.serves(host))
            for host, row in rows.items()
        ]

    def _journey(self, host: str, since: int, version: str) -> list[str]:
        """Return the states that the host passed with `version`, each with seconds since the first."""
        events = [
            event
            for event in self.fleet.history(host)[since:]
            if event["kind"] == "transition" and event["version"] == version
        ]
        if not events:
            return []
        first = int(str(events[0]["at_unix_ms"]))
        return [f"{event['state']} {(int(str(event['at_unix_ms'])) - first) / 1000:.1f}s" for event in events]

    def _final_table(self) -> None:
        last = STEPS[-1]
        rows = self.fleet.status()
        for host, port in self.ports.items():
            own = self.fleet.own_status(host)["hello"]
            row = Row(
                host=host,
                port=port,
                current=rows[host]["current"],
                state=rows[host]["state"],
                health=rows[host]["health"],
                agent_says=own["current_version"],
                serves=self.watcher.look(host),
                journey=self.watcher.versions(host),
            )
            expected = (last.serves, "Reverted", "healthy", last.serves, last.serves)
            if (row.current, row.state, row.health, row.agent_says, row.serves) != expected:
                self._differ(f"{host} ended as {row}, not as {expected}")
            self.result.table.append(row)

    def _differ(self, what: str) -> None:
        self.say(f"    DIFFERENT: {what}")
        self.result.differences.append(what)


def table(rows: Sequence[Row]) -> str:
    """Return the final table as text."""
    heads = ("HOST", "PORT", "CURRENT", "STATE", "HEALTH", "AGENT SAYS", "SERVES", "SERVED IN TURN")
    cells = [heads] + [
        (r.host, str(r.port), r.current, r.state, r.health, r.agent_says, r.serves, " > ".join(r.journey)) for r in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the main job on loopback: a server, five agents, four rollouts.")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all state and logs")
    parser.add_argument("--kill-agents", type=int, metavar="SEED", help="kill -9 agents at random moments of this seed")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="json: the result alone")
    return parser.parse_args()


def main() -> int:
    """Run the demo; return its exit code."""
    arguments = _arguments()
    stream = sys.stderr if arguments.output == "json" else sys.stdout
    interrupt_on_signals()

    def say(line: str) -> None:
        print(line, file=stream, flush=True)

    folder = Path(tempfile.mkdtemp(prefix="towpath-demo-"))
    began = time.monotonic()
    result, kept = Result(), True
    try:
        with Fleet(folder, said=lambda line: say(f"  $ {line}")) as fleet:
            demo = Demo(fleet, say, arguments.kill_agents)
            result = demo.result
            try:
                demo.run()
            except FleetError as error:
                result.differences.append(str(error))
                say(fleet.logs())
        kept = arguments.keep or bool(result.differences)
    except KeyboardInterrupt:
        kept = arguments.keep
        say("towpath demo: cannot finish: interrupted; everything it started was ended")
        return 130
    finally:
        if kept:
            say(f"State and logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    result.ok = not result.differences
    result.seconds = round(time.monotonic() - began, 1)
    say("\n" + table(result.table))
    if result.ok:
        say(f"\nAll as announced, in {result.seconds} s{f', {result.kills} kills' if result.kills else ''}.")
    else:
        say("\nNot as announced:\n" + "\n".join(f"  {line}" for line in result.differences))
    if arguments.output == "json":
        print(json.dumps(asdict(result), indent=2))
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())
