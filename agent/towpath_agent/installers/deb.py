"""The package tool of Debian and what descends from it: dpkg.

Rules: configuration files that were edited stay (`confold`), an older version may replace a newer one. dpkg's own lock
decides whose turn it is: another program that holds it is waited for and then named; a dpkg that a killed agent left
behind is waited for as long as it might have taken, then ended. What dpkg alone would not refuse before it unpacks is
refused here: missing dependencies, and removing another package in favour of this one. A removal script of the outgoing
package that fails is taken away and the call repeated: it must not keep a release on the host.
Not handled: files that another package owns (dpkg refuses when it meets them, and the release is reverted).
"""

import re
from collections.abc import Iterable
from pathlib import Path

from towpath.errors import InputError
from towpath_agent.installers import debdeps, tool
from towpath_agent.installers.package import Installed, Package
from towpath_agent.installers.tool import Call
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files
from towpath_agent.system.process import HookResult, lock_holder

# The second is taken by apt for as long as it calls dpkg again and again.
_LOCKS = ("lock", "lock-frontend")
_MAX_FIELD_BYTES = 2**20
_MAX_STATUS_BYTES = 2**26
_FORCE = ("--force-confdef", "--force-confold", "--force-downgrade")
_LOCKED = re.compile(r"is locked by another process|was locked by another process with pid (\d+)")
_FAVOUR = re.compile(r"will remove (\S+) in favou?r of")
_OUTGOING = re.compile(r"(?:old|installed) (\S+) package (pre|post)-removal script subprocess")
# States of which `dpkg --configure` makes an installed package.
_UNFINISHED = frozenset({"unpacked", "half-configured", "triggers-pending"})
_GONE = frozenset({"", "not-installed", "config-files"})
# What waits for the triggers of others is itself in place.
_WHOLE = frozenset({"installed", "triggers-pending", "triggers-awaited"})
_STATES = "${binary:Package}\\t${db:Status-Status}\\t${db:Status-Eflag}\\t${Version}\\t${Package}\\t${Provides}\\n"


