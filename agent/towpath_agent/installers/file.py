"""Installer `file`: the artifact holds one file, put at an absolute path of the host: a configuration, a binary.

Rules: it is staged like a tree, so that previous versions and their digests are there; `switch` then puts the file at
the option `path` in one step. What this installer placed is on record (`installers.placed`, written ahead), and only
that is ever replaced or removed. A revert is a switch to the previous release, which brings its bytes back; without
one, `unswitch` removes what was placed and gives back what was there before.
Options: `path` (may hold `${parameter}`), `mode` (default: the entry's), `existing`: what to do about a file that
somebody else put there. `refuse` (default): nothing changes. `overwrite`: it is kept safe and comes back when the
release goes. `keep`: it stays as it is, and counts as installed. A link, a folder or anything special is refused.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from towpath.errors import Broken, InputError, Refusal
from towpath.index import Entry, EntryType, check_entries
from towpath.parameters import Value, render
from towpath_agent.installers.base import InstallPlan, Materialise
from towpath_agent.installers.placed import Placed, Record, temp_of
from towpath_agent.installers.tree import TreeInstaller, is_file
from towpath_agent.system.files import Files


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
        """Make the release live and put its file in place; what was there before is safe before it is replaced."""
        path = self._path(plan)
        self._check_place(plan)
        placed = Placed(self._files, plan.app_dir, plan.app)
        before = placed.read()
        stays = self._stays(plan, path, before)
        if stays:
            during, after = before.leaving(str(path)), Record(left=frozenset({str(path)}))
        else:
            during = before.placing(str(path), None if str(path) in before.ours else placed.save(path))
            after = during.only(str(path))
        placed.write(during)
        self._tree.switch(plan, previous_id)
        if not stays:
            self._put(plan, path)
        for old in sorted(during.ours - after.ours):
            placed.take_away(Path(old), during)
        placed.write(after)

    def unswitch(self, plan: InstallPlan) -> None:
        """Take away what was placed and give back what was there, then remove the links."""
        placed = Placed(self._files, plan.app_dir, plan.app)
        record = placed.read()
        for path in sorted(record.ours):
            placed.take_away(Path(path), record)
        self._tree.unswitch(plan)
        placed.clear()

    def verify(self, plan: InstallPlan) -> bool:
        """Compare the staged tree with the index, and, where something was placed, the file at its path too."""
        return self._tree.verify(plan) and self.in_place(plan)

    def witnesses(self, plan: InstallPlan) -> Sequence[Path]:
        """Return the path of the file."""
        return (self._path(plan),)

    def in_place(self, plan: InstallPlan) -> bool:
        """Compare the file at its path; one that was kept (`existing: keep`) must be there, whatever it holds."""
        entry, path = _only_file(plan), self._path(plan)
        record = Placed(self._files, plan.app_dir, plan.app).read()
        if str(path) in record.left:
            return self._is_plain(path)
        if str(path) not in record.ours:
            return True
        return is_file(self._files, path, mode=_mode(plan), size=entry.size, sha256=entry.sha256)

    def prune(self, app_dir: Path, keep: int, keep_bytes: int = 0) -> list[str]:
        """Delete the oldest releases beyond `keep` and `keep_bytes`, never current or previous."""
        return self._tree.prune(app_dir, keep, keep_bytes)

    def _put(self, plan: InstallPlan, path: Path) -> None:
        """Copy and rename. The temporary name is fixed, so that after a crash it is found in a folder not ours."""
        files, entry, mode, temp = self._files, _only_file(plan), _mode(plan), temp_of(path, plan.app)
        files.remove(temp)
        if is_file(files, path, mode=mode, size=entry.size, sha256=entry.sha256):
            return
        files.copy(plan.folder / entry.path, temp, mode)
        files.sync_file(temp)
        files.rename(temp, path)

    def _stays(self, plan: InstallPlan, path: Path, record: Record) -> bool:
        """Return whether a file of somebody else's is to stay at `path`, or to come back there."""
        if _existing(plan) != "keep":
            return False
        return str(path) in record.saved or (str(path) not in record.ours and self._files.exists(path))

    def _is_plain(self, path: Path) -> bool:
        try:
            return stat.S_ISREG(self._files.stat(path).st_mode)
        except FileNotFoundError:
            return False

    def _check_place(self, plan: InstallPlan) -> None:
        path = self._path(plan)
        if not self._files.is_dir(path.parent):
            raise InputError(f"cannot install {plan.app} at {path}: there is no folder {path.parent}; make it first")
        if str(path) in Placed(self._files, plan.app_dir, plan.app).read().ours:
            if self._files.is_dir(path):
                raise InputError(f"cannot install {plan.app} at {path}: a folder is there; move it away")
            return
        if not self._files.exists(path):
            return
        if _existing(plan) == "refuse":
            raise InputError(
                f"cannot install {plan.app} at {path}: a file is there that this app did not put there; move it away, "
                "or let the release say existing: overwrite or keep",
                code="unmanaged-file",
            )
        if not self._is_plain(path):
            raise InputError(
                f"cannot install {plan.app} at {path}: a link, a folder or something special is there that this app "
                "did not put there; move it away",
                code="unmanaged-file",
            )

    def _path(self, plan: InstallPlan) -> Path:
        path = _plain_path(plan)
        root = plan.app_dir.parent.parent
        if path.is_relative_to(root) or self._files.real(path.parent).is_relative_to(self._files.real(root)):
            reason = "that is the agent's own folder"
            raise Refusal(f"cannot install {plan.app} at {path}: {reason}", code="path-traversal")
        return path


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


def _existing(plan: InstallPlan) -> str:
    return str(plan.release.install.options.get("existing", "refuse"))


def _rendered(plan: InstallPlan, option: str) -> Value | None:
    value = plan.release.install.options.get(option)
    if not isinstance(value, str):
        return value
    try:
        return render(value, plan.parameters)
    except KeyError as error:
        raise Broken(f"cannot install {plan.app}: option {option!r} names {error}, which is no parameter") from error
