"""What a host reports, as a file: the way back from where no line reaches.

    "TOWPATH-REPORTS-1" · newline · length (8 bytes, big end) · a serialized Envelope

Its payload is a HostReports, signed by the key of the host's certificate (ECDSA P-256). `keyid` is the key's
fingerprint: a hint where to look for the host. Verify, then parse.
"""

from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from towpath import dsse
from towpath.dsse import Envelope, Signature
from towpath.errors import Refusal
from towpath.reports import AppState, Event
from towpath.v1 import operator_pb2 as pb
from towpath.v1 import types_pb2
from towpath.wire.reports import from_app_state, from_event, to_app_state, to_event

TYPE = "application/vnd.towpath.reports.v1+protobuf"
MAGIC = b"TOWPATH-REPORTS-1\n"
HEAD_BYTES = len(MAGIC) + 8
# Every event that a journal keeps, each as long as one may be.
MAX_REPORT_BYTES = 64 * 2**20
MAX_EVENTS = 5_000


@dataclass(frozen=True, slots=True)
class HostReports:
    """What is in such a file; `made_unix_ms` by the host's clock."""

    host_id: str
    made_unix_ms: int
    events: tuple[Event, ...]
    apps: tuple[AppState, ...]
    state_revision: int


def encode_report_file(reports: HostReports, keyid: str, sign: Callable[[bytes], bytes]) -> bytes:
    """Return the bytes of the file; `sign` is the host's key."""
    payload = pb.HostReports(
        host_id=reports.host_id,
        made_unix_ms=reports.made_unix_ms,
        events=[to_event(event) for event in reports.events],
        apps=[to_app_state(state) for state in reports.apps],
        state_revision=reports.state_revision,
    ).SerializeToString(deterministic=True)
    signature = types_pb2.Signature(keyid=keyid, sig=sign(dsse.pae(TYPE, payload)))
    envelope = types_pb2.Envelope(payload=payload, payload_type=TYPE, signatures=[signature]).SerializeToString()
    return MAGIC + len(envelope).to_bytes(8, "big") + envelope


def open_report_file(data: bytes) -> Envelope:
    """Return the envelope in a file, unverified: one signature by one key. Refusal where it is none or cut off."""
    if len(data) > MAX_REPORT_BYTES:
        raise Refusal(f"cannot read the reports: more than {MAX_REPORT_BYTES} bytes", code="endless-data")
    if not data.startswith(MAGIC):
        raise Refusal("cannot read the reports: this is no file of a host's reports", code="garbled")
    size, envelope = int.from_bytes(data[len(MAGIC) : HEAD_BYTES], "big"), data[HEAD_BYTES:]
    if len(data) < HEAD_BYTES or len(envelope) < size:
        raise Refusal("cannot read the reports: the file is cut off; copy it again", code="truncated")
    message = types_pb2.Envelope()
    try:
        message.ParseFromString(envelope)
    except DecodeError as error:
        raise Refusal("cannot read the reports: the file is garbled; copy it again", code="garbled") from error
    if len(envelope) != size or message.payload_type != TYPE or len(message.signatures) != 1:
        raise Refusal("cannot read the reports: the file is garbled; copy it again", code="garbled")
    one = message.signatures[0]
    return Envelope(message.payload, message.payload_type, (Signature(one.keyid, one.sig),))


def decode_reports(payload: bytes) -> HostReports:
    """Return what a verified file says; Refusal where it is garbled or more than a host can have to say."""
    message = pb.HostReports()
    try:
        message.ParseFromString(payload)
    except DecodeError as error:
        raise Refusal("cannot read the reports: they are garbled", code="garbled") from error
    if len(message.events) > MAX_EVENTS:
        raise Refusal(f"cannot take a report of {len(message.events)} events", code="endless-data")
    return HostReports(
        message.host_id,
        message.made_unix_ms,
        tuple(from_event(event) for event in message.events),
        tuple(from_app_state(state) for state in message.apps),
        message.state_revision,
    )
