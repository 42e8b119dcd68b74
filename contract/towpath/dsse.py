"""DSSE v1 envelopes with Ed25519: what is signed is PAE(type, payload), never a re-serialization.

Source: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md. `keyid` is only a hint; a signature counts
once for the key that verifies it. Keys come from verified TUF metadata (the `director` delegation) and nowhere else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from towpath.errors import Refusal

MANIFEST_TYPE = "application/vnd.towpath.manifest.v1+protobuf"
MAX_ENVELOPE_BYTES = 4 * 2**20
MAX_SIGNATURES = 16


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature over the PAE, and a hint which key made it."""

    keyid: str
    sig: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """Payload bytes exactly as signed, with their type and signatures."""

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a role: key id to raw Ed25519 public key (32 bytes), and how many must agree."""

    keys: Mapping[str, bytes]
    threshold: int


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, payload_type: str, signers: Sequence[tuple[str, Callable[[bytes], bytes]]]) -> Envelope:
    """Return the envelope of `payload` signed by each (key id, sign function)."""
    message = pae(payload_type, payload)
    return Envelope(payload, payload_type, tuple(Signature(keyid, make(message)) for keyid, make in signers))


def verify(envelope: Envelope, payload_type: str, trusted: Keys) -> bytes:
    """Return the payload where `threshold` distinct trusted keys signed it; Refusal otherwise."""
    if envelope.payload_type != payload_type:
        raise Refusal(f"cannot accept an envelope of type {envelope.payload_type[:80]!r}", code="wrong-type")
    if len(envelope.signatures) > MAX_SIGNATURES:
        raise Refusal("cannot accept an envelope with that many signatures", code="endless-data")
    message = pae(envelope.payload_type, envelope.payload)
    good: set[bytes] = set()
    for signature in envelope.signatures:
        public = trusted.keys.get(signature.keyid)
        if public is None or public in good:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature.sig, message)
        except InvalidSignature:
            continue
        good.add(public)
    if trusted.threshold < 1 or len(good) < trusted.threshold:
        raise Refusal(
            f"cannot accept the manifest: {len(good)} of {max(trusted.threshold, 1)} director signatures are good",
            code="arbitrary-manifest",
        )
    return envelope.payload
