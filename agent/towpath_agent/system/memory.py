"""Memory that a change needed and an idle agent does not.

Two kinds: freed heap, which glibc keeps until asked, and pages of programs and libraries that were touched once (at
start, by imports, by a change). The second kind was the larger half of an idle agent: 35 of 55 MiB. Dropping such a
page costs but a minor fault when it is needed again: it is a clean copy of a file that the page cache still has.
"""

import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_SMAPS = Path("/proc/self/smaps")
_MADV_DONTNEED = 4
# Read-only and private. What the loader changed and then protected (relocations) looks the same, but is dirty.
_READ_ONLY = ("r--p", "r-xp")


def give_back() -> None:
    """Return freed memory and pages of files to the system (Linux, glibc); the next change takes it anew."""
    gc.collect()
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)
    drop_pages()


def drop_pages() -> None:
    """Return pages of files alone: some milliseconds, cheap enough for an idle agent to do now and then."""
    madvise = getattr(_LIBC, "madvise", None)
    if madvise is not None:
        for start, size in clean_file_pages(_smaps()):
            madvise(ctypes.c_void_p(start), ctypes.c_size_t(size), _MADV_DONTNEED)


def clean_file_pages(smaps: str) -> Iterator[tuple[int, int]]:
    """Yield (address, bytes) of the mappings in the text of /proc/PID/smaps that hold nothing but clean file pages.

    A page that differs from its file (Private_Dirty, Anonymous) would be lost, so such a mapping is left alone whole.
    """
    found: tuple[int, int] | None = None
    resident = False
    for line in smaps.splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            if found is not None and resident:
                yield found
            start, _, end = words[0].partition("-")
            named = len(words) > 5 and words[5].startswith("/") and words[1] in _READ_ONLY
            found, resident = ((int(start, 16), int(end, 16) - int(start, 16)) if named else None), False
        elif words[0] == "Rss:":
            resident = words[1] != "0"
        elif words[0] in ("Anonymous:", "Private_Dirty:", "Shared_Dirty:") and words[1] != "0":
            found = None
    if found is not None and resident:
        yield found


def _smaps() -> str:
    try:
        return _SMAPS.read_text(encoding="utf-8", errors="replace")
    except OSError:  # a system that does not show it: nothing is given back, nothing is lost
        return ""
