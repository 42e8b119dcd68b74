"""Real packages, built in the test, for real package tools that work in a folder of the test and never on the machine.

`DebHost`: dpkg with its own database and file tree below a folder; its scripts run without chroot and find the folder in
DPKG_ROOT. `RpmHost`: rpm with `--root`; a static busybox is its /bin/sh. Where a tool is missing, the test is skipped.
"""

import functools
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from towpath_agent.installers.deb import DebTool
from towpath_agent.installers.package import PackageInstaller
from towpath_agent.installers.rpm import RpmTool
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files

BUSYBOX = Path("/bin/busybox")
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")


def need(program: str, debian: str) -> str:
    """Return the program's path; the test is skipped where it is missing."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"there is no {program} here: apt-get install {debian}")
    return found


def run(*argv: object, cwd: Path | None = None, check: bool = True) -> str:
    """Run a program; return what it said."""
    done = subprocess.run(
        [str(word) for word in argv], cwd=cwd, check=False, capture_output=True, text=True, timeout=100
    )
    if check and done.returncode != 0:
        raise AssertionError(f"{argv} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def build_deb(
    folder: Path,
    version: str,
    *,
    name: str = "hello",
    files: Mapping[str, str] | None = None,
    conffiles: Mapping[str, str] | None = None,
    scripts: Mapping[str, str] | None = None,
    control: str = "",
    architecture: str = "all",
    triggers: str = "",
) -> bytes:
    """Return the bytes of a package; `files` default to /opt/NAME/app with the version."""
    need("dpkg-deb", "dpkg")
    tree = folder / f"deb-{name}-{version}"
    shutil.rmtree(tree, ignore_errors=True)
    placed = {f"opt/{name}/app": f"{name} {version}\n"} if files is None else dict(files)
    for path, text in {**placed, **(conffiles or {})}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    meta = tree / "DEBIAN"
    meta.mkdir(parents=True)
    meta.joinpath("control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: A <a@example.org>\n"
        f"Description: made by a test\n{control}"
    )
    if conffiles:
        meta.joinpath("conffiles").write_text("".join(f"/{path}\n" for path in conffiles))
    if triggers:
        meta.joinpath("triggers").write_text(triggers)
    for script, text in (scripts or {}).items():
        meta.joinpath(script).write_text(f"#!/bin/sh\nset -e\n{text}\n")
        meta.joinpath(script).chmod(0o755)
    target = folder / f"{name}-{version}.deb"
    run("dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, target)
    return target.read_bytes()


@dataclass(frozen=True)
class DebHost:
    """A host of its own for dpkg: `root` holds what is installed, `admin` dpkg's database."""

    root: Path
    admin: Path

    @staticmethod
    def make(root: Path, admin: Path) -> "DebHost":
        """Make an empty one."""
        need("dpkg", "dpkg")
        root.mkdir(parents=True, exist_ok=True)
        for name in ("info", "updates", "triggers"):
            (admin / name).mkdir(parents=True)
        (admin / "status").touch()
        (admin / "available").touch()
        return DebHost(root, admin)

    @property
    def dpkg(self) -> tuple[str, ...]:
        """Return the command of dpkg."""
        places = (f"--instdir={self.root}", f"--admindir={self.admin}", "--log=/dev/null")
        # Unsafe for the machine's power cuts only; the tests here kill processes.
        return ("dpkg", *places, "--force-script-chrootless", "--force-unsafe-io", "--force-not-root")

    @property
    def query(self) -> tuple[str, ...]:
        """Return the command of dpkg-query."""
        return ("dpkg-query", f"--admindir={self.admin}")

    def tool(self, files: Files | None = None, **options: float) -> DebTool:
        """Return the tool that works here."""
        return DebTool(
            files or Files(),
            SystemClock(),
            dpkg=self.dpkg,
            query=self.query,
            root=self.root,
            admin=self.admin,
            **options,
        )

    def installer(self, files: Files | None = None, **options: float) -> PackageInstaller:
        """Return the installer that works here."""
        return PackageInstaller(files or Files(), self.tool(files, **options))

    def by_hand(self, *words: object) -> str:
        """Let somebody else do something with dpkg."""
        return run(*self.dpkg, *words, check=False)

    def state(self, name: str = "hello") -> str:
        """Return "installed 1.0", "config-files 1.0" and the like; "" where dpkg knows nothing."""
        show = "--showformat=${db:Status-Status} ${Version} ${db:Status-Eflag}"
        done = subprocess.run([*self.query, "-W", show, name], check=False, capture_output=True, text=True)
        return done.stdout.removesuffix(" ok")


