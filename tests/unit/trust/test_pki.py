"""Certificates: each role is one kind of certificate, and everything else is refused by name."""

import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from towpath import pki
from towpath.errors import InputError, Refusal
from towpath.names import HOST_URI, OPERATOR_URI, SERVER_NAME

NOW = 1_800_000_000_000
DAY = pki.DAY_MS
CA_KEY = pki.new_key()
CA = pki.new_ca(CA_KEY, now_ms=NOW)
KEY = pki.new_key()


def issue(uri: str = HOST_URI + "h1", **fields: Any) -> bytes:
    arguments: dict[str, Any] = {"not_before_ms": NOW, "not_after_ms": NOW + 7 * DAY} | fields
    return pki.issue(CA, CA_KEY, pki.make_csr(KEY), uri=uri, **arguments)


def issue_server() -> bytes:
    return pki.issue_server(CA, CA_KEY, KEY, not_before_ms=NOW, not_after_ms=NOW + DAY)


def odd_leaf(*extensions: x509.ExtensionType, key: Any = None, digest: Any = None, signer: Any = None) -> bytes:
    """Return a leaf that our own functions would not make."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "odd")])
    start = datetime.datetime.fromtimestamp(NOW / 1000, datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key((key or KEY).public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=1))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    certificate = builder.sign(signer or CA_KEY, digest or hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM)


LEAF = x509.BasicConstraints(ca=False, path_length=None)
CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
SERVER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


def uris(*names: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name) for name in names])


def code(function: Any, *arguments: Any, **fields: Any) -> str:
    with pytest.raises(Refusal) as caught:
        function(*arguments, **fields)
    assert str(caught.value).startswith("cannot ")
    return caught.value.code


# Keys


@pytest.mark.parametrize("passphrase", [None, b"pass phrase"])
def test_keys_survive_pem(passphrase: bytes | None) -> None:
    """A key that is written and read again signs as before, protected or not."""
    pem = pki.key_to_pem(KEY, passphrase)
    assert pki.key_is_protected(pem) == (passphrase is not None)
    assert pki.key_from_pem(pem, passphrase).public_key() == KEY.public_key()
    signing = ed25519.Ed25519PrivateKey.generate()
    again = pki.signing_key_from_pem(pki.key_to_pem(signing, passphrase), passphrase)
    assert again.public_key() == signing.public_key()


def test_a_needless_passphrase_does_not_matter() -> None:
    """An unprotected key can be read whatever passphrase is given."""
    assert pki.key_from_pem(pki.key_to_pem(KEY), b"x").public_key() == KEY.public_key()


def test_a_key_beside_its_certificate_is_found() -> None:
    """Key and certificate in one file: each is found there, in either order."""
    certificate = issue()
    for pem in (pki.key_to_pem(KEY) + certificate, certificate + pki.key_to_pem(KEY)):
        assert pki.key_from_pem(pem).public_key() == KEY.public_key()
        assert pki.identity(pem).name == "h1"


@pytest.mark.parametrize(
    ("pem", "passphrase", "word"),
    [
        (pki.key_to_pem(KEY, b"right"), None, "passphrase"),
        (pki.key_to_pem(KEY, b"right"), b"wrong", "passphrase is wrong"),
        (b"nonsense", None, "damaged"),
        (pki.key_to_pem(KEY)[:100], None, "damaged"),
        (pki.key_to_pem(ed25519.Ed25519PrivateKey.generate()), None, "P-256"),
        (pki.key_to_pem(ec.generate_private_key(ec.SECP384R1())), None, "P-256"),
    ],
    ids=["locked", "wrong passphrase", "nonsense", "cut", "ed25519", "p-384"],
)
def test_unusable_keys_are_said_so(pem: bytes, passphrase: bytes | None, word: str) -> None:
    """A missing or wrong passphrase, damage and a wrong kind of key are each one clear line."""
    with pytest.raises(InputError, match=word):
        pki.key_from_pem(pem, passphrase)


def test_a_signing_key_is_ed25519() -> None:
    """TUF roles and directors sign with Ed25519 only."""
    with pytest.raises(InputError, match="Ed25519"):
        pki.signing_key_from_pem(pki.key_to_pem(KEY))


# Issuing and reading


@pytest.mark.parametrize(("prefix", "role"), [(HOST_URI, "host"), (OPERATOR_URI, "operator")])
def test_an_issued_certificate_names_its_holder(prefix: str, role: str) -> None:
    """Role, name, serial, validity and key of an issued certificate are read back as issued."""
    pem = issue(prefix + "ann", serial=7)
    found = pki.identity(pem)
    assert found == pki.Identity(role, "ann", 7, NOW, NOW + 7 * DAY, pki.csr_key_sha256(pki.make_csr(KEY)))  # type: ignore[arg-type]
    assert pki.public_key_sha256(pem) == found.key_sha256
    pki.check_issued(pem, CA)


def test_serials_are_random_unless_given() -> None:
    """Two certificates have two serials."""
    assert pki.identity(issue()).serial != pki.identity(issue()).serial


def test_a_server_certificate_names_the_server() -> None:
    """Every server presents the one server name."""
    found = pki.identity(issue_server())
    assert (found.role, found.name) == ("server", SERVER_NAME)


def test_names_in_a_request_are_ignored() -> None:
    """A CSR that asks for another host's name gets the name that was decided, and nothing else."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "victim")])
    )
    builder = builder.add_extension(uris(HOST_URI + "victim"), critical=False)
    csr = builder.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    pem = pki.issue(CA, CA_KEY, csr, uri=HOST_URI + "me", not_before_ms=NOW, not_after_ms=NOW + DAY)
    assert pki.identity(pem).name == "me"
    assert b"victim" not in x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


