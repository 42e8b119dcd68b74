"""DSSE envelopes: what was signed, by enough distinct trusted keys, and nothing else."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from towpath import dsse
from towpath.errors import Refusal

ONE, TWO, STRANGER = (Ed25519PrivateKey.generate() for _ in range(3))


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def signed(*signers: tuple[str, Callable[[bytes], bytes]], payload_type: str = dsse.MANIFEST_TYPE) -> dsse.Envelope:
    return dsse.sign(b"payload", payload_type, signers)


BOTH = dsse.Keys({"1": raw(ONE), "2": raw(TWO)}, 2)
EITHER = dsse.Keys({"1": raw(ONE), "2": raw(TWO)}, 1)


def code(envelope: dsse.Envelope, keys: dsse.Keys) -> str:
    with pytest.raises(Refusal) as caught:
        dsse.verify(envelope, dsse.MANIFEST_TYPE, keys)
    return caught.value.code


def test_the_encoding_is_the_published_one() -> None:
    """The example of the DSSE protocol gives the bytes that the protocol says."""
    example = dsse.pae("http://example.com/HelloWorld", b"hello world")
    assert example == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@pytest.mark.parametrize("keys", [EITHER, BOTH])
def test_enough_signatures_give_the_payload(keys: dsse.Keys) -> None:
    """Signatures of the threshold's number of keys give the payload, exactly as signed."""
    envelope = signed(("1", ONE.sign), ("2", TWO.sign))
    assert dsse.verify(envelope, dsse.MANIFEST_TYPE, keys) == b"payload"


def test_strangers_beside_good_signatures_do_not_matter() -> None:
    """A signature by an unknown key, or a bad one, is passed over where enough others are good."""
    envelope = signed(("x", STRANGER.sign), ("2", STRANGER.sign), ("1", ONE.sign))
    assert dsse.verify(envelope, dsse.MANIFEST_TYPE, EITHER) == b"payload"


@pytest.mark.parametrize(
    ("envelope", "keys"),
    [
        (signed(), EITHER),
        (signed(("1", STRANGER.sign)), EITHER),
        (signed(("x", ONE.sign)), EITHER),
        (signed(("1", ONE.sign)), BOTH),
        (signed(("1", ONE.sign), ("1", ONE.sign)), BOTH),
        (signed(("1", ONE.sign)), dsse.Keys({"1": raw(ONE)}, 0)),
        (signed(), dsse.Keys({}, 0)),
    ],
)
def test_too_few_signatures_are_refused(envelope: dsse.Envelope, keys: dsse.Keys) -> None:
    """None, a forged one, an unknown key id, one of two, one twice, a threshold of zero: no manifest."""
    assert code(envelope, keys) == "arbitrary-manifest"


def test_one_key_under_two_ids_counts_once() -> None:
    """A key that is listed under two ids cannot meet a threshold of two alone."""
    keys = dsse.Keys({"1": raw(ONE), "2": raw(ONE)}, 2)
    assert code(signed(("1", ONE.sign), ("2", ONE.sign)), keys) == "arbitrary-manifest"


def test_altered_payloads_and_types_are_refused() -> None:
    """Payload and type are both under the signature."""
    good = signed(("1", ONE.sign))
    assert code(dsse.Envelope(b"other", good.payload_type, good.signatures), EITHER) == "arbitrary-manifest"
    other = signed(("1", ONE.sign), payload_type="application/json")
    assert code(other, EITHER) == "wrong-type"
    assert code(dsse.Envelope(other.payload, dsse.MANIFEST_TYPE, other.signatures), EITHER) == "arbitrary-manifest"


def test_signatures_without_end_are_refused() -> None:
    """More signatures than any fleet has keys are not even checked."""
    assert code(signed(*[("1", ONE.sign)] * (dsse.MAX_SIGNATURES + 1)), EITHER) == "endless-data"
