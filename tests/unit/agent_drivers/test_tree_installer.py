"""Installer `tree`: what is shared, modes, links and strangers."""

import os
import shutil
from pathlib import Path

import pytest

from fakes.trees import Crash, CrashAt, Tree, make_plan, snapshot
from towpath.errors import InputError, Refusal
from towpath.release import Install
from towpath_agent.installers.base import InstallPlan
from towpath_agent.installers.tree import TreeInstaller
from towpath_agent.system.files import Files

CONTENT: dict[str, bytes | str | None] = {
    "bin/serve": b"serve",
    "conf/app.toml": b"from release",
    "data/sub/seed": b"seed",
    "data/sub/link": "-> seed",
    "lib": None,
    "lib/alias": "-> ../bin/serve",
}
SHARED = Install("tree", {"shared": ("data/", "conf/app.toml", "logs/", "etc/late.toml")})


def go(plan: InstallPlan, tree: Tree, files: Files | None = None) -> None:
    files = files or Files()
    TreeInstaller(files).stage(plan, tree.materialise(files))
    TreeInstaller(files).switch(plan, None)


def test_tree_on_disk_is_the_tree_that_was_signed(tmp_path: Path) -> None:
    """Files, modes, links and empty folders come out as they went in, whatever the umask."""
    tree = Tree(CONTENT, {"bin/serve": 0o750, "lib": 0o555})
    plan = make_plan(tmp_path, tree)
    before = os.umask(0o077)
    try:
        go(plan, tree)
    finally:
        os.umask(before)
    assert snapshot(plan.app_dir / "current") == {
        "bin": (0o755, None),
        "bin/serve": (0o750, b"serve"),
        "conf": (0o755, None),
        "conf/app.toml": (0o644, b"from release"),
        "data": (0o755, None),
        "data/sub": (0o755, None),
        "data/sub/link": (0, "seed"),
        "data/sub/seed": (0o644, b"seed"),
        "lib": (0o555, None),
        "lib/alias": (0, "../bin/serve"),
    }
    assert plan.folder.stat().st_mode & 0o777 == 0o755


def test_shared_paths_are_seeded_once_and_kept(tmp_path: Path) -> None:
    """The first release's copy seeds a shared path; later releases find what the app made of it."""
    tree = Tree(CONTENT)
    first = make_plan(tmp_path, tree, "1", SHARED)
    go(first, tree)
    shared = first.app_dir / "shared"
    assert snapshot(shared)["data/sub/seed"] == (0o644, b"seed")
    assert snapshot(shared)["data/sub/link"] == (0, "seed")
    (first.folder / "data" / "grown").write_bytes(b"by the app")
    (first.folder / "conf" / "app.toml").write_bytes(b"by the operator")
    newer = Tree({**CONTENT, "conf/app.toml": b"from release 2", "data/sub/seed": b"new seed"})
    second = make_plan(tmp_path, newer, "2", SHARED)
    go(second, newer)
    assert (second.folder / "data" / "grown").read_bytes() == b"by the app"
    assert (second.folder / "data" / "sub" / "seed").read_bytes() == b"seed"
    assert (second.folder / "conf" / "app.toml").read_bytes() == b"by the operator"
    assert TreeInstaller(Files()).verify(second)


def test_shared_links_are_relative_and_survive_a_move(tmp_path: Path) -> None:
    """The whole folder of the agent can be moved; links from any depth still reach `shared/`."""
    tree = Tree(CONTENT)
    plan = make_plan(tmp_path / "here", tree, "1", SHARED)
    go(plan, tree)
    (tmp_path / "here").rename(tmp_path / "there")
    current = tmp_path / "there" / "apps" / "hello" / "current"
    assert (current / "data" / "sub" / "seed").read_bytes() == b"seed"
    assert (current / "conf" / "app.toml").read_bytes() == b"from release"


def test_shared_path_that_the_release_lacks(tmp_path: Path) -> None:
    """A shared folder is made empty; a shared file is linked, and is there once the app writes it."""
    tree = Tree(CONTENT)
    plan = make_plan(tmp_path, tree, "1", SHARED)
    go(plan, tree)
    assert list((plan.folder / "logs").iterdir()) == []
    (plan.folder / "etc" / "late.toml").write_bytes(b"late")
    assert (plan.app_dir / "shared" / "etc" / "late.toml").read_bytes() == b"late"


