"""Artifacts as trees: deterministic, streamed, and what is refused."""

import gzip
import hashlib
import io
import lzma
import os
import re
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from towpath.errors import InputError, Refusal, TowpathError
from towpath.index import EntryType
from towpath.wire import decode_index
from towpath_cli.tree import CHUNK_BYTES, Tree, read_tree

NAMES = st.text(alphabet="abc-é.", min_size=1, max_size=6).filter(lambda name: name not in (".", ".."))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
FILES = st.dictionaries(PATHS, st.tuples(st.binary(max_size=40), st.booleans()), max_size=8)


def without_clashes(files: dict[str, tuple[bytes, bool]]) -> dict[str, tuple[bytes, bool]]:
    """Leave out files that another file's folder has the name of."""
    return {path: item for path, item in files.items() if not any(other.startswith(path + "/") for other in files)}


def write(folder: Path, files: dict[str, tuple[bytes, bool]], umask: int = 0o022, time_s: int = 0) -> Path:
    folder.mkdir()
    old = os.umask(umask)
    try:
        for path, (data, executable) in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
            (folder / path).chmod((0o777 if executable else 0o666) & ~umask)
            os.utime(folder / path, (time_s, time_s))
    finally:
        os.umask(old)
    return folder


def pack(path: Path, add: Callable[[tarfile.TarFile], None]) -> Path:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        add(tar)
    data = buffer.getvalue()
    if path.name.endswith("gz"):
        data = gzip.compress(data)
    elif path.name.endswith("xz"):
        data = lzma.compress(data)
    elif path.name.endswith("zst"):
        data = zstandard.compress(data)
    path.write_bytes(data)
    return path


def member(name: str, data: bytes = b"", mode: int = 0o644, **fields: object) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    for key, value in fields.items():
        setattr(info, key, value)
    return info, io.BytesIO(data)


def everything(tree: Tree) -> dict[bytes, bytes]:
    return {content.sha256: b"".join(content.chunks) for content in tree.contents(set(tree.objects()))}


@settings(max_examples=40)
@given(files=FILES.map(without_clashes), order=st.randoms(use_true_random=False))
def test_same_files_same_digest(tmp_path_factory: pytest.TempPathFactory, files: dict, order: object) -> None:
    """Order of creation, times, umask, and folder or tar of any compression do not change a tree's digest."""
    base = tmp_path_factory.mktemp("trees")
    names = list(files)
    order.shuffle(names)  # type: ignore[attr-defined]
    first = read_tree(write(base / "a", files))
    second = read_tree(write(base / "b", {name: files[name] for name in names}, umask=0o077, time_s=1_000_000_000))
    assert first.index == second.index

    def add(tar: tarfile.TarFile) -> None:
        for name in names:
            data, executable = files[name]
            tar.addfile(*member(f"./{name}", data, 0o700 if executable else 0o600, mtime=7, uid=4711))

    for suffix in (".tar", ".tar.gz", ".tar.xz", ".tar.zst"):
        assert read_tree(pack(base / f"x{suffix}", add)).index == first.index
    assert decode_index(first.index) == first.entries


def test_modes_are_normalized(tmp_path: Path) -> None:
    """Files are 0755 where the owner may execute and 0644 elsewhere; folders are 0755."""
    tree = read_tree(write(tmp_path / "d", {"x/run": (b"", True), "x/read": (b"", False)}, umask=0o077))
    assert [(entry.path, oct(entry.mode)) for entry in tree.entries] == [
        ("x", "0o755"),
        ("x/read", "0o644"),
        ("x/run", "0o755"),
    ]


def test_links_are_kept_as_written(tmp_path: Path) -> None:
    """A link inside the tree stays a link; what it points at is not followed."""
    folder = write(tmp_path / "d", {"bin/real": (b"1", True)})
    (folder / "bin" / "alias").symlink_to("../bin/real")
    (folder / "all").symlink_to("bin")
    links = {e.path: e.target for e in read_tree(folder).entries if e.type is EntryType.LINK}
    assert links == {"bin/alias": "../bin/real", "all": "bin"}


def test_single_file(tmp_path: Path) -> None:
    """A single file is a tree with that one entry."""
    path = tmp_path / "tool"
    path.write_bytes(b"x" * 10)
    path.chmod(0o755)
    tree = read_tree(path)
    assert [(e.path, e.mode, e.size) for e in tree.entries] == [("tool", 0o755, 10)]
    assert everything(tree)[hashlib.sha256(b"x" * 10).digest()] == b"x" * 10


