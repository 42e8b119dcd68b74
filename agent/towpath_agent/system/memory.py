"""Memory that a change needed and an idle agent does not."""

import ctypes
import gc

_LIBC = ctypes.CDLL(None)


def give_back() -> None:
    """Return freed memory to the system, where the C library can (glibc); the next change takes it anew."""
    gc.collect()
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)