def test_replaced_shared_link_is_damage(tmp_path: Path) -> None:
    """A shared link that was replaced by a folder is found and put back, and the shared data stays."""
    tree = Tree(CONTENT)
    plan = make_plan(tmp_path, tree, "1", SHARED)
    go(plan, tree)
    (plan.folder / "data").unlink()
    (plan.folder / "data").mkdir()
    assert not TreeInstaller(Files()).verify(plan)
    go(plan, tree)
    assert (plan.folder / "data" / "sub" / "seed").read_bytes() == b"seed"


@pytest.mark.parametrize(
    "names",
    [("../out/",), ("/etc/",), ("a/../../b",), ("",), ("/",), (".",), ("a//b",), ("data/", "data/sub/"), ("data/", "data"),
     ("data",), ("conf/app.toml/",), ("lib/alias/x",), ("bin/serve/x",), ("a\nb",), ("lib/alias",)],
)  # fmt: skip
def test_unsafe_shared_path_is_refused_before_anything_is_written(tmp_path: Path, names: tuple[str, ...]) -> None:
    """A shared path stays inside the tree, is no link, runs through none, and is of the kind that the release has."""
    tree = Tree(CONTENT)
    plan = make_plan(tmp_path, tree, "1", Install("tree", {"shared": names}))
    with pytest.raises(Refusal, match="cannot share"):
        go(plan, tree)
    assert snapshot(tmp_path) == {}


def test_crash_while_seeding_never_leaves_half_of_it(tmp_path: Path) -> None:
    """Killed before any operation of the first staging, shared data is whole or not there, and ends whole."""
    tree = Tree(CONTENT)
    recorder = CrashAt()
    plain = make_plan(tmp_path / "plain", tree, "1", SHARED)
    go(plain, tree, Files(recorder))
    wanted = snapshot(tmp_path / "plain")
    for number in range(len(recorder.operations)):
        root = tmp_path / str(number)
        plan = make_plan(root, tree, "1", SHARED)
        with pytest.raises(Crash):
            go(plan, tree, Files(CrashAt(number)))
        seeded = plan.app_dir / "shared" / "data"
        assert not seeded.exists() or (seeded / "sub" / "seed").read_bytes() == b"seed"
        go(plan, tree)
        assert snapshot(root) == wanted, recorder.operations[number]


def test_what_the_app_writes_beside_its_files_is_no_damage(tmp_path: Path) -> None:
    """Caches and pid files of an app do not make its tree be replaced."""
    tree = Tree(CONTENT)
    plan = make_plan(tmp_path, tree)
    go(plan, tree)
    (plan.folder / "bin" / "__pycache__").mkdir()
    (plan.folder / "app.pid").write_bytes(b"1")
    assert TreeInstaller(Files()).verify(plan)


@pytest.mark.parametrize("planted", ["pipe", "link to a folder", "folder"])
def test_planted_special_file_is_damage_and_hangs_nothing(tmp_path: Path, planted: str) -> None:
    """A pipe, a link or a folder where a file or folder was signed is seen without being opened."""
    tree = Tree(CONTENT)
    plan = make_plan(tmp_path, tree)
    go(plan, tree)
    path = plan.folder / "bin" / "serve"
    if planted == "link to a folder":
        (plan.folder / "bin").rename(tmp_path / "bin")
        (plan.folder / "bin").symlink_to(tmp_path / "bin")
    else:
        path.unlink()
        os.mkfifo(path, 0o644) if planted == "pipe" else path.mkdir(0o644)
    assert not TreeInstaller(Files()).verify(plan)
    go(plan, tree)
    assert TreeInstaller(Files()).verify(plan)


def test_file_in_the_place_of_a_release_is_replaced(tmp_path: Path) -> None:
    """Whatever has the release's name but is not its tree gives way."""
    tree = Tree(CONTENT)
    plan = make_plan(tmp_path, tree)
    plan.folder.parent.mkdir(parents=True)
    plan.folder.write_bytes(b"x")
    go(plan, tree)
    assert TreeInstaller(Files()).verify(plan)


def test_objects_are_not_copied_again_where_the_release_is_whole(tmp_path: Path) -> None:
    """Staging what is there already touches no object: a redo after a crash is cheap."""
    tree = Tree(CONTENT)
    plan = make_plan(tmp_path, tree)
    go(plan, tree)

    def refuse(digest: bytes, path: Path, mode: int) -> None:
        raise AssertionError("an object was put in place again")

    TreeInstaller(Files()).stage(plan, refuse)


