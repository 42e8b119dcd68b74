"""Finds and repairs what changed in the installed release of an app: its tree, what it put elsewhere, its unit.

A damaged file is replaced by rename, from the store, or fetched by its digest where the store lacks it or holds it
damaged. The app is not restarted for it: what runs goes on with what it has open (docs/adr/0018). Shared paths and
files that the app keeps beside its own are never touched.
Marks are held in memory only; after a start of the agent every file is read once.
Not handled here: the process itself (`runner.steady`); the previous release, until it is current again.
"""

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from towpath.errors import TowpathError, Unavailable
from towpath.index import Entry, EntryType, objects
from towpath.wire import decode_release
from towpath_agent.engine.drift import (
    READ_EVERY_S,
    Facts,
    Look,
    Repairs,
    Tell,
    after_repair,
    look,
    readable_bytes,
    share,
)
from towpath_agent.installers.base import InstallPlan, current_release
from towpath_agent.installers.shared import own_entries, shared_paths
from towpath_agent.installers.tree import file_sha256
from towpath_agent.instance import Instance
from towpath_agent.journal import Deployed
from towpath_agent.runner.installed import Installed
from towpath_agent.runner.site import Drivers, Site, id_of
from towpath_agent.store.objects import ObjectMissing
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files, mark

MAX_NAMED = 20
LOOK_AT_ONCE = 1024
# Brings objects (digest to size) into the store, or raises Unavailable.
Fetch = Callable[[Mapping[bytes, int]], object]


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was repaired, or could not be: a stable code, a line, and the details."""

    code: str
    reason: str
    evidence: str = ""


@dataclass(slots=True)
class _Checked:
    """One release that is looked after. `entries` are its own; `marks` has one number for each, 0: not proven."""

    deployed: Deployed
    instance: Instance
    plan: InstallPlan
    entries: Sequence[Entry]
    marks: "array[int]"  # quoted: at run time the type takes no parameter before 3.12
    installed: Installed
    fresh: bool  # staged by this agent: what is on disk now was proven then
    looked_s: float
    read_s: float
    position: int = 0
    read_position: int = 0
    credit: float = 0.0
    first_read: bool = True
    repairs: Repairs = field(default_factory=Repairs)


class Drift:
    """Looks after all confirmed apps of a host."""

    def __init__(self, site: Site, drivers: Drivers, clock: Clock, fetch: Fetch) -> None:
        """Begin with nothing."""
        self._site, self._drivers, self._clock, self._fetch = site, drivers, clock, fetch
        self._checked: dict[str, _Checked] = {}

    def forget(self, app: str) -> None:
        """Look after `app` no more."""
        self._checked.pop(app, None)

    def adopt(self, deployed: Deployed) -> None:
        """Look after a release that was just staged and proven."""
        self._begin(deployed, fresh=True)

    def check(self, deployed: Deployed, previous_id: str | None) -> list[Note]:
        """Look at the next share of the release, read the next part of it, repair; return what to tell."""
        app, now = deployed.wish.app, self._clock.monotonic()
        it = self._checked.get(app)
        if it is None or it.deployed != deployed:
            try:
                it = self._begin(deployed, fresh=False)
            except (TowpathError, OSError):  # its index is lost: nothing to compare with before it is fetched
                self._fetch_index(deployed)
                it = self._begin(deployed, fresh=False)
        if now < it.repairs.again_s():
            return []
        found: dict[str, str] = {}
        try:
            found = self._find(it, now)
            if not found:
                return []
            self._repair(it, previous_id)
        except (TowpathError, OSError) as error:
            return self._told(it, found or {app: "cannot be looked at"}, str(error))
        return self._told(it, found, "")

    def _told(self, it: _Checked, found: Mapping[str, str], trouble: str) -> list[Note]:
        it.repairs, tell = after_repair(it.repairs, self._clock.monotonic(), ok=not trouble)
        if tell is Tell.NOTHING:
            return []
        first = next(iter(sorted(found)))
        what = f"{first} {found[first]}" + (f", and {len(found) - 1} more" if len(found) > 1 else "")
        ends = {
            Tell.REPAIRED: "put back as signed",
            Tell.RECURS: "put back as signed; it comes back again and again, so this is repaired ever more seldom",
            Tell.FAILED: f"cannot put it back: {trouble}; it is tried again",
        }
        evidence = "\n".join(f"{path} {flaw}" for path, flaw in sorted(found.items())[:MAX_NAMED])
        return [Note(tell.value, f"{what}: {ends[tell]}", evidence)]

    def _begin(self, deployed: Deployed, *, fresh: bool) -> _Checked:
        plan = self._site.plan(deployed, self._site.entries(deployed), f"drift-{deployed.wish.app}")
        own = own_entries(plan, shared_paths(plan))
        installer = self._drivers.installers[plan.release.install.kind]
        now = self._clock.monotonic()
        it = self._checked[deployed.wish.app] = _Checked(
            deployed,
            self._site.instance(deployed),
            plan,
            own,
            array("q", bytes(8 * len(own))),
            Installed(plan, installer, self._site.files, self._clock),
            fresh,
            looked_s=now,
            read_s=now,
            first_read=not fresh,
        )
        if fresh:
            self._look(it, len(own))
            it.fresh = False
            it.read_position = len(own)
        return it

    # -- finding

    def _find(self, it: _Checked, now: float) -> dict[str, str]:
        """Return path to flaw: of a share of the tree, or of all of it where one is found; links and unit as well."""
        found = self._look(it, share(len(it.entries), now - it.looked_s))
        found |= self._read(it, now)
        if found:
            it.position = 0
            found |= self._look(it, len(it.entries))
        it.looked_s = now
        if not self._site.files.is_dir(it.plan.folder):
            found = {"releases/" + it.plan.release_id: Look.MISSING.value}
        elif current_release(it.plan.app_dir, self._site.files) != it.plan.release_id:
            found["current"] = "does not point to the release"
        found |= it.installed.look()
        if not found:  # the unit is compared with the tree's, so the tree comes first
            flaw = self._drivers.services[it.plan.release.run.kind].drift(it.instance)
            if flaw:
                found["unit"] = flaw
        return found

    def _look(self, it: _Checked, count: int) -> dict[str, str]:
        found: dict[str, str] = {}
        while count > 0:
            found |= self._look_at(it, min(count, LOOK_AT_ONCE))
            count -= LOOK_AT_ONCE
        return found

    def _look_at(self, it: _Checked, count: int) -> dict[str, str]:
        found: dict[str, str] = {}
        numbers = [(it.position + step) % len(it.entries) for step in range(count)]
        it.position = (it.position + count) % len(it.entries)
        now = self._site.files.marks(it.plan.folder, [it.entries[number].path for number in numbers])
        for number, mark_now in zip(numbers, now, strict=True):
            if mark_now and mark_now == it.marks[number]:
                continue
            entry = it.entries[number]
            path = it.plan.folder / entry.path
            facts = _facts(self._site.files, path)
            seen = look(entry, facts, it.marks[number])
            if seen is Look.DOUBT and facts is not None:
                unproven = it.marks[number] == 0
                if it.fresh or unproven or file_sha256(self._site.files, path) == entry.sha256:
                    # What was never read is read in its turn; until then its stat is what there is.
                    it.marks[number] = facts.mark
                    seen = look(entry, facts, facts.mark)
                else:
                    seen = Look.CHANGED
            if seen is not Look.FINE:
                found[entry.path] = seen.value
            elif facts is not None:
                it.marks[number] = facts.mark
        return found

    def _read(self, it: _Checked, now: float) -> dict[str, str]:
        """Read on in the round over all files, as far as the time since the last call allows."""
        if it.read_position >= len(it.entries):
            if now - it.read_s < READ_EVERY_S:
                return {}
            it.read_position, it.first_read, it.credit = 0, False, 0.0
        total = it.plan.release.artifact.tree_size
        it.credit += readable_bytes(total, now - it.looked_s, first=it.first_read)
        found = {}
        while it.credit > 0 and it.read_position < len(it.entries):
            entry = it.entries[it.read_position]
            it.read_position += 1
            path = it.plan.folder / entry.path
            facts = _facts(self._site.files, path)
            if entry.type is EntryType.FILE and look(entry, facts, 0) not in (Look.MISSING, Look.KIND):
                it.credit -= entry.size
                if file_sha256(self._site.files, path) != entry.sha256:
                    it.marks[it.read_position - 1] = -1
                    found[entry.path] = Look.CHANGED.value
        if it.read_position >= len(it.entries):
            it.read_s = now
        return found

    # -- repairing

    def _repair(self, it: _Checked, previous_id: str | None) -> None:
        """Put back all that differs: the tree entry by entry, then the links, then the unit."""
        files, installer = self._site.files, self._drivers.installers[it.plan.release.install.kind]
        if not files.is_dir(it.plan.folder):
            lacking = self._site.store.missing(objects(it.plan.entries))
            if lacking:
                self._fetch(lacking)
            installer.stage(it.plan, self._materialise)
            it.marks = array("q", bytes(8 * len(it.entries)))
        for number, entry in enumerate(it.entries):
            path = it.plan.folder / entry.path
            facts = _facts(files, path)
            seen = look(entry, facts, it.marks[number])
            if seen is Look.DOUBT and facts is not None:
                same = file_sha256(files, path) == entry.sha256
                seen = look(entry, facts, facts.mark) if same else Look.CHANGED
            if seen is not Look.FINE:
                self._put_back(it, entry, path, seen)
            it.marks[number] = _mark(files, path)
        files.remove_tree(it.plan.staging)
        installer.switch(it.plan, previous_id)
        it.installed.renew()
        service = self._drivers.services[it.plan.release.run.kind]
        if service.drift(it.instance):
            service.start(it.instance)

    def _put_back(self, it: _Checked, entry: Entry, path: Path, flaw: Look) -> None:
        files = self._site.files
        if flaw is Look.MODE:
            files.set_mode(path, entry.mode)
            return
        if flaw is Look.KIND:
            files.remove_tree(path)
        if entry.type is EntryType.DIRECTORY:
            files.make_dirs(path, entry.mode)
        elif entry.type is EntryType.LINK:
            files.swap_link(path, entry.target)
        else:
            # Built in staging, which is swept after a crash, and renamed over the damaged one.
            files.make_dirs(it.plan.staging)
            fresh = it.plan.staging / "file"
            files.remove(fresh)
            self._materialise(entry.sha256, fresh, entry.mode)
            files.sync_file(fresh)
            files.rename(fresh, path)

    def _materialise(self, digest: bytes, path: Path, mode: int) -> None:
        """Take an object from the store; one that is missing or damaged there is fetched."""
        try:
            self._site.store.materialise(digest, path, mode)
        except ObjectMissing:
            size = next(entry.size for it in self._checked.values() for entry in it.entries if entry.sha256 == digest)
            self._fetch({digest: size})
            self._site.store.materialise(digest, path, mode)

    def _fetch_index(self, deployed: Deployed) -> None:
        artifact = decode_release(deployed.release).artifact
        self._fetch({artifact.index_sha256: artifact.index_size})
        self._site.record(deployed)


def no_server(_objects: Mapping[bytes, int]) -> None:
    """Fetch nothing: for hosts that have only what they hold."""
    raise Unavailable("cannot fetch: there is no server")


def previous_ids(previous: Mapping[str, Deployed]) -> dict[str, str]:
    """Return app to the id of the release that the link `previous` should name."""
    return {app: id_of(it) for app, it in previous.items()}


def _facts(files: Files, path: Path) -> Facts | None:
    try:
        found = files.stat(path)
    except FileNotFoundError:
        return None
    # A link's own mode is 0777, so only for what may be one is the second call made.
    target = files.read_link(path) if found.st_mode & 0o170000 == 0o120000 else None
    return Facts(found.st_mode, found.st_size, mark(found), target)


def _mark(files: Files, path: Path) -> int:
    facts = _facts(files, path)
    return 0 if facts is None else facts.mark
