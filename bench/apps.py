"""Releases to measure with: made anew for each version, so that nothing is on a host already."""

import os
import shutil
from pathlib import Path

from examples.loopback import EXAMPLES

HEALTHY_FOR_S = 1.0
MIB = 2**20


def hello(folder: Path, version: str) -> Path:
    """Return the release file of examples/hello at `version`; its probation is short, so that idle is idle."""
    shutil.copytree(EXAMPLES / "hello", folder)
    (folder / "app" / "VERSION").write_text(f"{version}\n")
    release_file = folder / "towpath.yaml"
    release_file.write_text(release_file.read_text().replace("probation: 1m", "probation: 1s"))
    return release_file


def five_files(folder: Path) -> Path:
    """Return the release file of 5 files, 1 MB together, that nothing runs, with a probe that passes at once."""
    (folder / "app").mkdir(parents=True)
    for number in range(5):
        (folder / "app" / f"file{number}").write_bytes(os.urandom(200_000))
    text = f"""\
app: five
artifact: ./app
install: {{kind: tree}}
run: {{kind: none}}
probes:
  - exec: {{command: ["/bin/test", "-s", "file0"], interval: 50ms}}
health: {{healthy_for: {HEALTHY_FOR_S:g}s, deadline: 20s, probation: 1s}}
parameters: {{note: {{type: string, default: none}}}}
"""
    return _write(folder, text)


def bulk(folder: Path, size: int) -> Path:
    """Return the release file of one file of `size` random bytes."""
    (folder / "app").mkdir(parents=True)
    with (folder / "app" / "bulk").open("wb") as file:
        for start in range(0, size, MIB):
            file.write(os.urandom(min(MIB, size - start)))
    text = """\
app: bulk
artifact: ./app
install: {kind: tree}
run: {kind: none}
probes:
  - exec: {command: ["/bin/test", "-s", "bulk"], interval: 50ms}
health: {healthy_for: 100ms, deadline: 20s, probation: 1s}
"""
    return _write(folder, text)


def _write(folder: Path, text: str) -> Path:
    release_file = folder / "towpath.yaml"
    release_file.write_text(text)
    return release_file
