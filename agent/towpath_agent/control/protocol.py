"""One request, one answer: JSON objects of one line each, with a version. Pure.

    {"v": 1, "command": "hold", "app": "hello", "for_ms": 7200000, "reason": "...", "login": "ana"}
    {"v": 1, "ok": true, "lines": ["..."], "data": {...}}    or    {"v": 1, "ok": false, "code": "...", "error": "..."}

Rules: unknown commands, versions and fields of the wrong type are refused in one line; unknown keys are ignored, so
that a newer client may say more. A request has at most MAX_REQUEST_BYTES, an answer MAX_ANSWER_BYTES.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from towpath.errors import Broken, InputError, TowpathError

VERSION = 1
MAX_REQUEST_BYTES = 16 * 1024
MAX_ANSWER_BYTES = 4 * 2**20
MAX_LOGIN_CHARS = 32

PING = "ping"  # answered by the thread that listens: does an agent run, and how is it with its server?
SYNC = "sync"  # has this agent heard its server since it started, and if not, what is in the way?
LOOKS = frozenset({PING, SYNC, "explain"})
BUNDLE = "bundle"  # take the bundle at this path; root and the agent's own user alone may name files to it
CHANGES = frozenset({"hold", "release", "revert", "retry", BUNDLE})


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asks. `app` empty: the whole host, where a command can be for it; `login`: who root says it is."""

    command: str
    app: str = ""
    for_ms: int = 0
    reason: str = ""
    login: str = ""
    path: str = ""

    @property
    def changes(self) -> bool:
        """Return whether the command may change what the agent does."""
        return self.command in CHANGES


@dataclass(frozen=True, slots=True)
class Answer:
    """What the agent answers: lines for people, data for machines."""

    lines: tuple[str, ...] = ()
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contact:
    """How an agent has found its server since it began: times in Unix milliseconds, 0: never.

    `away_since_unix_ms`: 0 while it is not taken as away; a try or two in vain are no news. `trouble`: what the newest
    try failed with, or why it was told nothing.
    """

    answered_unix_ms: int = 0
    away_since_unix_ms: int = 0
    trouble: str = ""


def contact_in(answer: Answer) -> Contact | None:
    """Return what the answer to a PING says of the server; None where it says nothing, as older agents do."""
    raw = answer.data.get("server")
    if not isinstance(raw, Mapping):
        return None
    answered, away, trouble = (raw.get(one.name) for one in fields(Contact))
    if type(answered) is not int or type(away) is not int or not isinstance(trouble, str):
        return None
    return Contact(answered, away, trouble)


def encode_request(request: Request) -> bytes:
    """Return the line of a request."""
    raw = {
        "v": VERSION,
        "command": request.command,
        "app": request.app,
        "for_ms": request.for_ms,
        "reason": request.reason,
        "login": request.login,
        "path": request.path,
    }
    line = json.dumps(raw).encode() + b"\n"
    if len(line) > MAX_REQUEST_BYTES:
        raise InputError(f"cannot ask the agent: the request has {len(line)} bytes, at most {MAX_REQUEST_BYTES}")
    return line


def decode_request(line: bytes) -> Request:
    """Return the request in bytes that anybody may have sent; InputError for everything that is none."""
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError("cannot read the request: it is no JSON object of one line", code="garbled") from error
    if not isinstance(raw, dict):
        raise InputError("cannot read the request: it is no JSON object", code="garbled")
    if raw.get("v") != VERSION:
        raise InputError(
            f"cannot read the request: it is of version {str(raw.get('v'))[:20]}, this agent speaks {VERSION}; "
            "use the towpath-agent of the agent that runs",
            code="version",
        )
    command = raw.get("command")
    if command not in LOOKS | CHANGES if isinstance(command, str) else True:
        raise InputError(f"cannot do {str(command)[:40]!r}: this agent does not know it", code="unknown-command")
    texts = {name: raw.get(name, "") for name in ("app", "reason", "login", "path")}
    for_ms = raw.get("for_ms", 0)
    if any(not isinstance(text, str) for text in texts.values()) or type(for_ms) is not int:
        raise InputError("cannot read the request: a field of it is of the wrong type", code="garbled")
    login = texts["login"] if texts["login"].isprintable() else ""
    return Request(str(command), texts["app"], for_ms, texts["reason"], login[:MAX_LOGIN_CHARS], texts["path"])


def encode_answer(answer: Answer | TowpathError) -> bytes:
    """Return the line of an answer, or of an error that a person is to read."""
    raw: dict[str, object] = {"v": VERSION, "ok": True}
    if isinstance(answer, TowpathError):
        raw |= {"ok": False, "code": answer.code, "error": " ".join(str(answer).split())}
    else:
        raw |= {"lines": list(answer.lines), "data": dict(answer.data)}
    line = json.dumps(raw).encode() + b"\n"
    if len(line) > MAX_ANSWER_BYTES:
        return encode_answer(Broken(f"cannot answer: {len(line)} bytes, at most {MAX_ANSWER_BYTES}"))
    return line


def decode_answer(line: bytes) -> Answer:
    """Return the agent's answer; InputError with its code where it said no, Broken where it is none."""
    garbled = Broken("cannot read the agent's answer: it is garbled; is this its socket?", code="garbled")
    try:
        raw = json.loads(line)
        if not isinstance(raw, dict) or type(raw.get("ok")) is not bool:
            raise garbled
        if not raw["ok"]:
            raise InputError(str(raw["error"]), code=str(raw["code"]))
        lines, data = raw["lines"], raw["data"]
    except (ValueError, KeyError, RecursionError) as error:
        raise garbled from error
    if not isinstance(lines, list) or not isinstance(data, dict):
        raise garbled
    return Answer(tuple(str(one) for one in lines), data)
