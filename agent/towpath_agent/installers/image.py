"""What an image archive says of itself: the digest that podman will call the image by, its platform, its names.

Both layouts are read: docker (`manifest.json`) and OCI (`index.json`). Only the small JSON files are looked at, with a
cap; layers are podman's business. Archives of several images, and indexes of several platforms, are refused.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from towpath.errors import InputError
from towpath_agent.system.files import Files, OpenFile

_MAX_JSON_BYTES = 4 * 2**20
_OCI_NAME = "org.opencontainers.image.ref.name"

Member = Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True)
class Image:
    """One image. `id` is the hexadecimal SHA-256 of its configuration; `platform` is such as `linux/amd64`."""

    id: str
    platform: str
    names: tuple[str, ...]


class _UnusableError(Exception):
    """The archive is whole and still no use."""


def read_image(files: Files, path: Path) -> Image:
    """Return the one image of an archive; InputError (code "bad-package") where there is not one."""
    import tarfile  # noqa: PLC0415 - only where an image is installed

    def member(archive: tarfile.TarFile, name: str) -> bytes | None:
        try:
            info = archive.getmember(name)
        except KeyError:
            return None
        found = archive.extractfile(info)
        if found is None or info.size > _MAX_JSON_BYTES:
            raise _UnusableError(f"its file {name[:200]} is no small JSON file")
        return found.read(_MAX_JSON_BYTES)

    try:
        with (
            files.open_read(path) as source,
            tarfile.open(fileobj=cast("IO[bytes]", _Seekable(source)), mode="r:") as archive,
        ):
            return _image(lambda name: member(archive, name))
    except _UnusableError as error:
        raise _bad(path, str(error)) from error
    except (tarfile.TarError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise _bad(path, "it is cut off or garbled") from error


def _bad(path: Path, reason: str) -> InputError:
    return InputError(
        f"cannot use {path.name} as an image archive: {reason}; make one with: podman save --format oci-archive",
        code="bad-package",
    )


def _image(member: Member) -> Image:
    docker = member("manifest.json")
    if docker is not None:
        entries = json.loads(docker)
        _require_one(len(entries), "images")
        return _configured(_needed(member, str(entries[0]["Config"])), tuple(entries[0].get("RepoTags") or ()))
    index = member("index.json")
    if index is None:
        raise _UnusableError("it has neither index.json nor manifest.json")
    manifests = json.loads(index)["manifests"]
    _require_one(len(manifests), "images")
    manifest = json.loads(_needed(member, _blob(manifests[0]["digest"])))
    if "manifests" in manifest:
        raise _UnusableError("it is an index of several platforms; save one of them")
    name = (manifests[0].get("annotations") or {}).get(_OCI_NAME)
    return _configured(_needed(member, _blob(manifest["config"]["digest"])), (str(name),) if name else ())


def _require_one(number: int, what: str) -> None:
    if number != 1:
        raise _UnusableError(f"it holds {number} {what}; one is expected")


def _needed(member: Member, name: str) -> bytes:
    data = member(name)
    if data is None:
        raise _UnusableError(f"it has no file {name[:200]}")
    return data


def _blob(digest: str) -> str:
    algorithm, _, number = digest.partition(":")
    return f"blobs/{algorithm}/{number}"


def _configured(config: bytes, names: tuple[Any, ...]) -> Image:
    raw = json.loads(config)
    platform = f"{raw['os']}/{raw['architecture']}"
    return Image(hashlib.sha256(config).hexdigest(), platform, tuple(str(name) for name in names))


class _Seekable:
    """What tarfile needs of a file."""

    def __init__(self, source: OpenFile) -> None:
        self._source = source
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        """Return exactly `size` bytes, fewer only at the end."""
        parts = []
        while size > 0 and (part := self._source.read(size)):
            parts.append(part)
            size -= len(part)
            self._at += len(part)
        return b"".join(parts)

    def seek(self, offset: int, _whence: int = 0) -> int:
        """Go on at `offset` from the beginning."""
        self._source.seek(offset)
        self._at = offset
        return offset

    def tell(self) -> int:
        """Return where it stands."""
        return self._at

    def seekable(self) -> bool:
        """Return True."""
        return True
