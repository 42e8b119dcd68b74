"""A bundle as a file on this machine: written beside its name until it is whole and proven, read in pieces.

Not handled here: what proves it (`towpath.bundle.checking`).
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from towpath.bundle.checking import Checked, check, naming
from towpath.errors import Broken, InputError
from towpath_cli.model import BundlePiece


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield where to write; take that for `path` where the block ends well, remove it where it does not."""
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def save(part: Path, pieces: Iterable[BundlePiece]) -> None:
    """Write the bytes of a bundle as they come; Broken where they end early."""
    size = sent = 0
    with part.open("xb") as file:
        for piece in pieces:
            size = size or piece.size
            sent += len(piece.data)
            file.write(piece.data)
        file.flush()
        os.fsync(file.fileno())
    if not size or sent != size:
        raise Broken(f"cannot save the bundle: {sent} of {size} bytes came; make it again")


def verified(path: Path, root: bytes, now_unix_ms: int) -> Checked:
    """Return what the file at `path` is; InputError where it cannot be read, Refusal where it is not as signed."""
    try:
        with path.open("rb") as file, naming(path):
            descriptor = file.fileno()
            size = os.fstat(descriptor).st_size
            return check(lambda at, count: os.pread(descriptor, count, at), size, root=root, now_unix_ms=now_unix_ms)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
