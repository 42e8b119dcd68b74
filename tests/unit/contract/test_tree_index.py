"""check_entries: no path and no link of a release's tree leaves it."""

import os
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from towpath import index
from towpath.errors import Refusal
from towpath.index import Entries, Entry, EntryType, check_entries, objects
from towpath.wire import decode_index, encode_index, iter_index

DIGEST = bytes(range(32))


def folder(path: str) -> Entry:
    return Entry(path, EntryType.DIRECTORY)


def file(path: str, size: int = 1) -> Entry:
    return Entry(path, EntryType.FILE, 0o644, size, DIGEST)


def link(path: str, target: str) -> Entry:
    return Entry(path, EntryType.LINK, 0o777, target=target)


def test_a_good_tree_comes_back_in_order() -> None:
    """Folders, files and links that stay inside are returned as they are; any iterable will do."""
    tree = (
        folder("bin"),
        file("bin/serve"),
        folder("lib"),
        file("lib-1"),
        link("lib/again", "../top"),
        link("lib/self", "."),
        link("lib/serve", "./..//bin/serve"),
        link("top", "lib"),
        file("ä b;c"),
    )
    assert check_entries(iter(tree)) == tree


def test_entries_are_a_sequence() -> None:
    """By number from both ends, in slices, with an end; equal to any other sequence of the same, and to nothing else."""
    tree = [folder("a"), file("a/b", 7), link("a/l", "b"), file("ä")]
    entries = check_entries(tree)
    assert [entries[number] for number in range(4)] == tree
    assert (entries[-1], entries[1:3], entries[::-1]) == (tree[-1], tree[1:3], tree[::-1])
    assert entries.index(tree[2]) == 2
    assert entries != tree[:3]
    assert entries != [*tree[:3], file("c")]
    assert entries != 4
    with pytest.raises(IndexError):
        entries[4]


def test_a_hundred_bytes_an_entry(tmp_path: Path) -> None:
    """An agent has 64 MiB, and a release may have 200,000 files: index, entries and objects of 20,000 are 7 MB at most."""
    many = 20_000
    data = encode_index(
        Entry(f"{number:06}", EntryType.FILE, 0o644, number, number.to_bytes(32)) for number in range(many)
    )
    tracemalloc.start()
    try:
        entries = check_entries(decode_index(data))
        wanted = objects(entries)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(entries), len(wanted)) == (many, many)
    assert kept < 120 * many
    assert peak < 350 * many


def test_an_index_is_read_in_parts_as_it_would_be_as_a_whole() -> None:
    """Of many entries and of few, with fields that a later version may add, with lengths in more bytes than needed."""
    tree = tuple(file(f"{number:05}", number) for number in range(3_000))
    data = encode_index(tree)
    unknown = bytes([0x10, 5])
    assert decode_index(data) == tree
    assert decode_index(unknown + data + unknown) == tree
    assert decode_index(data + unknown + data) == tree + tree
    one = encode_index(tree[:1])
    assert decode_index(one[:1] + bytes([one[1] | 0x80, 0x80, 0x80, 0x80, 0]) + one[2:] + data) == tree[:1] + tree


@pytest.mark.parametrize("size", [1, 7, 1_000, 65_536, 10**7])
def test_an_index_may_come_in_pieces(size: int) -> None:
    """Wherever they begin and end; what is behind an unknown field too."""
    tree = tuple(file(f"{number:05}", number) for number in range(300 if size < 1_000 else 3_000))
    whole = encode_index(tree)
    for data, expected in ((whole, tree), (whole + bytes([0x10, 5]) + whole, tree + tree), (b"", ())):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        assert tuple(iter_index(pieces)) == expected
    with pytest.raises(Refusal):
        tuple(iter_index([*pieces, whole[:-1]]))


def test_an_index_in_pieces_is_never_in_memory_as_a_whole() -> None:
    """Beside what is made of it: some hundred bytes a file."""
    many = 20_000

    def pieces() -> Iterator[bytes]:
        for first in range(0, many, 1_000):
            yield encode_index(
                Entry(f"{number:06}", EntryType.FILE, 0o644, number, number.to_bytes(32))
                for number in range(first, first + 1_000)
            )

    tracemalloc.start()
    try:
        for made in pieces():
            del made
        tracemalloc.reset_peak()
        entries = Entries(iter_index(pieces()))
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(entries) == many
    assert peak < kept + 1_000_000


