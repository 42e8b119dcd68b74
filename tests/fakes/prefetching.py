"""What tests of fetching ahead do with a simulated host, and how they look at it."""

import hashlib
import json
import os

import pytest

from fakes.host import SimulatedHost
from towpath.release import Release
from towpath.reports import Prefetch, PrefetchState
from towpath.wire import encode_release
from towpath_agent.system.files import Files

MIB = 2**20
# Drawn in the middle of five intervals of a minute, and a sync before it.
SOON_S = 300.0


def big(host: SimulatedHost, version: str = "2.0.0", size: int = 3 * MIB, app: str = "hello") -> Release:
    """Publish a release that takes many chunks."""
    return host.publish(version, app=app, content=os.urandom(size // 2).hex())


def digest(release: Release) -> bytes:
    return hashlib.sha256(encode_release(release)).digest()


def ahead(host: SimulatedHost, app: str = "hello") -> Prefetch:
    """Return what the server was told of a release that was announced."""
    return host.state(app).prefetch or Prefetch("", b"", PrefetchState.WAITING)


def fetched(host: SimulatedHost, release: Release) -> SimulatedHost:
    """Announce a release and let it come."""
    host.announce(release)
    host.run(SOON_S, lambda: release.app in host.server.apps and ahead(host, release.app) == here(release))
    assert ahead(host, release.app) == here(release)
    return host


def here(release: Release) -> Prefetch:
    return Prefetch(release.version, digest(release), PrefetchState.COMPLETE)


def objects(host: SimulatedHost) -> set[str]:
    return {path.name for folder in ("objects", "partial") for path in (host.folder / "store" / folder).iterdir()}


def objects_of(host: SimulatedHost, release: Release) -> set[str]:
    """Return the names of what only this release needs: its index and its one file."""
    return {release.artifact.index_sha256.hex(), *(path for path in objects(host) if _size(host, path) > MIB)}


def _size(host: SimulatedHost, name: str) -> int:
    path = host.folder / "store" / "objects" / name
    return path.stat().st_size if path.exists() else 0


def object_fetches(host: SimulatedHost) -> int:
    return sum(want.kind == "object" for wants in host.server.fetches for want in wants)


def untouched(host: SimulatedHost) -> tuple[object, ...]:
    """Return everything of the host that only a change may change."""
    apps = sorted(str(path.relative_to(host.folder)) for path in (host.folder / "apps").rglob("*"))
    floors = json.loads((host.folder / "trust" / "floors.json").read_text())["releases"]
    return (apps, host.live(), host.serving(), list(host.world.log), host.chain(), host.journal.transactions(), floors)


def free(monkeypatch: pytest.MonkeyPatch, count: int) -> dict[str, int]:
    found = {"bytes": count}
    monkeypatch.setattr(Files, "disk_free", lambda _self, _path: found["bytes"])
    return found


def largest(host: SimulatedHost) -> str:
    """Return the name of the largest object that was published."""
    return max(host.server.carried, key=lambda one: len(host.server.carried[one])).hex()