SPEC = """Name: {name}
Version: {version}
Release: 1
Summary: made by a test
License: MIT
{build_arch}
AutoReqProv: no
{tags}
%description
made by a test
%install
cp -a {tree}/. %{{buildroot}}/
%files
{listed}
{scripts}
"""


def build_rpm(
    folder: Path,
    version: str,
    *,
    name: str = "hello",
    files: Mapping[str, str] | None = None,
    config: Mapping[str, str] | None = None,
    scripts: Mapping[str, str] | None = None,
    tags: str = "",
    architecture: str = "noarch",
) -> bytes:
    """Return the bytes of a package; `scripts` by section: post, preun and so on; `config` is kept where edited."""
    need("rpmbuild", "rpm")
    folder.mkdir(parents=True, exist_ok=True)
    tree = folder / f"rpm-{name}-{version}"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    placed = {f"opt/{name}/app": f"{name} {version}\n"} if files is None else dict(files)
    for path, text in {**placed, **(config or {})}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    listed = [f"/{path}" for path in placed] + [f"%config(noreplace) /{path}" for path in config or {}]
    folders = sorted({str(Path(path).parent) for path in placed if "/" in path} - {"opt"})
    spec = folder / f"{name}-{version}.spec"
    spec.write_text(
        SPEC.format(
            name=name,
            version=version,
            tree=tree,
            tags=tags,
            build_arch="BuildArch: noarch" if architecture == "noarch" else "",
            listed="\n".join([*(f"%dir /{path}" for path in folders), *listed]),
            scripts="\n".join(f"%{section}\n{text}" for section, text in (scripts or {}).items()),
        )
    )
    target = [] if architecture == "noarch" else [f"--target={architecture}-linux"]
    run("rpmbuild", "-bb", "--quiet", *target, "--define", f"_topdir {folder}/rpmbuild", spec)
    made = folder / "rpmbuild" / "RPMS" / architecture / f"{name}-{version}-1.{architecture}.rpm"
    return made.read_bytes()


@functools.cache
def _package_of_sh() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return build_rpm(Path(folder), "1", name="sh", files={}, tags="Provides: /bin/sh")


@dataclass(frozen=True)
class RpmHost:
    """A host of its own for rpm, below `root`."""

    root: Path

    @staticmethod
    def make(root: Path) -> "RpmHost":
        """Make one with a shell, which a package of its own brings."""
        need("rpm", "rpm")
        need("busybox", "busybox-static")
        host = RpmHost(root)
        (root / "bin").mkdir(parents=True)
        shutil.copy(BUSYBOX, root / "bin" / "sh")
        (root / "var" / "lib" / "rpm").mkdir(parents=True)
        path = root.parent / "provides-sh.rpm"
        path.write_bytes(_package_of_sh())
        host.by_hand("--install", path)
        return host

    @property
    def rpm(self) -> tuple[str, ...]:
        """Return the command of rpm."""
        return ("rpm", f"--root={self.root}", "--dbpath=/var/lib/rpm")

    def tool(self, **options: float) -> RpmTool:
        """Return the tool that works here."""
        return RpmTool(SystemClock(), rpm=self.rpm, root=self.root, **options)

    def installer(self, files: Files | None = None, **options: float) -> PackageInstaller:
        """Return the installer that works here."""
        return PackageInstaller(files or Files(), self.tool(**options))

    def by_hand(self, *words: object) -> str:
        """Let somebody else do something with rpm."""
        return run(*self.rpm, *words, check=False)

    def state(self, name: str = "hello") -> str:
        """Return the versions that are there, "" for none."""
        format_ = "--queryformat=%{VERSION}\\n"
        done = subprocess.run([*self.rpm, "-q", format_, name], check=False, capture_output=True, text=True)
        return " ".join(sorted(done.stdout.split())) if done.returncode == 0 else ""
