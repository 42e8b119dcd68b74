"""Installer `oci` on the real podman: images of a release come and go with it, and nobody else's are touched."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakes.images import ImageHost, build_image, tar
from fakes.packages import need
from fakes.services import end_all, make_instance
from fakes.trees import Crash, Tree, make_plan
from towpath.errors import InputError
from towpath.release import Install, Run
from towpath_agent.errors import PackageError
from towpath_agent.installers.image import read_image
from towpath_agent.installers.oci import OciInstaller
from towpath_agent.services.process import ProcessService
from towpath_agent.system.clock import Deadline, SystemClock, pause
from towpath_agent.system.files import Files

if TYPE_CHECKING:
    from towpath_agent.installers.base import InstallPlan

CURRENT = "localhost/towpath/hello:current"


class Host:
    """One podman and the releases of one app."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = ImageHost.make()
        self.plans: dict[str, tuple[InstallPlan, Tree]] = {}

    def publish(self, version: str, data: bytes | None = None, **image: object) -> str:
        """Build a release; its archive is `data` or made by `build_image(**image)`."""
        tree = Tree({"image.tar": data or build_image(version, **image)})  # type: ignore[arg-type]
        self.plans[version] = make_plan(self.folder / "agent", tree, version, Install("oci")), tree
        return version

    def stage(self, version: str) -> None:
        plan, tree = self.plans[version]
        self.images.installer().stage(plan, tree.materialise(Files()))

    def switch(self, version: str, previous: str | None = None) -> None:
        before = None if previous is None else self.plans[previous][0].release_id
        self.images.installer().switch(self.plans[version][0], before)

    def go(self, version: str, previous: str | None = None) -> None:
        self.stage(version)
        self.switch(version, previous)

    def verify(self, version: str) -> bool:
        return self.images.installer().verify(self.plans[version][0])

    def name(self, version: str) -> str:
        return f"localhost/towpath/hello:{self.plans[version][0].release_id}"

    def id_of(self, name: str) -> str:
        return self.images.by_hand("image", "inspect", "--format={{.Id}}", name).strip()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Return a podman without any image."""
    host = Host(tmp_path)
    yield host
    host.images.remove()


@pytest.mark.parametrize("layout", ["oci", "docker"])
def test_current_names_the_image_of_what_is_live_and_goes_back(host: Host, layout: str) -> None:
    """Staged images have the name of their release; `current` moves with the switch, and back with the revert."""
    host.go(host.publish("1.0", layout=layout))
    host.stage(host.publish("1.1", layout=layout))
    first, second = host.id_of(host.name("1.0")), host.id_of(host.name("1.1"))
    assert (host.id_of(CURRENT), first != second) == (first, True)
    host.switch("1.1", "1.0")
    assert (host.id_of(CURRENT), host.verify("1.1")) == (second, True)
    host.switch("1.0")
    assert (host.id_of(CURRENT), host.verify("1.0")) == (first, True)


def test_an_image_that_was_removed_is_loaded_again_by_the_switch(host: Host) -> None:
    """A clean-up by somebody else costs a load, not the revert: the archive lies in the release."""
    host.go(host.publish("1.0"))
    host.go(host.publish("1.1"), "1.0")
    host.images.by_hand("rmi", "--force", "--all")
    assert not host.verify("1.1")
    host.switch("1.0")
    assert (host.images.names(), host.verify("1.0")) == (sorted([CURRENT, host.name("1.0")]), True)


def test_the_name_in_the_archive_is_not_kept(host: Host) -> None:
    """Only our two names stay; an archive cannot leave `nginx:latest` behind, nor take it from the host."""
    for layout in ("oci", "docker"):
        version = f"1.0-{layout}"
        host.go(host.publish(version, layout=layout, name="docker.io/library/nginx:latest"))
        assert host.images.names() == sorted({CURRENT, *(host.name(it) for it in host.plans)})


def test_a_load_that_was_cut_off_leaves_no_name_either(host: Host) -> None:
    """Killed behind `podman load`, before its names are taken away: the next agent still knows that they are ours."""
    host.publish("1.0", name="docker.io/library/nginx:latest")
    plan, tree = host.plans["1.0"]
    with pytest.raises(Crash):
        host.images.installer(Files(_KillAtRemoval())).stage(plan, tree.materialise(Files()))
    host.images.by_hand("tag", host.name("1.0"), "docker.io/library/nginx:latest")
    host.go("1.0")
    assert host.images.names() == sorted([CURRENT, host.name("1.0")])
    assert not (plan.app_dir / "image.json").exists()


class _KillAtRemoval:
    """Dies before the record of a load is removed."""

    def __call__(self, verb: str, path: Path) -> None:
        if (verb, path.name) == ("remove", "image.json"):
            raise Crash


@pytest.mark.parametrize("layout", ["oci", "docker"])
def test_a_name_of_another_image_is_refused_and_left(host: Host, layout: str) -> None:
    """What the host runs under a name is never replaced by an archive that claims it."""
    theirs = "docker.io/library/nginx:latest"
    (host.folder / "theirs.tar").write_bytes(build_image("theirs", name=theirs))
    host.images.by_hand("load", "--input", host.folder / "theirs.tar")
    before = host.id_of(theirs)
    host.publish("1.0", layout=layout, name=theirs)
    with pytest.raises(InputError, match="would take the name docker.io/library/nginx:latest") as caught:
        host.stage("1.0")
    assert (caught.value.code, host.id_of(theirs), host.images.names()) == ("unmanaged-image", before, [theirs])


def test_an_image_that_the_host_has_already_keeps_its_own_names(host: Host) -> None:
    """The same image under somebody's name is used, and the name is left to them, in the end too."""
    theirs = "docker.io/library/hello:1"
    data = build_image("1.0", name=theirs)
    (host.folder / "theirs.tar").write_bytes(data)
    host.images.by_hand("load", "--input", host.folder / "theirs.tar")
    host.go(host.publish("1.0", data))
    assert host.images.names() == sorted([CURRENT, host.name("1.0"), theirs])
    host.images.installer().unswitch(host.plans["1.0"][0])
    assert host.images.names() == [theirs]


