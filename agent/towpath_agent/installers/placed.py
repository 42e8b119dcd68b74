"""What installer `file` put at paths of the host, and what was there before, kept safe until it can go back.

`file.json` holds the record, `replaced/` the saved files of others, both in the app's folder. Rules: a file is saved,
with owner, mode and time of change, and both it and its line in the record are on disk before anything replaces it; it
leaves the record only once it is back. A garbled record owns nothing, as it is better to refuse than to delete what is
not ours; what was saved is set aside then (`replaced.lost/`), for a person to look at.
Not handled here: hard links, extended attributes and access lists of what is saved; they do not come back.
"""

import hashlib
import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from towpath.errors import Broken, InputError
from towpath_agent.errors import DiskError
from towpath_agent.installers.tree import file_sha256, is_file
from towpath_agent.system.files import Files, temporary

RECORD = "file.json"
REPLACED = "replaced"
LOST = "replaced.lost"
_MAX_RECORD_BYTES = 2**16
_FOLDER_MODE = 0o700
_SAVED_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Saved:
    """A file that was there before: what it was like, besides its bytes, which lie in `replaced/`."""

    sha256: str
    size: int
    mode: int
    owner: int
    group: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class Record:
    """Paths that we placed; for some of them what was there before; and paths of others' files that we left alone."""

    ours: frozenset[str] = frozenset()
    saved: Mapping[str, Saved] = field(default_factory=dict)
    left: frozenset[str] = frozenset()

    def placing(self, path: str, saved: Saved | None) -> "Record":
        """Return the record with `path` as ours, and what was there before."""
        fresh = {path: saved} if saved is not None else {}
        return Record(self.ours | {path}, {**self.saved, **fresh}, self.left - {path})

    def leaving(self, path: str) -> "Record":
        """Return the record with `path` as one that is left to its owner; what we placed there is still to go."""
        return Record(self.ours, self.saved, self.left | {path})

    def only(self, path: str) -> "Record":
        """Return what is on record of one path that is ours."""
        saved = {path: self.saved[path]} if path in self.saved else {}
        return Record(frozenset({path}), saved)


