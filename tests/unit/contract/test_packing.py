"""Answers to a fetch that travel together: every one of them arrives, in order, in messages of limited length."""

import random

import pytest

from towpath.v1 import agent_pb2 as pb
from towpath.wire.packing import Packer


def whole(number: int, data: bytes) -> pb.FetchResponse:
    return pb.FetchResponse(want=number, data=data, last=True, carried_size=len(data) or 1)


def test_whole_answers_become_one_message() -> None:
    """They wait until they are asked for, or one comes that does not fit."""
    packer = Packer(takes=True)
    assert packer.add(whole(3, b"ab"), 6) == []
    assert packer.add(whole(4, b"cdef"), 6) == []
    assert packer.add(whole(5, b"g"), 6) == [pb.FetchResponse(want=3, data=b"abcdef", whole=[2, 4])]
    assert packer.rest() == [whole(5, b"g")]
    assert packer.rest() == []


@pytest.mark.parametrize(
    "other",
    [
        pb.FetchResponse(want=1, data=b"part", carried_size=9),
        pb.FetchResponse(want=1, data=b"end", last=True),
        pb.FetchResponse(want=1, missing=True, last=True),
        pb.FetchResponse(want=1, url="https://there/x", carried_size=9),
    ],
    ids=["a beginning", "an end", "missing", "elsewhere"],
)
def test_anything_else_goes_at_once_behind_what_waits(other: pb.FetchResponse) -> None:
    """A message that is not one whole answer is sent as it is."""
    packer = Packer(takes=True)
    assert packer.add(whole(0, b"ab"), 100) == []
    assert packer.add(other, 100) == [whole(0, b"ab"), other]
    assert packer.rest() == []


def test_who_does_not_take_them_together_gets_each_alone() -> None:
    """Agents of before know no such messages."""
    packer = Packer(takes=False)
    assert [packer.add(whole(number, b"x"), 100) for number in range(2)] == [[whole(0, b"x")], [whole(1, b"x")]]


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_and_no_message_is_too_long(seed: int) -> None:
    """Whatever comes in whatever lengths."""
    chance = random.Random(seed)
    contents = [chance.randbytes(chance.choice((0, 1, 5, 50, 120))) for _ in range(200)]
    packer, messages = Packer(takes=True), []
    for number, data in enumerate(contents):
        messages += packer.add(whole(number, data), 100)
    messages += packer.rest()
    came = []
    for message in messages:
        assert len(message.data) <= max(100, max(message.whole, default=120))
        at = 0
        for length in message.whole or [len(message.data)]:
            came.append(message.data[at : at + length])
            at += length
    assert came == contents
    assert len(messages) < len(contents) / 2