def _csr(key: Any) -> bytes:
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, digest).public_bytes(serialization.Encoding.DER)


def _forged_csr() -> bytes:
    csr = bytearray(pki.make_csr(KEY))
    csr[-1] ^= 1
    return bytes(csr)


@pytest.mark.parametrize(
    "csr",
    [
        b"",
        b"nonsense",
        b"x" * (pki.MAX_CSR_BYTES + 1),
        _forged_csr(),
        _csr(ec.generate_private_key(ec.SECP384R1())),
        _csr(ed25519.Ed25519PrivateKey.generate()),
        _csr(rsa.generate_private_key(65537, 2048)),
    ],
)
def test_a_bad_request_is_refused(csr: bytes) -> None:
    """Garbage, a request that its key did not sign, and keys that are not P-256 are `bad-csr`."""
    assert code(pki.csr_key_sha256, csr) == "bad-csr"
    assert code(pki.issue, CA, CA_KEY, csr, uri="x", not_before_ms=NOW, not_after_ms=NOW + 1) == "bad-csr"


def test_another_cas_certificate_is_refused() -> None:
    """Only our CA's signature counts, not its name."""
    other_key = pki.new_key()
    other = pki.new_ca(other_key, now_ms=NOW)
    assert code(pki.check_issued, issue(), other) == "wrong-ca"
    assert (
        code(pki.check_issued, odd_leaf(LEAF, CLIENT, uris(HOST_URI + "x"), digest=hashes.SHA512()), CA) == "wrong-ca"
    )
    edwards = ed25519.Ed25519PrivateKey.generate()
    leaf = odd_leaf(LEAF, signer=CA_KEY, key=edwards)
    pki.check_issued(leaf, CA)
    assert code(pki.check_issued, issue(), leaf) == "wrong-key"


@pytest.mark.parametrize(
    "pem",
    [
        CA,
        odd_leaf(),
        odd_leaf(LEAF, CLIENT),
        odd_leaf(LEAF, uris(HOST_URI + "x")),
        odd_leaf(LEAF, CLIENT, uris(HOST_URI)),
        odd_leaf(LEAF, CLIENT, uris(HOST_URI + "a/b")),
        odd_leaf(LEAF, CLIENT, uris("spiffe://elsewhere/host/x")),
        odd_leaf(LEAF, CLIENT, uris(HOST_URI + "x", OPERATOR_URI + "x")),
        odd_leaf(LEAF, SERVER, uris(HOST_URI + "x")),
        odd_leaf(LEAF, CLIENT, x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)])),
        odd_leaf(LEAF, SERVER, x509.SubjectAlternativeName([x509.DNSName("elsewhere")])),
        odd_leaf(
            LEAF,
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
            uris(HOST_URI + "x"),
        ),
        odd_leaf(x509.BasicConstraints(ca=True, path_length=None), CLIENT, uris(HOST_URI + "x")),
    ],
)
def test_a_certificate_of_no_clear_role_is_refused(pem: bytes) -> None:
    """No name, several, a foreign one, a wrong or a double usage, a CA: none of these is anybody."""
    assert code(pki.identity, pem) == "wrong-role"


