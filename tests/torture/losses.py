"""What a disk may hold after a power cut at any point of a recorded run: every crash prefix, every allowed loss.

The model, weaker than what ext4, XFS and btrfs promise each, so that passing here is passing there
(sources: Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014; ext4(5), `data=ordered` with
`noauto_da_alloc`; POSIX fsync):

1. What a sync covered before the cut is there. fsync of a file covers its content and mode, not its name; fsync of a
   folder covers all its names so far; syncfs covers all.
2. The names of one folder survive as a prefix of their changes; different folders are independent of each other.
   One rename is one change of both its folders: it survives whole or not at all.
3. Content that was not synced may be all there, half there, or not there at all: a new file is then empty, an old one
   has what was synced last, or is cut to nothing. This is independent of whether its name survived: a rename may be
   durable before what it renames is.
4. A new inode whose name survived exists, with the kind it was made with.

For each prefix of effects, `states` gives: nothing lost (a killed process); all lost that may be; names kept and contents
lost; for each folder its names lost alone, and kept alone; for each unsynced content that alone lost, and half lost.
Not modelled: sectors that tear, a disk that lies about a flush, two folders losing different parts of their prefixes in
every combination (`states(..., dice=...)` draws some of those).
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torture import trees
from torture.recorder import ROOT_INODE, Content, Effect, Names, Recorder, Step, Sync, _Disk

KEEP, EMPTY, HALF = "keep", "empty", "half"


@dataclass(frozen=True)
class Crash:
    """A disk after a crash. `step` had been begun; `loss` says what was lost in words."""

    tree: trees.Tree
    step: Step
    number: int
    loss: str
    power: bool


def states(
    recorder: Recorder, dice: random.Random | None = None, draws: int = 0, equal: Callable[[], None] = lambda: None
) -> Iterator[Crash]:
    """Give every distinct host that a crash may leave; with `dice`, also `draws` mixed losses at each prefix.

    Hosts are one where all that recovery can see is: every byte of the disk, what runs, what the server knows, the time.
    `equal` is told of each crash that leaves a host which was given already.
    """
    done: list[Effect] = []
    seen: set[tuple[bytes, bool, str]] = set()
    number = 0
    for step in recorder.steps:
        around = {power: step.around.visible(rebooted=power) for power in (False, True)}
        for group in [(), *step.effects]:
            done.extend(group)
            number += bool(group)
            for loss, tree in _after(recorder.start, done, dice, draws):
                power = loss != "killed"
                key = (trees.digest(tree), power and around[False] != around[True], around[power])
                if key in seen:
                    equal()
                    continue
                seen.add(key)
                yield Crash(tree, step, number, loss, power)


def _after(
    start: _Disk, done: Sequence[Effect], dice: random.Random | None, draws: int
) -> Iterator[tuple[str, trees.Tree]]:
    everything = _replay(start, done, set(), {})
    yield "killed", everything
    yield "power cut, nothing lost", everything
    names, contents = _volatile(done)
    if not names and not contents:
        return
    folders = sorted({folder for number in names for folder in done[number].folders})  # type: ignore[union-attr]

    def lost(which: set[int]) -> set[int]:
        return _closed(done, {number for number in names if done[number].folders & which}, names)  # type: ignore[union-attr]

    yield "all that may be", _replay(start, done, names, dict.fromkeys(contents, EMPTY))
    yield "contents", _replay(start, done, set(), dict.fromkeys(contents, EMPTY))
    yield "names", _replay(start, done, names, {})
    for folder in folders:
        yield f"names of folder {folder}", _replay(start, done, lost({folder}), {})
        yield (
            f"all but names of folder {folder}",
            _replay(start, done, lost(set(folders) - {folder}), dict.fromkeys(contents, EMPTY)),
        )
    for number in names:  # each cut of one folder's prefix
        yield f"names from change {number} on", _replay(start, done, _closed(done, {number}, names), {})
    for inode in contents:
        yield f"content of {inode}", _replay(start, done, set(), {inode: EMPTY})
        yield f"half the content of {inode}", _replay(start, done, set(), {inode: HALF})
    for _ in range(draws if dice is not None else 0):
        assert dice is not None
        some = _closed(done, {number for number in names if dice.random() < 0.3}, names)
        what = {inode: dice.choice((KEEP, EMPTY, HALF)) for inode in contents}
        yield "drawn", _replay(start, done, some, what)


def _volatile(done: Sequence[Effect]) -> tuple[set[int], list[int]]:
    """Return the numbers of changes of names, and the inodes whose contents, that no sync covered."""
    synced: set[int] = set()
    everything = False
    names: set[int] = set()
    contents: dict[int, None] = {}
    for number in range(len(done) - 1, -1, -1):
        effect = done[number]
        if everything:
            break
        if isinstance(effect, Sync):
            everything = effect.inodes is None
            synced |= effect.inodes or frozenset()
        elif isinstance(effect, Content):
            if effect.inode not in synced:
                contents[effect.inode] = None
        elif effect.folders & synced:
            synced_here = effect.folders
            synced |= synced_here  # rule 2: what came before in these folders is there as well
        else:
            names.add(number)
    return names, list(contents)


def _closed(done: Sequence[Effect], lost: set[int], volatile: set[int]) -> set[int]:
    """Return `lost` with every later change of the folders concerned: what survives of a folder is a prefix."""
    result: set[int] = set()
    folders: set[int] = set()
    for number in sorted(volatile):
        effect = done[number]
        assert isinstance(effect, Names)
        if number in lost or effect.folders & folders:
            result.add(number)
            folders |= effect.folders
    return result


def _replay(start: _Disk, done: Sequence[Effect], lost: set[int], contents: dict[int, str]) -> trees.Tree:
    """Return the disk after `done` without the `lost` names, and with these unsynced contents lost."""
    entries: dict[tuple[int, str], int] = dict(start.entries)
    nodes = dict(start.nodes)
    durable = _durable_contents(start, done) if contents else {}
    for number, effect in enumerate(done):
        if isinstance(effect, Content):
            nodes[effect.inode] = effect.node
        elif isinstance(effect, Names) and number not in lost:
            for key, inode in effect.entries.items():
                if inode is None:
                    entries.pop(key, None)
                else:
                    entries[key] = inode
    for inode, how in contents.items():
        nodes[inode] = _less(nodes[inode], durable.get(inode), how)
    return dict(_paths(entries, nodes))


def _less(node: trees.Node, durable: trees.Node | None, how: str) -> trees.Node:
    if how == KEEP or node.kind == "link":
        return node
    if node.kind == "dir":
        return durable or trees.Node("dir", 0o700, b"", node.inode, node.mtime_ns)
    if how == HALF:
        return trees.Node("file", node.mode, node.data[: len(node.data) // 2], node.inode)
    return durable or trees.Node("file", 0o600, b"", node.inode)


def _durable_contents(start: _Disk, done: Sequence[Effect]) -> dict[int, trees.Node]:
    """Return each inode's content as it was synced last; none where it never was."""
    now, durable = dict(start.nodes), dict(start.nodes)
    for effect in done:
        if isinstance(effect, Content):
            now[effect.inode] = effect.node
            if effect.first:
                durable.pop(effect.inode, None)
        elif isinstance(effect, Sync):
            for inode in now if effect.inodes is None else effect.inodes & now.keys():
                durable[inode] = now[inode]
    return durable


def _paths(entries: dict[tuple[int, str], int], nodes: dict[int, trees.Node]) -> Iterator[tuple[str, trees.Node]]:
    below: dict[int, list[tuple[str, int]]] = {}
    for (folder, name), inode in entries.items():
        below.setdefault(folder, []).append((name, inode))
    walk: Callable[[int, str], Iterator[tuple[str, trees.Node]]]

    def walk(folder: int, prefix: str) -> Iterator[tuple[str, trees.Node]]:
        for name, inode in sorted(below.get(folder, ())):
            yield f"{prefix}{name}", nodes[inode]
            if nodes[inode].kind == "dir":
                yield from walk(inode, f"{prefix}{name}/")

    return walk(ROOT_INODE, "")
