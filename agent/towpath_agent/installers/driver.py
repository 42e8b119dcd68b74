"""The protocol of drivers: how an executable is asked to put a release in place. docs/drivers.md is its public text.

One process for each call, `DRIVER VERB`: the request is one JSON object on stdin, the answer is JSON objects on stdout,
one a line (`progress`, `error`, and for `verify` one `result`), the exit code decides. What it writes to stderr is
evidence. It gets a clean environment, a deadline, a cap on its output and a process group that is killed with it.
Not handled here: which driver is called when (`installers.exec`), where it comes from (`installers.found`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from towpath.parameters import Value
from towpath_agent.errors import DriverBusy, DriverError
from towpath_agent.instance import APP_DIR_VARIABLE, SEARCH_PATH
from towpath_agent.system.call import CallResult, call
from towpath_agent.system.clock import Clock, Deadline
from towpath_agent.system.process import find_by_env, stop

PROTOCOL = 1
DONE, FAILED, AGAIN = 0, 1, 75
MAX_ANSWER_BYTES = 64 * 1024
MAX_TEXT = 500
DRIVER_VARIABLE = "TOWPATH_DRIVER_OF"
_FIRST_PAUSE_S = 0.5


class Verb(StrEnum):
    """What a driver is asked to do. Every one may be cut off anywhere and asked again."""

    CHECK = "check"  # say whether the release could be put in place here; change nothing
    SWITCH = "switch"  # put the release in place, instead of whatever is there of this app
    UNSWITCH = "unswitch"  # take away all that was put in place, and give back what was there before
    VERIFY = "verify"  # say whether what is in place is what the release says; change nothing


@dataclass(frozen=True, slots=True)
class Request:
    """What a driver is told. All paths are absolute; `previous` is (release id, folder) or None."""

    app: str
    version: str
    release: str
    folder: Path
    previous: tuple[str, Path] | None
    state: Path
    parameters: Mapping[str, Value]
    options: Mapping[str, str]

    def encode(self, verb: str, protocol: int = PROTOCOL) -> bytes:
        """Return the line that the driver reads."""
        release, folder = self.previous or (None, None)
        fields = {
            "protocol": protocol,
            "verb": verb,
            "app": self.app,
            "version": self.version,
            "release": self.release,
            "folder": str(self.folder),
            "previous": None if self.previous is None else {"release": release, "folder": str(folder)},
            "state": str(self.state),
            "parameters": dict(self.parameters),
            "options": dict(self.options),
        }
        return json.dumps(fields).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a driver said. `ok` is None where it gave no `result`; `fault` is how it broke the protocol, or ""."""

    ok: bool | None = None
    reason: str = ""
    error: str = ""
    progress: str = ""
    fault: str = ""


def read_answer(result: CallResult) -> Answer:
    """Return what the lines on stdout say; a line that is none of the protocol's is a fault."""
    if result.overflow:
        return Answer(fault=f"it wrote more than {MAX_ANSWER_BYTES} bytes to stdout; logs belong on stderr")
    answer: dict[str, str | bool | None] = {}
    for line in result.answer.splitlines():
        try:
            raw = json.loads(line)
        except ValueError:
            raw = None
        match raw:
            case {"type": "progress", "message": str(text)}:
                answer["progress"] = text[:MAX_TEXT]
            case {"type": "error", "message": str(text)}:
                answer["error"] = text[:MAX_TEXT]
            case {"type": "result", "ok": bool(ok)} if "ok" not in answer:
                reason = raw.get("reason", "")
                answer |= {"ok": ok, "reason": reason[:MAX_TEXT] if isinstance(reason, str) else ""}
            case _:
                shown = line[:80].decode("utf-8", "replace")
                return Answer(fault=f"it wrote {shown!r} to stdout, which is no line of the protocol")
    return Answer(**answer)  # type: ignore[arg-type]  # the keys are those of Answer


class Driver:
    """One executable."""

    def __init__(self, program: Path, clock: Clock, timeout_s: float) -> None:
        """Give each call `timeout_s` seconds, tries that ended with "again" included."""
        self._program, self._clock, self._timeout_s = program, clock, timeout_s

    def ask(self, verb: Verb, request: Request) -> Answer:
        """Return the answer to `verb`; DriverError where it failed, DriverBusy where it could not work in all the time.

        `request.state` must be there; the driver runs in it.
        """
        deadline = Deadline(self._clock, self._timeout_s)
        # An agent that was killed in mid-call leaves its driver running: two at once are never wanted.
        for left in find_by_env(DRIVER_VARIABLE, str(request.state)):
            stop(left, 0.0, self._clock)
        pause_s = _FIRST_PAUSE_S
        while True:
            result = self.run(verb, request.encode(verb), request, deadline.remaining())
            if result.status != AGAIN or result.timed_out or deadline.remaining() <= pause_s:
                return self._judge(verb, request, result)
            self._clock.wait(None, pause_s)
            pause_s *= 2

    def run(self, verb: str, data: bytes, request: Request, timeout_s: float, kill_grace_s: float = 2.0) -> CallResult:
        """Run the driver once on `data`, whatever that is; StartError where it cannot be started."""
        return call(
            [str(self._program), verb],
            cwd=request.state,
            env=_environment(request),
            request=data,
            timeout_s=timeout_s,
            clock=self._clock,
            answer_limit=MAX_ANSWER_BYTES,
            kill_grace_s=kill_grace_s,
        )

    def _judge(self, verb: Verb, request: Request, result: CallResult) -> Answer:
        answer = read_answer(result)
        where = f"cannot {verb} {request.app} {request.version} with driver {self._program}"
        said = answer.error or _last_line(result.log)
        if result.timed_out:
            doing = f"; its last progress: {answer.progress}" if answer.progress else ""
            raise DriverError(
                f"{where}: it did not end within {self._timeout_s:g}s{doing}",
                code="driver-timeout",
                evidence=result.log,
            )
        if result.status == AGAIN:
            raise DriverBusy(f"{where}: it asks to try again later: {said or 'no reason given'}", evidence=result.log)
        if result.status != DONE:
            raise DriverError(f"{where}: {_ending(result.status)}: {said or 'no reason given'}", evidence=result.log)
        fault = answer.fault or ("it gave no result" if verb is Verb.VERIFY and answer.ok is None else "")
        if fault:
            raise DriverError(f"{where}: {fault}", code="driver-protocol", evidence=result.log)
        return answer


def _environment(request: Request) -> dict[str, str]:
    """Return all that a driver finds in its environment; nothing of the agent's."""
    return {
        "PATH": SEARCH_PATH,
        "HOME": str(request.state),
        "LANG": "C.UTF-8",
        "TOWPATH_APP": request.app,
        "TOWPATH_RELEASE": request.release,
        # By which the app's services end what a driver leaves behind.
        APP_DIR_VARIABLE: str(request.state.parent),
        DRIVER_VARIABLE: str(request.state),
    }


def _ending(status: int | None) -> str:
    if status is None:
        return "it cannot be ended"
    return f"it was killed by signal {-status}" if status < 0 else f"it exited {status}"


def _last_line(log: str) -> str:
    lines = log.strip().splitlines()
    return lines[-1].strip()[:MAX_TEXT] if lines else ""