@pytest.mark.parametrize("cut", [1, 2, 100, 70_000, -1])
def test_an_index_that_is_cut_off_is_refused(cut: int) -> None:
    """In a tag, in a length, in an entry, in a later part."""
    data = encode_index(file(f"{number:05}", number) for number in range(3_000))
    with pytest.raises(Refusal) as caught:
        decode_index(data[:cut])
    assert caught.value.code == "garbled"


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/etc/passwd", "a/", "..", ".", "./a", "../a", "a/..", "a/.", "a/../b", "a/./b", "a//b"),
        *("a\\b", "a\nb", "a\x00", "a\x7f", "\x1b[2J", "x" * 1025, "\udcff", "\ud800", "\udfff", "ä" * 513),
    ],
)
def test_a_path_that_is_not_plain_is_refused_as_traversal(path: str) -> None:
    """Absolute, '..', '.', empty parts, controls, backslashes, no UTF-8, too long: refused under the attack's name."""
    with pytest.raises(Refusal) as caught:
        check_entries([folder("a"), file(path)] if path > "a" else [file(path)])
    assert caught.value.code == "path-traversal"
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize("path", ["", "/etc", "a/"])
def test_a_path_must_be_relative_and_name_something(path: str) -> None:
    """The message says what a path is, not only that an empty part is not allowed."""
    with pytest.raises(Refusal, match="a path is relative and names something"):
        check_entries([file(path)])


def test_a_path_of_1024_bytes_is_fine() -> None:
    """The limit counts bytes, and is inclusive."""
    assert check_entries([file("x" * 1024)])
    assert check_entries([file("ä" * 512)])
    assert check_entries([link("l", "x" * 1024)])
    with pytest.raises(Refusal, match="its link target is too long"):
        check_entries([link("l", "ä" * 513)])


def test_names_of_every_language_are_fine() -> None:
    """Blanks and every character that UTF-8 knows, private ones included, may be in paths and targets."""
    for name in ("a b", "ä", "\ue000", "\ud7ff", "\U0001f6a2"):
        assert check_entries([file(name)])
        assert check_entries([link("0", name)])


@pytest.mark.parametrize(
    "entries",
    [
        [file("a"), file("a")],
        [folder("a"), link("a", "b")],
        [file("b"), file("a")],
        [file("a/b")],
        [file("a"), file("a/b")],
        [link("a", "."), file("a/b")],
        [folder("a"), file("a/b/c")],
    ],
)
def test_duplicates_disorder_and_files_below_no_folder_are_refused(entries: list[Entry]) -> None:
    """Each path once, in order, below a folder of the tree: never below a file or through a link."""
    with pytest.raises(Refusal) as caught:
        check_entries(entries)
    assert caught.value.code == "path-traversal"


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1755, 0o100644, -1])
@pytest.mark.parametrize("entry", [file("a"), folder("a"), link("a", "b")])
def test_setuid_setgid_and_sticky_are_refused(entry: Entry, mode: int) -> None:
    """Only the nine permission bits are allowed, on every type."""
    with pytest.raises(Refusal) as caught:
        check_entries([replace(entry, mode=mode)])
    assert caught.value.code == "setuid"


def test_a_file_needs_a_digest_and_a_size() -> None:
    """A file without a whole SHA-256, or with a size below zero, cannot be verified."""
    for bad in (replace(file("a"), sha256=DIGEST[:31]), replace(file("a"), size=-1)):
        with pytest.raises(Refusal, match="needs a SHA-256 digest and a size"):
            check_entries([bad])
    assert check_entries([file("a", 0)])


@pytest.mark.parametrize(
    "target",
    [
        *("", "/", "/etc/passwd", "..", "../..", "../x", "a/../..", "a/../../x", "./../x", "x/../../y"),
        *("x" * 1025, "a\nb", "a\x7f", "\udcff", "\ud800", "\udfff"),
    ],
)
def test_a_link_that_leaves_the_tree_is_refused(target: str) -> None:
    """Absolute, empty, above the root, with controls or too long: refused."""
    with pytest.raises(Refusal) as caught:
        check_entries([link("l", target)])
    assert caught.value.code == "path-traversal"


def test_a_link_may_reach_the_root_of_the_tree_but_not_above() -> None:
    """From a folder one level down, `..` is the tree itself and `../..` is outside."""
    assert check_entries([folder("d"), link("d/up", "..")])
    with pytest.raises(Refusal, match="leaves the tree"):
        check_entries([folder("d"), link("d/up", "../..")])


def test_a_link_may_end_at_another_link_but_not_run_through_one() -> None:
    """A chain is checked link by link; a path through a link could leave the tree although each alone stays inside."""
    assert check_entries([link("a", "b"), link("b", "c/"), folder("c")])
    with pytest.raises(Refusal, match="runs through another link"):
        check_entries([folder("d"), link("d/a", ".."), link("l", "d/a/x")])