def test_unswitching_removes_the_images_and_the_archive_brings_them_back(host: Host) -> None:
    """A first install that is reverted leaves no image; deploying again needs nothing from the server."""
    host.go(host.publish("1.0"))
    for _ in range(2):
        host.images.installer().unswitch(host.plans["1.0"][0])
        assert host.images.names() == []
    host.switch("1.0")
    assert host.verify("1.0")


def test_pruning_removes_old_images_and_never_current_or_previous(host: Host) -> None:
    """Images go with their releases; those of other apps and of nobody stay."""
    (host.folder / "other.tar").write_bytes(build_image("other", name="localhost/towpath/hello-other:1"))
    host.images.by_hand("load", "--input", host.folder / "other.tar")
    for version in ("1.0", "1.1", "1.2"):
        host.stage(host.publish(version))
    host.switch("1.2", "1.0")
    app_dir = host.plans["1.0"][0].app_dir
    assert host.images.installer().prune(app_dir, 2) == [host.plans["1.1"][0].release_id]
    kept = [CURRENT, host.name("1.0"), host.name("1.2"), "localhost/towpath/hello-other:1"]
    assert host.images.names() == sorted(kept)
    (app_dir / "current").unlink()
    host.images.installer().prune(app_dir, 0)
    assert host.images.names() == sorted(kept)


def test_a_changed_tag_is_drift(host: Host) -> None:
    """Somebody who points `current` elsewhere is found, and the next switch puts it right."""
    host.go(host.publish("1.0"))
    host.stage(host.publish("1.1"))
    host.images.by_hand("tag", host.name("1.1"), CURRENT)
    assert not host.verify("1.0")
    host.switch("1.0")
    assert host.verify("1.0")


