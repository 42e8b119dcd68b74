"""A crowd: hundreds of hosts in a few processes, who all sync at the same instant, obey, and write down what they were told.

Each host has its own key, certificate and connection, through the agent's real transport. It syncs at every beat of a clock
that all processes share. Told a new version it reports Watching, works a while, and reports Confirmed (Reverted, where it
is one that fails that version) until a server has acknowledged that, as an agent does. A server that is away is dialled
again, or the next one is where it has several.

Run as a script this file is one of the processes; `Crowd` starts, releases and ends them. What they saw is told by time
on the machine's monotonic clock, which is the same in all processes.
"""

import contextlib
import json
import os
import random
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import grpc

from towpath import pki
from towpath.reports import AppState
from towpath.status import Health, State, Verdict
from towpath.token import parse_token
from towpath.v1 import agent_pb2, agent_pb2_grpc
from towpath.wire import decode_envelope, decode_manifest
from towpath.wire.reports import to_app_state
from towpath_agent.transport.channel import Limits, open_channel

READY_S = 180.0
CALL_S = 30.0
ENROLLING = 8
HOME = Path(__file__).resolve().parent.parent


@dataclass
class Seen:
    """What one host was told, and did. Times: seconds on the monotonic clock.

    `told`: (when, version) whenever the version changed, empty for none; `ended`: when it first tried to report that it
    had proven that version, or failed it; `runs`: the version that it ended on.
    """

    name: str
    told: list[tuple[float, str]] = field(default_factory=list)
    ended: list[tuple[float, str]] = field(default_factory=list)
    runs: str = ""
    answers: int = 0
    failures: list[str] = field(default_factory=list)
    longest_s: float = 0.0

    def in_flight(self, version: str) -> tuple[float, float] | None:
        """Return from when to when the host was surely on its way to `version`, None where it was not told of it."""
        told = next((at for at, what in self.told if what == version), None)
        return None if told is None else (told, self.end_of(version))

    def end_of(self, version: str) -> float:
        """Return when it had proven or failed `version`, infinity where it never did."""
        return next((at for at, what in self.ended if what == version), float("inf"))


class Member:
    """One host of a crowd."""

    def __init__(self, name: str, orders: "Orders", chance: random.Random) -> None:
        self.seen = Seen(name)
        ca_pem, addresses = orders.ca_pem.encode(), orders.addresses
        self._fails = orders.fails.get(name, "")
        self._runs = AppState(app="hello", state=State.CONFIRMED)
        self.id = ""
        self._ca_pem, self._addresses, self._turn = ca_pem, addresses, chance.randrange(len(addresses))
        self._work_s = chance.uniform(0.02, 0.2)
        self._key = pki.new_key()
        self._identity = b""
        self._api: Any = None
        self._channel: Any = None
        self._revision = 0

    def enrol(self, channel: grpc.Channel, token_text: str) -> None:
        """Get a certificate and a connection."""
        token = parse_token(token_text)
        request = agent_pb2.EnrollRequest(
            token_id=token.id,
            token_secret=token.secret,
            name=self.seen.name,
            csr_der=pki.make_csr(self._key),
            platform="linux/amd64",
        )
        answer = agent_pb2_grpc.EnrollmentStub(channel).Enroll(request, timeout=CALL_S)
        self.id, self._identity = answer.host_id, pki.key_to_pem(self._key) + answer.certificate_pem
        self._dial()
        self._call(self._sync_request(), "Sync")

    def _dial(self) -> None:
        if self._channel is not None:
            self._channel.close()
        address = self._addresses[self._turn % len(self._addresses)]
        self._channel = open_channel(
            address, ca_pem=self._ca_pem, identity_pem=self._identity, limits=Limits(reconnect_first_s=0.05)
        )
        self._api = agent_pb2_grpc.AgentApiStub(self._channel)

    def _call(self, request: Any, method: str) -> Any:
        began = time.monotonic()
        answer = getattr(self._api, method)(request, timeout=CALL_S)
        self.seen.longest_s = max(self.seen.longest_s, time.monotonic() - began)
        return answer

    def _sync_request(self) -> agent_pb2.SyncRequest:
        return agent_pb2.SyncRequest(
            nonce=secrets.token_bytes(16), state_revision=self._revision, agent_version="0.1.0", boot_id="crowd"
        )

    def live(self, starts: float, every_s: float, stop: threading.Event) -> None:
        """Sync at every beat until told to stop."""
        beat = 0
        while not stop.is_set():
            beat = max(beat, int((time.monotonic() - starts) / every_s) + 1)
            if stop.wait(max(0.0, starts + beat * every_s - time.monotonic())):
                return
            beat += 1
            try:
                self._turn_once(stop)
            except grpc.RpcError as error:
                self._failed(error)

    def _failed(self, error: grpc.RpcError) -> None:
        call = cast("grpc.Call", error)
        self.seen.failures.append(f"{call.code().name}: {call.details()}"[:200])
        self._turn += 1
        self._dial()

    def _turn_once(self, stop: threading.Event) -> None:
        answer = self._call(self._sync_request(), "Sync")
        self.seen.answers += 1
        apps = decode_manifest(decode_envelope(answer.envelope).payload).apps
        wanted = next((one for one in apps if one.app == "hello"), None)
        version = wanted.version if wanted is not None else ""
        if version != (self.seen.told[-1][1] if self.seen.told else ""):
            self.seen.told.append((time.monotonic(), version))
        if wanted is None or (wanted.version, wanted.generation) == (self._runs.desired_version, self._runs.generation):
            return
        same = wanted.release_sha256 == self._runs.current_sha256
        moving = AppState(
            app="hello",
            desired_version=version,
            desired_sha256=wanted.release_sha256,
            current_version=version,
            current_sha256=wanted.release_sha256,
            state=State.WATCHING,
            health=Health.STARTING,
            generation=wanted.generation,
        )
        ended = replace(moving, state=State.CONFIRMED, health=Health.HEALTHY, verdict=Verdict.SUCCEEDED)
        if not same:
            self._report(moving, stop)
            stop.wait(self._work_s)
        self.seen.ended.append((time.monotonic(), version))
        if version == self._fails:
            ended = replace(ended, state=State.REVERTED, verdict=Verdict.FAILED, reason="it fails on this one")
            ended = replace(ended, current_version=self._runs.current_version, current_sha256=self._runs.current_sha256)
        self._report(ended, stop)
        self._runs, self.seen.runs = ended, ended.current_version

    def _report(self, state: AppState, stop: threading.Event) -> None:
        self._revision += 1
        while not stop.is_set():
            try:
                self._call(agent_pb2.ReportRequest(apps=[to_app_state(state)], state_revision=self._revision), "Report")
            except grpc.RpcError as error:
                self._failed(error)
                stop.wait(0.1)
            else:
                return


