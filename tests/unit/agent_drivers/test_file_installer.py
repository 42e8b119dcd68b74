"""Installer `file`: one file at a path of the host, and never somebody else's."""

from pathlib import Path

import pytest

from fakes.trees import Crash, CrashAt, Tree, make_plan, snapshot
from towpath.errors import Broken, InputError, Refusal
from towpath.parameters import Value
from towpath.release import Install
from towpath_agent.installers.base import InstallPlan, current_release
from towpath_agent.installers.file import FileInstaller
from towpath_agent.system.files import Files


def prepare(root: Path, version: str, content: bytes, path: object, **options: Value) -> tuple[InstallPlan, Tree]:
    tree = Tree({"app.conf": content}, {"app.conf": 0o640})
    return make_plan(root / "agent", tree, version, Install("file", {"path": str(path), **options})), tree


def go(plan: InstallPlan, tree: Tree, previous: str | None = None, files: Files | None = None) -> None:
    files = files or Files()
    FileInstaller(files).stage(plan, tree.materialise(files))
    FileInstaller(files).switch(plan, previous)


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """Return a folder of the host."""
    folder = tmp_path / "etc"
    folder.mkdir()
    return folder


def test_upgrade_and_revert_bring_the_bytes(tmp_path: Path, etc: Path) -> None:
    """Each switch puts that release's bytes and mode at the path; unswitching removes the file."""
    first, tree1 = prepare(tmp_path, "1", b"one", etc / "app.conf")
    second, tree2 = prepare(tmp_path, "2", b"two", etc / "app.conf", mode=0o600)
    go(first, tree1)
    assert snapshot(etc) == {"app.conf": (0o640, b"one")}
    go(second, tree2, first.release_id)
    assert snapshot(etc) == {"app.conf": (0o600, b"two")}
    FileInstaller(Files()).switch(first, None)
    assert snapshot(etc) == {"app.conf": (0o640, b"one")}
    FileInstaller(Files()).unswitch(first)
    assert snapshot(etc) == {}


def test_path_holds_old_or_new_bytes_at_every_moment(tmp_path: Path) -> None:
    """Killed before any operation of an upgrade, the file at the path is whole: all old or all new."""
    seen = set[bytes]()
    number = 0
    while True:
        root = tmp_path / str(number)
        etc = root / "etc"
        etc.mkdir(parents=True)
        first, tree1 = prepare(root, "1", b"one", etc / "app.conf")
        second, tree2 = prepare(root, "2", b"two", etc / "app.conf")
        go(first, tree1)
        try:
            go(second, tree2, first.release_id, Files(CrashAt(number)))
            break
        except Crash:
            content = (etc / "app.conf").read_bytes()
            assert content in (b"one", b"two")
            seen.add(content)
        go(second, tree2, first.release_id)
        assert snapshot(etc) == {"app.conf": (0o640, b"two")}
        number += 1
    assert seen == {b"one", b"two"}


@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "folder"])
def test_what_somebody_else_put_there_is_refused_before_anything_changes(tmp_path: Path, etc: Path, kind: str) -> None:
    """A file, link or folder that this app did not place is neither replaced nor ever removed."""
    path = etc / "app.conf"
    match kind:
        case "file":
            path.write_bytes(b"somebody's")
        case "link":
            (etc / "victim").write_bytes(b"somebody's")
            path.symlink_to("victim")
        case "dangling link":
            path.symlink_to("nowhere")
        case _:
            path.mkdir()
    before = snapshot(tmp_path)
    plan, tree = prepare(tmp_path, "1", b"one", path)
    with pytest.raises(InputError, match="not put there; move it away") as caught:
        go(plan, tree)
    assert caught.value.code == "unmanaged-file"
    FileInstaller(Files()).unswitch(plan)
    assert snapshot(tmp_path) == before


def test_file_that_appears_between_stage_and_switch_is_refused(tmp_path: Path, etc: Path) -> None:
    """The path is looked at again at the switch, and then nothing goes live."""
    plan, tree = prepare(tmp_path, "1", b"one", etc / "app.conf")
    FileInstaller(Files()).stage(plan, tree.materialise(Files()))
    (etc / "app.conf").write_bytes(b"somebody's")
    with pytest.raises(InputError, match="move it away"):
        FileInstaller(Files()).switch(plan, None)
    assert current_release(plan.app_dir) is None
    assert snapshot(etc) == {"app.conf": (0o644, b"somebody's")}


