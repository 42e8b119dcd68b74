"""Frames between agent and child: whole, capped, data only."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import Broken, InputError, Refusal, TowpathError, Unavailable
from towpath_agent.errors import DiskError, DiskFull, StartError
from towpath_agent.trust.child import reader
from towpath_agent.trust.codec import from_request_frame, raise_error_frame, to_error_frame
from towpath_agent.trust.frames import MAX_BLOB_BYTES, MAX_HEADER_BYTES, Frame, decode, encode


def read(data: bytes) -> Frame:
    return decode(reader(io.BytesIO(data)))


def raw(header: object, rest: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(4, "big") + text + rest


FIELDS = st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.text(), max_size=3), max_size=5)


@given(st.text(), FIELDS, st.lists(st.binary(max_size=200), max_size=8))
def test_a_frame_survives_the_pipe(kind: str, fields: dict[str, object], blobs: list[bytes]) -> None:
    """Every frame is read back as it was written."""
    frame = Frame(kind, fields, tuple(blobs))
    assert read(encode(frame)) == frame


@pytest.mark.parametrize(
    "data",
    [
        (MAX_HEADER_BYTES + 1).to_bytes(4, "big"),
        raw({"kind": "x", "fields": {}, "blobs": [MAX_BLOB_BYTES + 1]}),
        raw({"kind": "x", "fields": {}, "blobs": [-1]}),
        raw({"kind": "x", "fields": {}, "blobs": [0] * 9}),
        raw({"kind": "x"}),
        raw([]),
        raw({"kind": "x", "fields": 3, "blobs": []}),
        b"\0\0\0\x04\xff\xff\xff\xff",
        b"\0\0",
        raw({"kind": "x", "fields": {}, "blobs": [5]}, b"1234"),
    ],
)
def test_nonsense_and_excess_are_broken(data: bytes) -> None:
    """Headers and blobs above their caps, garbage and cut-off frames are refused before they are believed."""
    with pytest.raises(Broken):
        read(data)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Refusal("a", code="freeze"), Refusal),
        (Unavailable("a"), Unavailable),
        (InputError("a"), InputError),
        (DiskFull("a"), DiskFull),
        (DiskError("a"), DiskError),
        (Broken("a"), Broken),
        (StartError("a"), Broken),
    ],
)
def test_errors_keep_kind_code_and_message(error: TowpathError, kind: type[TowpathError]) -> None:
    """An error in the child is the same error in the agent: who must act, and whether trying again can help."""
    with pytest.raises(kind, match="a") as caught:
        raise_error_frame(read(encode(to_error_frame(error))))
    assert type(caught.value) is kind
    assert caught.value.code == error.code
    assert caught.value.retryable == error.retryable


@pytest.mark.parametrize(
    "frame", [Frame("surprise"), Frame("error"), Frame("error", {"kind": "SystemExit", "code": "", "message": ""})]
)
def test_an_unknown_frame_raises_nothing_but_broken(frame: Frame) -> None:
    """A frame out of order, or one that names an error that we do not know, is broken."""
    with pytest.raises(Broken, match="out of order"):
        raise_error_frame(frame)


def test_a_request_must_come_first() -> None:
    """The child answers nothing but a request."""
    with pytest.raises(Broken, match="instead of a request"):
        from_request_frame(Frame("file", {}, (b"", b"")))