@dataclass(frozen=True)
class Orders:
    """What a process of the crowd is told on its standard input, as one line of JSON."""

    ca_pem: str
    enrolment: str
    addresses: list[str]
    token: str
    names: list[str]
    seed: int
    results: str
    fails: dict[str, str]


def main() -> None:
    """Be one process: enrol, say ready, live from the instant that is said until the input ends, write what was seen."""
    orders = Orders(**json.loads(sys.stdin.readline()))
    ca_pem, chance, stop = orders.ca_pem.encode(), random.Random(orders.seed), threading.Event()
    members = [Member(name, orders, chance) for name in orders.names]
    with (
        open_channel(orders.enrolment, ca_pem=ca_pem, identity_pem=None, limits=Limits()) as channel,
        ThreadPoolExecutor(ENROLLING) as pool,
    ):
        list(pool.map(lambda member: member.enrol(channel, orders.token), members))
    print("ready", flush=True)
    start = json.loads(sys.stdin.readline())
    threads = [
        threading.Thread(target=member.live, args=(start["at"], start["every_s"], stop), name=member.seen.name)
        for member in members
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join(CALL_S * 2)
    Path(orders.results).write_text(json.dumps({member.id: asdict(member.seen) for member in members}))
    os._exit(0)  # a channel to a server that is gone may take its time to close, and nothing is left to be said


class Crowd:
    """The processes of a crowd. Use as a context manager: leaving it ends them."""

    def __init__(
        self,
        folder: Path,
        *,
        hosts: int,
        processes: int,
        ca_pem: bytes,
        enrolment: str,
        addresses: Sequence[str],
        token: str,
        seed: int = 0,
        fails: Mapping[str, str] | None = None,
    ) -> None:
        """Start the processes and enrol every host; return when all have synced once. `fails`: name to version."""
        folder.mkdir()
        names = [f"c{number:03}" for number in range(hosts)]
        self._results = [folder / f"{number}.json" for number in range(processes)]
        self._processes = []
        env = {**os.environ, "PYTHONPATH": str(HOME), "PYTHONUNBUFFERED": "1"}
        for number, results in enumerate(self._results):
            orders = Orders(
                ca_pem.decode(),
                enrolment,
                list(addresses),
                token,
                names[number::processes],
                seed + number,
                str(results),
                dict(fails or {}),
            )
            with (folder / f"{number}.log").open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, str(Path(__file__).resolve())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=env,
                    text=True,
                )
            self._processes.append(process)
            self._say(process, asdict(orders))
        try:
            for process in self._processes:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n", "a process of the crowd ended before it was ready"
        except BaseException:
            self.__exit__(None, None, None)
            raise

    @staticmethod
    def _say(process: "subprocess.Popen[str]", what: Mapping[str, object]) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(what) + "\n")
        process.stdin.flush()

    def release(self, every_s: float) -> None:
        """Let all hosts sync from one instant on, at every beat of `every_s` seconds."""
        start = {"at": time.monotonic() + 0.5, "every_s": every_s}
        for process in self._processes:
            self._say(process, start)

    def end(self) -> dict[str, Seen]:
        """Let all stop; return host id to what it saw."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        found: dict[str, Seen] = {}
        for process, results in zip(self._processes, self._results, strict=True):
            assert process.wait(READY_S) == 0
            found |= {key: Seen(**row) for key, row in json.loads(results.read_text()).items()}
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait(CALL_S)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()


if __name__ == "__main__":
    main()