def test_seeded_folders_have_their_signed_modes(tmp_path: Path) -> None:
    """A shared folder that others may read is made so, although its copy in staging was still closed to them."""
    tree = Tree(
        {"data/open/seed": b"seed", "data/closed": None}, {"data": 0o755, "data/open": 0o750, "data/closed": 0o700}
    )
    plan = make_plan(tmp_path, tree, "1", Install("tree", {"shared": ("data/",)}))
    TreeInstaller(Files()).stage(plan, tree.materialise(Files()))
    modes = {path: mode for path, (mode, _) in snapshot(plan.app_dir / "shared").items()}
    assert modes == {"data": 0o755, "data/open": 0o750, "data/open/seed": 0o644, "data/closed": 0o700}


def test_shared_folder_that_is_gone_is_found_and_made_again(tmp_path: Path) -> None:
    """Without its folder an app would not start: `verify` says so, and staging makes it again from the seed."""
    tree = Tree({"data/seed": b"seed", "bin/run": b"x"})
    plan = make_plan(tmp_path, tree, "1", Install("tree", {"shared": ("data/", "conf.toml")}))
    installer = TreeInstaller(Files())
    installer.stage(plan, tree.materialise(Files()))
    assert installer.verify(plan)  # the shared file is the app's to write, it need not be there
    shutil.rmtree(plan.app_dir / "shared" / "data")
    assert not installer.verify(plan)
    installer.stage(plan, tree.materialise(Files()))
    assert installer.verify(plan)
    assert (plan.folder / "data" / "seed").read_bytes() == b"seed"


def test_operator_may_put_a_link_in_place_of_a_shared_folder(tmp_path: Path) -> None:
    """Data that was moved to a larger disk is followed there, and never replaced."""
    first = Tree({"data/seed": b"seed"})
    plan = make_plan(tmp_path / "agent", first, "1", Install("tree", {"shared": ("data/",)}))
    installer = TreeInstaller(Files())
    installer.stage(plan, first.materialise(Files()))
    (plan.app_dir / "shared" / "data").rename(tmp_path / "disk")
    (plan.app_dir / "shared" / "data").symlink_to(tmp_path / "disk")
    assert installer.verify(plan)
    second = make_plan(tmp_path / "agent", first, "2", Install("tree", {"shared": ("data/",)}))
    installer.stage(second, first.materialise(Files()))
    assert (second.folder / "data").resolve() == tmp_path / "disk"
    assert (plan.app_dir / "shared" / "data").is_symlink()


@pytest.mark.parametrize(("before", "after", "there"), [("data/", "data", "a folder"), ("data", "data/", "a file")])
def test_shared_path_that_changes_its_kind_is_refused(tmp_path: Path, before: str, after: str, there: str) -> None:
    """What an earlier release shared as a folder is no file for the next one: said before anything changes."""
    content: dict[str, bytes | str | None] = {"data/seed": b"x"} if before.endswith("/") else {"data": b"x"}
    tree = Tree(content)
    first = make_plan(tmp_path, tree, "1", Install("tree", {"shared": (before,)}))
    TreeInstaller(Files()).stage(first, tree.materialise(Files()))
    seen = snapshot(tmp_path)
    other = Tree({"bin": b""})
    second = make_plan(tmp_path, other, "2", Install("tree", {"shared": (after,)}))
    with pytest.raises(InputError, match=f"{there} is at .*, from an earlier release; move it away") as caught:
        TreeInstaller(Files()).stage(second, other.materialise(Files()))
    assert caught.value.code == "shared-kind"
    assert snapshot(tmp_path) == seen


def test_a_small_old_release_does_not_outlive_a_big_newer_one(tmp_path: Path) -> None:
    """Going back means to the newest that is left: where one does not fit, all that are older go as well."""
    plans = []
    for number, size in enumerate((10, 1000, 10, 10)):
        tree = Tree({"data": bytes([number]) * size})
        plan = make_plan(tmp_path, tree, str(number))
        TreeInstaller(Files()).stage(plan, tree.materialise(Files()))
        os.utime(plan.folder, (number, number))
        plans.append(plan)
    TreeInstaller(Files()).switch(plans[3], plans[2].release_id)
    gone = TreeInstaller(Files()).prune(plans[0].app_dir, 9, 100)
    assert gone == [plans[0].release_id, plans[1].release_id]
