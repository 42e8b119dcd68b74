"""The fleet's CA as the server uses it: certificates for hosts, and the server's own.

Names inside a CSR are ignored: a certificate says what this server decided, never what was asked for.
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from towpath import pki
from towpath.names import HOST_URI
from towpath_server.domain.hosts import BACKDATE_MS, CERTIFICATE_LIFE_MS

SERVER_LIFE_MS = 90 * 86_400_000


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate for a host. `serial` is hexadecimal text."""

    pem: bytes
    serial: str
    key_sha256: bytes
    not_after_unix_ms: int


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """The server's own key and certificate (PEM), and when it is to be replaced: at two thirds of its life."""

    key_pem: bytes
    certificate_pem: bytes
    renew_unix_ms: int


def serial_text(serial: int) -> str:
    """Return a serial number as the server keeps it."""
    return f"{serial:x}"


@dataclass(frozen=True, slots=True)
class Authority:
    """The CA's certificate and key. Its repr does not show the key."""

    ca_pem: bytes
    ca_key: ec.EllipticCurvePrivateKey

    def __repr__(self) -> str:
        return "Authority()"

    def issue_host(self, host_id: str, csr_der: bytes, now_unix_ms: int) -> Issued:
        """Return a 7 day certificate for the CSR's key in the name of `host_id`; Refusal `bad-csr` for a bad CSR."""
        pem = pki.issue(
            self.ca_pem,
            self.ca_key,
            csr_der,
            uri=HOST_URI + host_id,
            not_before_ms=now_unix_ms - BACKDATE_MS,
            not_after_ms=now_unix_ms + CERTIFICATE_LIFE_MS,
        )
        identity = pki.identity(pem)
        return Issued(pem, serial_text(identity.serial), identity.key_sha256, identity.not_after_ms)

    def check(self, now_unix_ms: int) -> None:
        """Return where the key is the certificate's; Refusal `wrong-ca` otherwise: nobody could enrol or renew."""
        pki.check_issued(self.issue_server(now_unix_ms).certificate_pem, self.ca_pem)

    def issue_server(self, now_unix_ms: int) -> ServerIdentity:
        """Return a fresh key and a 90 day certificate for this server."""
        key = pki.new_key()
        pem = pki.issue_server(
            self.ca_pem,
            self.ca_key,
            key,
            not_before_ms=now_unix_ms - BACKDATE_MS,
            not_after_ms=now_unix_ms + SERVER_LIFE_MS,
        )
        return ServerIdentity(pki.key_to_pem(key), pem, now_unix_ms + SERVER_LIFE_MS * 2 // 3)
