"""Runs every check that can be made, in the order in which one rests on the other."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from towpath.errors import TowpathError
from towpath.settings import Setting
from towpath_agent import identity
from towpath_agent.doctor import host, network, rates, sources, state
from towpath_agent.doctor.findings import Finding, fail, ok
from towpath_agent.identity import HostRecord
from towpath_agent.installers import INSTALLERS
from towpath_agent.journal import Journal, open_readonly
from towpath_agent.runner.floors import Floors, read_floors
from towpath_agent.runner.recovery import JOURNAL
from towpath_agent.services import SERVICES
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files


def examine(folder: Path, files: Files, clock: Clock, settings: Mapping[str, Setting]) -> list[Finding]:
    """Return everything that there is to say about the host whose agent's folder is `folder`, with its `settings`."""
    findings: list[Finding] = []

    def look(check: str, find: Callable[[], Finding | Iterable[Finding]]) -> None:
        """Add what was found; a check that cannot be made is a finding too."""
        try:
            found = find()
            findings.extend([found] if isinstance(found, Finding) else found)
        except (TowpathError, OSError) as error:
            findings.append(fail(check, " ".join(str(error).split())))

    record: list[HostRecord] = []
    look("host", lambda: _host(folder, files, record))
    if not record:
        return findings
    look("folder", lambda: host.folder(folder, files))
    look("disk", lambda: host.disk(folder))
    now = clock.now_unix_ms()
    look("clock", lambda: host.clock(record[0], _floors(folder, files), now))
    look("certificate", lambda: host.certificate(folder, files, record[0], now))
    look("agent", lambda: state.agent(folder, files))
    look("launch", lambda: state.launch(folder, files))
    look("journal", lambda: state.journal(folder, files))
    kinds: set[str] = set()
    if files.exists(folder / JOURNAL):
        look("journal", lambda: _journal(folder, files, now, kinds))
    look("programs", lambda: host.programs({*INSTALLERS, *SERVICES}, kinds))
    look("rate", lambda: rates.rates(settings, now))
    look("server", lambda: _server(folder, files, record[0]))
    look("relay", lambda: sources.relay(settings, _ca(folder, files), folder / identity.IDENTITY))
    look("direct", lambda: sources.origins(settings))
    return findings


def _host(folder: Path, files: Files, record: list[HostRecord]) -> Finding:
    found = identity.read_record(folder, files)
    record.append(found)
    return ok("host", f"{found.name} in {found.environment}")


def _floors(folder: Path, files: Files) -> Floors:
    return read_floors(folder / "trust" / "floors.json", files)


def _journal(folder: Path, files: Files, now_unix_ms: int, kinds: set[str]) -> list[Finding]:
    kept: Journal = open_readonly(folder / JOURNAL)
    try:
        kinds |= state.used_kinds(kept)
        return [
            *state.links(folder, files, kept),
            state.staging(folder, files, kept),
            *state.holds(kept, now_unix_ms),
            *state.apps(kept),
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []  # what is garbled in it was said by the check before
    finally:
        kept.close()


def _server(folder: Path, files: Files, record: HostRecord) -> list[Finding]:
    ca_pem = _ca(folder, files)
    return [
        *network.proxies(record.agent_address, os.environ),
        network.server(record.agent_address, ca_pem, "agents'", folder / identity.IDENTITY),
        network.server(record.enroll_address, ca_pem, "enrolment", None),
    ]


def _ca(folder: Path, files: Files) -> bytes:
    return files.read(folder / identity.CA, identity.MAX_FILE_BYTES)
