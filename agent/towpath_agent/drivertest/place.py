"""One case's place: two releases as an agent would have staged them, a folder for the driver to work in, and its calls.

Rules of every call: it ends within the deadline, speaks the protocol, leaves no process behind and does not change the
release's own folder. A broken rule is a `CaseFailed`, whichever case asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from towpath.errors import TowpathError
from towpath_agent.errors import DriverError
from towpath_agent.installers.driver import AGAIN, DRIVER_VARIABLE, Answer, Driver, Request, Verb, read_answer
from towpath_agent.system.call import CallResult
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files
from towpath_agent.system.process import find_by_env, stop
from towpath_agent.system.scratch import contents, copy_folder

APP = "sample"
ONE, TWO = "1.0.0", "2.0.0"
OUTSIDE = "{outside}"
STRANGER = "somebody-elses"
SAMPLE: Mapping[str, Mapping[str, tuple[str, int]]] = {
    ONE: {"index.html": ("one\n", 0o644), "css/site.css": ("body {}\n", 0o644), "bin/run": ("#!/bin/sh\n", 0o755)},
    TWO: {"index.html": ("two\n", 0o644), "css/site.css": ("body {}\n", 0o640), "more/page.html": ("new\n", 0o644)},
}


class CaseFailed(Exception):
    """The driver did not do what the case asks for; the message says what it did."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The driver under test. `options` may hold `{outside}`; `trees` are version to folder, the samples where empty."""

    program: Path
    options: Mapping[str, str]
    trees: Mapping[str, Path]
    timeout_s: float


class Place:
    """See the module. `folder` is new and empty."""

    def __init__(self, folder: Path, subject: Subject) -> None:
        """Make the folders and the two releases."""
        self._subject, self._files = subject, Files()
        self.driver = Driver(subject.program, SystemClock(), subject.timeout_s)
        self.outside, self.elsewhere = folder / "outside", folder / "elsewhere"
        self._app_dir = folder / "agent" / "apps" / APP
        self._state = self._app_dir / "driver"
        for made in (self.outside, self.elsewhere, self._state):
            self._files.make_dirs(made, 0o755)
        for made in (self.outside, self.elsewhere):
            self._files.write_atomic(made / STRANGER, b"not yours\n", 0o644)
        for version in (ONE, TWO):
            self._make_release(version)
        self._releases = contents(self._app_dir / "releases")
        self.untouched = self.seen()

    def _make_release(self, version: str) -> None:
        folder = self._release(version)
        if version in self._subject.trees:
            self._files.make_dirs(folder.parent, 0o755)
            copy_folder(self._subject.trees[version], folder)
            return
        for path, (text, mode) in SAMPLE[version].items():
            self._files.make_dirs((folder / path).parent, 0o755)
            self._files.write_atomic(folder / path, text.encode(), mode)

    def _release(self, version: str) -> Path:
        return self._app_dir / "releases" / f"{version}-0123456789ab"

    def request(self, version: str, previous: str | None = None, outside: Path | None = None) -> Request:
        """Return what an agent would say; the driver's options lead to `outside`."""
        place = str(outside or self.outside)
        before = None if previous is None else (self._release(previous).name, self._release(previous))
        return Request(
            app=APP,
            version=version,
            release=self._release(version).name,
            folder=self._release(version),
            previous=before,
            state=self._state,
            parameters={},
            options={name: value.replace(OUTSIDE, place) for name, value in self._subject.options.items()},
        )

    def ask(self, verb: Verb, version: str, previous: str | None = None, outside: Path | None = None) -> Answer:
        """Let the driver do `verb` and require that it did."""
        try:
            answer = self.driver.ask(verb, self.request(version, previous, outside))
        except DriverError as error:
            said = f" (stderr: {error.evidence.strip()[-300:]})" if error.evidence.strip() else ""
            raise CaseFailed(f"{error}{said}") from error
        except TowpathError as error:
            raise CaseFailed(str(error)) from error
        self._rules(f"{verb} {version}")
        return answer

    def switch(self, version: str, previous: str | None = None, outside: Path | None = None) -> None:
        """Put a release in place."""
        self.ask(Verb.SWITCH, version, previous, outside)

    def unswitch(self, version: str) -> None:
        """Take all away."""
        self.ask(Verb.UNSWITCH, version)

    def verified(self, version: str) -> bool:
        """Return the driver's word on what is in place; looking must not change it."""
        before = self.seen()
        answer = self.ask(Verb.VERIFY, version)
        self.require_same(before, "verify changed what is in place")
        return answer.ok is True

    def kill(self, verb: Verb, version: str, previous: str | None, after_s: float) -> bool:
        """Start `verb` and kill it with SIGKILL after a while; return whether it was still at work then."""
        request = self.request(version, previous)
        return self.driver.run(verb, request.encode(verb), request, after_s, kill_grace_s=0.0).timed_out

    def refuse(self, verb: str, data: bytes, what: str) -> None:
        """Require that the driver says no to `data`, for good, with a reason, and changes nothing."""
        before = self.seen()
        result = self.driver.run(verb, data, self.request(ONE), self._subject.timeout_s)
        if result.timed_out:
            raise CaseFailed(f"on {what} it did not end within {self._subject.timeout_s:g}s")
        if result.status == 0:
            raise CaseFailed(f"on {what} it exited 0, as if it were done")
        if result.status == AGAIN:
            raise CaseFailed(f"on {what} it asks to try again (75), which cannot help; exit 1")
        if not _reason(result):
            raise CaseFailed(f"on {what} it gave no reason, neither an error line nor anything on stderr")
        self.require_same(before, f"on {what} it changed what is in place")
        self._rules(what)

    def seen(self) -> dict[str, str]:
        """Return all that lies in the two folders in which the driver works."""
        return {
            f"{folder.name}/{path}": fact
            for folder in (self.outside, self.elsewhere)
            for path, fact in contents(folder).items()
        }

    def require_same(self, wanted: Mapping[str, str], what: str) -> None:
        """Require that the folders hold exactly `wanted`."""
        seen = self.seen()
        for path in sorted({*wanted, *seen}):
            if wanted.get(path) != seen.get(path):
                raise CaseFailed(f"{what}: {path} is {seen.get(path, 'gone')}, not {wanted.get(path, 'gone')}")

    def _rules(self, what: str) -> None:
        if contents(self._app_dir / "releases") != self._releases:
            raise CaseFailed(f"{what} changed the release's own folder, which is the agent's")
        left = find_by_env(DRIVER_VARIABLE, str(self._state))
        for process in left:
            stop(process, 0.0, SystemClock())
        if left:
            raise CaseFailed(f"{what} left {len(left)} processes behind")


def _reason(result: CallResult) -> str:
    return read_answer(result).error or result.log.strip()