def test_contents_are_handed_out_once_and_whole(tmp_path: Path) -> None:
    """Each distinct content is read once, the index is an object too, and what is not wanted is not read."""
    files = {"a": (b"same", False), "b": (b"same", False), "c": (b"z" * (CHUNK_BYTES + 5), False)}
    tree = read_tree(write(tmp_path / "d", files))
    found = everything(tree)
    assert set(found) == set(tree.objects())
    assert len(found) == 3
    assert all(hashlib.sha256(data).digest() == digest for digest, data in found.items())
    wanted = hashlib.sha256(b"same").digest()
    assert [content.sha256 for content in tree.contents({wanted})] == [wanted]
    assert list(tree.contents(set())) == []


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz", ".tar.zst"])
def test_contents_of_a_tar(tmp_path: Path, suffix: str) -> None:
    """A tar's contents come from a second pass; a hard link is a file with its member's content."""

    def add(tar: tarfile.TarFile) -> None:
        tar.addfile(*member("z/first", b"one", 0o755))
        tar.addfile(*member("a-link", linkname="z/first", type=tarfile.LNKTYPE))
        tar.addfile(*member("other", b"two"))

    tree = read_tree(pack(tmp_path / f"x{suffix}", add))
    assert [(e.path, e.mode, e.size) for e in tree.entries if e.type is EntryType.FILE] == [
        ("a-link", 0o755, 3),
        ("other", 0o644, 3),
        ("z/first", 0o755, 3),
    ]
    assert sorted(everything(tree).values()) == sorted([b"one", b"two", tree.index])


def test_a_file_that_changes_is_noticed(tmp_path: Path) -> None:
    """What is uploaded is what was hashed: a file that grew, shrank, changed or went is an error."""
    for change in (b"longer", b"s", b"diff", None):
        folder = write(tmp_path / f"d{change!r}", {"a": (b"text", False)})
        tree = read_tree(folder)
        (folder / "a").unlink()
        if change is not None:
            (folder / "a").write_bytes(change)
        with pytest.raises(InputError, match="publish again") as caught:
            everything(tree)
        assert caught.value.code == "changed"


def test_a_tar_that_changes_is_noticed(tmp_path: Path) -> None:
    """A tar that was packed anew between the two passes is an error."""
    path = pack(tmp_path / "x.tar", lambda tar: tar.addfile(*member("a", b"1")))
    tree = read_tree(path)
    pack(path, lambda tar: tar.addfile(*member("b", b"1")))
    with pytest.raises(InputError, match="publish again"):
        everything(tree)


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1644])
def test_setuid_is_refused(tmp_path: Path, mode: int) -> None:
    """Setuid, setgid and sticky files are refused, in folders and in tars."""
    folder = write(tmp_path / "d", {"a": (b"", True)})
    (folder / "a").chmod(mode)
    for path in (folder, pack(tmp_path / "x.tar", lambda tar: tar.addfile(*member("a", b"", mode)))):
        with pytest.raises(Refusal) as caught:
            read_tree(path)
        assert caught.value.code == "setuid"


def test_devices_are_refused(tmp_path: Path) -> None:
    """Pipes, sockets and devices are refused, in folders and in tars."""
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "p")
    (tmp_path / "socket").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket" / "s"))
    pack(tmp_path / "x.tar", lambda tar: tar.addfile(*member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)))
    for name in ("pipe", "socket", "x.tar"):
        with pytest.raises(Refusal) as caught:
            read_tree(tmp_path / name)
        assert caught.value.code == "device"


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "x/../../outside", ""])
def test_escaping_links_are_refused(tmp_path: Path, target: str) -> None:
    """A link to outside the tree is refused, in folders and in tars."""
    paths = [pack(tmp_path / "x.tar", lambda tar: tar.addfile(*member("l", type=tarfile.SYMTYPE, linkname=target)))]
    if target:
        folder = write(tmp_path / "d", {})
        (folder / "l").symlink_to(target)
        paths.append(folder)
    for path in paths:
        with pytest.raises(Refusal) as caught:
            read_tree(path)
        assert caught.value.code == "path-traversal"


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../b", "a\nb", "a\\b"])
def test_unsafe_names_are_refused(tmp_path: Path, name: str) -> None:
    """A tar's names that are absolute, leave the tree or hold control characters are refused."""
    with pytest.raises(Refusal) as caught:
        read_tree(pack(tmp_path / "x.tar", lambda tar: tar.addfile(*member(name, b"1"))))
    assert caught.value.code == "path-traversal"


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """A file name that is not UTF-8 is refused with a printable message."""
    folder = write(tmp_path / "d", {})
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).write_bytes(b"")
    with pytest.raises(Refusal) as caught:
        read_tree(folder)
    str(caught.value).encode("utf-8")