@pytest.mark.parametrize("target", ["a/../x", "a/./../x", "a//..", "./a/../."])
def test_a_link_through_a_link_and_back_is_refused(target: str) -> None:
    """`a/..` with `a` a link to the tree's root is the folder ABOVE the tree, however it is written."""
    with pytest.raises(Refusal, match="runs through another link"):
        check_entries([folder("d"), link("d/a", ".."), link("d/l", target)])


def test_a_link_through_folders_and_back_is_fine() -> None:
    """`..` behind a real folder is what it looks like."""
    assert check_entries([folder("a"), folder("a/b"), link("l", "a/b/../../a"), file("x")])


def test_too_many_entries_and_too_many_bytes_are_endless_data() -> None:
    """A tree beyond the limits is refused under that name; at the limits it is fine."""
    half = index.MAX_TREE_BYTES // 2
    assert check_entries([file("a", half), file("b", half)])
    with pytest.raises(Refusal) as caught:
        check_entries([file("a", half), file("b", half + 1)])
    assert caught.value.code == "endless-data"
    for count, code in ((index.MAX_ENTRIES, "path-traversal"), (index.MAX_ENTRIES + 1, "endless-data")):
        with pytest.raises(Refusal) as caught:
            check_entries([file("the same")] * count)
        assert caught.value.code == code


def test_objects_names_each_content_once_in_path_order() -> None:
    """Only files have content; one content at two paths is one object."""
    other = bytes(32)
    tree = [folder("0"), replace(file("a"), sha256=other, size=9), file("b", 3), file("c", 3), link("d", "a")]
    assert list(objects(tree).items()) == [(other, 9), (DIGEST, 3)]


PARTS = st.sampled_from(["a", "b", "c"])
STEPS = st.lists(st.sampled_from(["a", "b", "c", "..", "..", ".", ""]), min_size=1, max_size=6)


@st.composite
def trees(draw: st.DrawFn) -> list[Entry]:
    """Sorted trees over few names, so that links meet folders, files and one another; most of them are allowed."""
    entries: dict[str, Entry] = {}
    for parts in draw(st.lists(st.lists(PARTS, min_size=1, max_size=4), min_size=1, max_size=8)):
        for end in range(1, len(parts)):
            entries.setdefault("/".join(parts[:end]), folder("/".join(parts[:end])))
        path = "/".join(parts)
        target = "/".join(draw(STEPS))
        entries.setdefault(
            path, draw(st.sampled_from([link(path, target), link(path, target), file(path), folder(path)]))
        )
    return [entries[path] for path in sorted(entries)]


def build(root: Path, entries: Iterable[Entry]) -> None:
    for entry in entries:
        path = root / entry.path
        if entry.type is EntryType.DIRECTORY:
            path.mkdir()
        elif entry.type is EntryType.FILE:
            path.write_bytes(b"x")
        else:
            path.symlink_to(entry.target)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(trees(), st.integers(0, 2**63))
def test_no_accepted_tree_leads_out_of_its_folder(tmp_path: Path, tree: list[Entry], number: int) -> None:
    """Built on a real disk, every path and link of an accepted tree resolves to inside of the tree."""
    try:
        check_entries(tree)
    except Refusal:
        event("refused")
        assume(False)
    event("accepted")
    root = Path(os.path.realpath(tmp_path)) / f"{number}-{os.urandom(4).hex()}" / "tree"
    root.mkdir(parents=True)
    build(root, tree)
    for entry in tree:
        assert Path(os.path.realpath(root / entry.path)).is_relative_to(root)


@given(
    st.lists(
        st.builds(
            Entry,
            path=st.text(max_size=12),
            type=st.sampled_from(EntryType),
            mode=st.integers(-1, 0o7777),
            size=st.integers(-1, 2**64),
            sha256=st.sampled_from([b"", DIGEST]),
            target=st.text(st.characters(), max_size=12),
        ),
        max_size=4,
    )
)
def test_garbage_is_refused_and_nothing_else(entries: list[Entry]) -> None:
    """Whatever the entries hold, they are kept as they are, and the answer is a tree or a Refusal."""
    assert Entries(entries) == entries
    assert repr(Entries(entries)) == f"Entries({entries!r})"
    try:
        assert check_entries(entries) == tuple(entries)
    except Refusal as error:
        assert error.code in ("path-traversal", "setuid", "endless-data")


def test_links_that_circle_are_refused_and_chains_of_links_are_not() -> None:
    """A library's chain of version links is fine; a link that ends at itself, by whatever way, leads nowhere."""
    chain = (link("a", "b"), link("b", "c"), file("c"), link("d", "a"))
    assert check_entries(chain) == chain
    for circle in ([link("a", "a//.")], [link("a", "b"), link("b", "a")]):
        with pytest.raises(Refusal, match="points back to itself"):
            check_entries(circle)
