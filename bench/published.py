"""Pairs of published versions to measure transfer with, taken from PyPI, npm and Debian by their ordinary clients.

Versions are pinned, so that numbers can be compared; a pair whose version a registry no longer has is an error that
names it. What was taken is kept in a folder, so that a second run takes nothing.
"""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from bench.measure import note

TIMEOUT_S = 600.0
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_27_x86_64", "manylinux_2_28_x86_64", "any")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two versions, the older first. `package` is the registry's name; Debian's may hold `{version}`."""

    name: str
    registry: str
    package: str
    versions: tuple[str, str]
    short: bool = False


# `short`: in the default set, about ten minutes of one core.
PAIRS = (
    Pair("pydantic-core", "pypi", "pydantic-core", ("2.50.4", "2.50.5"), short=True),
    Pair("ruff", "pypi", "ruff", ("0.17.5", "0.17.6")),
    Pair("esbuild", "npm", "@esbuild/linux-x64", ("0.28.1", "0.28.2"), short=True),
    Pair("django", "pypi", "django", ("5.2.18", "5.2.19"), short=True),
    Pair("typescript", "npm", "typescript", ("6.0.2", "6.0.3"), short=True),
    Pair("grpcio", "pypi", "grpcio", ("1.85.1", "1.85.3")),
    Pair("botocore", "pypi", "botocore", ("1.44.7", "1.44.8")),
    Pair("numpy", "pypi", "numpy", ("2.4.5", "2.4.6"), short=True),
    Pair("postgresql", "debian", "postgresql-15", ("15.18-0+deb12u1", "15.20-0+deb12u1")),
    Pair("ghost", "npm", "ghost", ("6.64.0", "6.65.0")),
    Pair("uv", "pypi", "uv", ("0.13.8", "0.13.9")),
    Pair("biome", "npm", "@biomejs/cli-linux-x64", ("2.6.7", "2.6.8")),
    Pair("kernel", "debian", "linux-image-{version}-amd64", ("6.1.0-55", "6.1.0-56")),
    Pair("cryptography", "pypi", "cryptography", ("50.0.1", "50.0.2")),
    Pair("sqlalchemy", "pypi", "sqlalchemy", ("2.1.8", "2.1.9")),
    Pair("lxml", "pypi", "lxml", ("6.1.2", "6.1.3")),
    Pair("prettier", "npm", "prettier", ("3.10.0", "3.10.1"), short=True),
)


class Missing(Exception):
    """A version cannot be had here."""


def take(pair: Pair, folder: Path) -> tuple[Path, Path]:
    """Return the unpacked trees of both versions, kept below `folder`."""
    folder = folder.resolve()  # the tools run in a folder of their own
    old, new = (_tree(pair, version, folder / pair.name / version) for version in pair.versions)
    return old, new


def _tree(pair: Pair, version: str, place: Path) -> Path:
    tree = place / "tree"
    if tree.is_dir():
        return tree
    note(f"  taking {pair.package} {version} from {pair.registry}")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    part = place / "part"
    {"pypi": _pypi, "npm": _npm, "debian": _debian}[pair.registry](pair.package, version, place, part)
    part.rename(tree)
    return tree


def _run(command: list[str], folder: Path, what: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise Missing(f"cannot take {what}: {(done.stderr or done.stdout).strip()[-300:]}")


def _pypi(package: str, version: str, place: Path, part: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--python-version", "3.11", *(word for name in PLATFORMS for word in ("--platform", name))]
    _run([*command, "--dest", str(place), f"{package}=={version}"], place, f"{package} {version}")
    with zipfile.ZipFile(next(place.glob("*.whl"))) as wheel:
        wheel.extractall(part)


def _npm(package: str, version: str, place: Path, part: Path) -> None:
    if shutil.which("npm") is None:
        raise Missing(f"cannot take {package} {version}: npm is not installed")
    _run(["npm", "pack", "--silent", f"{package}@{version}"], place, f"{package} {version}")
    with tarfile.open(next(place.glob("*.tgz"))) as archive:
        archive.extractall(part, filter="data")


def _debian(package: str, version: str, place: Path, part: Path) -> None:
    what = package.format(version=version)
    name = what if what != package else f"{package}={version}"
    _run(["apt-get", "download", name], place, what)
    _run(["dpkg-deb", "--extract", str(next(place.glob("*.deb"))), str(part)], place, what)
