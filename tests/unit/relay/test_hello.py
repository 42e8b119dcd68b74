"""Which name a TLS client asks for: real ClientHellos, cut anywhere, and whatever else may come."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath_relay.hello import MAX_HELLO_BYTES, Hello, NotTls, read_hello


def hello(name: str | None) -> bytes:
    """Return what OpenSSL sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


@pytest.mark.parametrize("name", ["server.towpath.internal", "relay.towpath.internal", "x" * 63 + ".example"])
def test_the_name_is_read_when_all_of_it_came(name: str) -> None:
    """At each byte before the last: more must come. Then: the name."""
    data = hello(name)
    assert {read_hello(data[:count]) for count in range(len(data))} == {None}
    assert read_hello(data) == Hello(name)


def test_no_name_is_an_empty_name() -> None:
    """A client that asks for none is a TLS client all the same."""
    assert read_hello(hello(None)) == Hello("")


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_message_may_be_cut_over_records(size: int) -> None:
    """Records of any size carry the same message."""
    data = hello("server.towpath.internal")
    message = data[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    cut = b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)
    assert read_hello(cut[:-1]) is None
    assert read_hello(cut) == Hello("server.towpath.internal")


def test_what_follows_does_not_matter() -> None:
    """A client may send early data behind it."""
    assert read_hello(hello("a.example") + b"\x17\x03\x03\x00\x05hello") == Hello("a.example")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
        b"\x16" * (MAX_HELLO_BYTES + 1),
    ],
)
def test_what_is_no_hello_is_refused(data: bytes) -> None:
    """Other protocols, empty records, other messages, a message too short for its fields, one that is too long."""
    with pytest.raises(NotTls):
        read_hello(data)


@given(st.binary(max_size=300), st.integers(0, 600), st.integers(0, 255))
def test_nothing_but_three_answers(noise: bytes, at: int, value: int) -> None:
    """Whatever comes: a name, more is needed, or no TLS; never another error."""
    data = bytearray(_GOOD)
    data[at % len(data)] = value
    for one in (noise, bytes(data), _GOOD[: at % len(_GOOD)] + noise):
        try:
            read_hello(one)
        except NotTls:
            continue


_GOOD = hello("server.towpath.internal")
