"""Installers `deb` and `rpm`: the artifact is a package, and the host's own package manager puts it in place.

Rules: the package is staged like a tree, so that previous packages and their digests are there. Everything that can be
known is asked before anything changes: the tool, the architecture, what it depends on, and whose the package is. What
this app installed is on record (`package.json`, written ahead); a package of that name from anybody else, another app
included, is refused, unless option `adopt` is true. The package is in place before the links name it, so `current`
never names what is not installed. A revert is the same call with the previous release, an older version included; a
first install is removed again, its edited configuration kept. An adopted package is never removed, only let go.
A call of the tool that was cut off is on record too: the next one mends what that one left, and nothing else.
Options: `package` (the name that is expected), `adopt`, `timeout` (of one call of the tool, default 10 minutes).
Not handled: repositories (only the release's own package is installed), packages of other sets that ours replaces.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from towpath.errors import InputError, Refusal
from towpath.index import Entry, EntryType, check_entries
from towpath.packages import HEAD_BYTES, check_head, package_entry
from towpath_agent.errors import PackageError
from towpath_agent.installers import tool
from towpath_agent.installers.base import RELEASES, InstallPlan, Materialise, current_release
from towpath_agent.installers.tool import Call
from towpath_agent.installers.tree import TreeInstaller
from towpath_agent.system.files import Files

RECORD = "package.json"
_MAX_RECORD_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Package:
    """What a package file says of itself. `name` is as the tool knows it once it is installed."""

    name: str
    version: str
    architecture: str


@dataclass(frozen=True, slots=True)
class Installed:
    """What the tool has under a name. `whole` is False for a package that was cut off half-way."""

    version: str
    whole: bool


class PackageTool(Protocol):
    """A host's package manager. Every call may be cut off anywhere and repeated."""

    kind: str

    def require(self) -> None:
        """InputError (code "no-tool") where the host has no such tool; PackageError where its database is lost."""
        ...

    def read(self, path: Path) -> Package:
        """Return what the package file says; InputError (code "bad-package") where it is damaged."""
        ...

    def installed(self, name: str) -> Installed | None:
        """Return what is there under that name; None for nothing, and for a rest of configuration files."""
        ...

    def check(self, path: Path, package: Package, ours: Iterable[str]) -> None:
        """InputError where it would not install here, or would remove another package than those of `ours`."""
        ...

    def install(self, path: Path, package: Package, call: Call, /) -> None:
        """Put exactly this package in place, whatever version or half of it is there; edited configuration is kept.

        PackageError with what the tool and the package's scripts said; PackageLocked where somebody holds the lock.
        """
        ...

    def remove(self, name: str, call: Call) -> None:
        """Remove the package, or the half of it that is there; configuration is kept. Nothing there is fine."""
        ...

    def unwell(self) -> list[str]:
        """Return the packages that are half-way now."""
        ...

    def mend(self, before: Iterable[str], call: Call) -> None:
        """Finish what a cut-off call left of other packages than those that were half-way `before` it began."""
        ...

    def witnesses(self, name: str) -> list[Path]:
        """Return the files and folders of the installed package, and the tool's own files that change with it."""
        ...

    def quiet(self, name: str) -> bool:
        """Return whether what the tool says of `name` can be believed: it answers, and nobody is at work with it."""
        ...

    def changed(self, name: str) -> list[str]:
        """Return the installed files, configuration excepted, that are no longer as the package brought them."""
        ...


@dataclass(frozen=True, slots=True)
class _Record:
    """`packages`: name to whether it was adopted. `release_id`: what is in place, "" while that is not known.

    `half_way`: None, or, while the tool is at work, the packages that were half-way before. `own`: files that the
    package's own scripts had changed when it was installed; that they differ is no damage.
    """

    packages: Mapping[str, bool] = field(default_factory=dict)
    release_id: str = ""
    half_way: tuple[str, ...] | None = None
    own: tuple[str, ...] = ()


