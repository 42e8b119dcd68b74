"""The server's use cases without a server: rows in a storage, a clock that is set, hints that are counted."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, cast

from fakes.memory_server import MemoryBlobs
from fakes.rows import NOW, assignment, host
from towpath.release import Artifact, Install, Release, Run
from towpath_server.domain.manifests import KnownRelease
from towpath_server.domain.model import Assignment, Host
from towpath_server.ports import Storage
from towpath_server.services.context import Context


@dataclass
class SetClock:
    """A clock that says what it is set to."""

    now: int = NOW

    def now_unix_ms(self) -> int:
        return self.now

    def monotonic_ms(self) -> float:
        return float(self.now)


@dataclass
class Heard:
    """`ports.Hints` that remembers."""

    hosts: set[str] = field(default_factory=set)
    environments: set[str] = field(default_factory=set)

    def changed(self, host_ids: Collection[str]) -> None:
        self.hosts.update(host_ids)

    def due(self, environment: str) -> None:
        self.environments.add(environment)


def deciding(storage: Storage, clock: SetClock) -> Context:
    """Return a context that can decide rollouts; there are no keys in it, so it signs nothing."""
    nothing = cast("Any", None)
    return Context(
        storage=storage,
        blobs=cast("Any", MemoryBlobs()),
        clock=clock,
        hints=Heard(),
        authority=nothing,
        keys=nothing,
        started_unix_ms=clock.now,
    )


def remember(context: Context, one: Assignment, **fields: Any) -> None:
    """Let the release of an assignment be a published one."""
    release = Release(
        one.app,
        one.version,
        one.generation,
        Artifact(b"i" * 32, 1, 1),
        Install("tree"),
        Run("process", command=("bin/serve",)),
        **fields,
    )
    context.cache.releases[one.app, one.version] = KnownRelease(release, one.release_sha256, 100)


def enrol(context: Context, count: int, **fields: Any) -> list[Host]:
    """Add hosts h0, h1, ..."""
    rows = [host(f"h{number}", **fields) for number in range(count)]
    with context.storage.transaction() as tx:
        for row in rows:
            tx.add_host(row)
    return rows


def deploy(context: Context, generation: int = 1, **fields: Any) -> Assignment:
    """Add an assignment whose release is published; what has the same rule is not superseded by it."""
    one = assignment(generation, **fields)
    remember(context, one)
    with context.storage.transaction() as tx:
        tx.add_assignment(one)
    return one
