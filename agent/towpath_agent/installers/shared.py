"""Shared paths: what an app keeps from release to release, such as its data and its edited configuration.

A shared path lies in the app's `shared/` folder; the release's tree holds a relative link to it. At the first install
it is seeded from the release's own copy, and never written by us again: it belongs to the app and its operator, who may
put a link in its place (to a larger disk). A shared folder that is gone is made again, empty or seeded; a shared file
that the app removed is not. Nothing shared is ever deleted or reverted by us, also not when the app goes.
Not handled here: data that an older release cannot read after a revert; the app's own hooks must see to that.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from towpath.errors import InputError, Refusal
from towpath.index import Entries, Entry, EntryType
from towpath_agent.installers.base import FOLDER_MODE, SHARED, InstallPlan
from towpath_agent.system.files import Files, temporary


@dataclass(frozen=True, slots=True)
class SharedPath:
    """One shared path, relative to the tree. `folder` where the release wrote it with a `/` at its end."""

    path: str
    folder: bool

    def covers(self, entry_path: str) -> bool:
        """Return whether an entry of the tree is this path or below it."""
        return entry_path == self.path or entry_path.startswith(f"{self.path}/")


def shared_paths(plan: InstallPlan) -> tuple[SharedPath, ...]:
    """Return the shared paths of a release; Refusal where one leaves the tree or lies below another."""
    names = plan.release.install.options.get("shared", ())
    result: list[SharedPath] = []
    for name in sorted(names if isinstance(names, tuple) else (str(names),)):
        path = name.removesuffix("/")
        if (
            not path
            or any(part in ("", ".", "..") for part in path.split("/"))
            or "\\" in path
            or not path.isprintable()
        ):
            raise Refusal(f"cannot share {name[:200]!r}: it must be a path inside the tree", code="path-traversal")
        if any(other.covers(path) for other in result):
            raise Refusal(f"cannot share {name[:200]!r}: it is there twice or below another", code="path-traversal")
        result.append(SharedPath(path, folder=name.endswith("/")))
    kinds = {entry.path: entry.type for entry in plan.entries} if result else {}
    for shared in result:
        _check_kind(shared, kinds)
    return tuple(result)


def check_places(files: Files, plan: InstallPlan, paths: tuple[SharedPath, ...]) -> None:
    """Refuse a release that shares as a folder what is a file on this host, or the reverse: its app would break."""
    for shared in paths:
        place = files.real(plan.app_dir / SHARED / shared.path)
        if files.exists(place) and files.is_dir(place) != shared.folder:
            there, wanted = ("a file", "a folder") if shared.folder else ("a folder", "a file")
            raise InputError(
                f"cannot share {shared.path!r} as {wanted}: {there} is at {place}, from an earlier release; "
                "move it away",
                code="shared-kind",
            )


def in_place(files: Files, plan: InstallPlan, shared: SharedPath) -> bool:
    """Return whether the tree's link is right, and what a shared folder leads to is there."""
    if files.read_link(plan.folder / shared.path) != target(plan, shared):
        return False
    return not shared.folder or files.is_dir(files.real(plan.app_dir / SHARED / shared.path))


def _check_kind(shared: SharedPath, kinds: dict[str, EntryType]) -> None:
    own = kinds.get(shared.path)
    wanted = EntryType.DIRECTORY if shared.folder else EntryType.FILE
    if own not in (None, wanted):
        hint = "end it with '/' to share a folder" if own is EntryType.DIRECTORY else "a file has no '/' at its end"
        raise Refusal(f"cannot share {shared.path!r}: the release has a {own} there; {hint}", code="path-traversal")
    parts = shared.path.split("/")
    for end in range(1, len(parts)):
        parent = "/".join(parts[:end])
        if kinds.get(parent, EntryType.DIRECTORY) is not EntryType.DIRECTORY:
            raise Refusal(f"cannot share {shared.path!r}: {parent!r} is no folder of the tree", code="path-traversal")


def target(plan: InstallPlan, shared: SharedPath) -> str:
    """Return what the link in the tree points to, relative to where the tree will lie."""
    link = plan.folder / shared.path
    return os.path.relpath(plan.app_dir / SHARED / shared.path, link.parent)


def seed(files: Files, plan: InstallPlan, tree: Path, shared: SharedPath) -> None:
    """Move the release's own copy of `shared` in `tree` aside: into `shared/` at first, away otherwise; then link."""
    own = tree / shared.path
    place = plan.app_dir / SHARED / shared.path
    files.make_dirs(place.parent, FOLDER_MODE)
    files.sweep(place.parent)
    if not files.exists(place):
        if files.exists(own):
            # Copied and renamed: a crash leaves no half-seeded data that the next try would take for the app's.
            fresh = temporary(place)
            _copy(files, own, fresh, {entry.path: entry.mode for entry in plan.entries}, shared.path)
            files.sync_tree(fresh)
            files.rename(fresh, place)
        elif shared.folder:
            files.make_dirs(place, FOLDER_MODE)
    files.remove_tree(own)
    files.make_dirs(own.parent, FOLDER_MODE)
    files.make_link(own, target(plan, shared))


def _copy(files: Files, source: Path, destination: Path, modes: Mapping[str, int], path: str) -> None:
    """Copy with the signed modes: those of folders in staging are still open to their owner alone."""
    link = files.read_link(source)
    if link is not None:
        files.make_link(destination, link)
    elif files.is_dir(source):
        files.make_dir(destination)
        for name in files.listdir(source):
            _copy(files, source / name, destination / name, modes, f"{path}/{name}")
        files.set_mode(destination, modes[path])
    else:
        files.copy(source, destination, modes[path])


def own_entries(plan: InstallPlan, paths: tuple[SharedPath, ...]) -> Sequence[Entry]:
    """Return the entries of the tree that are not shared."""
    if not paths:
        return plan.entries
    return Entries(entry for entry in plan.entries if not any(shared.covers(entry.path) for shared in paths))
