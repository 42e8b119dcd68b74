"""The channel to a server as one operator: mTLS, whose address may be anything.

The server is known by its CA and the name `towpath.names.SERVER_NAME`, whatever address it was dialled by.
"""

import re

import grpc

from towpath.errors import InputError
from towpath.names import SERVER_NAME
from towpath_cli.operator_folder import Identity

MAX_MESSAGE_BYTES = 64 * 2**20
OPTIONS = (
    ("grpc.ssl_target_name_override", SERVER_NAME),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # What really ends a silent connection: grpcio 1.85.1 does not act on keepalive_timeout_ms alone.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_http_proxy", 0),
)

_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----\n?", re.DOTALL)
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:/\s\[\]]+):([0-9]{1,5})")


def check_address(address: str) -> str:
    """Return `address` where it is HOST:PORT, else raise InputError."""
    match = _ADDRESS.fullmatch(address)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise InputError(f"cannot use {address[:80]!r} as a server's address: write HOST:PORT, such as 127.0.0.1:7445")
    return address


def split_pem(pem: bytes) -> tuple[bytes, bytes]:
    """Return (key, certificate chain) of an identity's PEM; InputError where one is missing."""
    keys = b""
    chain = b""
    for match in _PEM_BLOCK.finditer(pem):
        if match[1] == b"CERTIFICATE":
            chain += match[0]
        elif match[1].endswith(b"PRIVATE KEY"):
            keys += match[0]
    if not keys or not chain:
        raise InputError("cannot use operator.pem: it must hold a private key and a certificate")
    return keys, chain


def open_channel(address: str, identity: Identity) -> grpc.Channel:
    """Return a channel; nothing is dialled before the first call."""
    key, chain = split_pem(identity.pem)
    credentials = grpc.ssl_channel_credentials(identity.ca_pem, key, chain)
    return grpc.secure_channel(address, credentials, OPTIONS)
