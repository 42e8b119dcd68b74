"""Fetch one version of waitress from the package registry and lay out what its release carries.

    python3 examples/waitress/fetch.py 3.0.1 [--into FOLDER]

FOLDER (default: build/ beside this file) is made anew: lib/ holds the unpacked wheel as `pip install --target` would
leave it, web/ the site. Only wheels with the digests below are taken, whatever registry pip is set up for.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
WHEEL_SHA256 = {
    "3.0.1": "26cdbc593093a15119351690752c99adc13cbc6786d75f7b6341d1234a3730ac",
    "3.0.2": "c56d67fd6e87c2ee598b76abdd4e96cfad1f24cacdea5078d382b1f9d7b5ed2e",
}
TIMEOUT_S = 120


def download(version: str, folder: Path) -> Path:
    """Return the path of the wheel, fetched by pip into `folder`; SystemExit says what went wrong."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(folder), f"waitress=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise SystemExit(f"cannot fetch waitress {version}: {reason}; pip needs a package registry that it can reach")
    (wheel,) = folder.glob("*.whl")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256[version]:
        raise SystemExit(f"cannot use {wheel.name}: its SHA-256 is {found}, expected is {WHEEL_SHA256[version]}")
    return wheel


def lay_out(wheel: Path, into: Path) -> None:
    """Make `into` anew from the wheel and the site."""
    shutil.rmtree(into, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(into / "lib")
    shutil.copytree(HERE / "web", into / "web", ignore=shutil.ignore_patterns("__pycache__"))


def main() -> None:
    """Fetch, check, lay out."""
    parser = argparse.ArgumentParser(description="Fetch waitress and lay out its release.")
    parser.add_argument("version", choices=sorted(WHEEL_SHA256))
    parser.add_argument("--into", type=Path, default=HERE / "build", help="folder to make anew")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lay_out(download(arguments.version, Path(folder)), arguments.into)
    print(f"waitress {arguments.version} is in {arguments.into}")


if __name__ == "__main__":
    main()
