"""Records what a run does to the disk, as the operations that a crash can separate (after ALICE, Pillai et al., OSDI 2014).

`system.files.Files` tells of each operation before it happens. The recorder looks at the whole disk at each telling, so
whatever changed since the last one is the effect of the operation between them, whoever wrote it: the agent, SQLite,
the TUF library. Effects are names (a folder's entry set or gone; a rename is one effect in both folders) and contents
(of an inode, its mode too); a sync is an effect that makes others durable.

SQLite's own files are recorded as what SQLite promises (https://sqlite.org/atomiccommit.html): a commit is one effect
and durable when it returns. Its real calls are cut apart by the layers that kill real processes and real disks. So is
what dpkg, rpm, podman and a driver do: each is killed half-way by tests of its own (tests/scenarios/test_packages.py,
tests/unit/agent_drivers, `towpath-agent driver test`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from torture import trees
from torture.faults import Harness, settle
from torture.rewind import Moment, quick, resume
from torture.samples import MACHINE
from towpath_agent.installers.exec import STATE

if TYPE_CHECKING:
    from fakes.host import SimulatedHost

JOURNAL = "state.db"
_OF_OTHERS = re.compile(rf"{MACHINE}/|host/{JOURNAL}|host/apps/[^/]+/{STATE}/")
ROOT_INODE = 0


@dataclass(frozen=True, slots=True)
class Names:
    """Entries that are set (to an inode) or gone (None), as one: (folder's inode, name) to inode."""

    entries: Mapping[tuple[int, str], int | None]

    @property
    def folders(self) -> frozenset[int]:
        """Return the folders whose entries change."""
        return frozenset(folder for folder, _ in self.entries)


@dataclass(frozen=True, slots=True)
class Content:
    """An inode's new content and mode; `first` where the inode is new."""

    inode: int
    node: trees.Node
    first: bool = False


@dataclass(frozen=True, slots=True)
class Sync:
    """What was made durable: the inodes, their names excepted; None: all."""

    inodes: frozenset[int] | None


Effect = Names | Content | Sync


@dataclass(frozen=True)
class Step:
    """One operation: what it was, its effects in order, and the world, server and time when it began.

    A crash comes between two groups of effects, never inside of one.
    """

    label: str
    state: str
    around: Moment
    effects: list[tuple[Effect, ...]] = field(default_factory=list)


class Recorder:
    """Records one run of a host that was taken back to a moment."""

    def __init__(self, moment: Moment) -> None:
        """Run from `moment` to rest; `steps` has what happened."""
        host = resume(moment)
        self.folder = host.folder.parent
        self.moment = moment
        self.steps: list[Step] = []
        self._host = host
        self._before = self.start = _Disk(self.folder)
        self._pending: Sync | None = None
        Harness(host)
        pass_on = host.extra_change

        def change(verb: str, path: Path) -> None:
            pass_on(verb, path)
            self._tell(verb, path)

        host.extra_change = change
        settle(host)
        self._look()
        self.host: SimulatedHost = host

    def _tell(self, verb: str, path: Path) -> None:
        self._look()
        self.steps.append(Step(f"{verb} {path.name}", self._host.phase[1], quick(self.moment, self._host)))
        if verb.startswith(("sync", "fsync")):
            self._pending = Sync(None if verb == "sync all of" else self._before.inode(path))

    def _look(self) -> None:
        """Add what changed since the last look to the last step."""
        now = _Disk(self.folder)
        if self.steps:
            # A sync changes nothing itself: what changed since it was told came after it, from a driver for instance.
            if self._pending is not None:
                self.steps[-1].effects.append((self._pending,))
            self.steps[-1].effects.extend(_changes(self._before, now))
        self._before, self._pending = now, None


class _Disk:
    """What is on the disk: entries by (folder, name), nodes by inode."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries: dict[tuple[int, str], int] = {}
        self.nodes: dict[int, trees.Node] = {}
        self.depth: dict[int, int] = {ROOT_INODE: 0}
        self.inodes = {"": ROOT_INODE}
        self.of_others: set[int] = set()
        for path, node in trees.take(folder).items():
            above, _, name = path.rpartition("/")
            self.inodes[path] = node.inode
            self.entries[self.inodes[above], name] = node.inode
            self.nodes[node.inode] = node
            self.depth[node.inode] = path.count("/") + 1
            if _OF_OTHERS.match(path):
                self.of_others.add(node.inode)

    def inode(self, path: Path) -> frozenset[int]:
        inside = path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else None
        found = self.inodes.get("" if inside == "." else inside) if inside is not None else None
        return frozenset() if found is None else frozenset((found,))


def _changes(before: _Disk, after: _Disk) -> list[tuple[Effect, ...]]:
    """Return what leads from one to the other: new inodes, names (what moved as one), contents, what is gone."""
    effects: list[Effect] = []
    by_others = before.of_others | after.of_others
    new = [inode for inode in after.nodes if inode not in before.nodes]
    effects += [Content(inode, after.nodes[inode], first=True) for inode in new]
    gone = {key: inode for key, inode in before.entries.items() if after.entries.get(key) != inode}
    came = {key: inode for key, inode in after.entries.items() if before.entries.get(key) != inode}
    moved = {inode for inode in came.values() if inode in before.nodes}
    together: dict[tuple[int, str], int | None] = {}
    for key, inode in gone.items():
        if inode in moved:
            together[key] = came.get(key)
    together |= {key: inode for key, inode in came.items() if inode in moved}
    if together:
        effects.append(Names(together))
    for key in sorted((key for key in came if key not in together), key=lambda key: after.depth[came[key]]):
        effects.append(Names({key: came[key]}))
    left = [key for key in gone if key not in together and key not in came]
    for key in sorted(left, key=lambda key: -before.depth[gone[key]]):  # leaves first, as a tree is removed
        effects.append(Names({key: None}))
    for inode, node in after.nodes.items():
        then = before.nodes.get(inode)
        if then is not None and (then.mode, then.data) != (node.mode, node.data):
            effects.append(Content(inode, node))
    groups: list[tuple[Effect, ...]] = []
    theirs: list[Effect] = []
    for effect in effects:
        if _touches(effect, by_others):
            theirs.append(effect)
        else:
            groups.append((effect,))
    if theirs:  # one commit, durable when the call returned, its folder's names too
        folders = {key[0] for disk in (before, after) for key, inode in disk.entries.items() if inode in by_others}
        groups.append((*theirs, Sync(frozenset(by_others | folders))))
    return groups


def _touches(effect: Effect, inodes: set[int]) -> bool:
    if isinstance(effect, Names):
        return any(inode in inodes or folder in inodes for (folder, _), inode in effect.entries.items())
    return isinstance(effect, Content) and effect.inode in inodes
