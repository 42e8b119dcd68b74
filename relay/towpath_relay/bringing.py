"""`towpath-relay import`: a bundle's objects and deltas for the cache of a relay, whether it runs or not.

The whole file is proven first, by the root that this machine's agent was enrolled with, so that a stranger's stick
fills no cache. What is brought lies in a folder of its own until the relay takes it, a relay that runs within a second.
Hosts prove what the relay sends them, as ever.
"""

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

from towpath.bundle.checking import Checked, check, naming
from towpath.bundle.layout import Member, walk
from towpath.errors import Broken, InputError
from towpath.quantity import format_size
from towpath_agent.ports import Want
from towpath_relay.cache import BROUGHT
from towpath_relay.flights import key_of

PIECE_BYTES = 256 * 1024
_WAITING = "arriving-"


def bring(path: Path, folder: Path, root: bytes, *, max_bytes: int, now_unix_ms: int) -> tuple[Checked, int, int]:
    """Put everything of the bundle at `path` where the relay in `folder` takes it; return how many, and their bytes.

    InputError where the file cannot be read or the cache could not hold it, Refusal where it is not as it was signed.
    """
    brought = folder / BROUGHT
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size

            def read(at: int, count: int) -> bytes:
                return os.pread(file.fileno(), count, at)

            with naming(path):
                checked = check(read, size, root=root, now_unix_ms=now_unix_ms)
            wanted = [(key, member) for member in walk(read, size) if (key := _key(member.name)) is not None]
            total = sum(member.size for _, member in wanted)
            if total > max_bytes:
                raise InputError(
                    f"cannot import {path}: it brings {format_size(total)}, the cache may hold "
                    f"{format_size(max_bytes)}; give the relay a larger --max-bytes"
                )
            brought.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sweep(brought)
            for key, member in wanted:
                _put(brought, key, _pieces(read, member))
    except OSError as error:
        raise InputError(f"cannot import {path} into {folder}: {error.strerror or error}") from error
    return checked, len(wanted), total


def waiting(folder: Path) -> int:
    """Return how much the relay has not taken yet."""
    return sum(1 for entry in os.scandir(folder / BROUGHT) if not entry.name.startswith(_WAITING))


def _key(name: str) -> bytes | None:
    """Return the name in the cache of a member; None for what is neither object nor delta."""
    folder, _, rest = name.partition("/")
    if folder in ("objects", "indexes"):
        return bytes.fromhex(rest)
    if folder == "deltas":
        old, _, new = rest.partition("/")
        return key_of(Want("delta", digest=bytes.fromhex(new), base=bytes.fromhex(old)))
    return None


def _sweep(folder: Path) -> None:
    for entry in os.scandir(folder):
        if entry.name.startswith(_WAITING):
            Path(entry.path).unlink(missing_ok=True)


def _pieces(read: Callable[[int, int], bytes], member: Member) -> Iterator[bytes]:
    for at in range(member.offset, member.offset + member.size, PIECE_BYTES):
        count = min(PIECE_BYTES, member.offset + member.size - at)
        piece = read(at, count)
        if len(piece) != count:
            raise Broken("cannot import the bundle: it became shorter while it was read")
        yield piece


def _put(folder: Path, key: bytes, pieces: Iterator[bytes]) -> None:
    temp, sha256 = folder / f"{_WAITING}{secrets.token_hex(8)}", hashlib.sha256()
    try:
        with temp.open("xb") as out:
            for piece in pieces:
                sha256.update(piece)
                out.write(piece)
        temp.rename(folder / f"{key.hex()}.{sha256.hexdigest()}")
    finally:
        temp.unlink(missing_ok=True)
