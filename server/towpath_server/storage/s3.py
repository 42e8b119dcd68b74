"""Objects in a bucket of an S3 service: `<prefix>/ab/cdef...`, each in its carried form, as the folder has them.

Rules:
- An object is checked while it arrives, in a temporary file here, and only then put into the bucket. A put is atomic,
  and durable when it is answered; the same object put twice is the same object.
- What the bucket has is listed once, at the start; what is asked for and was not listed is looked up. So several
  servers may use one bucket, and a server that starts costs one request for each thousand objects.
- What is proven damaged is put over with nothing, and a key with nothing is no object: so no right to delete is
  needed, every server finds it missing, and the next upload replaces it. `cdef....damaged` has what was there.
- Where `direct` is given, an address is signed at which a host gets one object by itself for so long. Nothing else of
  the bucket can be had with it, and the object is what every host may have anyway.
- Keys come from the environment (AWS_ACCESS_KEY_ID, ...) or from the machine's role, never from a settings file.
Not handled here: making the bucket, its encryption and life cycle (the bucket's owner).
"""

import contextlib
import hashlib
import os
import re
import secrets
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import obstore
import zstandard
from obstore.exceptions import BaseError
from obstore.store import S3Store

from towpath.errors import Broken, InputError, Refusal, Unavailable
from towpath_server.ports import BlobWriter
from towpath_server.storage.folder import FolderWriter, hold
from towpath_server.storage.frames import MAX_WINDOW_BYTES, SHORTEST_BYTES, FrameCheck

SCHEME = "s3://"
_DIGEST_BYTES = 32
_DAMAGED = ".damaged"
_AT_ONCE = 16
_LISTED_AT_ONCE = 1000

_MOST_SHOWN = 200
_ROLE = re.compile(r"Error performing [A-Z]+ \S+/latest/(api/token|meta-data)")
_ADDRESS = re.compile(r"Error performing [A-Z]+ (https?://[^/?\s]{1,200})")
_CODE = re.compile(r"<Code>([^<]{1,80})</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,200})</Message>")
_STATUS = re.compile(r"status code: (\d{3}[^:\n]{0,40})")
_SYSTEM = re.compile(r'(?:message|error): "([^"\n]{1,120})"')

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

T = TypeVar("T")