class DebTool:
    """See the module."""

    kind = "deb"

    def __init__(
        self,
        files: Files,
        clock: Clock,
        *,
        dpkg: tuple[str, ...] = ("dpkg",),
        query: tuple[str, ...] = ("dpkg-query",),
        root: Path = Path("/"),
        admin: Path = Path("/var/lib/dpkg"),
        lock_timeout_s: float = tool.LOCK_TIMEOUT_S,
    ) -> None:
        """Work by `dpkg` and `query` (dpkg-query), each a program and its first words.

        They install below `root` and keep their database in `admin`.
        """
        self._files, self._clock = files, clock
        self._dpkg, self._query, self._lock_timeout_s = dpkg, query, lock_timeout_s
        self._root, self._admin = root, admin
        self._known_architectures: list[str] = []

    def require(self) -> None:
        """InputError where there is no dpkg."""
        tool.require(self.kind, self._dpkg[0])
        tool.require(self.kind, self._query[0])

    def read(self, path: Path) -> Package:
        """Return name, version and architecture; the name of a foreign architecture's package ends with `:ARCH`."""
        fields = self._fields(path)
        name, architecture = fields.get("Package", ""), fields.get("Architecture", "")
        if architecture not in ("all", self._architectures()[0]):
            name = f"{name}:{architecture}"
        return Package(name, fields.get("Version", ""), architecture)

    def installed(self, name: str) -> Installed | None:
        """Return what dpkg has under that name."""
        return next(
            (found for it, found in self._packages(name) if it.partition(":")[0] == name.partition(":")[0]), None
        )

    def check(self, path: Path, package: Package, ours: Iterable[str]) -> None:
        """Refuse another architecture, missing dependencies, conflicts, and removing somebody else's package."""
        where = f"cannot install package {package.name} {package.version}"
        native, *foreign = self._architectures()
        if package.architecture not in ("all", native, *foreign):
            raise InputError(
                f"{where}: it is for {package.architecture}, this host is {native}", code="wrong-architecture"
            )
        fields = self._fields(path)
        wanted = debdeps.parse(f"{fields.get('Pre-Depends', '')}, {fields.get('Depends', '')}")
        if wanted:
            missing = debdeps.missing(wanted, self._available(package, fields), self._compare)
            if missing:
                raise InputError(
                    f"{where}: it depends on {'; '.join(missing)}, which is not installed; install that first",
                    code="missing-dependency",
                )
        result = tool.ask([*self._dpkg, *_FORCE, "--simulate", "--install", str(path)], self._clock)
        others = sorted(set(_FAVOUR.findall(result.output)) - set(ours))
        if others:
            raise InputError(f"{where}: it would remove package {others[0]}; remove that first", code="conflict")
        if not result.ok:
            raise InputError(f"{where}: {tool.shown(result.output)}", code="conflict")

    def install(self, path: Path, package: Package, call: Call, /) -> None:
        """Unpack and configure the package."""
        self._change(package.name, ["--install", str(path)], call)

    def remove(self, name: str, call: Call) -> None:
        """Remove the package, also where it asks to be installed again first; configuration files stay."""
        if self.installed(name) is not None:
            self._change(name, ["--force-remove-reinstreq", "--remove", name], call)

    def unwell(self) -> list[str]:
        """Return the packages that are neither in place nor away."""
        return sorted(name for name, state, _, _ in self._states() if state in _UNFINISHED)

    def mend(self, before: Iterable[str], call: Call) -> None:
        """Configure what is unfinished now and was not before; what the failing scripts of others say is theirs."""
        unfinished = sorted(set(self.unwell()) - set(before))
        if unfinished:
            self._run(["--configure", *unfinished], call)

    def witnesses(self, name: str) -> list[Path]:
        """Return the files of the package and dpkg's list of them, which every call on the package writes anew."""
        listed = tool.ask([*self._query, "--listfiles", name], self._clock, limit=_MAX_STATUS_BYTES).output.splitlines()
        paths = [self._root / line[1:] for line in listed if line.startswith("/") and line != "/."]
        plain = name.partition(":")[0]
        own = [self._admin / "info" / f"{it}.list" for it in (plain, f"{plain}:{self._architectures()[0]}")]
        return [*paths, *own]

    def quiet(self, name: str) -> bool:
        """Ask for the lock, and whether dpkg-query answers: 1 is its word for what is not there, 2 for trouble."""
        if any(lock_holder(self._admin / lock) for lock in _LOCKS):
            return False
        return tool.ask([*self._query, "--show", name], self._clock).status in (0, 1)

    def changed(self, name: str) -> list[str]:
        """Return the files whose digest is no longer that of the package."""
        output = tool.ask([*self._dpkg, "--verify", name], self._clock).output
        lines = (line.split(None, 1) for line in output.splitlines())
        return [words[1] for words in lines if len(words) == 2 and not words[1].startswith("c /")]

    # -- what dpkg says

    def _fields(self, path: Path) -> dict[str, str]:
        names = ("Package", "Version", "Architecture", "Depends", "Pre-Depends", "Provides")
        result = tool.ask([*self._dpkg, "--field", str(path), *names], self._clock, limit=_MAX_FIELD_BYTES)
        fields = debdeps.fields(result.output)
        if not result.ok or not fields.get("Package") or not fields.get("Version"):
            raise InputError(
                f"cannot use {path.name} as a Debian package: {tool.shown(result.output)}; build it again",
                code="bad-package",
            )
        return fields

    def _architectures(self) -> list[str]:
        """Return the host's own architecture, then those that it also takes."""
        if not self._known_architectures:
            words = ("--print-architecture", "--print-foreign-architectures")
            answers = (tool.ask([*self._dpkg, word], self._clock).output for word in words)
            self._known_architectures = [name for answer in answers for name in answer.split()]
        return self._known_architectures

    def _states(self, *names: str) -> list[tuple[str, str, str, debdeps.Available]]:
        """Return (name, state, error flag, what it offers) of the packages that dpkg knows."""
        words = [*self._query, "--show", f"--showformat={_STATES}", *names]
        rows = (line.split("\t") for line in tool.ask(words, self._clock, limit=_MAX_STATUS_BYTES).output.splitlines())
        return [(row[0], row[1], row[2], debdeps.Available(row[4], row[3], row[5])) for row in rows if len(row) == 6]

    def _packages(self, *names: str) -> list[tuple[str, Installed]]:
        return [
            (name, Installed(offered.version, whole=state in _WHOLE and flag == "ok"))
            for name, state, flag, offered in self._states(*names)
            if state not in _GONE
        ]

    def _available(self, package: Package, fields: dict[str, str]) -> list[debdeps.Available]:
        """Return what there will be to depend on: what is in place, and the package itself."""
        there = [offered for _, state, _, offered in self._states() if state in _WHOLE]
        own = debdeps.Available(package.name.partition(":")[0], package.version, fields.get("Provides", ""))
        return [*(offered for offered in there if offered.name != own.name), own]

    def _compare(self, first: str, relation: str, second: str) -> bool:
        return tool.ask([*self._dpkg, "--compare-versions", first, relation, second], self._clock).ok

    # -- what changes the host

    def _change(self, name: str, words: list[str], call: Call) -> None:
        result = self._run(words, call)
        if not result.ok and not result.timed_out and self._drop_scripts(name, result.output):
            result = self._run(words, call)
        if not result.ok:
            raise tool.failure(call, result)

    def _drop_scripts(self, name: str, output: str) -> bool:
        """Take away the removal scripts of `name` that are said to have failed; return whether there were any."""
        dropped = False
        failed = {point for package, point in _OUTGOING.findall(output) if package.partition(":")[0] in name.split(":")}
        for point in failed:
            script = f"{point}rm"
            found = tool.ask([*self._query, "--control-path", name, script], self._clock)
            path = Path(found.output.strip())
            if found.ok and path.name.endswith(f".{script}") and self._files.exists(path):
                self._files.remove(path)
                self._files.sync_dir(path.parent)
                dropped = True
        return dropped

    def _run(self, words: list[str], call: Call) -> HookResult:
        """Run dpkg once nobody else does."""
        turn = tool.Turn(call, self._clock, self._lock_timeout_s)
        while True:
            result = tool.act([*self._dpkg, *_FORCE, *words], self._clock, call)
            locked = None if result.ok else _LOCKED.search(result.output)
            if locked is None:
                return result
            turn.wait(int(locked[1] or 0))