class Placed:
    """The record of one app, and the operations that go with it."""

    def __init__(self, files: Files, app_dir: Path, app: str) -> None:
        """Work on `files` for the app in `app_dir`."""
        self._files, self._app_dir, self._app = files, app_dir, app

    def read(self) -> Record:
        """Return the record; an empty one where it is missing or garbled."""
        return self._read() or Record()

    def _read(self) -> Record | None:
        """Return the record; None where it is garbled."""
        try:
            raw = json.loads(self._files.read(self._app_dir / RECORD, _MAX_RECORD_BYTES))
            return Record(
                ours=frozenset(_texts(raw["paths"])),
                saved={str(path): _saved(facts) for path, facts in raw.get("saved", {}).items()},
                left=frozenset(_texts(raw.get("left", []))),
            )
        except FileNotFoundError:
            return Record()
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def _set_aside(self) -> None:
        """Keep what was saved under a garbled record out of the way of what is saved from now on."""
        files, folder, lost = self._files, self._app_dir / REPLACED, self._app_dir / LOST
        if files.is_dir(folder) and self._read() is None:
            files.rename(folder, lost if not files.exists(lost) else temporary(lost).with_suffix(".lost"))

    def write(self, record: Record) -> None:
        """Make `record` durable; what is saved and no longer on it goes afterwards."""
        self._set_aside()
        if record != self._read():
            saved = {
                path: {name: getattr(facts, name) for name in Saved.__slots__} for path, facts in record.saved.items()
            }
            raw = {"paths": sorted(record.ours), "saved": saved, "left": sorted(record.left)}
            self._files.write_atomic(self._app_dir / RECORD, json.dumps(raw).encode())
        self._drop_saved(record)

    def clear(self) -> None:
        """Forget all, once nothing is in place any more."""
        files = self._files
        self._set_aside()
        if files.exists(self._app_dir / RECORD):
            files.remove(self._app_dir / RECORD)
            files.sync_dir(self._app_dir)
        self._drop_saved(Record())

    def save(self, path: Path) -> Saved | None:
        """Keep a copy of the file of somebody else at `path`, durable; None where there is none."""
        files, place = self._files, self._saved_at(path)
        try:
            before = files.stat(path)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(before.st_mode):
            raise InputError(f"cannot keep {path} safe: it is no regular file; move it away", code="unmanaged-file")
        if not files.may_give(before.st_uid, before.st_gid):
            raise InputError(
                f"cannot keep {path} safe: it belongs to user {before.st_uid}, and only root could give it back",
                code="unmanaged-file",
            )
        self._set_aside()
        files.make_dirs(place.parent, _FOLDER_MODE)
        temp = temporary(place)
        try:
            files.copy(path, temp, _SAVED_MODE)
            files.sync_file(temp)
            files.rename(temp, place)
        except DiskError:
            files.remove(temp)
            raise
        facts = files.stat(path)
        if (facts.st_size, facts.st_mtime_ns) != (before.st_size, before.st_mtime_ns) or files.size(
            place
        ) != facts.st_size:
            raise Broken(f"cannot keep {path} safe: it changes while it is copied; stop what writes to it")
        return Saved(
            sha256=file_sha256(files, place).hex(),
            size=facts.st_size,
            mode=stat.S_IMODE(facts.st_mode),
            owner=facts.st_uid,
            group=facts.st_gid,
            changed_ns=facts.st_mtime_ns,
        )

    def take_away(self, path: Path, record: Record) -> None:
        """Remove what we placed at `path`, or give back what was there before; done again it changes nothing."""
        files = self._files
        saved = record.saved.get(str(path))
        if not files.is_dir(path.parent):
            if saved is None:
                return
            raise Broken(f"cannot give back what was at {path}: there is no folder {path.parent}; make it first")
        files.remove(temp_of(path, self._app))
        if saved is not None:
            self._give_back(path, saved)
        elif files.exists(path):
            files.remove(path)
            files.sync_dir(path.parent)

    def _give_back(self, path: Path, saved: Saved) -> None:
        files, place, temp = self._files, self._saved_at(path), temp_of(path, self._app)
        digest = bytes.fromhex(saved.sha256)
        if not is_file(files, place, mode=_SAVED_MODE, size=saved.size, sha256=digest):
            raise Broken(
                f"cannot give back what was at {path}: its copy {place} is damaged; put the file there by hand"
            )
        files.copy(place, temp, _SAVED_MODE)
        files.set_owner(temp, saved.owner, saved.group)
        files.set_mode(temp, saved.mode)
        files.set_changed(temp, saved.changed_ns)
        files.sync_file(temp)
        files.rename(temp, path)

    def _drop_saved(self, record: Record) -> None:
        files, folder = self._files, self._app_dir / REPLACED
        if not files.is_dir(folder):
            return
        kept = {self._saved_at(Path(path)).name for path in record.saved}
        for name in files.listdir(folder):
            if name not in kept:
                files.remove(folder / name)
        if not kept:
            files.remove_tree(folder)
            files.sync_dir(self._app_dir)

    def _saved_at(self, path: Path) -> Path:
        return self._app_dir / REPLACED / hashlib.sha256(str(path).encode()).hexdigest()[:32]


def temp_of(path: Path, app: str) -> Path:
    """Return the name under which a new file waits beside `path`."""
    return path.parent / f".towpath-{app}.tmp"


def _saved(facts: Mapping[str, object]) -> Saved:
    sha256 = str(facts["sha256"])
    bytes.fromhex(sha256)
    numbers = [facts[name] for name in ("size", "mode", "owner", "group", "changed_ns")]
    if not all(isinstance(number, int) for number in numbers):
        raise TypeError("no numbers")
    return Saved(sha256, *numbers)  # type: ignore[arg-type]  # they are ints


def _texts(value: object) -> list[str]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return [item for item in value if isinstance(item, str)]
