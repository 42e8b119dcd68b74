"""Which name a TLS client asks for: the server name (SNI) of a ClientHello, read and never answered. Pure.

Source: RFC 8446, 4.1.2 (ClientHello, the same since TLS 1.0) and 5.1 (records, which may cut a message anywhere);
RFC 6066, 3 (server_name).
"""

from dataclasses import dataclass

MAX_HELLO_BYTES = 2**16
_HANDSHAKE_RECORD, _CLIENT_HELLO = 22, 1
_RECORD_HEADER, _MESSAGE_HEADER = 5, 4
_RANDOM_BYTES = 32
_VERSION_BYTES = 2
_SERVER_NAME, _HOST_NAME = 0, 0


class NotTls(Exception):
    """What came is no ClientHello."""


@dataclass(frozen=True, slots=True)
class Hello:
    """A whole ClientHello; an empty name where it asks for none."""

    server_name: str


class _Reader:
    """Takes fields off bytes; NotTls where they are too short."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise NotTls
        self._at += size
        return self._data[self._at - size : self._at]

    def vector(self, length_bytes: int) -> bytes:
        return self.take(int.from_bytes(self.take(length_bytes), "big"))


def read_hello(data: bytes) -> Hello | None:
    """Return what the bytes of a connection so far ask for, None where more must come first; NotTls otherwise."""
    if len(data) > MAX_HELLO_BYTES:
        raise NotTls
    message, rest = b"", data
    while True:
        if rest and rest[0] != _HANDSHAKE_RECORD:
            raise NotTls
        size = int.from_bytes(rest[3:_RECORD_HEADER], "big")
        if len(rest) < _RECORD_HEADER + size or len(rest) < _RECORD_HEADER:
            return None
        if size == 0:
            raise NotTls  # RFC 8446: no empty fragments of handshake messages
        message, rest = message + rest[_RECORD_HEADER : _RECORD_HEADER + size], rest[_RECORD_HEADER + size :]
        if message[0] != _CLIENT_HELLO:
            raise NotTls
        if len(message) >= _MESSAGE_HEADER:
            whole = _MESSAGE_HEADER + int.from_bytes(message[1:_MESSAGE_HEADER], "big")
            if len(message) >= whole:
                return Hello(_server_name(message[_MESSAGE_HEADER:whole]))


def _server_name(body: bytes) -> str:
    reader = _Reader(body)
    reader.take(_VERSION_BYTES + _RANDOM_BYTES)
    reader.vector(1)  # session id
    reader.vector(2)  # cipher suites
    reader.vector(1)  # compression methods
    if not reader.left:
        return ""
    extensions = _Reader(reader.vector(2))
    while extensions.left:
        kind, content = int.from_bytes(extensions.take(2), "big"), _Reader(extensions.vector(2))
        if kind != _SERVER_NAME:
            continue
        names = _Reader(content.vector(2))
        while names.left:
            is_host, name = names.take(1)[0] == _HOST_NAME, names.vector(2)
            if is_host:
                return name.decode("ascii", "replace").lower()
    return ""
