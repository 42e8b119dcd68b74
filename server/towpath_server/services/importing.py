"""Reports that come back in a file: proven by the host's key, then committed as those that it sends itself.

A lapsed certificate does not count against it: a host that no line reaches cannot renew, and what proves who speaks is
the key that this server certified. A revoked host is refused. Importing a file twice, or an older one, is harmless:
events are known by their ids, and the newest state counts.
"""

from dataclasses import dataclass

from towpath import dsse, pki
from towpath.errors import Refusal
from towpath.reports import MAX_EVENTS_PER_REPORT
from towpath.wire.reportfile import TYPE, HostReports, decode_reports, open_report_file
from towpath_server.domain.model import Host, HostStatus
from towpath_server.services import syncing
from towpath_server.services.context import Context, acting, note

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file said: how many events, how many of them were new, and whether its state is news."""

    host: str
    events: int
    added: int
    state: bool
    made_unix_ms: int


def import_reports(context: Context, actor: str, data: bytes) -> Imported:
    """Commit the reports in a file; Refusal where it is cut off, forged or another fleet's. On the storage thread."""
    try:
        host, reports = _proven(context, data)
    except Refusal as error:
        note(context, actor, "reports.import", "reports", detail=f"{error.code}: {error}", outcome="refused")
        raise
    added, before = 0, host.state_revision
    for at in range(0, max(1, len(reports.events)), MAX_EVENTS_PER_REPORT):
        events = reports.events[at : at + MAX_EVENTS_PER_REPORT]
        added += syncing.take(context, host.id, events, reports.apps, reports.state_revision)
    with acting(context, actor, "reports.import", f"host/{host.name}") as act:
        after = act.tx.host(host.id)
        news = after is not None and after.state_revision > before
        act.detail = (
            f"by file: {len(reports.events)} events, {added} new; state {reports.state_revision} "
            f"{'taken' if news else 'known already'}"
        )
    return Imported(host.name, len(reports.events), added, news, reports.made_unix_ms)


def _proven(context: Context, data: bytes) -> tuple[Host, HostReports]:
    """Return who signed the file, and what it says."""
    envelope = open_report_file(data)
    signature = envelope.signatures[0]
    stranger = Refusal(
        "cannot import the reports: no host of this fleet has the key that signed them", code="unknown-host"
    )
    try:
        key_sha256 = bytes.fromhex(signature.keyid)
    except ValueError as error:
        raise stranger from error
    with context.storage.transaction() as tx:
        host = tx.host_with_key(key_sha256) if len(key_sha256) == _KEY_BYTES else None
    if host is None:
        raise stranger
    if host.status is not HostStatus.ACTIVE:
        raise Refusal(f"cannot import the reports: {host.name} was revoked", code="revoked")
    pki.check_signature(host.certificate_pem, dsse.pae(TYPE, envelope.payload), signature.sig)
    reports = decode_reports(envelope.payload)
    if reports.host_id != host.id:
        raise Refusal(f"cannot import the reports: {host.name} signed those of another host", code="wrong-host")
    return host, reports
