"""The resident agent's side of a verification: starts the child, feeds it files, returns its verdict.

The TUF library and what it pulls in cost tens of megabytes that an agent needs only while something changes, so they
live in a process that ends. One verification at a time: the library's cache is not made for two.
"""

import sys
import threading

from towpath.errors import Broken, Refusal, TowpathError
from towpath_agent.system.clock import Clock, SystemClock
from towpath_agent.system.conversation import Conversation
from towpath_agent.trust.codec import (
    RESULT_KINDS,
    from_result_frames,
    raise_error_frame,
    to_error_frame,
    to_request_frame,
)
from towpath_agent.trust.frames import Frame, decode, encode
from towpath_agent.trust.model import MAX_FILE_BYTES, Fetch, VerifyRequest, VerifyResult

DEADLINE_S = 300.0
MAX_RESULT_BYTES = 64 * 2**20
# Roots, the other roles, and two releases per app (one to run, one announced); more questions than that are a child
# that runs in circles.
MAX_QUESTIONS = 2048


class TrustClient:
    """Verifies envelopes in a child of its own. Raises Refusal, Unavailable or Broken, as `verifier.verify` does."""

    def __init__(
        self, python: str = sys.executable, *, clock: Clock | None = None, deadline_s: float = DEADLINE_S
    ) -> None:
        """`deadline_s` is for all of one verification, the fetching of metadata and releases included."""
        self._argv = [python, "-I", "-m", "towpath_agent.trust.child"]
        self._clock = clock or SystemClock()
        self._deadline_s = deadline_s
        self._lock = threading.Lock()

    def verify(self, request: VerifyRequest, fetch: Fetch) -> VerifyResult:
        """Return what this host may run. `fetch` is called in the calling thread."""
        with self._lock, Conversation(self._argv, clock=self._clock, seconds=self._deadline_s) as child:
            child.send(encode(to_request_frame(request)))
            frames: list[Frame] = []
            size = 0
            for _ in range(MAX_QUESTIONS):
                frame = decode(child.receive)
                if frame.kind == "fetch":
                    child.send(encode(_answer(fetch, frame)))
                elif frame.kind in RESULT_KINDS:
                    frames.append(frame)
                    size += sum(len(blob) for blob in frame.blobs)
                    if size > MAX_RESULT_BYTES:
                        raise Refusal("cannot accept the manifest: its releases are too long", code="endless-data")
                    if frame.kind == "result":
                        return from_result_frames(frames)
                else:
                    raise_error_frame(frame)
        raise Broken("cannot verify: the verifying child asks without end")


def _answer(fetch: Fetch, frame: Frame) -> Frame:
    """Return the file that the child asks for, or why it cannot be had."""
    name = str(frame.fields["name"])
    try:
        data = fetch(str(frame.fields["kind"]), name)
    except TowpathError as error:
        return to_error_frame(error)
    if data is None:
        return Frame("none")
    if len(data) > MAX_FILE_BYTES:
        return to_error_frame(
            Refusal(f"cannot accept {name[:80]}: it is longer than {MAX_FILE_BYTES} bytes", code="endless-data")
        )
    return Frame("file", blobs=(data,))