@pytest.mark.parametrize("data", [b"", b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_garbled_certificates_are_refused(data: bytes) -> None:
    """Bytes that are no certificate are refused without a crash."""
    assert code(pki.identity, data) == "garbled"


def test_a_certificate_without_end_is_refused() -> None:
    """More bytes than any certificate has are not even parsed."""
    assert code(pki.identity, b"x" * (pki.MAX_CERTIFICATE_BYTES + 1)) == "endless-data"


def test_a_key_that_cannot_be_used_is_refused() -> None:
    """A leaf whose key is not P-256 is nobody, and one whose key makes no sense is refused too."""
    good = odd_leaf(LEAF, CLIENT, uris(HOST_URI + "x"), key=ec.generate_private_key(ec.SECP384R1()))
    assert code(pki.identity, good) == "wrong-key"
    der = bytearray(x509.load_pem_x509_certificate(issue()).public_bytes(serialization.Encoding.DER))
    point = KEY.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    at = bytes(der).index(point)
    der[at + 1 : at + 65] = b"\1" * 64  # not on the curve
    assert code(pki.identity, bytes(der)) == "garbled"


# The pin


def test_a_pinned_server_is_accepted() -> None:
    """A server's leaf that the pinned CA key signed is accepted, as PEM and as DER."""
    point = pki.ca_public_point(CA)
    assert len(point) == pki.POINT_BYTES
    leaf = issue_server()
    pki.check_pinned(leaf, point)
    pki.check_pinned(x509.load_pem_x509_certificate(leaf).public_bytes(serialization.Encoding.DER), point)
    pki.check_ca(CA, point)


def test_a_server_of_another_ca_is_refused() -> None:
    """The pin is a key: a CA of the same name with another key is refused, as leaf's issuer and as CA."""
    other = pki.new_ca(pki.new_key(), now_ms=NOW)
    assert code(pki.check_pinned, issue_server(), pki.ca_public_point(other)) == "wrong-ca"
    assert code(pki.check_ca, other, pki.ca_public_point(CA)) == "wrong-ca"


def test_a_host_cannot_pass_for_a_server() -> None:
    """A host's certificate of the right CA does not make its holder a server that others enrol with."""
    assert code(pki.check_pinned, issue(), pki.ca_public_point(CA)) == "wrong-role"
    assert code(pki.check_pinned, CA, pki.ca_public_point(CA)) == "wrong-role"


@pytest.mark.parametrize("point", [b"", b"\2" + b"\xff" * 32, b"\7" * 33])
def test_a_pin_that_is_no_point(point: bytes) -> None:
    """A token with nonsense for a pin is bad input."""
    with pytest.raises(InputError) as caught:
        pki.check_pinned(issue_server(), point)
    assert caught.value.code == "bad-token"


# Proof of possession


def test_only_the_old_key_recovers() -> None:
    """A recovery is signed by the expired certificate's key over time and request; anything else is refused."""
    pem, csr = issue(), pki.make_csr(pki.new_key())
    message = pki.recover_message(NOW, csr)
    assert message == b"towpath-recover\0" + NOW.to_bytes(8, "big") + csr
    signature = pki.sign(KEY, message)
    pki.check_signature(pem, message, signature)
    assert code(pki.check_signature, pem, pki.recover_message(NOW + 1, csr), signature) == "bad-signature"
    assert code(pki.check_signature, pem, message, pki.sign(CA_KEY, message)) == "bad-signature"
    assert code(pki.check_signature, pem, message, b"") == "bad-signature"
