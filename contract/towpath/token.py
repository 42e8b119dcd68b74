"""Enrolment tokens: what an operator hands to a new host, as one word that survives copy and paste.

`tp1.` and base64url of id (8 bytes) · secret (32) · the CA's public key (33, the pin) · checksum (4). The checksum only
finds typing mistakes. The server keeps the id and the SHA-256 of the secret; nobody keeps the token.
Not handled here: how long and how often a token may be used (the server's `domain.tokens`), and making random bytes.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field

from towpath.errors import InputError

PREFIX = "tp1."
ID_BYTES = 8
SECRET_BYTES = 32
POINT_BYTES = 33
_CHECK_BYTES = 4
_BODY_BYTES = ID_BYTES + SECRET_BYTES + POINT_BYTES
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Token:
    """An id (16 hex digits), a secret (32 bytes) and the pinned CA key. Its repr does not show the secret."""

    id: str
    secret: bytes = field(repr=False)
    ca_point: bytes


def secret_sha256(secret: bytes) -> bytes:
    """Return what the server keeps of a secret: 256 random bits need no slow hash."""
    return hashlib.sha256(secret).digest()


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(PREFIX.encode() + body).digest()[:_CHECK_BYTES]


def format_token(token: Token) -> str:
    """Return the token as one word; InputError where a part has the wrong length."""
    if _ID.fullmatch(token.id) is None or len(token.secret) != SECRET_BYTES or len(token.ca_point) != POINT_BYTES:
        raise InputError("cannot make a token: an id of 16 hex digits, 32 secret bytes and a P-256 point are needed")
    body = bytes.fromhex(token.id) + token.secret + token.ca_point
    return PREFIX + base64.urlsafe_b64encode(body + _checksum(body)).rstrip(b"=").decode()


def parse_token(text: str) -> Token:
    """Return the token in `text` (space around it is ignored); InputError `bad-token` that never repeats the secret."""
    word = text.strip()
    if not word.startswith(PREFIX):
        raise InputError(f"cannot use the token: it does not begin with {PREFIX!r}; copy all of it", code="bad-token")
    try:
        encoded = word[len(PREFIX) :].encode("ascii")
        data = base64.b64decode(encoded + b"=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise InputError("cannot use the token: it has strange characters; copy all of it", code="bad-token") from error
    body, check = data[:_BODY_BYTES], data[_BODY_BYTES:]
    if len(body) != _BODY_BYTES or check != _checksum(body):
        raise InputError("cannot use the token: it is cut off or mistyped; copy all of it", code="bad-token")
    end = ID_BYTES + SECRET_BYTES
    return Token(body[:ID_BYTES].hex(), body[ID_BYTES:end], body[end:])
