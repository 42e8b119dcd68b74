"""Which releases the cache has whole: of those nobody needs a delta over the site's line.

Nothing is believed of what an index says: a host that is told so takes objects, and proves them; a wrong answer costs
bytes. An answer is good for a few seconds, so that all hosts of a site cost one look; objects may go meanwhile.
"""

import hashlib
import threading
import time
from collections import OrderedDict

import zstandard

from towpath.carried import WINDOW_BYTES
from towpath.errors import TowpathError
from towpath.index import MAX_INDEX_BYTES, objects
from towpath.wire import decode_index
from towpath_relay.cache import Cache

GOOD_S = 10.0
MOST_REMEMBERED = 256


class Releases:
    """Looks into the cache. May be asked from several threads."""

    def __init__(self, cache: Cache) -> None:
        """Remember nothing yet."""
        self._cache = cache
        self._lock = threading.Lock()
        self._seen: OrderedDict[bytes, tuple[float, bool]] = OrderedDict()

    def whole(self, index_sha256: bytes) -> bool:
        """Return whether the index of that digest is here, and every object that it names."""
        with self._lock:  # others wait for the same look
            at_s, answer = self._seen.get(index_sha256, (-GOOD_S, False))
            if time.monotonic() - at_s >= GOOD_S:
                answer = self._look(index_sha256)
                self._seen[index_sha256] = time.monotonic(), answer
                if len(self._seen) > MOST_REMEMBERED:
                    self._seen.popitem(last=False)
            return answer

    def _look(self, index_sha256: bytes) -> bool:
        kept = self._cache.find(index_sha256)
        if kept is None:
            return False
        try:
            with kept.path.open("rb") as file:
                reader = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).stream_reader(file)
                index = reader.read(MAX_INDEX_BYTES + 1)
            if hashlib.sha256(index).digest() != index_sha256:
                return False
            return self._cache.holds(objects(decode_index(index)))
        except (TowpathError, zstandard.ZstdError, OSError):
            return False
