"""An agent's memory while it fetches and applies a large artifact. `python -m bench.memory`.

One host of real processes fetches a release (of one file, or of more: `--files`), half random bytes, half text that
compresses well, with a cut in the middle, and installs it. The agent's PSS is read all the while; `alone` counts its
shared pages as a whole, and `with_children` adds the processes that it starts (verification). Ends with ONE line of
JSON on stdout: {mib, files, fetch: {peak_pss_mib, peak_alone_mib, peak_with_children_mib, s}}. Goal: 64 MiB PSS.
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

from examples.loopback import Fleet

from bench.measure import memory, note

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from fakes.line import Line

DEPLOY_TIMEOUT_S = 1800.0
LOOK_S = 0.05
MIB = 2**20
RELEASE = """app: blob
version: "1"
artifact: ./blob
install: {kind: tree}
run: {kind: none}
"""


class Watching:
    """The peaks of an agent's memory while it is entered."""

    def __init__(self, pid: int) -> None:
        """Watch `pid` and what it starts."""
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.pss = self.alone = self.whole = 0.0

    def __enter__(self) -> Self:
        """Begin."""
        self._began_s = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self.seconds = time.monotonic() - self._began_s
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_S):
            mine = memory(self._pid)
            others = 0.0
            for child in Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split():
                try:
                    others += memory(int(child)).pss_mib
                except (OSError, IndexError):  # it ended meanwhile
                    continue
            self.pss = max(self.pss, mine.pss_mib)
            self.alone = max(self.alone, mine.pss_alone_mib)
            self.whole = max(self.whole, mine.pss_mib + others)

    @property
    def result(self) -> dict[str, float]:
        """Return what was seen."""
        return {
            "peak_pss_mib": self.pss,
            "peak_alone_mib": self.alone,
            "peak_with_children_mib": round(self.whole, 2),
            "s": round(self.seconds, 1),
        }


def _publish(fleet: Fleet, folder: Path, version: str, mib: int, files: int) -> None:
    """Publish `files` of them: the first half random, the second of lines that differ by a number and the version."""
    size = mib * MIB // files
    for number in range(files):
        path = folder / "blob" / f"{number // 256}" / f"data-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for at in range(0, size, MIB):
                if (number * size + at) // MIB < mib // 2:
                    file.write(os.urandom(min(MIB, size - at)))
                else:
                    place = f"{number}.{at // MIB}"
                    line = f"{version} line {place} of a text that compresses well, as logs and sources do\n".encode()
                    file.write((line * (MIB // len(line) + 1))[: min(MIB, size - at)])
    (folder / "towpath.yaml").write_text(RELEASE)
    words = ("release", "publish", str(folder / "towpath.yaml"), "--version", version)
    fleet.towpath(*words, timeout_s=DEPLOY_TIMEOUT_S)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.memory", description="An agent's memory with a large artifact.")
    parser.add_argument("--mib", type=int, default=2048, help="size of the artifact")
    parser.add_argument("--files", type=int, default=1, help="how many files it has")
    parser.add_argument("--folder", type=Path, help="where to work: four times the artifact's size must be free")
    options = parser.parse_args()
    listen = Fleet.fixed_addresses()
    result: dict[str, object] = {"mib": options.mib, "files": options.files}
    with (
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
        Line(listen["agent"]) as line,
        Fleet(Path(folder)) as fleet,
    ):
        fleet.init()
        (fleet.server_folder / "server.toml").write_text(f'public_address = "{line.address}"\n')
        fleet.start_server(listen)
        fleet.add_hosts(["h1"])
        _publish(fleet, Path(folder), "1", options.mib, options.files)
        line.cuts = [line.brought + options.mib * MIB // 4]
        with Watching(fleet.agents["h1"].pid) as watching:
            fleet.deploy("blob", "1", timeout_s=DEPLOY_TIMEOUT_S)
        result["fetch"] = watching.result
        note(f"fetch: {watching.result}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
