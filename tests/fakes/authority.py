"""A small private CA for tests of the wire: a server's certificate and hosts' identities, all real, all in memory."""

import time
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from towpath import pki
from towpath.names import HOST_URI
from towpath.token import Token, format_token

HOUR_MS = 3_600_000


def now_ms() -> int:
    """Return the machine's time."""
    return time.time_ns() // 1_000_000


@dataclass
class Authority:
    """One CA and one server's key."""

    key: EllipticCurvePrivateKey = field(default_factory=pki.new_key)
    server_key: EllipticCurvePrivateKey = field(default_factory=pki.new_key)
    ca_pem: bytes = b""
    server_pem: bytes = b""

    def __post_init__(self) -> None:
        """Make the certificates."""
        self.ca_pem = pki.new_ca(self.key, now_ms=now_ms())
        self.server_pem = pki.issue_server(
            self.ca_pem, self.key, self.server_key, not_before_ms=now_ms() - HOUR_MS, not_after_ms=now_ms() + HOUR_MS
        )

    def issue(self, csr_der: bytes, host_id: str, *, from_ms: int | None = None, until_ms: int | None = None) -> bytes:
        """Return a host's certificate for the key of a CSR."""
        return pki.issue(
            self.ca_pem,
            self.key,
            csr_der,
            uri=HOST_URI + host_id,
            not_before_ms=now_ms() - HOUR_MS if from_ms is None else from_ms,
            not_after_ms=now_ms() + HOUR_MS if until_ms is None else until_ms,
        )

    def identity(self, host_id: str) -> bytes:
        """Return a new key and its certificate in one PEM, as identity.pem holds them."""
        key = pki.new_key()
        return pki.key_to_pem(key) + self.issue(pki.make_csr(key), host_id)

    def token(self, number: int = 1) -> str:
        """Return the text of a token that pins this CA."""
        return format_token(Token(f"{number:016x}", bytes([number]) * 32, pki.ca_public_point(self.ca_pem)))
