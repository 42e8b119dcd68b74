"""The .deb: control file, conffile, maintainer scripts, and dpkg-deb."""

import hashlib
import shutil
from pathlib import Path

from environment import glibc_floor
from tools import run
from tree import MAINTAINER, Package, settle

SCRIPTS = ("postinst", "prerm", "postrm")


def build_deb(package: Package, _work: Path, out: Path) -> Path:
    """Build and return dist/NAME_VERSION_ARCH.deb."""
    tree, product = package.tree, package.product
    architecture = run("dpkg", "--print-architecture").strip()
    control = tree / "DEBIAN"
    kib = sum(-(-path.lstat().st_size // 1024) for path in tree.rglob("*"))
    control.mkdir()
    (control / "control").write_text(
        f"Package: {product.name}\n"
        f"Version: {package.version}\n"
        f"Architecture: {architecture}\n"
        f"Maintainer: {MAINTAINER}\n"
        f"Installed-Size: {kib}\n"
        f"Depends: libc6 (>= {glibc_floor(tree / product.prefix)}){product.depends}\n"
        "Recommends: systemd, dbus, tzdata\n"
        "Section: admin\n"
        "Priority: optional\n"
        f"Description: {product.summary}\n"
        f"{product.description}"
    )
    (control / "conffiles").write_text(f"{product.conffile}\n")
    for name in SCRIPTS:
        shutil.copyfile(package.root / product.scripts / name, control / name)
        (control / name).chmod(0o755)
    sums = [
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(tree)}\n"
        for path in sorted(tree.rglob("*"))
        if path.is_file() and not path.is_symlink() and control not in path.parents
    ]
    (control / "md5sums").write_text("".join(sums))
    settle(tree, package.time_s)
    made = out / f"{product.name}_{package.version}_{architecture}.deb"
    # xz, which the dpkg of every release reads; one thread, because with more the bytes depend on how many there are.
    compression = ("-Zgzip", "-z1") if package.fast else ("-Zxz", "-z6")
    run("dpkg-deb", "--root-owner-group", *compression, "--threads-max=1", "--build", tree, made,
        env={"SOURCE_DATE_EPOCH": str(package.time_s)})  # fmt: skip
    return made
