"""Certificates and keys of the private CA: who a peer is, and which server a host may enrol with.

Parties: `towpath init` makes the CA, the operator's and the server's identity; the server issues hosts' certificates; a
host checks the server it enrols with against the CA key that its token carries.
Rules: ECDSA P-256 everywhere (grpcio fails the handshake with Ed25519 leaves); a certificate says one role, by one URI
(hosts, operators: clientAuth) or one DNS name (servers: serverAuth); of a CSR only the key counts, never its names.
Bytes in, bytes out; times are Unix milliseconds handed in.
Not handled here: revocation and "is this the newest serial" (the server's records), files, sockets, clocks. Validity in
time is the caller's question too: `Identity` carries both ends.
"""

import datetime
import hashlib
from dataclasses import dataclass
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from towpath.errors import InputError, Refusal
from towpath.names import HOST_URI, OPERATOR_URI, RELAY_NAME, SERVER_NAME

Role = Literal["host", "operator", "server"]
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

CA_NAME = "Towpath CA"
DAY_MS = 86_400_000
# What `now` is moved back for, so that a host whose clock is a little behind accepts a fresh certificate.
BACKDATE_MS = 600_000
POINT_BYTES = 33
MAX_CSR_BYTES = 16 * 1024
MAX_CERTIFICATE_BYTES = 64 * 1024
_MAX_COMMON_NAME = 64


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a certificate says its holder is. `name` is a host's id or an operator's name; a server's is its DNS name."""

    role: Role
    name: str
    serial: int
    not_before_ms: int
    not_after_ms: int
    key_sha256: bytes


# --- keys -------------------------------------------------------------------------------------------------------------


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: PrivateKey, passphrase: bytes | None = None) -> bytes:
    """Return `key` as PKCS#8 PEM, encrypted where a passphrase is given."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def key_is_protected(pem: bytes) -> bool:
    """Return True where the PEM key can only be read with a passphrase."""
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in pem


def _load_key(pem: bytes, passphrase: bytes | None) -> object:
    if passphrase and not key_is_protected(pem):
        passphrase = None  # the library refuses a passphrase that nothing needs
    if key_is_protected(pem) and not passphrase:
        raise InputError("cannot read the key: it is protected; give its passphrase", code="passphrase")
    try:
        return serialization.load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if passphrase:
            raise InputError(
                "cannot read the key: the passphrase is wrong or it is damaged", code="passphrase"
            ) from error
        raise InputError("cannot read the key: it is no PKCS#8 key in PEM, or it is damaged") from error


def key_from_pem(pem: bytes, passphrase: bytes | None = None) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key in `pem` (a certificate beside it does not matter); InputError otherwise."""
    key = _load_key(pem, passphrase)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InputError("cannot use the key: it is not ECDSA P-256")
    return key


def signing_key_from_pem(pem: bytes, passphrase: bytes | None = None) -> ed25519.Ed25519PrivateKey:
    """Return the Ed25519 key in `pem`, as TUF roles and directors use; InputError otherwise."""
    key = _load_key(pem, passphrase)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InputError("cannot use the key: it is not Ed25519")
    return key


# --- issuing ----------------------------------------------------------------------------------------------------------


