"""A host's reports as a file: one signature, or refused by name."""

import pytest

from towpath import dsse, pki
from towpath.errors import Refusal
from towpath.reports import AppState, Event
from towpath.v1 import operator_pb2, types_pb2
from towpath.wire import reportfile
from towpath.wire.reportfile import (
    HEAD_BYTES,
    MAGIC,
    HostReports,
    decode_reports,
    encode_report_file,
    open_report_file,
)

REPORTS = HostReports("host-1", 5, (Event("e1", 7, "note", reason="it ran"),), (AppState("hello", "1"),), 12)
KEY = pki.new_key()


def made() -> bytes:
    return encode_report_file(REPORTS, "ab" * 32, lambda message: pki.sign(KEY, message))


def code_of(data: bytes) -> str:
    with pytest.raises(Refusal) as caught:
        open_report_file(data)
    return caught.value.code


def test_what_was_written_is_read() -> None:
    """Events, states and revision come back as they were, under one signature of the host's key."""
    envelope = open_report_file(made())
    assert envelope.signatures[0].keyid == "ab" * 32
    message = dsse.pae(reportfile.TYPE, envelope.payload)
    KEY.public_key().verify(envelope.signatures[0].sig, message, pki.ec.ECDSA(pki.hashes.SHA256()))
    assert decode_reports(envelope.payload) == REPORTS


def test_a_file_cut_off_at_any_byte_is_refused() -> None:
    """Truncated, or no such file at all where not even its beginning is there."""
    data = made()
    for size in range(len(data)):
        assert code_of(data[:size]) == ("garbled" if size < len(MAGIC) else "truncated"), size


def test_other_files_are_refused() -> None:
    """Another kind, too long, with something behind it, garbled inside, of another type, with two signatures."""
    data = made()
    assert code_of(b"x" * 100) == "garbled"
    assert code_of(bytes(reportfile.MAX_REPORT_BYTES + 1)) == "endless-data"
    assert code_of(data + b"x") == "garbled"
    assert code_of(MAGIC + (4).to_bytes(8, "big") + b"\xff\xff\xff\xff") == "garbled"
    envelope = types_pb2.Envelope()
    envelope.ParseFromString(data[HEAD_BYTES:])
    for change in ("type", "twice"):
        other = types_pb2.Envelope()
        other.CopyFrom(envelope)
        if change == "type":
            other.payload_type = dsse.MANIFEST_TYPE
        else:
            other.signatures.append(other.signatures[0])
        raw = other.SerializeToString()
        assert code_of(MAGIC + len(raw).to_bytes(8, "big") + raw) == "garbled", change


def test_what_is_signed_has_limits_too() -> None:
    """A host whose key was stolen can send no more than a journal keeps, and nothing garbled."""
    with pytest.raises(Refusal, match="garbled"):
        decode_reports(b"\xff\xff")
    many = operator_pb2.HostReports(events=[types_pb2.ReportEvent(id="e")] * (reportfile.MAX_EVENTS + 1))
    with pytest.raises(Refusal) as caught:
        decode_reports(many.SerializeToString())
    assert caught.value.code == "endless-data"
