"""The person's end: ask the running agent one thing. Every way in which that fails is one line with the way out."""

import os
from pathlib import Path

from towpath.errors import Broken, InputError, Unavailable
from towpath_agent.control import SOCKET
from towpath_agent.control.protocol import MAX_ANSWER_BYTES, PING, Answer, Request, decode_answer, encode_request
from towpath_agent.system.local_socket import connect

CONNECT_S = 10.0
# Longer than the agent's own deadline, so that the agent's answer says what happened.
ANSWER_S = 70.0
_BUFFER_BYTES = 65_536


def not_running(folder: Path) -> InputError:
    """Return what to say where no agent runs in `folder`."""
    return InputError(
        f"cannot ask the agent in {folder}: it does not run; start it: towpath-agent run --dir {folder}",
        code="not-running",
    )


def ask(folder: Path, request: Request, timeout_s: float = ANSWER_S) -> Answer:
    """Return the agent's answer. InputError `not-running` or with the agent's own code; Unavailable, Broken."""
    line = encode_request(request)
    path = folder / SOCKET
    try:
        connection = connect(path, min(timeout_s, CONNECT_S))
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as error:
        raise not_running(folder) from error
    except OSError as error:
        raise Broken(f"cannot reach the agent at {path}: {os.strerror(error.errno or 0)}") from error
    with connection:
        connection.settimeout(timeout_s)
        try:
            connection.sendall(line)
            answer = bytearray()
            while part := connection.recv(_BUFFER_BYTES):
                answer += part
                if len(answer) > MAX_ANSWER_BYTES:
                    raise Broken(f"cannot read the agent's answer: it has more than {MAX_ANSWER_BYTES} bytes")
        except TimeoutError as error:
            raise Unavailable(
                f"cannot get an answer of the agent within {timeout_s:g}s; look at what it does: "
                f"towpath-agent history --dir {folder}"
            ) from error
        except OSError as error:
            raise Unavailable(
                f"cannot get an answer of the agent: it ended the connection; is it stopping? towpath-agent doctor "
                f"--dir {folder}"
            ) from error
    if not answer:
        raise Unavailable("cannot get an answer of the agent: it ended the connection; try again")
    return decode_answer(bytes(answer))


def ping(folder: Path) -> Answer | None:
    """Return what the agent in `folder` says at once, None where none runs; other Towpath errors are raised."""
    try:
        return ask(folder, Request(PING), timeout_s=5.0)
    except InputError as error:
        if error.code == "not-running":
            return None
        raise


def is_running(folder: Path) -> bool:
    """Return whether an agent answers in `folder`; Towpath errors other than "not running" are raised."""
    return ping(folder) is not None
