"""The folder of an enrolled host, as enrolment leaves it, without any server: nothing listens at its addresses."""

from pathlib import Path

from fakes.authority import Authority
from towpath_agent import identity
from towpath_agent.identity import HostRecord
from towpath_agent.system.files import Files

RECORD = HostRecord(
    host_id="id-1",
    name="h1",
    environment="dev",
    agent_address="127.0.0.1:1",
    enroll_address="127.0.0.1:1",
    key_sha256="",
    not_before_unix_ms=0,
    not_after_unix_ms=0,
    identity_sha256="",
)


def enrolled_folder(path: Path, record: HostRecord = RECORD) -> Path:
    """Make the folder of a host with a certificate of a CA of its own; return it."""
    authority = Authority()
    Files().make_dirs(path)
    Files().write_atomic(path / identity.CA, authority.ca_pem)
    identity.save(path, Files(), record, authority.identity("id-1"))
    return path
