"""Between what is signed or sent (`towpath.v1` messages) and the dataclasses that decisions are made on.

`decode_*` takes bytes that were verified or capped by the caller and raises Refusal for garbled ones; `encode_*` is
deterministic. Nothing that was signed is ever encoded again: keep the bytes.
"""

from towpath.wire.codec import (
    MAX_RELEASE_BYTES,
    decode_envelope,
    decode_index,
    decode_manifest,
    decode_release,
    encode_envelope,
    encode_index,
    encode_manifest,
    encode_release,
    from_value,
    iter_index,
    to_value,
)

__all__ = [
    "MAX_RELEASE_BYTES",
    "decode_envelope",
    "decode_index",
    "decode_manifest",
    "decode_release",
    "encode_envelope",
    "encode_index",
    "encode_manifest",
    "encode_release",
    "from_value",
    "iter_index",
    "to_value",
]
