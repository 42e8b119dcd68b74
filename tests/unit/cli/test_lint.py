"""Does a release fit its tree: programs, units, the one file of a file installer."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from fakes.images import build_image, tar
from towpath_cli.lint import check_tree, find_file
from towpath_cli.publishing import checked
from towpath_cli.releasefile import ReleaseFileError, parse_release_file
from towpath_cli.tree import no_progress, read_tree

RUN = "run:\n  kind: process\n  command: [bin/serve]\n"


def check(tmp_path: Path, text: str) -> list[str]:
    """Return what lint says of a file beside a tree with bin/serve (executable), bin/data, a link and two units."""
    (tmp_path / "app" / "bin").mkdir(parents=True)
    (tmp_path / "app" / "bin" / "serve").write_text("#!/bin/sh\n")
    (tmp_path / "app" / "bin" / "serve").chmod(0o755)
    (tmp_path / "app" / "bin" / "data").write_text("")
    (tmp_path / "app" / "hello.service").write_text("")
    (tmp_path / "app" / "tools").symlink_to("bin")
    (tmp_path / "app" / "start").symlink_to("bin/serve")
    head = "app: hello\nversion: '1'\nartifact: app\n"
    install = "" if "install:" in text else "install: {kind: tree}\n"
    file = parse_release_file(head + install + text, tmp_path / "towpath.yaml")
    tree = read_tree(file.artifact_path)
    release = file.release(version=None, counter=1, artifact=tree.artifact)
    return check_tree(file, release, tree)


@pytest.mark.parametrize(
    "text",
    [
        RUN,
        RUN.replace("bin/serve", "./bin/../bin/serve"),
        RUN.replace("bin/serve", "tools/serve"),
        RUN.replace("bin/serve", "./start"),
        RUN.replace("bin/serve", "/usr/bin/env"),
        RUN.replace("bin/serve", "python3"),
        RUN + "hooks: {prepare: bin/serve --x}\n",
        "run: {kind: systemd, unit: hello.service}\n",
        RUN + "probes:\n  - exec: {command: bin/serve}\n",
    ],
)
def test_what_fits(tmp_path: Path, text: str) -> None:
    """Programs of the tree, also through links, and programs of the host pass."""
    assert check(tmp_path, text) == []


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (RUN.replace("serve", "gone"), 7, "the tree has no file 'bin/gone'"),
        (RUN.replace("serve", "data"), 7, "'bin/data' is not executable in the tree; run chmod +x"),
        (RUN.replace("bin/serve", "./bin"), 7, "the tree has no file './bin'"),
        (RUN.replace("bin/serve", "../serve"), 7, "the tree has no file '../serve'"),
        (RUN + "hooks:\n  prepare: bin/migrate\n", 9, "the tree has no file 'bin/migrate'"),
        (RUN.replace("bin/serve", "hello.service"), 7, "not executable"),
        (RUN + "hooks:\n  timeout: 1s\n  pre_stop: bin/data x\n", 10, "not executable"),
        ("run: {kind: systemd, unit: gone.service}\n", 5, "the tree has no file 'gone.service'"),
        (RUN + "probes:\n  - exec:\n      command: bin/gone\n", 10, "the tree has no file 'bin/gone'"),
        ("install: {kind: file, path: /x}\nrun: {kind: none}\n", 3, "takes one file, the artifact has 3 files"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, text: str, line: int, words: str) -> None:
    """A program or unit that is missing or cannot be executed is named with its line."""
    (problem,) = check(tmp_path, text)
    assert f"line {line}:" in problem
    assert words in problem


def test_links_in_a_circle_end() -> None:
    """Links that point at one another are no file."""
    from towpath.index import Entry, EntryType

    circle = {"a": Entry("a", EntryType.LINK, target="b"), "b": Entry("b", EntryType.LINK, target="a")}
    assert find_file(circle, "a") is None


DEB, RPM = b"!<arch>\ndebian-binary   ", b"\xed\xab\xee\xdb\x03\0"
PACKAGE_RUN = "run: {kind: process, command: [/usr/bin/hello]}\n"


def check_package(tmp_path: Path, kind: str, files: dict[str, bytes], more: str = PACKAGE_RUN) -> tuple[str, ...]:
    """Return what publishing says of an artifact of that kind: one file, or a folder of several."""
    for name, data in files.items():
        path = tmp_path / ("." if len(files) == 1 else "artifact") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755)
    artifact = next(iter(files)) if len(files) == 1 else "artifact"
    text = f"app: hello\nversion: '1'\nartifact: {artifact}\ninstall: {{kind: {kind}}}\n{more}"
    file = parse_release_file(text, tmp_path / "towpath.yaml")
    try:
        checked(file, version=None, counter=1, show=lambda _label, _total: nullcontext(no_progress))
    except ReleaseFileError as error:
        return error.problems
    return ()


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("deb", {"hello.deb": DEB}),
        ("deb", {"whatever": DEB}),
        ("rpm", {"hello.rpm": RPM}),
        ("oci", {"hello.tar": build_image("1")}),
        ("oci", {"hello.tar": build_image("1", layout="docker")}),
        ("deb", {"hello.deb": DEB, "bin/migrate": b"#!/bin/sh", "hello.service": b"[Service]"}),
    ],
)
def test_a_package_of_its_kind_fits(tmp_path: Path, kind: str, files: dict[str, bytes]) -> None:
    """One package, alone or with hooks and units beside it; a tar is not unpacked."""
    hook = "hooks: {prepare: bin/migrate}\n" if len(files) > 1 else ""
    assert check_package(tmp_path, kind, files, PACKAGE_RUN + hook) == ()


@pytest.mark.parametrize(
    ("kind", "files", "words"),
    [
        ("deb", {"hello.deb": RPM}, "cannot use 'hello.deb' as a Debian package: it is an RPM package"),
        ("rpm", {"hello.rpm": b""}, "as an RPM package: build one with rpmbuild"),
        ("deb", {"a.deb": DEB, "b.deb": DEB}, "takes one file that is a Debian package (.deb), the tree has 2"),
        ("oci", {"a.tar": tar({"etc/passwd": b"x"})}, "tar without index.json and manifest.json: it is no image"),
        ("oci", {"a.tar": build_image("1")[:700]}, "'a.tar' is no whole image archive"),
        ("oci", {"a.tar.gz": b"\x1f\x8b\x08"}, "it is compressed; unpack it with gunzip"),
    ],
)
def test_an_artifact_that_is_no_package_of_its_kind_is_named(
    tmp_path: Path, kind: str, files: dict[str, bytes], words: str
) -> None:
    """Wrong bytes, two packages, an empty or a cut file: said with the line of the artifact, before anything travels."""
    (problem,) = check_package(tmp_path, kind, files)
    assert "line 3:" in problem
    assert words in problem


def test_a_program_inside_a_package_cannot_be_named_relative(tmp_path: Path) -> None:
    """What a package installs is the host's: it is named by its absolute path."""
    (problem,) = check_package(tmp_path, "deb", {"hello.deb": DEB}, "run: {kind: process, command: [bin/hello]}\n")
    assert "the tree has no file 'bin/hello'" in problem


def test_a_release_of_the_agent_has_the_agents_program(tmp_path: Path) -> None:
    """Without `bin/towpath-agent` its launcher could not start it; the example in the documentation is such a release."""
    example = (Path(__file__).parents[3] / "examples/agent/towpath.yaml").read_text()
    text = example.replace("./unpacked/usr/lib/towpath-agent", "tree") + "version: '1'\n"
    program = tmp_path / "tree" / "bin" / "towpath-agent"
    program.parent.mkdir(parents=True)

    def problems() -> list[str]:
        file = parse_release_file(text, tmp_path / "towpath.yaml")
        tree = read_tree(file.artifact_path)
        return check_tree(file, file.release(version=None, counter=1, artifact=tree.artifact), tree)

    (program.parent / "python3.11").write_text("")
    (problem,) = problems()
    assert "'./bin/towpath-agent'" in problem
    program.write_text("#!/bin/sh\n")
    (problem,) = problems()
    assert "is not executable" in problem
    program.chmod(0o755)
    assert problems() == []