class S3Blobs:
    """`ports.Blobs` in a bucket. `url` is s3://BUCKET/PREFIX, `endpoint` an http(s) URL, empty for Amazon's own.

    `direct`: for how long an address of `link` is good; zero: there are none.
    """

    def __init__(
        self,
        url: str,
        incoming: Path,
        *,
        endpoint: str = "",
        region: str = "",
        direct: timedelta = timedelta(0),
        looking: bool = False,
    ) -> None:
        """List the bucket; InputError where that is not possible.

        `incoming` is a folder for what arrives; where only `looking` it is not made, and nothing arrives.
        """
        bucket, _, prefix = url.removeprefix(SCHEME).partition("/")
        if not url.startswith(SCHEME) or not bucket:
            raise InputError(f"cannot use {url[:80]!r} as object_store: write s3://BUCKET or s3://BUCKET/PREFIX")
        self._incoming, self._direct = incoming, direct
        if not looking:
            weakref.finalize(self, os.close, hold(incoming))
        options = {"endpoint": endpoint} if endpoint else {}
        self._store = S3Store(
            bucket,
            prefix=prefix.strip("/") or None,
            region=region or os.environ.get("AWS_REGION", "us-east-1"),
            client_options={"allow_http": True} if endpoint.startswith("http://") else {},
            virtual_hosted_style_request=not endpoint,
            **options,  # type: ignore[arg-type]
        )
        self._pool = ThreadPoolExecutor(_AT_ONCE, "s3")
        self._sizes: dict[bytes, int] = {}
        try:
            for page in obstore.list(self._store, chunk_size=_LISTED_AT_ONCE):
                for found in page:
                    digest = _digest_of(found["path"])
                    if digest is not None and found["size"] >= SHORTEST_BYTES:
                        self._sizes[digest] = found["size"]
        except (BaseError, OSError, ValueError) as error:
            raise InputError(
                f"cannot use {url} for objects: {_reason(error)}; "
                "look at object_store, object_store_endpoint and the AWS_* variables"
            ) from error

    def missing(self, digests: Iterable[bytes], *, anew: bool = False) -> list[bytes]:
        """See `ports.Blobs`. `anew` costs a request for each object."""
        asked = list(dict.fromkeys(digests))
        unknown = [digest for digest in asked if anew or digest not in self._sizes]
        absent = {
            digest for digest, size in zip(unknown, self._pool.map(self._look, unknown), strict=True) if size is None
        }
        return [digest for digest in asked if digest in absent]

    def carried_size(self, digest: bytes) -> int | None:
        """See `ports.Blobs`."""
        known = self._sizes.get(digest)
        return self._look(digest) if known is None else known

    def _look(self, digest: bytes) -> int | None:
        """Ask for the length of an object, and remember it."""
        key = _key(digest)
        try:
            size: int = _asked(lambda: obstore.head(self._store, key)["size"])
        except FileNotFoundError:
            size = 0
        if size < SHORTEST_BYTES:
            self._sizes.pop(digest, None)
            return None
        self._sizes[digest] = size
        return size

    def chunks(self, digest: bytes, offset: int, chunk_bytes: int) -> Iterator[bytes]:
        """See `ports.Blobs`."""
        size = self.carried_size(digest)
        if size is None:
            raise self._gone(digest)
        if offset >= size:
            return
        yield from _pieces(self._get(digest, offset), chunk_bytes)

    def _get(self, digest: bytes, offset: int = 0) -> "GetResult":
        """Return what the bucket has of an object from `offset`, before its bytes come; InputError `not-found`."""
        key = _key(digest)
        range_: GetOptions = {"range": {"offset": offset}} if offset else {}
        try:
            found = _asked(lambda: obstore.get(self._store, key, options=range_))
        except FileNotFoundError:
            found = None
        except Unavailable:  # also where there is nothing at `offset`, because it was put aside
            if self._look(digest) is not None:
                raise
            found = None
        if found is None or found.meta["size"] < SHORTEST_BYTES:
            self._sizes.pop(digest, None)
            raise self._gone(digest)
        return found

    def link(self, digest: bytes) -> str | None:
        """See `ports.Blobs`."""
        if not self._direct:
            return None
        return str(_asked(lambda: obstore.sign(self._store, "GET", _key(digest), self._direct)))

    def writer(self, digest: bytes, size: int) -> FolderWriter:
        """See `ports.Blobs`."""
        return FolderWriter(Path(_key(digest)), self._incoming / secrets.token_hex(16), FrameCheck(digest, size))

    def publish(self, writers: Sequence[BlobWriter]) -> int:
        """See `ports.Blobs`. What was put before an error stays: it is whole, and a later try finds it."""
        mine = [writer for writer in writers if isinstance(writer, FolderWriter)]
        by_digest = {bytes.fromhex(writer.path.as_posix().replace("/", "")): writer for writer in mine}
        here = zip(by_digest.items(), self._pool.map(self._look, by_digest), strict=True)
        fresh = [digest for (digest, writer), size in here if size != writer.size]
        for digest, size in zip(fresh, self._pool.map(lambda one: self._put(by_digest[one]), fresh), strict=True):
            self._sizes[digest] = size
        for writer in mine:
            writer.abort()
        return len(fresh)

    def read(self, digest: bytes, limit: int) -> bytes:
        """See `ports.Blobs`."""
        found = self._get(digest)
        expand = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj()
        data = bytearray()
        try:
            for piece in _pieces(found, 16 * 1024):
                data += expand.decompress(piece)
                if len(data) > limit:
                    raise Refusal(
                        f"cannot read object {digest.hex()[:16]}: more than {limit} bytes", code="endless-data"
                    )
        except zstandard.ZstdError as error:
            raise self._damaged(digest, found) from error
        if hashlib.sha256(data).digest() != digest:
            raise self._damaged(digest, found)
        return bytes(data)

    def set_aside(self, digest: bytes, size: int) -> bool:
        """See `ports.Blobs`."""
        check = FrameCheck(digest, size)
        try:
            found = self._get(digest)
        except InputError:
            return False
        try:
            for piece in _pieces(found, 256 * 1024):
                check.feed(piece)
            check.finish()
        except Refusal:
            self._empty(digest, found)
            return True
        return False

    def _damaged(self, digest: bytes, found: "GetResult") -> Broken:
        """Put `found` aside; return what is said of it."""
        try:
            self._empty(digest, found)
        except Unavailable as error:
            return Broken(f"cannot read object {digest.hex()[:16]}: it is damaged, and cannot be put aside ({error})")
        return Broken(f"cannot read object {digest.hex()[:16]}: it is damaged; upload it again")

    def _empty(self, digest: bytes, found: "GetResult") -> None:
        """Put nothing over `found`, but not over what another server put there meanwhile."""
        key = _key(digest)
        try:
            if _asked(lambda: obstore.head(self._store, key))["e_tag"] != found.meta["e_tag"]:
                return
        except FileNotFoundError:
            return
        with contextlib.suppress(BaseError, OSError):  # for whoever wants to know what happened
            obstore.copy(self._store, key, key + _DAMAGED)
        _asked(lambda: obstore.put(self._store, key, b""))
        self._sizes.pop(digest, None)

    def _put(self, writer: FolderWriter) -> int:
        _asked(lambda: obstore.put(self._store, writer.path.as_posix(), writer.temporary))
        return writer.temporary.stat().st_size

    def _gone(self, digest: bytes) -> InputError:
        return InputError(f"cannot read object {digest.hex()[:16]}: it is not here", code="not-found")


