"""Where a server's objects are, as its settings say: in its folder, or in a bucket. One way for all that open them."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from towpath.errors import InputError
from towpath_server.ports import Blobs
from towpath_server.storage.folder import FolderBlobs


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """The settings. `url` s3://BUCKET/PREFIX, empty: the folder; `direct_ms`: how long addresses for hosts are good."""

    url: str = ""
    endpoint: str = ""
    region: str = ""
    direct_ms: int = 0


IN_FOLDER = ObjectStore()


def open_blobs(folder: Path, store: ObjectStore, *, looking: bool = False) -> Blobs:
    """Return the objects of the server in `folder`; InputError where they cannot be used.

    `looking`: nothing will be stored, and nothing is changed by opening them.
    """
    if not store.url:
        if store.direct_ms:
            raise InputError("cannot use --object-store-direct: objects are in the folder; set --object-store as well")
        return FolderBlobs(folder / "objects", looking=looking)
    from towpath_server.storage.s3 import S3Blobs  # noqa: PLC0415  (a library that only buckets need)

    return S3Blobs(
        store.url,
        folder / "arriving",
        endpoint=store.endpoint,
        region=store.region,
        direct=timedelta(milliseconds=store.direct_ms),
        looking=looking,
    )
