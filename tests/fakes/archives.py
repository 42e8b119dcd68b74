"""Deltas that see into archives, in memory: made as the server's process makes them."""

import io
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from fakes.deltas import named
from towpath.delta.opened import Head, take_head
from towpath_agent.system.files import Files
from towpath_server.deltas.encoder import NewObject, encode
from towpath_server.deltas.opening import Opener, put_magic


def make_opened(
    old: Sequence[bytes], new: Sequence[bytes], *, archives: Collection[int] = (0,), index_last: bool = True
) -> bytes:
    """A delta; the objects of these numbers, old and new, are opened where they can be."""
    opener = Opener(Path(tempfile.gettempdir()), 2**32, forms := tempfile.TemporaryFile())  # noqa: SIM115
    base, objects = named(old), []
    old_out, new_out = io.BytesIO(), io.BytesIO()
    with forms:
        for number, content in enumerate(new):
            like = number if number < len(old) else None
            if number in archives and like is not None:
                size = opener.new(number, io.BytesIO(content), like, io.BytesIO(old[like]), new_out)
                objects.append(NewObject(size, like))
            else:
                objects.append(NewObject(len(content), like))
                new_out.write(content)
        for number, content in enumerate(old):
            base[number] = opener.base(number, io.BytesIO(content), old_out) or base[number]
    pieces = encode(base, old_out.getbuffer(), objects, new_out.getbuffer(), index_last=index_last)
    return put_magic(opener.head) + b"".join(pieces)


def with_head(delta: bytes, change: Callable[[Head], Head]) -> bytes:
    """The delta with another head."""
    taken = take_head(delta)
    assert taken is not None
    head, length = taken
    assert head is not None
    return put_magic(change(head)) + delta[length:]


class FullFiles(Files):
    """A disk that has no room."""

    def disk_free(self, _path: Path) -> int:
        """None."""
        return 0
