"""Durable floors of trust: what this host will never go below again. They outlive a lost journal.

One small JSON file, replaced atomically and fsynced before anything is done that relies on it. Floors of releases rise
only on confirm, so that going back stays possible.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from towpath.dsse import Keys
from towpath.errors import Broken
from towpath.manifest import ManifestFloor
from towpath_agent.system.files import Files

MAX_FLOORS_BYTES = 1 * 2**20
DAMAGED = "floors-damaged"


@dataclass(frozen=True, slots=True)
class Floors:
    """Versions by TUF role, sequence of manifests, rollback floors by app, latest time, and the director's keys."""

    manifest: ManifestFloor = field(default_factory=ManifestFloor)
    roles: dict[str, int] = field(default_factory=dict)
    releases: dict[str, int] = field(default_factory=dict)
    director: Keys = field(default_factory=lambda: Keys({}, 0))
    time_unix_ms: int = 0


def read_floors(path: Path, files: Files) -> Floors:
    """Return the floors in the file, new ones where it is missing; Broken `floors-damaged` where it is garbled."""
    if not files.exists(path):
        return Floors()
    damaged = Broken(f"cannot use {path}: it is damaged; the agent sets it aside at its next start", code=DAMAGED)
    try:
        raw = json.loads(files.read(path, MAX_FLOORS_BYTES))
        manifest = raw["manifest"]
        return Floors(
            manifest=ManifestFloor(
                int(manifest["sequence"]),
                bytes.fromhex(manifest["payload_sha256"]),
                frozenset(manifest["director_keys"]),
            ),
            roles={str(k): int(v) for k, v in raw["roles"].items()},
            releases={str(k): int(v) for k, v in raw["releases"].items()},
            director=Keys({k: bytes.fromhex(v) for k, v in raw["director"].items()}, int(raw["threshold"])),
            time_unix_ms=int(raw["time_unix_ms"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise damaged from error
    except Broken as error:
        raise damaged if error.code == "too-large" else error from error


class FloorsFile:
    """Loads and replaces the floors of one host."""

    def __init__(self, path: Path, files: Files) -> None:
        """Read the file; an unreadable one is set aside and said so by `damaged`."""
        self._path, self._files = path, files
        self.damaged = False
        self.floors = self._load()

    def _load(self) -> Floors:
        try:
            return read_floors(self._path, self._files)
        except Broken as error:
            if error.code != DAMAGED:  # it cannot be read now; that says nothing about what is in it
                raise
            return self._set_aside()

    def _set_aside(self) -> Floors:
        self._files.rename(self._path, self._path.with_suffix(".damaged"))
        self.damaged = True
        return Floors()

    def save(self, floors: Floors) -> None:
        """Make `floors` durable; returns only when they are."""
        manifest = floors.manifest
        raw = {
            "manifest": {
                "sequence": manifest.sequence,
                "payload_sha256": manifest.payload_sha256.hex(),
                "director_keys": sorted(manifest.director_keys),
            },
            "roles": floors.roles,
            "releases": floors.releases,
            "director": {k: v.hex() for k, v in floors.director.keys.items()},
            "threshold": floors.director.threshold,
            "time_unix_ms": floors.time_unix_ms,
        }
        self._files.write_atomic(self._path, json.dumps(raw, sort_keys=True).encode())
        self.floors = floors

    def raise_release(self, app: str, floor: int) -> None:
        """Raise the rollback floor of `app` on confirm of a release; it never sinks."""
        if floor > self.floors.releases.get(app, 0):
            self.save(replace(self.floors, releases={**self.floors.releases, app: floor}))
