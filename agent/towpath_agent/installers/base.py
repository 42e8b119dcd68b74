"""What an installer promises, and the facts that the links `current` and `previous` tell.

Layout below an app's folder: `releases/<release id>`, relative links `current` and `previous`, `shared/`.
Rules: `current` unknown (missing, dangling or of another shape) means that nothing may be deleted; current and previous
are never deleted. What is removed is renamed first, so that no half-deleted tree ever has a release's name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from towpath.index import Entry
from towpath.parameters import Value
from towpath.release import Release
from towpath_agent.system.files import Files, temporary

RELEASES = "releases"
CURRENT = "current"
PREVIOUS = "previous"
SHARED = "shared"
FOLDER_MODE = 0o755

# Puts the object of a digest at a new path with a mode, and verifies it while it copies.
Materialise = Callable[[bytes, Path, int], None]


@dataclass(frozen=True, slots=True)
class InstallPlan:
    """One release to put in place. `app_dir` and `staging` lie on one filesystem; `entries` may be () to unswitch."""

    app_dir: Path
    app: str
    release_id: str
    release: Release
    entries: Sequence[Entry]
    parameters: Mapping[str, Value]
    staging: Path

    @property
    def folder(self) -> Path:
        """Return where the release's tree lies once it is staged."""
        return self.app_dir / RELEASES / self.release_id


class Installer(Protocol):
    """Puts bits in place. Every call may be cut off anywhere and repeated; undoing is the same call, args swapped."""

    def stage(self, plan: InstallPlan, materialise: Materialise) -> None:
        """Put the tree below `releases/`, durable and complete or not at all; what runs is not touched.

        Refusal for an unsafe tree, before anything is written. A tree that is there and whole is reused; a damaged
        one is replaced.
        """
        ...

    def switch(self, plan: InstallPlan, previous_id: str | None) -> None:
        """Make the staged release live and remember `previous_id` (None: nothing to return to), durable."""
        ...

    def unswitch(self, plan: InstallPlan) -> None:
        """Make nothing live: a first install that is reverted, or an app that is removed. Trees are kept."""
        ...

    def verify(self, plan: InstallPlan) -> bool:
        """Return whether what is on disk is what was signed, down to the last byte."""
        ...

    def witnesses(self, plan: InstallPlan) -> Sequence[Path] | None:
        """Return files beyond the release's tree whose stat changes when what is in place does; None: none tell.

        For a live release. Some may be missing; a change of one is no proof that anything is wrong.
        """
        ...

    def in_place(self, plan: InstallPlan) -> bool | None:
        """Return whether all that a switch puts beyond the tree is as it should be, for a live release.

        None where that cannot be told now: somebody is at work on it, or a tool does not answer.
        """
        ...

    def prune(self, app_dir: Path, keep: int, keep_bytes: int = 0) -> list[str]:
        """Delete the oldest releases beyond `keep` or `keep_bytes` (0: no limit) in all; return their ids."""
        ...


def current_release(app_dir: Path, files: Files | None = None) -> str | None:
    """Return the id of the live release, None where that cannot be told."""
    return _linked(app_dir, CURRENT, files or Files())


def previous_release(app_dir: Path, files: Files | None = None) -> str | None:
    """Return the id of the release to return to, None where there is none."""
    return _linked(app_dir, PREVIOUS, files or Files())


def link_target(release_id: str) -> str:
    """Return what the links point to: relative, so that the agent's folder can be moved."""
    return f"{RELEASES}/{release_id}"


def _linked(app_dir: Path, link: str, files: Files) -> str | None:
    target = files.read_link(app_dir / link)
    if target is None:
        return None
    folder, _, name = target.partition("/")
    if folder != RELEASES or name in ("", ".", "..") or "/" in name or not files.is_dir(app_dir / target):
        return None
    return name


def prune(app_dir: Path, keep: int, files: Files, keep_bytes: int = 0) -> list[str]:
    """Delete all releases but current, previous and the newest up to `keep` in all; return the ids of the deleted.

    With `keep_bytes` no more stay than fit in it, current and previous counted but never deleted: the oldest go until
    the rest fits, also where a small old one would have fitted beside a big new one.
    """
    current = current_release(app_dir, files)
    if current is None:
        return []
    releases = app_dir / RELEASES
    files.sweep(releases)
    kept = {current, previous_release(app_dir, files) or current}
    taken = sum(files.tree_bytes(releases / name) for name in kept) if keep_bytes else 0
    names = [name for name in files.listdir(releases) if files.is_dir(releases / name)]
    newest_first = sorted(names, key=lambda name: (files.stat(releases / name).st_mtime_ns, name), reverse=True)
    doomed: list[str] = []
    for name in newest_first:
        if name in kept:
            continue
        if len(kept) < keep:
            taken += files.tree_bytes(releases / name) if keep_bytes else 0
            if not keep_bytes or taken <= keep_bytes:
                kept.add(name)
                continue
        doomed.append(name)
    for name in reversed(doomed):
        aside = temporary(releases / name)
        files.rename(releases / name, aside)
        files.remove_tree(aside)
    return sorted(doomed)
