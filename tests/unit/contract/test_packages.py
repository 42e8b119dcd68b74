"""Which file of a tree is the package, and how it must begin: one rule for publisher and host."""

import pytest

from towpath.errors import InputError
from towpath.index import Entry, EntryType
from towpath.kinds import INSTALLERS
from towpath.packages import HEAD_BYTES, PACKAGES, check_head, package_entry

TAR = b"\0" * 257 + b"ustar"


def entry(path: str, kind: EntryType = EntryType.FILE) -> Entry:
    return Entry(path, kind)


def test_every_format_is_a_known_kind() -> None:
    """A row here without an installer would let a publisher publish what no host installs."""
    assert set(PACKAGES) < set(INSTALLERS)


def test_the_only_file_is_the_package_whatever_its_name() -> None:
    """A single file needs no suffix; folders and links do not count."""
    tree = [entry("d", EntryType.DIRECTORY), entry("d/build-output"), entry("l", EntryType.LINK)]
    assert package_entry("deb", tree).path == "d/build-output"


@pytest.mark.parametrize(("kind", "name"), [("deb", "A.DEB"), ("rpm", "a.rpm"), ("oci", "a.tar"), ("oci", "a.oci")])
def test_beside_hooks_and_units_the_suffix_tells_the_package(kind: str, name: str) -> None:
    """Scripts and unit files may lie beside the package."""
    assert package_entry(kind, [entry("bin/migrate"), entry(name), entry("hello.service")]).path == name


@pytest.mark.parametrize("names", [(), ("a.deb", "b.deb"), ("a", "b")])
def test_none_and_two_packages_are_refused(names: tuple[str, ...]) -> None:
    """Which of two is meant is never guessed."""
    with pytest.raises(
        InputError, match=r"takes one file that is a Debian package \(.deb\), the tree has [02]"
    ) as caught:
        package_entry("deb", [entry(name) for name in names])
    assert caught.value.code == "not-one-file"


@pytest.mark.parametrize(
    ("kind", "head"), [("deb", b"!<arch>\ndebian-binary   "), ("rpm", b"\xed\xab\xee\xdb\x03\0"), ("oci", TAR)]
)
def test_the_right_beginning_passes(kind: str, head: bytes) -> None:
    """Each kind is known by what it begins with."""
    check_head(kind, "x", head.ljust(HEAD_BYTES, b"\0"))


@pytest.mark.parametrize(
    ("kind", "head", "words"),
    [
        ("deb", b"\xed\xab\xee\xdb", "it is an RPM package"),
        ("oci", b"!<arch>\ndebian-binary", "it is a Debian package"),
        ("rpm", TAR, "it is an image archive"),
        ("oci", b"\x1f\x8b\x08", "it is compressed; unpack it with gunzip"),
        ("oci", b"\x28\xb5\x2f\xfd", "unpack it with unzstd"),
        ("deb", b"!<arch>\n//", "build one with dpkg-deb"),
        ("oci", b"", "make one with: podman save"),
    ],
)
def test_another_beginning_says_what_it_is_or_how_to_make_one(kind: str, head: bytes, words: str) -> None:
    """The wrong file is named for what it is where that can be told."""
    with pytest.raises(InputError, match="cannot use .x. as an? ") as caught:
        check_head(kind, "x", head)
    assert (caught.value.code, words in str(caught.value)) == ("bad-package", True), caught.value
