"""Where things lie on a host, and how a signed release becomes something that drivers can act on."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from towpath.errors import Broken
from towpath.index import MAX_INDEX_BYTES, Entries, Entry, check_entries
from towpath.names import release_id
from towpath.parameters import Value, render
from towpath.wire import MAX_RELEASE_BYTES, decode_release, iter_index
from towpath_agent.engine import slots
from towpath_agent.errors import DiskError
from towpath_agent.hooks import HookRunner
from towpath_agent.installers.base import Installer, InstallPlan
from towpath_agent.journal import Deployed, Transaction, wish_from_text, wish_to_text
from towpath_agent.probes.base import Probe
from towpath_agent.services.base import Instance, Service
from towpath_agent.store import Store
from towpath_agent.system.files import Files, temporary


@dataclass(frozen=True, slots=True)
class Drivers:
    """The kinds that this agent can install, run and probe, by name."""

    installers: Mapping[str, Installer]
    services: Mapping[str, Service]
    probes: Mapping[str, Probe]
    hooks: HookRunner


@dataclass(frozen=True, slots=True)
class Site:
    """The agent's folder; everything lies on one filesystem so that renames are atomic."""

    root: Path
    files: Files
    store: Store

    @property
    def apps(self) -> Path:
        """Return the folder of all apps."""
        return self.root / "apps"

    def app_dir(self, app: str) -> Path:
        """Return the folder of one app: releases/, current, previous, shared/, logs/."""
        return self.apps / app

    def staging(self, tx_id: str) -> Path:
        """Return the folder that a transaction builds in."""
        return self.root / "staging" / tx_id

    def log(self, deployed: Deployed) -> Path:
        """Return the log of a release; it outlives the release's tree."""
        return self.app_dir(deployed.wish.app) / "logs" / f"{id_of(deployed)}.log"

    def record(self, deployed: Deployed) -> None:
        """Keep what was signed beside the tree: a lost journal is rebuilt from it, and going back needs no store.

        ObjectMissing where the index is neither here nor in the store.
        """
        raw = {"wish": wish_to_text(deployed.wish), "release": b64encode(deployed.release).decode()}
        path = self._index_path(deployed)
        self.files.make_dirs(path.parent)
        if not self._is_index(path, deployed):
            temp = temporary(path)
            try:
                self.store.materialise(_index_digest(deployed), temp, 0o600)
                self.files.sync_file(temp)
                self.files.rename(temp, path)
            except DiskError:
                self.files.remove(temp)
                raise
        self.files.write_atomic(path.with_suffix(".json"), json.dumps(raw).encode())

    def _index_path(self, deployed: Deployed) -> Path:
        return self.app_dir(deployed.wish.app) / "records" / f"{id_of(deployed)}.index"

    def _is_index(self, path: Path, deployed: Deployed) -> bool:
        return self.files.exists(path) and self.store.holds(path, _index_digest(deployed), MAX_INDEX_BYTES)

    def recorded(self, app: str, release: str) -> Deployed | None:
        """Return what `record` kept of release id `release`, or None where it is gone or garbled."""
        path = self.app_dir(app) / "records" / f"{release}.json"
        try:
            raw = json.loads(self.files.read(path, 2 * MAX_RELEASE_BYTES))
            return Deployed(wish_from_text(raw["wish"]), b64decode(raw["release"], validate=True))
        except (OSError, ValueError, KeyError, TypeError, Broken):
            return None

    def tail(self, path: Path, size: int) -> str:
        """Return the last `size` bytes of a log as text, from a line's beginning; empty where there is none."""
        if not self.files.exists(path):
            return ""
        length = self.files.size(path)
        with self.files.open_read(path) as log:
            log.seek(max(0, length - size))
            text = log.read(size).decode(errors="replace")
        return (text.partition("\n")[2] if length > size else text).strip()

    def index(self, deployed: Deployed) -> Iterator[bytes]:
        """Yield the index of a release, from its record or from the store, proven before its first byte.

        In pieces: the index of 200,000 files is as large as all that is made of it. ObjectMissing as for `record`.
        """
        path = self._index_path(deployed)
        if self._is_index(path, deployed):
            with self.files.open_read(path) as source:
                yield from source.blocks()
        else:
            yield from self.store.pieces(_index_digest(deployed), MAX_INDEX_BYTES)

    def entries(self, deployed: Deployed) -> Entries:
        """Return the checked tree of a release."""
        return check_entries(iter_index(self.index(deployed)))

    def plan(self, deployed: Deployed, entries: Sequence[Entry], tx_id: str = "") -> InstallPlan:
        """Return what an installer needs to put `deployed` in place."""
        app = deployed.wish.app
        return InstallPlan(
            app_dir=self.app_dir(app),
            app=app,
            release_id=id_of(deployed),
            release=decode_release(deployed.release),
            entries=entries,
            parameters=deployed.wish.parameters,
            staging=self.staging(tx_id or f"none-{app}"),
        )

    def instance(self, deployed: Deployed) -> Instance:
        """Return what a service, a hook or a probe needs to know of `deployed`."""
        release, wish = decode_release(deployed.release), deployed.wish
        values = values_of(deployed)
        return Instance(
            app=wish.app,
            release_id=id_of(deployed),
            folder=self.app_dir(wish.app) / "releases" / id_of(deployed),
            app_dir=self.app_dir(wish.app),
            command=tuple(render(word, values) for word in release.run.command),
            env={name: render(value, values) for name, value in release.run.env.items()},
            run=release.run,
            log=self.log(deployed),
            slot=None if release.run.handover is None else wish.slot,
            health_deadline_ms=release.health.deadline_ms,
        )


def _index_digest(deployed: Deployed) -> bytes:
    return decode_release(deployed.release).artifact.index_sha256


def release_of(tx: Transaction) -> Deployed:
    """Return what a transaction brings; Broken for one that only takes away."""
    if not tx.wish.sha256:
        raise Broken("cannot treat a removal as a release")
    return Deployed(tx.wish, tx.release)


def keeps_tree(tx: Transaction) -> bool:
    """Return whether only parameters change: both lie under one name on disk, and so have one record."""
    return tx.old is not None and id_of(tx.old) == id_of(release_of(tx))


def id_of(deployed: Deployed) -> str:
    """Return the folder name of a release on this host."""
    return release_id(deployed.wish.version, deployed.wish.sha256)


def values_of(deployed: Deployed) -> Mapping[str, Value]:
    """Return the parameters as this copy sees them: in a release with a handover, `${port}` is its own port."""
    return slots.values(deployed.wish, decode_release(deployed.release).run.handover)


def render_options(options: Mapping[str, Value], values: Mapping[str, Value]) -> dict[str, Value]:
    """Return probe options with every `${parameter}` filled; a whole `${port}` becomes a number again."""

    def one(text: str) -> str:
        return render(text, values)

    return {name: _render(value, one) for name, value in options.items()}


def _render(value: Value, one: Callable[[str], str]) -> Value:
    if isinstance(value, tuple):
        return tuple(one(item) for item in value)
    if isinstance(value, str):
        rendered = one(value)
        return int(rendered) if value.startswith("${") and rendered.isdecimal() else rendered
    return value
