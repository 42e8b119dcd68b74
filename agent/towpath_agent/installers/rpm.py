"""The package tool of Red Hat, SUSE and what descends from them: rpm.

Rules: an older version may replace a newer one, and a version itself. rpm counts a failing %post as a warning; here it
is a failure, because the release would be judged on a package that says of itself that it is not set up. A failing
%preun or %postun of the outgoing package is left out in a second call: it must not keep a release on the host. A
damaged database is rebuilt, by rpm's own means, before anything is asked of it. Edited configuration is kept as the
package says (`%config(noreplace)`); a plain `%config` is replaced and the edited file saved as `.rpmsave`.
Not handled: signatures of rpm itself (the release is signed; a host that asks for both has its way).
"""

import re
from collections.abc import Iterable
from pathlib import Path

from towpath.errors import InputError
from towpath_agent.errors import PackageError
from towpath_agent.installers import tool
from towpath_agent.installers.package import Installed, Package
from towpath_agent.installers.tool import Call
from towpath_agent.system.clock import Clock
from towpath_agent.system.process import HookResult, lock_holder

_FORMAT = "%{NAME}|%{EPOCHNUM}:%{VERSION}-%{RELEASE}|%{ARCH}\\n"
_UPGRADE = ("--upgrade", "--oldpackage", "--replacepkgs")
_WITHOUT_OUTGOING = ("--nopreun", "--nopostun")
_OUTGOING = re.compile(r"%(?:preun|postun)\(.*scriptlet failed")
_BUSY = "transaction lock"
_NOT_THERE = "is not installed"
# By rpm's three kinds of databases.
_DATABASES = ("rpmdb.sqlite", "Packages.db", "Packages")
_INCOMING = re.compile(r"%(?:pre|prein|post|postin|pretrans|posttrans)\(.*scriptlet failed")


class RpmTool:
    """See the module."""

    kind = "rpm"

    def __init__(
        self,
        clock: Clock,
        *,
        rpm: tuple[str, ...] = ("rpm",),
        root: Path = Path("/"),
        lock_timeout_s: float = tool.LOCK_TIMEOUT_S,
    ) -> None:
        """Work by `rpm`, a program and its first words; `root` is where it keeps its files."""
        self._clock, self._rpm, self._root, self._lock_timeout_s = clock, rpm, root, lock_timeout_s

    def require(self) -> None:
        """InputError where there is no rpm; a damaged database is rebuilt, PackageError where that fails."""
        tool.require(self.kind, self._rpm[0])
        if self._readable():
            return
        self._ask("--rebuilddb")
        if not self._readable():
            raise PackageError(
                "cannot use the rpm database: it is damaged and cannot be rebuilt; restore it from a backup",
                code="database",
            )

    def _readable(self) -> bool:
        """Return whether the database is sound, as far as can be told: one that is in use is not looked at."""
        result = self._ask("--verifydb")
        return result.ok or _BUSY in result.output

    def read(self, path: Path) -> Package:
        """Return name, version with epoch and release, and architecture."""
        result = self._ask("--query", "--package", f"--queryformat={_FORMAT}", str(path))
        rows = [line.split("|") for line in result.output.splitlines() if line.count("|") == 2]
        if not result.ok or len(rows) != 1:
            raise InputError(
                f"cannot use {path.name} as an RPM package: {tool.shown(result.output)}; build it again",
                code="bad-package",
            )
        name, version, architecture = rows[0]
        return Package(name, version.removeprefix("0:"), architecture)

    def installed(self, name: str) -> Installed | None:
        """Return what is there; two versions at once are one that was cut off half-way."""
        result = self._ask("--query", f"--queryformat={_FORMAT}", name)
        versions = sorted(
            {line.split("|")[1].removeprefix("0:") for line in result.output.splitlines() if line.count("|") == 2}
        )
        return Installed(", ".join(versions), whole=len(versions) == 1) if result.ok and versions else None

    def check(self, path: Path, package: Package, ours: Iterable[str]) -> None:
        """Refuse what rpm's dry run refuses, and making somebody else's package obsolete."""
        where = f"cannot install package {package.name} {package.version}"
        obsoletes = self._ask("--query", "--package", "--queryformat=[%{OBSOLETENAME}\\n]", str(path)).output.split()
        for name in sorted(set(obsoletes) - {*ours, package.name}):
            if self.installed(name) is not None:
                raise InputError(f"{where}: it would remove package {name}; remove that first", code="conflict")
        result = self._ask(*_UPGRADE, "--test", str(path))
        if not result.ok:
            reason = tool.shown(result.output)
            code = "conflict"
            if "is needed by" in reason:
                code = "missing-dependency"
            elif "different architecture" in reason or "different operating system" in reason:
                code = "wrong-architecture"
            raise InputError(f"{where}: {reason}", code=code)

    def install(self, path: Path, _package: Package, call: Call, /) -> None:
        """Put the package in place of whatever version is there."""
        output = self._change([*_UPGRADE, str(path)], call).output
        if _INCOMING.search(output):
            raise PackageError(f"cannot {call.what}: {tool.shown(output)}")

    def remove(self, name: str, call: Call) -> None:
        """Erase the package in all versions that are there."""
        if self.installed(name) is not None:
            self._change(["--erase", "--allmatches", name], call)

    def unwell(self) -> list[str]:
        """Return nothing: what rpm has is in place, or is there twice and replaced by the next call."""
        return []

    def mend(self, before: Iterable[str], call: Call) -> None:
        """Do nothing more: the database is mended by `require`, our own package by what follows."""

    def witnesses(self, name: str) -> list[Path]:
        """Return the files of the package and the database, which changes with any package."""
        listed = self._ask("--query", "--list", name).output.splitlines()
        paths = [self._root / line[1:] for line in listed if line.startswith("/")]
        folder = self._root / self._ask("--eval", "%{_dbpath}").output.strip().rpartition("\n")[2].lstrip("/")
        return [*paths, *(folder / name for name in _DATABASES)]

    def quiet(self, name: str) -> bool:
        """Ask for the lock, and whether rpm answers: it says the same status for what is not there and for trouble."""
        if lock_holder(self._lock()):
            return False
        result = self._ask("--query", name)
        return result.ok or (not result.timed_out and _NOT_THERE in result.output and "error:" not in result.output)

    def changed(self, name: str) -> list[str]:
        """Return the files that `rpm -V` names, configuration excepted."""
        output = self._ask("--verify", "--nodeps", "--noscripts", name).output
        rows = (line.split() for line in output.splitlines())
        return [row[-1] for row in rows if len(row) > 1 and row[-1].startswith("/") and "c" not in row[1:-1]]

    def _change(self, words: list[str], call: Call) -> HookResult:
        turn = tool.Turn(call, self._clock, self._lock_timeout_s)
        lock = self._lock()
        while holder := lock_holder(lock):
            turn.wait(holder)
        result = tool.act([*self._rpm, *words], self._clock, call)
        if not result.ok and not result.timed_out and _OUTGOING.search(result.output):
            result = tool.act([*self._rpm, *words[:-1], *_WITHOUT_OUTGOING, words[-1]], self._clock, call)
        if not result.ok:
            raise tool.failure(call, result)
        return result

    def _lock(self) -> Path:
        """Return the file whose lock rpm takes."""
        name = self._ask("--eval", "%{_rpmlock_path}").output.strip().rpartition("\n")[2]
        return self._root / name.lstrip("/")

    def _ask(self, *words: str) -> HookResult:
        return tool.ask([*self._rpm, *words], self._clock)
