"""Probe `log`: what was logged since this release was started holds a line with `pattern`, and none with `forbid`.

Options: `pattern`, `forbid` (Python's regular expressions, searched in each line), `path` (relative: in the release's
folder); without it the log that the agent keeps of the release. The log counts from its length at the last start by the
agent (`marks` of the context); a file that was replaced or cut since counts whole.

What it costs is bounded: each byte is read once, at most MAX_BYTES at one check, the rest at the next; of a line the
first 4 KiB are searched; all matching of one check ends after MAX_MATCH_S of processor time, so that a pattern that
explodes fails its check and says so. What was found stays found until the next start.
Not handled here: journald, what was rotated away between two checks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from towpath.errors import InputError, TowpathError
from towpath.parameters import Value
from towpath.probes import compile_pattern
from towpath.quantity import format_size
from towpath_agent.probes.base import FileMark, ProbeContext, ProbeResult, place, result
from towpath_agent.probes.scan import Scan
from towpath_agent.system import beside
from towpath_agent.system.clock import Clock, Deadline
from towpath_agent.system.cpu import CpuBudget, OutOfTime
from towpath_agent.system.files import Files

PIECE_BYTES = 256 * 1024
MAX_BYTES = 16 * 2**20
MAX_MATCH_S = 1.0


@dataclass(slots=True)
class _Reading:
    """How far a log was read since the start that `mark` is of."""

    mark: FileMark | None
    scan: Scan
    inode: int
    offset: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """A piece of the file from `offset` on, and how long the file is."""

    inode: int
    size: int
    offset: int
    data: bytes


class LogProbe:
    """See the module."""

    def __init__(self, files: Files, clock: Clock) -> None:
        """Read with `files`, count timeouts on `clock`."""
        self._files, self._clock = files, clock
        self._readings: dict[tuple[str, ...], _Reading] = {}

    def check(self, options: Mapping[str, Value], context: ProbeContext) -> ProbeResult:
        """Read what is new and judge all that was found."""
        path = place(options.get("path", str(context.instance.log)), context.instance)
        wanted = {name: str(options[name]) for name in ("pattern", "forbid") if name in options}
        if not wanted:
            return result(False, f"cannot look at {path}: neither a pattern nor a text to forbid is given")
        deadline = Deadline(self._clock, context.timeout_s)
        try:
            reading = self._reading(path, wanted, context)
            behind = self._read_on(path, reading, deadline)
        except FileNotFoundError:
            return result(False, f"there is no log {path}")
        except OutOfTime:
            return result(False, f"matching one line of {path} takes more than {MAX_MATCH_S:g} s; make it simpler")
        except (OSError, TowpathError, RuntimeError) as error:
            return result(False, f"cannot look at {path}: {error}")
        return _judge(path, wanted, reading.scan, behind)

    def _reading(self, path: Path, wanted: Mapping[str, str], context: ProbeContext) -> _Reading:
        """Return how far this log was read since its release was started; other releases of the app are forgotten."""
        app, release = context.instance.marker, context.instance.release_id
        for old in [key for key in self._readings if key[0] == app and key[1] != release]:
            del self._readings[old]
        key = (app, release, str(path), *(f"{name} {text}" for name, text in wanted.items()))
        mark = context.marks.get(str(path))
        reading = self._readings.get(key)
        if reading is None or reading.mark != mark:
            scan = Scan({name: compile_pattern(text) for name, text in wanted.items()})
            inode, offset = (mark.inode, mark.size) if mark is not None else (0, 0)
            reading = self._readings[key] = _Reading(mark, scan, inode, offset)
        return reading

    def _read_on(self, path: Path, reading: _Reading, deadline: Deadline) -> int:
        """Search what is new; return how many bytes are left for the next check."""
        budget, scan, behind = CpuBudget(MAX_MATCH_S), reading.scan, 0
        for _ in range(MAX_BYTES // PIECE_BYTES):
            piece = beside.ask(str(path), lambda: self._piece(path, reading.inode, reading.offset), deadline)
            reading.inode, reading.offset = piece.inode, piece.offset
            done = scan.feed(piece.data, budget)
            reading.offset += done
            rest = piece.data[done:]
            behind = piece.size - reading.offset
            if b"\n" in rest:  # out of time before the last whole line
                break
            if piece.offset + len(piece.data) >= piece.size:
                scan.feed_end(rest, budget)
                return 0
            if not done:
                if not scan.feed_piece(piece.data, budget):
                    break
                reading.offset += len(piece.data)
        return behind

    def _piece(self, path: Path, inode: int, offset: int) -> _Piece:
        """Read the next piece. Runs beside: a mount that hangs holds nobody up."""
        real = self._files.real(path)
        facts = self._files.stat(real)
        if not S_ISREG(facts.st_mode):  # opening a pipe would wait
            raise InputError("it is no regular file")
        begin = offset if facts.st_ino == inode and facts.st_size >= offset else 0
        with self._files.open_read(real) as file:
            file.seek(begin)
            return _Piece(facts.st_ino, facts.st_size, begin, file.read(PIECE_BYTES))


def _judge(path: Path, wanted: Mapping[str, str], scan: Scan, behind: int) -> ProbeResult:
    note = f", {format_size(behind)} are still to be read" if behind else ""
    if "forbid" in scan.found:
        return result(False, f"{path}: a line that {wanted['forbid']!r} forbids: {scan.found['forbid']}")
    if "pattern" in scan.found:
        return result(True, f"{path}: {scan.found['pattern']}{note}")
    if "pattern" in wanted:
        return result(False, f"{path}: none of {scan.lines} lines since the start has {wanted['pattern']!r}{note}")
    return result(True, f"{path}: none of {scan.lines} lines since the start is forbidden{note}")
