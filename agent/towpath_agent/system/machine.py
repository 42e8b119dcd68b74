"""Facts about the machine and its process trees that psutil reads better than we would.

psutil is loaded at the first question and not before: an agent whose releases ask nothing of it does not hold it. What
tells one process from another, and what runs for an app, is read in `proc` (see docs/adr/0013).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resident:
    """One process of a tree and the memory that it holds."""

    pid: int
    name: str
    rss_bytes: int


def available_memory() -> int:
    """Return the bytes that programs can still get without swapping, as the kernel estimates it."""
    import psutil  # noqa: PLC0415 - see the module

    return int(psutil.virtual_memory().available)


def largest(pid: int, count: int) -> list[Resident]:
    """Return the `count` processes of the tree below `pid` that hold most memory, most first; none where it is gone."""
    import psutil  # noqa: PLC0415 - see the module

    found = []
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.Error:
        return []
    for process in tree:
        try:
            found.append(Resident(process.pid, process.name(), process.memory_info().rss))
        except psutil.Error:  # it ended meanwhile
            continue
    return sorted(found, key=lambda one: (-one.rss_bytes, one.pid))[:count]
