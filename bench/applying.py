"""Applies one delta as an agent does: the child process of `bench.transfer`, with nothing of a bench in its memory.

`python -m bench.applying FOLDER`: `delta`, `job.json` ({base: [[digest, size]], limit}) and `objects/` are there; what
is made goes into `objects/` too. Prints one line of JSON: CPU seconds, peak of resident memory, digests made.
"""

import json
import os
import sys
import time
from pathlib import Path

from bench.measure import peak_rss_mib
from towpath_agent.store.applying import Applying
from towpath_agent.system.files import Files

PIECE_BYTES = 256 * 1024


def apply(folder: Path) -> None:
    """Do so."""
    job = json.loads((folder / "job.json").read_text())
    began = time.process_time()
    applying = Applying(
        Files(),
        [(bytes.fromhex(digest), size) for digest, size in job["base"]],
        limit=job["limit"],
        path=lambda digest: folder / "objects" / digest.hex(),
        scratch=folder / "scratch",
    )
    with (folder / "delta").open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            applying.feed(piece)
    made = applying.finish()
    applying.close()
    cpu_s = time.process_time() - began
    print(json.dumps({"cpu_s": cpu_s, "peak_mib": peak_rss_mib(os.getpid()), "made": [it.hex() for it in made]}))


if __name__ == "__main__":
    apply(Path(sys.argv[1]))