def _time(ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(ms // 1000, datetime.UTC)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:_MAX_COMMON_NAME])])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def new_ca(key: ec.EllipticCurvePrivateKey, *, now_ms: int, days: int = 3650) -> bytes:
    """Return a self-signed CA certificate (PEM; path length 0: it signs leaves and no other CA)."""
    public = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(CA_NAME))
        .issuer_name(_name(CA_NAME))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(now_ms - BACKDATE_MS))
        .not_valid_after(_time(now_ms + days * DAY_MS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def make_csr(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a certificate request (DER) that proves possession of `key` and asks for no name."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _csr_key(csr_der: bytes) -> ec.EllipticCurvePublicKey:
    refusal = Refusal("cannot accept the certificate request: it is no P-256 request signed by its key", code="bad-csr")
    if len(csr_der) > MAX_CSR_BYTES:
        raise refusal
    try:
        csr = x509.load_der_x509_csr(csr_der)
        public = csr.public_key()
        good = csr.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise refusal from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1) or not good:
        raise refusal
    return public


def csr_key_sha256(csr_der: bytes) -> bytes:
    """Return the fingerprint of the key in a CSR that this key signed; Refusal `bad-csr` otherwise."""
    return _key_sha256(_csr_key(csr_der))


def issue(
    ca_pem: bytes,
    ca_key: ec.EllipticCurvePrivateKey,
    csr_der: bytes,
    *,
    uri: str,
    serial: int | None = None,
    not_before_ms: int,
    not_after_ms: int,
) -> bytes:
    """Return a client certificate (PEM) for the CSR's key under the name `uri`; names in the CSR are ignored."""
    return _leaf(
        ca_pem,
        ca_key,
        _csr_key(csr_der),
        name=x509.UniformResourceIdentifier(uri),
        common_name=uri.rpartition("/")[2],
        usage=ExtendedKeyUsageOID.CLIENT_AUTH,
        serial=serial,
        not_before_ms=not_before_ms,
        not_after_ms=not_after_ms,
    )


def issue_server(
    ca_pem: bytes,
    ca_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    *,
    not_before_ms: int,
    not_after_ms: int,
) -> bytes:
    """Return a server's certificate (PEM): every server presents `names.SERVER_NAME`, whatever address was dialled."""
    return _leaf(
        ca_pem,
        ca_key,
        key.public_key(),
        name=x509.DNSName(SERVER_NAME),
        common_name=SERVER_NAME,
        usage=ExtendedKeyUsageOID.SERVER_AUTH,
        serial=None,
        not_before_ms=not_before_ms,
        not_after_ms=not_after_ms,
    )


def relay_certificate(key: ec.EllipticCurvePrivateKey, *, not_before_ms: int, not_after_ms: int) -> bytes:
    """Return a certificate (PEM) for `names.RELAY_NAME`, signed by a key that is thrown away: it encrypts, no more."""
    nobody = new_key()
    return _leaf(
        new_ca(nobody, now_ms=not_before_ms),
        nobody,
        key.public_key(),
        name=x509.DNSName(RELAY_NAME),
        common_name=RELAY_NAME,
        usage=ExtendedKeyUsageOID.SERVER_AUTH,
        serial=None,
        not_before_ms=not_before_ms,
        not_after_ms=not_after_ms,
    )


def _leaf(
    ca_pem: bytes,
    ca_key: ec.EllipticCurvePrivateKey,
    public: ec.EllipticCurvePublicKey,
    *,
    name: x509.GeneralName,
    common_name: str,
    usage: x509.ObjectIdentifier,
    serial: int | None,
    not_before_ms: int,
    not_after_ms: int,
) -> bytes:
    ca = _certificate(ca_pem)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(ca.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number() if serial is None else serial)
        .not_valid_before(_time(not_before_ms))
        .not_valid_after(_time(not_after_ms))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    return builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


# --- reading ----------------------------------------------------------------------------------------------------------


def _certificate(data: bytes) -> x509.Certificate:
    """Return the first certificate in PEM (other blocks do not matter) or DER; Refusal `garbled` otherwise."""
    if len(data) > MAX_CERTIFICATE_BYTES:
        raise Refusal("cannot read the certificate: it is too long", code="endless-data")
    try:
        if b"-----BEGIN " in data:
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(data)
    except ValueError as error:
        raise Refusal("cannot read the certificate: it is garbled", code="garbled") from error


def _p256(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    try:
        public = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Refusal("cannot accept the certificate: its key is unusable", code="garbled") from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise Refusal("cannot accept the certificate: its key is not ECDSA P-256", code="wrong-key")
    return public


def _key_sha256(public: ec.EllipticCurvePublicKey) -> bytes:
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).digest()


def _role(certificate: x509.Certificate) -> tuple[Role, str]:
    """Return the one role that a leaf claims; Refusal `wrong-role` where it claims none, several, or to be a CA."""
    try:
        extensions = certificate.extensions
        constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
        usages = list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise Refusal("cannot accept the certificate: it names no role", code="wrong-role") from error
    if not constraints.ca and len(names) == 1 and len(usages) == 1:
        name, usage = names[0], usages[0]
        if isinstance(name, x509.DNSName) and name.value == SERVER_NAME and usage == ExtendedKeyUsageOID.SERVER_AUTH:
            return "server", name.value
        if isinstance(name, x509.UniformResourceIdentifier) and usage == ExtendedKeyUsageOID.CLIENT_AUTH:
            roles: tuple[tuple[Role, str], ...] = (("host", HOST_URI), ("operator", OPERATOR_URI))
            for role, prefix in roles:
                rest = name.value.removeprefix(prefix)
                if rest != name.value and rest and "/" not in rest:
                    return role, rest
    raise Refusal("cannot accept the certificate: it is none of a host, an operator or a server", code="wrong-role")


def identity(cert_pem: bytes) -> Identity:
    """Return whom the certificate names. It must have been checked against the CA: by TLS, or by `check_issued`."""
    certificate = _certificate(cert_pem)
    role, name = _role(certificate)
    return Identity(
        role=role,
        name=name,
        serial=certificate.serial_number,
        not_before_ms=int(certificate.not_valid_before_utc.timestamp()) * 1000,
        not_after_ms=int(certificate.not_valid_after_utc.timestamp()) * 1000,
        key_sha256=_key_sha256(_p256(certificate)),
    )


def not_after_ms(cert_pem: bytes) -> int:
    """Return when any certificate lapses, the CA's too."""
    return int(_certificate(cert_pem).not_valid_after_utc.timestamp()) * 1000


def public_key_sha256(cert_pem: bytes) -> bytes:
    """Return the SHA-256 of the certificate's SubjectPublicKeyInfo (DER)."""
    return _key_sha256(_p256(_certificate(cert_pem)))


def check_issued(cert_pem: bytes, ca_pem: bytes) -> None:
    """Return where that CA signed the certificate; Refusal `wrong-ca` otherwise. Validity in time is not looked at."""
    _check_signed(_certificate(cert_pem), _p256(_certificate(ca_pem)))


def _check_signed(certificate: x509.Certificate, ca_public: ec.EllipticCurvePublicKey) -> None:
    refusal = Refusal("cannot accept the certificate: another CA signed it", code="wrong-ca")
    if not isinstance(certificate.signature_hash_algorithm, hashes.SHA256):
        raise refusal
    try:
        ca_public.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise refusal from error


# --- the pin of a token -----------------------------------------------------------------------------------------------


def ca_public_point(ca_pem: bytes) -> bytes:
    """Return the CA's public key as a compressed point (33 bytes): the pin that a token carries."""
    public = _p256(_certificate(ca_pem))
    return public.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)


def check_pinned(leaf: bytes, ca_point: bytes) -> None:
    """Return where `leaf` (PEM or DER) is a server's certificate signed by the pinned CA key; Refusal otherwise.

    Used once, at enrolment, when a host knows the CA's key but not yet its certificate: take the leaf off an unverified
    TLS handshake, check it here, then dial again with that very leaf as `root_certificates`. Seen with grpcio 1.85.1:
    its BoringSSL accepts a leaf as a root (partial chain), whether or not the server sends the CA too; it still proves
    possession of the leaf's key, compares the name, and refuses an expired leaf and another leaf of the same CA. So the
    caller need not look at validity here, and nothing reaches a server that did not hold the key of the checked leaf.
    """
    try:
        pinned = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), ca_point)
    except ValueError as error:
        raise InputError("cannot use the token: the CA key in it is no P-256 point", code="bad-token") from error
    certificate = _certificate(leaf)
    _check_signed(certificate, pinned)
    _p256(certificate)
    role, _ = _role(certificate)
    if role != "server":
        raise Refusal("cannot enrol: the other side shows a certificate that is no server's", code="wrong-role")


def check_ca(ca_pem: bytes, ca_point: bytes) -> None:
    """Return where the CA certificate holds the pinned key; Refusal `wrong-ca` otherwise."""
    if ca_public_point(ca_pem) != ca_point:
        raise Refusal("cannot enrol: the server's CA is not the one that the token pins", code="wrong-ca")


# --- proof of possession for an expired certificate -------------------------------------------------------------------


def recover_message(at_unix_ms: int, csr_der: bytes) -> bytes:
    """Return what the old key signs to recover a lapsed certificate: a prefix, the time (8 bytes, big end), the CSR."""
    return b"towpath-recover\0" + at_unix_ms.to_bytes(8, "big", signed=True) + csr_der


def sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Return the ECDSA P-256 SHA-256 signature (DER) of `message`."""
    return key.sign(message, ec.ECDSA(hashes.SHA256()))


def check_signature(cert_pem: bytes, message: bytes, signature: bytes) -> None:
    """Return where the certificate's key signed `message`; Refusal `bad-signature` otherwise."""
    try:
        _p256(_certificate(cert_pem)).verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise Refusal(
            "cannot accept the request: its signature is not of the certificate's key", code="bad-signature"
        ) from error