def test_garbled_record_owns_nothing(tmp_path: Path, etc: Path) -> None:
    """Where the record was truncated at any byte, the file at the path is left alone rather than taken for ours."""
    plan, tree = prepare(tmp_path, "1", b"one", etc / "app.conf")
    go(plan, tree)
    record = plan.app_dir / "file.json"
    whole = record.read_bytes()
    for length in range(len(whole)):
        record.write_bytes(whole[:length])
        FileInstaller(Files()).unswitch(plan)
        assert snapshot(etc) == {"app.conf": (0o640, b"one")}


def test_edited_file_is_seen_and_put_right(tmp_path: Path, etc: Path) -> None:
    """`verify` compares the placed file too; switching again brings the signed bytes back."""
    plan, tree = prepare(tmp_path, "1", b"one", etc / "app.conf")
    go(plan, tree)
    (etc / "app.conf").write_bytes(b"two")
    assert not FileInstaller(Files()).verify(plan)
    go(plan, tree)
    assert FileInstaller(Files()).verify(plan)
    assert snapshot(etc) == {"app.conf": (0o640, b"one")}


def test_path_may_be_a_parameter_and_may_move(tmp_path: Path, etc: Path) -> None:
    """Another value of the parameter moves the file; the old place is left empty."""
    tree = Tree({"app.conf": b"one"})
    for name in ("a", "b"):
        plan = make_plan(
            tmp_path / "agent",
            tree,
            "1",
            Install("file", {"path": f"{etc}/${{name}}", "mode": "${bits}"}),
            name=name,
            bits=0o600 if name == "a" else 416,
        )
        go(plan, tree)
        assert list(snapshot(etc)) == [name]
    assert snapshot(etc) == {"b": (0o640, b"one")}


@pytest.mark.parametrize(
    "path", ["relative", "@/../etc/x", "@//x", "/", "@/x/", "/@/x", "@/./x", "@/a\0b", "@/a\nb", ""]
)
def test_path_that_is_not_plain_is_refused(tmp_path: Path, etc: Path, path: str) -> None:
    """Only an absolute path without `..`, doubled slashes and control characters is used."""
    plan, tree = prepare(tmp_path, "1", b"one", path.replace("@", str(etc)))
    with pytest.raises(Refusal, match="absolute and plain") as caught:
        go(plan, tree)
    assert caught.value.code == "path-traversal"
    assert snapshot(tmp_path) == {"etc": (0o755, None)}


def test_agents_own_folder_is_refused_also_through_a_link(tmp_path: Path, etc: Path) -> None:
    """A release can write neither the agent's identity nor its journal, by whatever way there."""
    (tmp_path / "agent").mkdir()
    (etc / "link").symlink_to(tmp_path / "agent")
    for path in (tmp_path / "agent" / "state.db", etc / "link" / "state.db", tmp_path / "agent"):
        plan, tree = prepare(tmp_path, "1", b"one", path)
        with pytest.raises(Refusal, match="own folder") as caught:
            go(plan, tree)
        assert caught.value.code == "path-traversal"


def test_missing_folder_is_refused_with_the_way_out(tmp_path: Path, etc: Path) -> None:
    """Folders of the host are not made by the way, so there is none to undo."""
    plan, tree = prepare(tmp_path, "1", b"one", etc / "sub" / "app.conf")
    with pytest.raises(InputError, match="there is no folder .*/etc/sub; make it first"):
        go(plan, tree)


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1777, 0o10000, "${bits}"])
def test_setuid_and_other_bits_are_refused(tmp_path: Path, etc: Path, mode: Value) -> None:
    """Only the nine permission bits may be asked for, by the release or by a parameter."""
    tree = Tree({"app.conf": b"one"})
    plan = make_plan(tmp_path / "agent", tree, "1", Install("file", {"path": str(etc / "x"), "mode": mode}), bits=-1)
    with pytest.raises(Refusal) as caught:
        go(plan, tree)
    assert caught.value.code == "setuid"
    assert snapshot(etc) == {}


@pytest.mark.parametrize("content", [{}, {"a": b"", "b": b""}, {"a": "-> b"}, {"folder": None}])
def test_anything_but_one_file_is_refused(tmp_path: Path, etc: Path, content: dict[str, bytes | str | None]) -> None:
    """None, two, a link or a folder is not what this kind installs."""
    tree = Tree(content)
    plan = make_plan(tmp_path / "agent", tree, "1", Install("file", {"path": str(etc / "x")}))
    with pytest.raises(Refusal, match="takes one file"):
        go(plan, tree)


def test_option_with_an_undeclared_parameter_is_named(tmp_path: Path, etc: Path) -> None:
    """A hole that nothing fills is an error with its name, not a file of that name."""
    plan, tree = prepare(tmp_path, "1", b"one", f"{etc}/${{nowhere}}")
    with pytest.raises(Broken, match="nowhere"):
        go(plan, tree)
