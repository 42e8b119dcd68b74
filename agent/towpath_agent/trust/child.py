"""The verifying child: `python -m towpath_agent.trust.child`. One request in, one verdict out, then it ends.

Rules: it opens no connection (files are asked of the agent), prints nothing but frames, and says what went wrong as a
frame; a trace of a fault of ours goes to stderr, without values.
"""

import os
import sys
from collections.abc import Callable
from typing import BinaryIO

from towpath.errors import Broken, TowpathError
from towpath_agent.system.conversation import child_streams
from towpath_agent.trust.codec import from_request_frame, raise_error_frame, to_error_frame, to_result_frames
from towpath_agent.trust.frames import Frame, decode, encode
from towpath_agent.trust.verifier import verify


def reader(stream: BinaryIO) -> Callable[[int], bytes]:
    """Return a function that reads exactly as many bytes as asked; Broken at the end of the stream."""

    def receive(size: int) -> bytes:
        parts = []
        while size > 0:
            part = stream.read(size)
            if not part:
                raise Broken("cannot go on: the agent hung up", code="hung-up")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    return receive


def serve(receive: Callable[[int], bytes], send: Callable[[bytes], object]) -> None:
    """Answer one request."""

    def fetch(kind: str, name: str) -> bytes | None:
        send(encode(Frame("fetch", {"kind": kind, "name": name})))
        answer = decode(receive)
        if answer.kind == "file":
            return answer.blobs[0]
        if answer.kind != "none":
            raise_error_frame(answer)
        return None

    try:
        result = verify(from_request_frame(decode(receive)), fetch)
    except TowpathError as error:
        send(encode(to_error_frame(error)))
        return
    for frame in to_result_frames(result):
        send(encode(frame))


def main() -> int:
    """Serve stdin and stdout."""
    source, sink = child_streams()

    def send(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[sink.write(view) :]

    serve(reader(source), send)
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # nothing is left to do: skip the interpreter's tidying, a tenth of the child's life
