"""`python packaging/make KIND... [--out dist]`: packages (deb, rpm, server-deb, server-rpm), and the size of each.

Needs Debian's python3.11, binutils and dpkg-deb (or rpmbuild) beside the development environment, and a package index
or pip's cache for the wheels in packaging/*/requirements.lock. Same commit, same bytes: all times are the commit's.
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
from product import AGENT, SERVER, Product
from rpm import build_rpm
from server_tree import make_server_tree
from tools import Failed, run
from tree import Package, make_tree

ROOT = Path(__file__).resolve().parents[2]
BUILDERS = {
    "deb": (AGENT, build_deb),
    "rpm": (AGENT, build_rpm),
    "server-deb": (SERVER, build_deb),
    "server-rpm": (SERVER, build_rpm),
}
MAKERS = {AGENT: make_tree, SERVER: make_server_tree}
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
    parser = argparse.ArgumentParser(prog="packaging/make", description="Build packages of the agent and the server.")
    parser.add_argument("kinds", nargs="+", choices=sorted(BUILDERS))
    parser.add_argument("--out", type=Path, default=Path("dist"))
    parser.add_argument("--fast", action="store_true", help="compress little: for tests")
    options = parser.parse_args()
    os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory(prefix="towpath-package-") as folder:
            options.out.mkdir(parents=True, exist_ok=True)
            trees: dict[Product, Package] = {}
            for kind in options.kinds:
                product, build = BUILDERS[kind]
                if product not in trees:
                    tree = Path(folder) / product.name
                    trees[product] = Package(ROOT, tree, commit_time(ROOT), fast=options.fast, product=product)
                    MAKERS[product](trees[product])
                package = trees[product]
                installed = sum(path.lstat().st_size for path in package.tree.rglob("*") if not path.is_dir())
                work = Path(folder) / kind
                shutil.copytree(package.tree, work / "tree", symlinks=True)
                _tell(build(replace(package, tree=work / "tree"), work, options.out.absolute()), installed)
    except (Failed, OSError) as error:
        sys.stderr.write(f"packaging: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
