"""How agent and verifying child talk: frames of a JSON header and blobs, every length capped before it is read.

    frame   = length of header (4 bytes, big end) · header · blobs
    header  = {"kind": ..., "fields": {...}, "blobs": [length, ...]}

The agent sends `verify`, then answers each `fetch` by `file`, `none` or `error`. The child ends with `admitted` and
`refused` for each app and one `result`, or with one `error`. Bytes travel as blobs, so that nothing is encoded twice.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from towpath.errors import Broken

MAX_HEADER_BYTES = 4 * 2**20
MAX_BLOB_BYTES = 8 * 2**20
MAX_BLOBS = 8


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    kind: str
    fields: dict[str, Any] = field(default_factory=dict)
    blobs: tuple[bytes, ...] = ()


def encode(frame: Frame) -> bytes:
    """Return the bytes of a frame."""
    lengths = [len(blob) for blob in frame.blobs]
    header = json.dumps(
        {"kind": frame.kind, "fields": frame.fields, "blobs": lengths}, ensure_ascii=False, separators=(",", ":")
    ).encode("utf-8", "surrogatepass")
    return b"".join((len(header).to_bytes(4, "big"), header, *frame.blobs))


def decode(receive: Callable[[int], bytes]) -> Frame:
    """Read one frame by `receive`, which returns exactly as many bytes as asked; Broken where a cap is passed."""
    size = int.from_bytes(receive(4), "big")
    if size > MAX_HEADER_BYTES:
        raise Broken(f"cannot read a frame: a header of {size} bytes, at most {MAX_HEADER_BYTES}")
    try:
        header = json.loads(receive(size).decode("utf-8", "surrogatepass"))
        kind, fields, lengths = str(header["kind"]), dict(header["fields"]), [int(n) for n in header["blobs"]]
    except (ValueError, KeyError, TypeError) as error:
        raise Broken("cannot read a frame: its header is garbled") from error
    if len(lengths) > MAX_BLOBS or any(not 0 <= length <= MAX_BLOB_BYTES for length in lengths):
        raise Broken(f"cannot read a frame: more than {MAX_BLOBS} blobs of {MAX_BLOB_BYTES} bytes")
    return Frame(kind, fields, tuple(receive(length) for length in lengths))
