"""What a relay answers while there is nothing to send yet."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest

from fakes.authority import Authority, now_ms
from towpath.v1 import agent_pb2 as pb
from towpath_relay.service import RelayServicer

if TYPE_CHECKING:
    import grpc


class Slow:
    """Four bytes that take their time, before the first and in their midst."""

    def pauses(self) -> Iterator[None]:
        yield
        yield

    def carried_size(self) -> int | None:
        return 4

    def pieces(self, offset: int) -> Iterator[bytes]:
        yield from (b"", b"ab", b"", b"cd"[offset:])


class Call:
    """What grpc says of a host's call."""

    def __init__(self, identity: bytes) -> None:
        self._identity = identity

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": [self._identity[self._identity.index(b"-----BEGIN CERT") :]]}

    def abort(self, *why: Any) -> None:
        raise AssertionError(why)


@pytest.mark.parametrize(("waits", "lively", "empty"), [(True, True, 4), (True, False, 0), (False, True, 0)])
def test_only_who_takes_them_gets_empty_answers_and_only_while_the_line_is_alive(
    *, waits: bool, lively: bool, empty: int
) -> None:
    """An agent that does not know of them sees a stream as ever; a dead line is none to wait for."""
    servicer = RelayServicer(lambda wants: [Slow() for _ in wants], now_ms, lambda: lively)
    request = pb.FetchRequest(wants=[pb.Want(object_sha256=b"d" * 32)], waits=waits)
    call = cast("grpc.ServicerContext", Call(Authority().identity("h1")))
    answers = list(servicer.Fetch(request, call))
    nothing = pb.FetchResponse(want=0)
    assert answers.count(nothing) == empty
    assert [answer for answer in answers if answer != nothing] == [
        pb.FetchResponse(want=0, data=b"ab", carried_size=4),
        pb.FetchResponse(want=0, data=b"cd", last=True),
    ]
