"""Small releases in memory: entries from a mapping, and the `materialise` that puts their objects on disk."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from towpath.index import Entry, EntryType
from towpath.names import release_id
from towpath.parameters import Value
from towpath.release import Artifact, Install, Release, Run
from towpath_agent.installers.base import InstallPlan, Materialise
from towpath_agent.system.files import Files


class Crash(BaseException):
    """The agent dies here: nothing that handles errors may run."""


class CrashAt:
    """A `before` for Files that dies, or raises `error`, at the n-th operation (from 0); counts them all."""

    def __init__(self, at: int | None = None, error: OSError | None = None) -> None:
        self.at, self.error = at, error
        self.operations: list[str] = []

    def __call__(self, verb: str, path: Path) -> None:
        number = len(self.operations)
        self.operations.append(f"{verb} {path.name}")
        if number == self.at:
            raise self.error or Crash(self.operations[-1])


class Tree:
    """A tree from path to content: bytes for a file, "-> target" for a link, None for a folder. Parents are made."""

    def __init__(self, content: Mapping[str, bytes | str | None], modes: Mapping[str, int] | None = None) -> None:
        self.objects: dict[bytes, bytes] = {}
        paths: dict[str, bytes | str | None] = {}
        for path, what in content.items():
            parts = path.split("/")
            paths.update({"/".join(parts[:end]): None for end in range(1, len(parts))} | {path: what})
        self.entries = tuple(self._entry(path, paths[path], modes or {}) for path in sorted(paths))

    def _entry(self, path: str, what: bytes | str | None, modes: Mapping[str, int]) -> Entry:
        if what is None:
            return Entry(path, EntryType.DIRECTORY, modes.get(path, 0o755))
        if isinstance(what, str):
            return Entry(path, EntryType.LINK, 0o777, target=what.removeprefix("-> "))
        digest = hashlib.sha256(what).digest()
        self.objects[digest] = what
        return Entry(path, EntryType.FILE, modes.get(path, 0o644), len(what), digest)

    def materialise(self, files: Files) -> Materialise:
        """Return the function that a store would give."""

        def put(digest: bytes, path: Path, mode: int) -> None:
            with files.open_write(path, mode) as out:
                out.write(self.objects[digest])

        return put


def make_release(version: str = "1.0.0", *, install: Install | None = None, run: Run | None = None) -> Release:
    """Return a small release of the app `hello`."""
    return Release(
        app="hello",
        version=version,
        counter=1,
        artifact=Artifact(hashlib.sha256(version.encode()).digest(), 1, 1),
        install=install or Install("tree"),
        run=run or Run("none"),
    )


def make_plan(
    root: Path, tree: Tree, version: str = "1.0.0", install: Install | None = None, **parameters: Value
) -> InstallPlan:
    """Return the plan of `tree` as `version`, in an agent's folder at `root`."""
    release = make_release(version, install=install)
    identity = release_id(version, release.artifact.index_sha256)
    return InstallPlan(
        app_dir=root / "apps" / release.app,
        app=release.app,
        release_id=identity,
        release=release,
        entries=tree.entries,
        parameters=parameters,
        staging=root / "staging" / f"tx-{version}",
    )


def with_entries(plan: InstallPlan, *entries: Entry) -> InstallPlan:
    """Return the plan with other entries."""
    return replace(plan, entries=entries)


def snapshot(folder: Path) -> dict[str, tuple[int, bytes | str | None]]:
    """Return path to (permission bits, content or link target or None) of all below `folder`."""
    result: dict[str, tuple[int, bytes | str | None]] = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode & 0o7777
        name = str(path.relative_to(folder))
        if path.is_symlink():
            result[name] = (0, str(path.readlink()))
        else:
            result[name] = (mode, path.read_bytes() if path.is_file() else None)
    return result