class PackageInstaller:
    """See the module."""

    def __init__(self, files: Files, tool: PackageTool) -> None:
        """Stage with `files`, install with `tool`."""
        self._files = files
        self._tool = tool
        self._tree = TreeInstaller(files)

    def stage(self, plan: InstallPlan, materialise: Materialise) -> None:
        """Stage the tree; then ask everything that can be known of the package before the switch."""
        entry = package_entry(self._tool.kind, check_entries(plan.entries))
        self._tool.require()
        self._tree.stage(plan, materialise)
        with self._files.open_read(plan.folder / entry.path) as source:
            check_head(self._tool.kind, entry.path, source.read(HEAD_BYTES))
        record = self._known(plan.app_dir)
        package = self._tool.read(plan.folder / entry.path)
        self._check_owner(plan, package, record)
        self._tool.check(plan.folder / entry.path, package, record.packages)

    def switch(self, plan: InstallPlan, previous_id: str | None) -> None:
        """Put the package in place, then the links."""
        self._tree.require_staged(plan)
        entry = package_entry(self._tool.kind, plan.entries)
        path, call = plan.folder / entry.path, tool.call_of(plan, "install")
        self._tool.require()
        tool.require_whole(self._files, path, entry, plan)
        package = self._tool.read(path)
        record = self._known(plan.app_dir)
        self._check_owner(plan, package, record)
        there = self._tool.installed(package.name)
        if not self._in_place(plan, package, record, there):
            adopted = record.packages.get(package.name, there is not None)
            record = self._begin(plan, replace(record, packages={**record.packages, package.name: adopted}), call)
            for name in sorted(set(record.packages) - {package.name}):
                self._take_away(name, call, adopted=record.packages[name])
            self._tool.install(path, package, call)
            self._require_installed(plan, package)
            own = tuple(self._tool.changed(package.name))
            record = _Record({package.name: record.packages[package.name]}, plan.release_id, own=own)
            self._write(plan.app_dir, record)
        self._tree.switch(plan, previous_id)

    def unswitch(self, plan: InstallPlan) -> None:
        """Remove what this app installed, then the links."""
        record, call = self._known(plan.app_dir), tool.call_of(plan, "remove")
        if record.packages:
            self._tool.require()
            record = self._begin(plan, record, call)
            for name, adopted in sorted(record.packages.items()):
                self._take_away(name, call, adopted=adopted)
        self._tree.unswitch(plan)
        if self._files.exists(plan.app_dir / RECORD) and self._is_ours(plan.app_dir):
            self._files.remove(plan.app_dir / RECORD)
            self._files.sync_dir(plan.app_dir)

    def verify(self, plan: InstallPlan) -> bool:
        """Compare the staged tree with the index, and, where this release is live, the installed files too."""
        if not self._tree.verify(plan):
            return False
        record = self._known(plan.app_dir)
        if plan.release_id not in (record.release_id, current_release(plan.app_dir, self._files)):
            return True
        package = self._package(plan)
        return self._in_place(plan, package, record, self._tool.installed(package.name))

    def witnesses(self, plan: InstallPlan) -> Sequence[Path]:
        """Return the files that the package brought, and those of the tool that change with it."""
        named = self._tool.witnesses(self._package(plan).name)
        return [path for path in named if not self._files.is_dir(path)]

    def in_place(self, plan: InstallPlan) -> bool | None:
        """Ask the tool; while another program works on packages, or the database is unreadable, nothing is known."""
        package = self._package(plan)
        if not self._tool.quiet(package.name):
            return None
        whole = self._in_place(plan, package, self._known(plan.app_dir), self._tool.installed(package.name))
        # What was asked while somebody began to work is worth nothing.
        return whole if whole or self._tool.quiet(package.name) else None

    def prune(self, app_dir: Path, keep: int, keep_bytes: int = 0) -> list[str]:
        """Delete the oldest releases beyond `keep`, never current or previous."""
        return self._tree.prune(app_dir, keep, keep_bytes)

    def _package(self, plan: InstallPlan) -> Package:
        return self._tool.read(plan.folder / package_entry(self._tool.kind, plan.entries).path)

    def _in_place(self, plan: InstallPlan, package: Package, record: _Record, there: Installed | None) -> bool:
        return (
            record.half_way is None
            and record.release_id == plan.release_id
            and there == Installed(package.version, whole=True)
            and set(self._tool.changed(package.name)) <= set(record.own)
        )

    def _check_owner(self, plan: InstallPlan, package: Package, record: _Record) -> None:
        where = f"cannot install {plan.app} {plan.release.version}"
        wanted = plan.release.install.options.get("package")
        if wanted not in (None, package.name, package.name.partition(":")[0]):
            raise Refusal(f"{where}: the package is {package.name!r}, not {wanted!r}", code="wrong-package")
        for other in self._files.listdir(plan.app_dir.parent):
            if other != plan.app and package.name in self._read(plan.app_dir.parent / other).packages:
                raise InputError(
                    f"{where}: package {package.name} belongs to app {other}; undeploy that first",
                    code="package-claimed",
                )
        if package.name in record.packages or plan.release.install.options.get("adopt") is True:
            return
        there = self._tool.installed(package.name)
        if there is not None:
            raise InputError(
                f"{where}: package {package.name} {there.version} is installed and not from this app; "
                "remove it, or publish the release with adopt: true",
                code="unmanaged-package",
            )

    def _begin(self, plan: InstallPlan, record: _Record, call: Call) -> _Record:
        """Mend what a cut-off call left; then put on record, durable, that the tool is at work."""
        if record.half_way is not None:
            self._tool.mend({*record.half_way, *record.packages}, call)
        else:
            record = replace(record, half_way=tuple(self._tool.unwell()))
        record = replace(record, release_id="")
        self._files.sweep(plan.app_dir)
        self._write(plan.app_dir, record)
        return record

    def _take_away(self, name: str, call: Call, *, adopted: bool) -> None:
        if not adopted:
            self._tool.remove(name, call)

    def _require_installed(self, plan: InstallPlan, package: Package) -> None:
        there = self._tool.installed(package.name)
        if there != Installed(package.version, whole=True):
            found = "nothing" if there is None else f"{there.version}{'' if there.whole else ', half-way'}"
            raise PackageError(
                f"cannot install {plan.app} {plan.release.version}: the tool ended well, but has {found} "
                f"under {package.name}, not {package.version}"
            )

    def _known(self, app_dir: Path) -> _Record:
        """Return the record; where it is lost, what `current` names was put in place by us, and is never removed."""
        record = self._read(app_dir)
        live = current_release(app_dir, self._files)
        if record.packages or live is None:
            return record
        try:
            folder = app_dir / RELEASES / live
            path = folder / package_entry(self._tool.kind, _files_below(self._files, folder, "")).path
            return _Record({self._tool.read(path).name: True})
        except InputError:
            return record

    def _read(self, app_dir: Path) -> _Record:
        """Return the record as it stands; a garbled one owns nothing, and neither does that of another tool."""
        try:
            raw = json.loads(self._files.read(app_dir / RECORD, _MAX_RECORD_BYTES))
            if raw.get("tool", self._tool.kind) != self._tool.kind:
                return _Record()
            half_way = raw["half_way"]
            return _Record(
                {str(name): bool(adopted) for name, adopted in raw["packages"].items()},
                str(raw["release_id"]),
                None if half_way is None else tuple(str(name) for name in half_way),
                tuple(str(path) for path in raw.get("own", ())),  # records of older agents have none
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return _Record()

    def _is_ours(self, app_dir: Path) -> bool:
        """Return whether the record is of this tool, or of none that can be told: older ones do not name it.

        A move from one kind to the other that is done again takes the old kind away once more, when the new one's
        package is on record already.
        """
        try:
            raw = json.loads(self._files.read(app_dir / RECORD, _MAX_RECORD_BYTES))
            return bool(raw.get("tool", self._tool.kind) == self._tool.kind)
        except (ValueError, AttributeError):
            return True

    def _write(self, app_dir: Path, record: _Record) -> None:
        raw = {
            "tool": self._tool.kind,
            "packages": record.packages,
            "release_id": record.release_id,
            "half_way": record.half_way,
            "own": record.own,
        }
        if record != self._read(app_dir):
            self._files.write_atomic(app_dir / RECORD, json.dumps(raw, sort_keys=True).encode())


def _files_below(files: Files, folder: Path, prefix: str) -> list[Entry]:
    """Return the files of a staged tree, by name only."""
    found = []
    for name in files.listdir(folder):
        if files.is_dir(folder / name):
            found += _files_below(files, folder / name, f"{prefix}{name}/")
        elif files.read_link(folder / name) is None:
            found.append(Entry(f"{prefix}{name}", EntryType.FILE))
    return found