def _pieces(found: "GetResult", chunk_bytes: int) -> Iterator[bytes]:
    pieces = iter(found.stream(min_chunk_size=chunk_bytes))
    while (piece := _asked(lambda: next(pieces, None))) is not None:
        data = bytes(piece)
        for at in range(0, len(data), chunk_bytes):
            yield data[at : at + chunk_bytes]


def _key(digest: bytes) -> str:
    if len(digest) != _DIGEST_BYTES:
        raise InputError(f"cannot look up an object: a digest has {_DIGEST_BYTES} bytes, not {len(digest)}")
    name = digest.hex()
    return f"{name[:2]}/{name[2:]}"


def _digest_of(key: str) -> bytes | None:
    """Return whose object a key is, None for what somebody else put there."""
    name = key.replace("/", "")
    try:
        digest = bytes.fromhex(name)
    except ValueError:
        return None
    return digest if len(digest) == _DIGEST_BYTES and key == _key(digest) else None


def _asked(ask: Callable[[], T]) -> T:
    """Return the answer of the service; Unavailable where it gives none. FileNotFoundError is an answer."""
    try:
        return ask()
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        raise Unavailable(f"cannot use the object store: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return in one line why the service did not do it: what it answered, or why there is no answer.

    The library's text begins with what was asked and how often, and has the reason at its end, some in a dump.
    """
    text = str(error)
    if _ROLE.search(text):  # where the library looks for a machine's role once there are no keys
        return (
            "there are no keys: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, and this machine has no role"
        )
    found = [pattern.search(text) for pattern in (_ADDRESS, _CODE, _MESSAGE, _STATUS, _SYSTEM)]
    address, code, message, status, system = (one.group(1).strip().rstrip(".") if one else "" for one in found)
    if code or status:
        return f"{address} answers {code or status}" + (f": {message}" if message else "")
    if address and system:
        return f"no answer from {address}: {system}"
    return " ".join((text.splitlines() or [type(error).__name__])[0].split())[:_MOST_SHOWN]
