"""Layer "walk": hundreds of releases, good and bad, with kills and power cuts at random moments; the last good one serves.

A real agent (the daemon, with its hints) on a real filesystem where the machine can mount one. Everything random comes
from the seed; moments in real time are not repeatable to the instruction, what was decided is.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torture.images import Image
from torture.real import RealHost, environment
from towpath.status import State

STEP_LIMIT_S = 60.0
BAD, KILL, CUT, HASTE = 0.4, 0.25, 0.15, 0.1  # how often a release is bad, and each trouble comes


@dataclass
class Walk:
    """One walk of one host."""

    host: RealHost
    image: Image | None
    dice: random.Random
    said: Callable[[str], None]
    good: str = ""
    kills: int = 0
    cuts: int = 0
    agent: subprocess.Popen[bytes] | None = None
    published: set[str] = field(default_factory=set)  # the good ones

    def go(self, releases: int) -> list[str]:
        """Walk; return what is wrong at the end."""
        try:
            self.host.enrol()
            self._start()
            for number in range(1, releases + 1):
                wrong = self._step(number, last=number == releases)
                if wrong:
                    return [f"release {number} of {releases}: {line}" for line in wrong]
                if number % 25 == 0:
                    self.said(f"  {number} of {releases} releases, {self.kills} kills, {self.cuts} power cuts")
            self._end()
            if not self.host.recover():
                return [f"the agent does not come to rest: {self.host.last_words}"]
            return self.host.wrong({self.good})
        finally:
            self._end()
            self.host.end_apps()

    def _step(self, number: int, *, last: bool) -> list[str]:
        host, dice = self.host, self.dice
        version, good = f"{number}.0.0", dice.random() >= BAD
        if good:
            self.published.add(version)
        host.assign(host.publish(version, good=good), generation=number)
        trouble = dice.random()
        if trouble < KILL + CUT:
            self._wait(dice.random() * 1.5)
            self._end()
            self.kills += 1
            if trouble < CUT and self.image is not None:
                host.end_apps()
                self.image.cut()
                self.cuts += 1
            self._start()
        elif trouble < KILL + CUT + HASTE and not last:
            self._wait(dice.random() * 0.3)
            return []  # the next release comes before this one has ended
        # The decision about this version must come, and be the right one.
        end = time.monotonic() + STEP_LIMIT_S
        while not self._decided(version):
            if time.monotonic() > end:
                return [f"{version} is not decided after {STEP_LIMIT_S:g}s: {host.server.apps}"]
            assert self.agent is not None
            if self.agent.poll() is not None:
                self._start()
            time.sleep(0.02)
        if good:
            self.good = version
        serving = host.server.apps["hello"].current_version
        # One that was overtaken before it was decided may still have been confirmed: then it is the last good one.
        overtaken = serving in self.published and int(serving.partition(".")[0]) > int(self.good.partition(".")[0] or 0)
        if serving != self.good and not overtaken:
            return [f"{serving!r} serves, {self.good!r} was the last good one"]
        self.good = serving
        return []

    def _decided(self, version: str) -> bool:
        state = self.host.server.apps.get("hello")
        return (
            state is not None and state.desired_version == version and state.state in (State.CONFIRMED, State.REVERTED)
        )

    @staticmethod
    def _wait(seconds: float) -> None:
        time.sleep(seconds)  # a moment of chance is what is wanted here

    def _start(self) -> None:
        self.agent = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "towpath_agent.daemon",
                "--dir",
                str(self.host.folder),
                "--sync-interval-ms",
                "2000",
            ],
            env=environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _end(self) -> None:
        if self.agent is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.agent.pid, signal.SIGKILL)
            self.agent.wait()
            self.agent = None


def walk(folder: Path, image: Image | None, seed: int, releases: int, said: Callable[[str], None] = print) -> list[str]:
    """Walk with `seed`; return what is wrong at the end."""
    host = RealHost(folder)
    try:
        return Walk(host, image, random.Random(seed), said).go(releases)
    finally:
        host.listener.stop()
