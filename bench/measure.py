"""What a process costs, read from /proc: memory, CPU of all its threads, and of those it started.

Linux only. CPU comes from the process's own CPU clock (clock_getcpuclockid(3): any process may read it), because
/proc/PID/stat counts in ticks of 10 ms, more than an idle agent uses in a minute.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from examples.processes import interrupt_on_signals

KIB_PER_MIB = 1024
# From linux/posix-timers.h; the clock id of a process is made from its complemented pid.
_CPUCLOCK_SCHED = 2


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB of one process.

    `pss_mib` divides shared pages among all processes that map them, so it flatters a process that is measured beside
    its like. `pss_alone_mib` counts pages of mapped files as a whole: what the process would show as the only one of
    its kind on a machine (an upper bound: some system libraries are everybody's). `private_mib` is what is no page of a
    file: heaps and stacks, the part that a leak makes grow.
    """

    pss_mib: float
    pss_alone_mib: float
    rss_mib: float
    private_mib: float


def memory(pid: int) -> Memory:
    """Return the memory of `pid` alone; apps that it started are not its own."""
    pss = alone = rss = private = 0
    maps_file = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):  # a mapping's first line: range, permissions, offset, device, inode, path
            maps_file = words[4] != "0"
        elif words[0] == "Pss:":
            pss += int(words[1])
            alone += 0 if maps_file else int(words[1])
        elif words[0] == "Rss:":
            rss += int(words[1])
            alone += int(words[1]) if maps_file else 0
        elif words[0] == "Anonymous:":
            private += int(words[1])
    return Memory(*(round(kib / KIB_PER_MIB, 2) for kib in (pss, alone, rss, private)))


def forget_peak(pid: int) -> None:
    """Begin the peak of resident memory of `pid` anew (proc_pid_clear_refs(5))."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_rss_mib(pid: int) -> float:
    """Return the most resident memory that `pid` had since its start or `forget_peak`."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / KIB_PER_MIB, 1)


def cpu_s(pid: int) -> float:
    """Return seconds on a core that `pid` used so far, its ended threads included (nanosecond clock)."""
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


def reaped_cpu_s(pid: int) -> float:
    """Return seconds on a core of processes that `pid` started and waited for (ticks of 10 ms)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / 100


def median(values: Sequence[float], digits: int = 3) -> float:
    """Return the rounded median."""
    return round(statistics.median(values), digits)


def note(text: str) -> None:
    """Tell people what goes on, on stderr: stdout is the JSON line's."""
    print(text, file=sys.stderr, flush=True)


@dataclass(slots=True)
class Span:
    """Seconds between the ends of a `with` block."""

    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0


@contextmanager
def span() -> Iterator[Span]:
    """Time a block."""
    measured = Span()
    try:
        yield measured
    finally:
        measured.seconds = time.monotonic() - measured.began


def report(measure: Callable[[Path], dict[str, object]]) -> int:
    """Run a bench in a folder of its own and print its one line of JSON; return the exit code."""
    interrupt_on_signals()
    try:
        with tempfile.TemporaryDirectory(prefix="towpath-bench-") as folder:
            result = measure(Path(folder))
    except KeyboardInterrupt:
        note("bench: cannot finish: interrupted; everything it started was ended")
        return 130
    print(json.dumps(result))
    return 0
