"""Objects in their carried form, in a folder: named by digest, below a limit of bytes, the least used goes first.

    objects/<digest, hex>.<SHA-256 of the carried form, hex>   whole, and proven when it came
    partial/<digest, hex>                                      carried bytes of a fetch that was cut off
    brought/<digest, hex>.<SHA-256 of the carried form, hex>   whole and proven, by `towpath relay import`

The second digest finds what the disk made of the bytes since, before they are sent. Whole ones are not synced: after a
power cut a damaged file is found by it, and fetched again. Nothing proves a partial one before its bytes go out: of it
the first start after a boot keeps what was surely synced. Times of use are the files' own (mtime), so a restart forgets
nothing. Methods may be called from different threads at once.
"""

import hashlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from towpath.errors import Unavailable

_NAME = re.compile(r"([0-9a-f]{64})\.([0-9a-f]{64})")
_PARTIAL = re.compile(r"[0-9a-f]{64}")
BROUGHT = "brought"
BOOT = "boot"
# Whoever writes a partial file syncs it where its size passes a multiple of this.
SYNC_BYTES = 4 * 2**20


class NoRoom(Unavailable):
    """An object does not fit below the limit."""

    code = "no-room"


@dataclass(frozen=True, slots=True)
class Kept:
    """One whole object: its file, its carried size, and the digest of the carried form."""

    path: Path
    size: int
    carried_sha256: bytes


class Cache:
    """What is kept below `root`; `max_bytes` holds for whole objects, partial ones and those that come, together."""

    def __init__(self, root: Path, max_bytes: int, boot: str = "") -> None:
        """Take over what is there, the longest unused first; files of other names are none of ours and stay.

        `boot` is what changes with every boot, empty where partial files are good in any case.
        """
        self._objects, self._partial, self._brought = root / "objects", root / "partial", root / BROUGHT
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        for folder in (self._objects, self._partial, self._brought):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        for entry in sorted(os.scandir(self._objects), key=lambda one: one.stat().st_mtime_ns):
            match = _NAME.fullmatch(entry.name)
            if match is not None:
                kept = Kept(Path(entry.path), entry.stat().st_size, bytes.fromhex(match[2]))
                self._kept[bytes.fromhex(match[1])] = kept
        if boot:
            self._cut_partial(root / BOOT, boot)
        # Carried bytes of objects that are not whole: those that wait for a next try, and those that come now.
        self._waiting = {
            bytes.fromhex(entry.name): entry.stat().st_size
            for entry in os.scandir(self._partial)
            if _PARTIAL.fullmatch(entry.name)
        }
        self._coming: dict[bytes, int] = {}
        self.bytes_kept = sum(kept.size for kept in self._kept.values()) + sum(self._waiting.values())
        self._make_room()
        self.adopt()

    def _cut_partial(self, record: Path, boot: str) -> None:
        """Cut what may not have reached the disk, where the machine went down since the last start."""
        if record.exists() and record.read_text(errors="replace") == boot:
            return
        for entry in os.scandir(self._partial):
            if _PARTIAL.fullmatch(entry.name):
                # One multiple less: the last may have been passed in the moment of the power cut.
                os.truncate(entry.path, max(0, entry.stat().st_size // SYNC_BYTES - 1) * SYNC_BYTES)
        record.write_text(boot)

    def adopt(self) -> int:
        """Take what an import has brought; return how many. What comes at this moment is left for the next time."""
        taken = 0
        for entry in list(os.scandir(self._brought)):
            match = _NAME.fullmatch(entry.name)
            if match is None:
                continue
            digest, size = bytes.fromhex(match[1]), entry.stat().st_size
            with self._lock:
                if digest in self._coming:
                    continue
                if digest in self._kept or size > self.max_bytes:
                    Path(entry.path).unlink()
                    continue
                self._forget(digest)  # what an earlier try left of it
                kept = Kept(self._objects / entry.name, size, bytes.fromhex(match[2]))
                Path(entry.path).rename(kept.path)
                self._kept[digest] = kept
                self.bytes_kept += size
                self._make_room()
                taken += 1
        return taken

    def find(self, digest: bytes) -> Kept | None:
        """Return the object where it is whole, and note that it was used."""
        with self._lock:
            kept = self._kept.get(digest)
            if kept is None:
                return None
            try:
                os.utime(kept.path)
            except OSError:  # somebody removed it, or the disk is gone
                self._forget(digest)
                return None
            self._kept.move_to_end(digest)
            return kept

    def holds(self, digests: Iterable[bytes]) -> bool:
        """Return whether all of these are whole; they do not count as used."""
        with self._lock:
            return all(digest in self._kept for digest in digests)

    def partial(self, digest: bytes) -> Path:
        """Return where the carried bytes of an object that is on its way are kept."""
        return self._partial / digest.hex()

    def begin(self, digest: bytes) -> int:
        """Note that an object comes from now on; return how many bytes of it an earlier try left."""
        with self._lock:
            self._coming[digest] = self._waiting.pop(digest, 0)
            return self._coming[digest]

    def expect(self, digest: bytes, size: int) -> None:
        """Make room for an object that comes and has `size` carried bytes; NoRoom where it does not fit."""
        with self._lock:
            more = size - self._coming[digest]
            if sum(self._coming.values()) + more > self.max_bytes:
                raise NoRoom(f"cannot keep an object of {size} bytes: the cache may hold {self.max_bytes}")
            self.bytes_kept += more
            self._coming[digest] = size
            self._make_room()

    def pause(self, digest: bytes) -> None:
        """Note that an object stopped coming; what came of it is kept for the next try."""
        with self._lock:
            self.bytes_kept -= self._coming.pop(digest, 0) + self._waiting.pop(digest, 0)
            partial = self.partial(digest)
            if partial.exists():
                self._waiting[digest] = partial.stat().st_size
                self.bytes_kept += self._waiting[digest]

    def keep(self, digest: bytes, carried_sha256: bytes) -> Kept:
        """Take an object that came whole and is proven."""
        with self._lock:
            partial = self.partial(digest)
            kept = Kept(
                self._objects / f"{digest.hex()}.{carried_sha256.hex()}", partial.stat().st_size, carried_sha256
            )
            partial.rename(kept.path)
            self.bytes_kept += kept.size - self._coming.pop(digest, 0)
            self._kept[digest] = kept
            self._make_room()
            return kept

    def drop(self, digest: bytes) -> None:
        """Forget every byte of an object."""
        with self._lock:
            self._forget(digest)

    def drop_damaged(self, digest: bytes, kept: Kept) -> None:
        """Forget an object as `find` returned it; one that came anew since, or comes, stays."""
        with self._lock:
            if self._kept.get(digest) is kept:
                self._forget(digest)

    def _forget(self, digest: bytes) -> None:
        kept = self._kept.pop(digest, None)
        if kept is not None:
            kept.path.unlink(missing_ok=True)
            self.bytes_kept -= kept.size
        self.bytes_kept -= self._waiting.pop(digest, 0) + self._coming.pop(digest, 0)
        self.partial(digest).unlink(missing_ok=True)

    def _make_room(self) -> None:
        """Remove what waits for a next try, then what was not used for longest, until the limit holds."""
        while self.bytes_kept > self.max_bytes and (self._waiting or self._kept):
            self._forget(next(iter(self._waiting or self._kept)))


def carried_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