@pytest.mark.parametrize("linkname", ["/etc/shadow", "../x", "elsewhere", "later"])
def test_hard_links_to_outside_are_refused(tmp_path: Path, linkname: str) -> None:
    """A hard link to what the archive does not hold before it is refused."""

    def add(tar: tarfile.TarFile) -> None:
        tar.addfile(*member("h", type=tarfile.LNKTYPE, linkname=linkname))
        tar.addfile(*member("later", b"1"))

    with pytest.raises(Refusal) as caught:
        read_tree(pack(tmp_path / "x.tar", add))
    assert caught.value.code == "path-traversal"


def test_a_path_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """Two members of one path are refused; a folder may be named again."""

    def twice(tar: tarfile.TarFile) -> None:
        tar.addfile(*member("a", b"1"))
        tar.addfile(*member("./a", b"2"))

    def folder(tar: tarfile.TarFile) -> None:
        tar.addfile(*member("d", type=tarfile.DIRTYPE))
        tar.addfile(*member("d/", type=tarfile.DIRTYPE))

    with pytest.raises(Refusal, match="twice"):
        read_tree(pack(tmp_path / "x.tar", twice))
    assert [entry.path for entry in read_tree(pack(tmp_path / "y.tar", folder)).entries] == ["d"]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tar.xz", ".tar.zst"])
def test_cut_and_garbled_archives_are_one_line(tmp_path: Path, suffix: str) -> None:
    """An archive that was cut, garbled or is none at all is an InputError in one line."""
    data = os.urandom(9_000)
    whole = pack(tmp_path / f"x{suffix}", lambda tar: tar.addfile(*member("a", data))).read_bytes()
    for bad in (whole[:5_000], b"\x00garbage" * 100, b"", whole[:20] + b"\xff" * 2_000):
        (tmp_path / f"bad{suffix}").write_bytes(bad)
        with pytest.raises(TowpathError) as caught:
            read_tree(tmp_path / f"bad{suffix}")
        assert "\n" not in str(caught.value)


def test_a_tar_cut_between_members_is_noticed(tmp_path: Path) -> None:
    """An archive whose last members are cut off cleanly is not taken for a smaller one."""

    def add(tar: tarfile.TarFile) -> None:
        tar.addfile(*member("a", b"1"))
        tar.addfile(*member("b", b"2"))

    path = pack(tmp_path / "x.tar", add)
    path.write_bytes(path.read_bytes()[:1024])
    with pytest.raises(InputError, match="its end is missing"):
        read_tree(path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.deb", "it is a Debian package; write install: {kind: deb}, or unpack it"),
        ("x.rpm", "it is an RPM package; write install: {kind: rpm}, or unpack it"),
        ("x.tar.bz2", "bzip2 archives are not supported; unpack it"),
    ],
)
def test_what_is_no_tree_says_what_it_is_for(tmp_path: Path, name: str, words: str) -> None:
    """A package that is meant as a tree is named, with the way out."""
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(InputError, match=re.escape(words)):
        read_tree(tmp_path / name)


def test_images_that_are_meant_as_a_tree_say_what_they_are_for(tmp_path: Path) -> None:
    """An OCI layout, as a folder or as a tar, is named with the way out."""
    folder = write(tmp_path / "image", {"oci-layout": (b"{}", False)})
    packed = pack(tmp_path / "image.tar", lambda tar: tar.addfile(*member("oci-layout", b"{}")))
    with pytest.raises(InputError, match="it is an OCI layout; pack it: tar -C"):
        read_tree(folder)
    with pytest.raises(InputError, match=r"it is an image archive; write install: \{kind: oci\}"):
        read_tree(packed)


@pytest.mark.parametrize("name", ["x.deb", "x.tar", "x.rpm"])
def test_packed_artifacts_are_one_file_whatever_is_in_them(tmp_path: Path, name: str) -> None:
    """For the kinds that take a package, an archive travels as it is, and a folder is still a folder."""
    pack(tmp_path / name, lambda tar: tar.addfile(*member("oci-layout", b"{}")))
    tree = read_tree(tmp_path / name, packed=True)
    assert [entry.path for entry in tree.entries] == [name]
    folder = write(tmp_path / "folder", {"a.deb": (b"1", False), "bin/hook": (b"2", True)})
    assert read_tree(folder, packed=True).files == 2


def test_an_artifact_that_is_not_there(tmp_path: Path) -> None:
    """A missing artifact says that it must be built first."""
    with pytest.raises(InputError, match="build it first"):
        read_tree(tmp_path / "dist")


def test_a_link_that_replaces_a_file_is_not_followed(tmp_path: Path) -> None:
    """A file that became a link between the passes is not read through."""
    folder = write(tmp_path / "d", {"a": (b"text", False)})
    tree = read_tree(folder)
    (tmp_path / "secret").write_bytes(b"text")
    (folder / "a").unlink()
    (folder / "a").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="publish again"):
        everything(tree)
