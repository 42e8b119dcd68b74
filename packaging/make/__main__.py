"""`python packaging/make deb rpm [--out dist]`: packages of the agent, and for each a line that says how large it is.

Needs Debian's python3.11, binutils and dpkg-deb (or rpmbuild) beside the development environment, and a package index
or pip's cache for the wheels in packaging/agent/requirements.lock. Same commit, same bytes: all times are the commit's.
Not handled here: what is in the package (`tree`), how the host takes it (`deb`, `rpm`).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from deb import build_deb
from rpm import build_rpm
from tools import Failed, run
from tree import Package, make_tree

ROOT = Path(__file__).resolve().parents[2]
BUILDERS = {"deb": build_deb, "rpm": build_rpm}
MIB = 2**20


def commit_time(root: Path) -> int:
    """Return the time that everything in the package bears, in Unix seconds: the commit's, or SOURCE_DATE_EPOCH."""
    said = os.environ.get("SOURCE_DATE_EPOCH")
    if said is not None:
        return int(said)
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed("cannot tell the time of this commit: this is no git work tree; set SOURCE_DATE_EPOCH")
    return int(done.stdout)


def _tell(made: Path, installed: int) -> None:
    digest = run("sha256sum", made).split()[0]
    size = made.stat().st_size
    sys.stdout.write(f"{made}: {size / MIB:.1f} MiB, installed {installed / MIB:.1f} MiB, sha256 {digest}\n")


def main() -> int:
    """Build what the command line names."""
    parser = argparse.ArgumentParser(prog="packaging/make", description="Build a package of the agent.")
    parser.add_argument("kinds", nargs="+", choices=sorted(BUILDERS))
    parser.add_argument("--out", type=Path, default=Path("dist"))
    parser.add_argument("--fast", action="store_true", help="compress little: for tests")
    options = parser.parse_args()
    os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory(prefix="towpath-package-") as folder:
            package = Package(root=ROOT, tree=Path(folder) / "tree", time_s=commit_time(ROOT), fast=options.fast)
            make_tree(package)
            installed = sum(path.lstat().st_size for path in package.tree.rglob("*") if not path.is_dir())
            options.out.mkdir(parents=True, exist_ok=True)
            for kind in options.kinds:
                work = Path(folder) / kind
                shutil.copytree(package.tree, work / "tree", symlinks=True)
                made = BUILDERS[kind](replace(package, tree=work / "tree"), work, options.out.absolute())
                _tell(made, installed)
    except (Failed, OSError) as error:
        sys.stderr.write(f"packaging: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
