"""The machine under the agent: its folder and filesystem, space, clock, certificate, programs."""

import hashlib
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from towpath.errors import TowpathError
from towpath.quantity import format_duration, format_size
from towpath_agent import identity
from towpath_agent.doctor.findings import Finding, fail, ok, warn
from towpath_agent.identity import HostRecord
from towpath_agent.runner.floors import Floors
from towpath_agent.system import host
from towpath_agent.system.files import Files, temporary
from towpath_agent.system.local_socket import user_name

# Below this no release is begun; see runner.staging.
LEAST_FREE_BYTES = 32 * 2**20
LOW_FREE_BYTES = 512 * 2**20
LOW_FREE_FILES = 1_000
# Renames, fsync or locks are not what the agent relies on, or all is lost with the next start.
_DOUBTFUL = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "vboxsf", "fuse.sshfs", "vfat", "exfat", "tmpfs", "ramfs"})
_FOLDERS = ("store", "staging", "apps", "trust")
# A clock this far behind what was seen before is wrong, not just slow.
CLOCK_BEHIND_MS = 300_000
# Programs that kinds of installers and services call.
PROGRAMS = {
    "systemd": ("systemctl",),
    "deb": ("dpkg", "dpkg-deb", "dpkg-query"),
    "rpm": ("rpm",),
    "oci": ("podman",),
}


def folder(path: Path, files: Files) -> Iterator[Finding]:
    """Look at owner, modes, filesystem and whether it can be written."""
    facts = files.stat(path)
    mode, me = stat.S_IMODE(facts.st_mode), host.who_am_i()
    if facts.st_uid != me:
        owner, said = user_name(facts.st_uid), user_name(me)
        yield warn("folder", f"{path} belongs to {owner}, you are {said}: run the agent and this command as {owner}")
    if mode & 0o067:
        yield fail("folder", f"others may look into {path} (mode {mode:03o})", f"chmod 700 {path}")
    else:
        yield ok("folder", f"{path}, mode {mode:03o}")
    for name in (identity.IDENTITY, identity.HOST):
        if files.exists(path / name) and stat.S_IMODE(files.stat(path / name).st_mode) & 0o077:
            yield fail("folder", f"others may read {path / name}", f"chmod 600 {path / name}")
    devices = {files.device(path / name) for name in _FOLDERS} | {files.device(path)}
    if len(devices) > 1:
        yield fail(
            "filesystem",
            f"{', '.join(_FOLDERS)} below {path} lie on {len(devices)} filesystems: renames between them are not "
            "atomic; put all on one",
        )
    kind = host.filesystem_of(path)
    if kind in _DOUBTFUL:
        yield warn("filesystem", f"{path} lies on {kind}: the agent needs a local disk that survives a restart")
    elif len(devices) == 1:
        yield ok("filesystem", f"one, {kind or 'of an unknown type'}")
    try:
        trial = temporary(path / "doctor")
        files.write_atomic(trial, b"")
        files.remove(trial)
    except TowpathError as error:
        yield fail("filesystem", f"it cannot be written: {error}")


def disk(path: Path) -> Finding:
    """Look at free bytes and free files."""
    space = host.space_at(path)
    text = f"{format_size(space.free_bytes)} of {format_size(space.total_bytes)} are free at {path}"
    if space.free_bytes < LEAST_FREE_BYTES:
        return fail("disk", f"{text}: no release can be staged; free some space", f"du -xh --max-depth=3 {path}")
    if space.files is not None and space.files < LOW_FREE_FILES:
        return fail("disk", f"only {space.files} more files can be made at {path}; remove some", f"df -i {path}")
    if space.free_bytes < LOW_FREE_BYTES:
        return warn("disk", text, f"du -xh --max-depth=3 {path}")
    return ok("disk", text)


def clock(record: HostRecord, floors: Floors, now_unix_ms: int) -> Finding:
    """Hold the clock against what this host has seen: signed times, and its certificate's begin."""
    seen = max(floors.time_unix_ms, record.not_before_unix_ms)
    behind = seen - now_unix_ms
    if behind > CLOCK_BEHIND_MS:
        return fail(
            "clock",
            f"it is {format_duration(behind)} behind a time that this host has seen signed: TLS fails; set it",
            "timedatectl status",
        )
    return ok("clock", "not behind any signed time that this host has seen")


def certificate(path: Path, files: Files, record: HostRecord, now_unix_ms: int) -> Finding:
    """Look whether the certificate is there, fits host.json, and for how long it is good."""
    pem = files.read(path / identity.IDENTITY, identity.MAX_FILE_BYTES)
    if hashlib.sha256(pem).hexdigest() != record.identity_sha256:
        try:
            record = identity.with_certificate(record, pem)
        except TowpathError as error:
            return fail("certificate", f"{path / identity.IDENTITY} is damaged: {error}; restore it, or enrol again")
    left = record.not_after_unix_ms - now_unix_ms
    if left <= 0:
        return fail(
            "certificate",
            f"it expired {format_duration(-left)} ago; a running agent recovers it on {record.enroll_address} within "
            "30d, after that enrol again",
            "towpath-agent run",
        )
    if now_unix_ms > identity.renew_at_unix_ms(record) + 3_600_000:
        return warn("certificate", f"good for {format_duration(left)}, but its renewal is overdue", "towpath-agent run")
    return ok("certificate", f"good for {format_duration(left)}")


def programs(known: Collection[str], used: Collection[str]) -> Iterator[Finding]:
    """Look for the programs that kinds call: `known` to this agent, `used` by apps of this host."""
    for kind in sorted(set(known) & set(PROGRAMS)):
        missing = [name for name in PROGRAMS[kind] if not host.has_program(name)]
        if not missing:
            yield ok("programs", f"kind {kind}: {', '.join(PROGRAMS[kind])}")
        elif kind in used:
            yield fail("programs", f"kind {kind} is used here and needs {', '.join(missing)}: install it")
        else:
            yield ok("programs", f"kind {kind} cannot be used here (no {', '.join(missing)}), and is not")