def test_another_platform_is_refused_before_it_is_loaded(host: Host) -> None:
    """Podman would only warn, and the container would fail at its start."""
    host.publish("1.0", platform="linux/s390x")
    with pytest.raises(InputError, match="its image is for linux/s390x, this host is linux/") as caught:
        host.stage("1.0")
    assert (caught.value.code, host.images.names()) == ("wrong-architecture", [])


def test_a_cut_layer_is_said(host: Host) -> None:
    """Podman checks the layers; what it says is in the error, and no name is left."""
    host.publish("1.0", build_image("7.7.7").replace(b"7.7.7", b"7.7.8"))
    with pytest.raises(PackageError, match="cannot load the image of hello 1.0: "):
        host.stage("1.0")
    assert host.images.names() == []


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "neither index.json nor manifest.json"),
        ({"manifest.json": b"[]"}, "it holds 0 images"),
        ({"index.json": b'{"manifests": [{}, {}]}'}, "it holds 2 images"),
        ({"manifest.json": b'[{"Config": "gone.json"}]'}, "it has no file gone.json"),
        ({"manifest.json": b"{"}, "it is cut off or garbled"),
        ({"index.json": b"[" * 100_000}, "it is cut off or garbled"),
        (
            {"index.json": b'{"manifests": [{"digest": "sha256:x"}]}', "blobs/sha256/x": b'{"manifests": []}'},
            "platforms",
        ),
        ({"manifest.json": b" " * (4 * 2**20 + 1)}, "no small JSON file"),
        ({"index.json": b'{"manifests": [{"digest": 5}]}'}, "it is cut off or garbled"),
    ],
)
def test_what_is_no_image_archive_is_refused_in_one_line(tmp_path: Path, members: dict[str, bytes], words: str) -> None:
    """Garbled, nested and huge JSON, several images and platforms never reach podman."""
    path = tmp_path / "image.tar"
    path.write_bytes(tar(members))
    with pytest.raises(InputError, match="cannot use image.tar as an image archive") as caught:
        read_image(Files(), path)
    assert (caught.value.code, words in str(caught.value), "\n" in str(caught.value)) == ("bad-package", True, False)


def test_a_host_without_the_tool_refuses_before_anything_is_staged(tmp_path: Path) -> None:
    """An agent without podman says so by name."""
    tree = Tree({"image.tar": build_image("1.0")})
    plan = make_plan(tmp_path / "agent", tree, "1.0", Install("oci"))
    installer = OciInstaller(Files(), SystemClock(), podman=("/nowhere/podman",))
    with pytest.raises(InputError, match="cannot install kind 'oci' here: there is no podman on this host"):
        installer.stage(plan, tree.materialise(Files()))
    assert not plan.app_dir.exists()


def test_a_container_of_current_runs_the_release_and_goes_back_with_it(host: Host) -> None:
    """Service `process` runs `podman run ... :current`: the same command serves 1.1, and 1.0 after the revert."""
    need("runc", "runc")
    limits = "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"
    serve = "trap exit TERM; /busybox cat /version; /busybox sleep 99 & wait"
    words = ("run", "--rm", "--replace", "--name=hello", "--network=none", *limits, CURRENT, "/busybox", "sh", "-c")
    command = (*host.images.podman, *words, serve)
    for version in ("1.0", "1.1"):
        host.stage(host.publish(version, programs=True))
    refusal = host.images.by_hand(*words[:-4], host.name("1.0"), "/busybox", "true")
    if refusal:
        pytest.skip(f"podman runs no containers here: {refusal[-300:]}")
    service = ProcessService(Files(), SystemClock())
    try:
        for version, previous in (("1.0", None), ("1.1", "1.0"), ("1.0", None)):
            host.switch(version, previous)
            instance = make_instance(host.folder, version, run=Run("process", command=command))
            service.start(instance)
            deadline = Deadline(SystemClock(), 60)
            while version not in instance.log.read_text():
                assert not deadline.expired, instance.log.read_text()
                pause(0.05)
            assert service.state(instance).running
            service.stop(instance)
            assert host.images.by_hand("ps", "--all", "--quiet") == ""
            instance.log.unlink()
    finally:
        end_all(host.folder)
