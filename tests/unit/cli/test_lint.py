"""Does a release fit its tree: programs, units, the one file of a file installer."""

from pathlib import Path

import pytest

from towpath_cli.lint import check_tree, find_file
from towpath_cli.releasefile import parse_release_file
from towpath_cli.tree import read_tree

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
