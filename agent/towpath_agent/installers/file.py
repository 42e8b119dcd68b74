"""Installer `file`: the artifact holds one file, put at an absolute path of the host: a configuration, a binary.

Rules: it is staged like a tree, so that previous versions and their digests are there; `switch` then puts the file at
the option `path` in one step. What this installer placed is on record (`file.json`, written ahead), and only that is
ever replaced or removed: a file that somebody else put there is refused before anything changes. A revert is a switch
to the previous release, which brings its bytes back; without one, `unswitch` removes what was placed.
Options: `path` (may hold `${parameter}`), `mode` (default: the entry's).
"""

import json
import os
from pathlib import Path

from towpath.errors import Broken, InputError, Refusal
from towpath.index import Entry, EntryType, check_entries
from towpath.parameters import Value, render
from towpath_agent.installers.base import InstallPlan, Materialise
from towpath_agent.installers.tree import TreeInstaller, is_file
from towpath_agent.system.files import Files

RECORD = "file.json"
_MAX_RECORD_BYTES = 2**16


class FileInstaller:
    """See the module."""

    def __init__(self, files: Files) -> None:
        """Work on `files`."""
        self._files = files
        self._tree = TreeInstaller(files)

    def stage(self, plan: InstallPlan, materialise: Materialise) -> None:
        """Stage the tree of one file; Refusal where it holds more, or its path is in use by somebody else."""
        check_entries(plan.entries)
        _only_file(plan)
        self._check_place(plan)
        self._tree.stage(plan, materialise)

    def switch(self, plan: InstallPlan, previous_id: str | None) -> None:
        """Make the release live and put its file in place."""
        files, entry, path = self._files, _only_file(plan), self._path(plan)
        self._check_place(plan)
        owned = self._owned(plan.app_dir)
        self._record(plan.app_dir, owned | {str(path)})
        self._tree.switch(plan, previous_id)
        if not is_file(files, path, mode=_mode(plan), size=entry.size, sha256=entry.sha256):
            self._put(plan.folder / entry.path, path, _mode(plan), plan.app)
        for old in sorted(owned - {str(path)}):
            self._take_away(Path(old), plan.app)
        self._record(plan.app_dir, {str(path)})

    def unswitch(self, plan: InstallPlan) -> None:
        """Remove what was placed, then the links."""
        for path in sorted(self._owned(plan.app_dir)):
            self._take_away(Path(path), plan.app)
        self._tree.unswitch(plan)
        if self._files.exists(plan.app_dir / RECORD):
            self._files.remove(plan.app_dir / RECORD)
            self._files.sync_dir(plan.app_dir)

    def verify(self, plan: InstallPlan) -> bool:
        """Compare the staged tree with the index, and, where something was placed, the file at its path too."""
        if not self._tree.verify(plan):
            return False
        entry, path = _only_file(plan), self._path(plan)
        if str(path) not in self._owned(plan.app_dir):
            return True
        return is_file(self._files, path, mode=_mode(plan), size=entry.size, sha256=entry.sha256)

    def prune(self, app_dir: Path, keep: int, keep_bytes: int = 0) -> list[str]:
        """Delete the oldest releases beyond `keep` and `keep_bytes`, never current or previous."""
        return self._tree.prune(app_dir, keep, keep_bytes)

    def _put(self, source: Path, path: Path, mode: int, app: str) -> None:
        """Copy and rename. The temporary name is fixed, so that after a crash it is found in a folder not ours."""
        files, temp = self._files, _temp(path, app)
        files.remove(temp)
        files.copy(source, temp, mode)
        files.sync_file(temp)
        files.rename(temp, path)

    def _take_away(self, path: Path, app: str) -> None:
        self._files.remove(_temp(path, app))
        if self._files.exists(path):
            self._files.remove(path)
            self._files.sync_dir(path.parent)

    def _check_place(self, plan: InstallPlan) -> None:
        path = self._path(plan)
        if not self._files.is_dir(path.parent):
            raise InputError(f"cannot install {plan.app} at {path}: there is no folder {path.parent}; make it first")
        if str(path) in self._owned(plan.app_dir):
            if self._files.is_dir(path):
                raise InputError(f"cannot install {plan.app} at {path}: a folder is there; move it away")
            return
        if self._files.exists(path):
            raise InputError(
                f"cannot install {plan.app} at {path}: a file is there that this app did not put there; move it away",
                code="unmanaged-file",
            )

    def _path(self, plan: InstallPlan) -> Path:
        path = _plain_path(plan)
        root = plan.app_dir.parent.parent
        if path.is_relative_to(root) or self._files.real(path.parent).is_relative_to(self._files.real(root)):
            reason = "that is the agent's own folder"
            raise Refusal(f"cannot install {plan.app} at {path}: {reason}", code="path-traversal")
        return path

    def _owned(self, app_dir: Path) -> set[str]:
        """Return the paths on record. A garbled record owns nothing: better refuse than delete what is not ours."""
        try:
            raw = json.loads(self._files.read(app_dir / RECORD, _MAX_RECORD_BYTES))
        except (FileNotFoundError, ValueError):
            return set()
        paths = raw.get("paths") if isinstance(raw, dict) else None
        return {path for path in paths if isinstance(path, str)} if isinstance(paths, list) else set()

    def _record(self, app_dir: Path, paths: set[str]) -> None:
        if paths != self._owned(app_dir):
            self._files.write_atomic(app_dir / RECORD, json.dumps({"paths": sorted(paths)}).encode())


def _temp(path: Path, app: str) -> Path:
    return path.parent / f".towpath-{app}.tmp"


def _only_file(plan: InstallPlan) -> Entry:
    found = [entry for entry in plan.entries if entry.type is not EntryType.DIRECTORY]
    if len(found) != 1 or found[0].type is not EntryType.FILE:
        raise Refusal(
            f"cannot install {plan.app}: kind 'file' takes one file, not {len(found)} entries", code="not-one-file"
        )
    return found[0]


def _plain_path(plan: InstallPlan) -> Path:
    text = _rendered(plan, "path")
    path = Path(str(text))
    plain = str(text).isprintable() and not str(text).startswith("//") and os.path.normpath(str(text)) == str(text)
    if not plain or not path.is_absolute() or path == Path("/"):
        raise Refusal(
            f"cannot install {plan.app} at {text!r}: the path must be absolute and plain", code="path-traversal"
        )
    return path


def _mode(plan: InstallPlan) -> int:
    value = _rendered(plan, "mode")
    if value is None:
        return _only_file(plan).mode
    mode = int(value) if isinstance(value, int | str) and str(value).isdecimal() else -1
    if mode < 0 or mode & ~0o777:
        raise Refusal(f"cannot install {plan.app} with mode {value}: only permission bits are allowed", code="setuid")
    return mode


def _rendered(plan: InstallPlan, option: str) -> Value | None:
    value = plan.release.install.options.get(option)
    if not isinstance(value, str):
        return value
    try:
        return render(value, plan.parameters)
    except KeyError as error:
        raise Broken(f"cannot install {plan.app}: option {option!r} names {error}, which is no parameter") from error
