"""Installer `oci`: the artifact is an image archive (OCI or docker), which podman loads; no registry is ever asked.

Rules: the archive is staged like a tree, and its image loaded before the switch, which touches nothing that runs. The
image has two names here: `localhost/towpath/APP:RELEASE`, which never moves, and `localhost/towpath/APP:current`, which
a switch moves as it moves the link `current`; a unit or a command runs the latter, and so goes back with a revert.
Names that the archive brings are not kept: one that the host has for another image is refused, never replaced. What
the archive calls its image is believed only as far as its digest: podman names images by it.
Images of releases that are gone are removed with them, never by force; an image that a container uses stays.
Option: `timeout` (of loading, default 10 minutes).
Not handled: running containers (services do), registries, archives of several images or platforms.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from towpath.errors import Broken, InputError
from towpath.index import check_entries
from towpath.packages import HEAD_BYTES, check_head, package_entry
from towpath_agent.identity import local_platform
from towpath_agent.installers import tool
from towpath_agent.installers.base import RELEASES, InstallPlan, Materialise, current_release
from towpath_agent.installers.image import Image, read_image
from towpath_agent.installers.tree import TreeInstaller
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files
from towpath_agent.system.process import HookResult

KIND = "oci"
REPOSITORY = "localhost/towpath"
CURRENT = "current"
RECORD = "image.json"
_MAX_LIST_BYTES = 2**24


class OciInstaller:
    """See the module."""

    def __init__(self, files: Files, clock: Clock, *, podman: tuple[str, ...] = ("podman",)) -> None:
        """Stage with `files`, load by `podman`, a program and its first words."""
        self._files, self._clock, self._podman = files, clock, podman
        self._tree = TreeInstaller(files)

    def stage(self, plan: InstallPlan, materialise: Materialise) -> None:
        """Stage the archive, check what it holds, and load its image."""
        entry = package_entry(KIND, check_entries(plan.entries))
        tool.require(KIND, self._podman[0])
        self._tree.stage(plan, materialise)
        with self._files.open_read(plan.folder / entry.path) as source:
            check_head(KIND, entry.path, source.read(HEAD_BYTES))
        self._load(plan)

    def switch(self, plan: InstallPlan, previous_id: str | None) -> None:
        """Point `:current` to the image, then the links to the release."""
        self._tree.require_staged(plan)
        tool.require(KIND, self._podman[0])
        image = self._load(plan)
        self._tag(plan, image.id, _name(plan.app, CURRENT))
        self._tree.switch(plan, previous_id)

    def unswitch(self, plan: InstallPlan) -> None:
        """Take the app's names away, with the images that nothing else uses, then the links."""
        if current_release(plan.app_dir, self._files) is not None or self._has_podman():
            tool.require(KIND, self._podman[0])
            for name in self._names(plan.app):
                self._forget(plan, name)
        self._tree.unswitch(plan)

    def verify(self, plan: InstallPlan) -> bool:
        """Compare the staged archive with the index, and, where this release is live, what `:current` names."""
        if not self._tree.verify(plan):
            return False
        if current_release(plan.app_dir, self._files) != plan.release_id:
            return True
        return self._is_named(plan, self._names(plan.app))

    def witnesses(self, _plan: InstallPlan) -> Sequence[Path] | None:
        """Return podman's list of images; any tag, load or removal writes it anew."""
        shown = "--format={{.Store.GraphRoot}}\t{{.Store.GraphDriverName}}"
        folder, tab, driver = self._call("info", shown).output.strip().rpartition("\n")[2].partition("\t")
        return (Path(folder) / f"{driver}-images" / "images.json",) if tab else None

    def in_place(self, plan: InstallPlan) -> bool | None:
        """Compare what `:current` and the release's own name stand for; a podman that does not answer tells nothing."""
        listed = self._listed()
        return self._is_named(plan, self._of(plan.app, listed)) if listed is not None else None

    def _is_named(self, plan: InstallPlan, names: Mapping[str, str]) -> bool:
        image = self._read(plan)
        return names.get(_name(plan.app, CURRENT)) == names.get(_release_name(plan)) == image.id

    def prune(self, app_dir: Path, keep: int, keep_bytes: int = 0) -> list[str]:
        """Delete the oldest releases beyond `keep` and the images of all that are gone, never current or previous."""
        deleted = self._tree.prune(app_dir, keep, keep_bytes)
        if current_release(app_dir, self._files) is None or not self._has_podman():
            return deleted
        kept = {_name(app_dir.name, _tag_of(release)) for release in self._files.listdir(app_dir / RELEASES)}
        for name in self._names(app_dir.name):
            if name not in kept and name != _name(app_dir.name, CURRENT):
                self._call("rmi", name)  # an image in use stays, and is tried again at the next clean-up
        return deleted

    def _read(self, plan: InstallPlan) -> Image:
        return read_image(self._files, plan.folder / package_entry(KIND, plan.entries).path)

    def _load(self, plan: InstallPlan) -> Image:
        """Load the image where it is not there, and give it the name of its release and no other."""
        entry = package_entry(KIND, plan.entries)
        where = f"cannot install {plan.app} {plan.release.version}"
        image = self._read(plan)
        if image.platform != local_platform():
            raise InputError(
                f"{where}: its image is for {image.platform}, this host is {local_platform()}",
                code="wrong-architecture",
            )
        names = self._all_names()
        before = self._begun(plan.app_dir)
        if image.id not in names.values() and not self._call("image", "exists", image.id).ok:
            tool.require_whole(self._files, plan.folder / entry.path, entry, plan)
            for name in image.names:
                found = self._call("image", "inspect", "--format={{.Id}}", name)
                if found.ok and found.output.strip() != image.id:
                    raise InputError(
                        f"{where}: the archive would take the name {name} from an image of this host; save it "
                        f"under another name",
                        code="unmanaged-image",
                    )
            before = set(names) if before is None else before
            self._files.write_atomic(plan.app_dir / RECORD, json.dumps(sorted(before)).encode())
            call = tool.call_of(plan, "load the image of")
            path = str(plan.folder / entry.path)
            result = tool.act([*self._podman, "load", "--quiet", f"--input={path}"], self._clock, call)
            if not result.ok:
                raise tool.failure(call, result)
            if not self._call("image", "exists", image.id).ok:
                raise Broken(f"{where}: podman loaded another image than the archive says: {tool.shown(result.output)}")
        if names.get(_release_name(plan)) != image.id:
            self._tag(plan, image.id, _release_name(plan))
        if before is not None:
            for name, digest in self._all_names().items():
                if digest == image.id and name not in before and not name.startswith(f"{REPOSITORY}/"):
                    self._call("untag", image.id, name)
            self._files.sweep(plan.app_dir)
            self._files.remove(plan.app_dir / RECORD)
            self._files.sync_dir(plan.app_dir)
        return image

    def _begun(self, app_dir: Path) -> set[str] | None:
        """Return the names that there were before a load that was cut off; None where none was."""
        try:
            return {str(name) for name in json.loads(self._files.read(app_dir / RECORD, _MAX_LIST_BYTES))}
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _tag(self, plan: InstallPlan, digest: str, name: str) -> None:
        call = tool.call_of(plan, "name the image of")
        result = tool.act([*self._podman, "tag", digest, name], self._clock, call)
        if not result.ok:
            raise tool.failure(call, result)

    def _forget(self, plan: InstallPlan, name: str) -> None:
        """Remove a name, with its image where that has no other and no container uses it."""
        if self._call("rmi", name).ok:
            return
        call = tool.call_of(plan, "remove the image of")
        result = tool.act([*self._podman, "untag", name], self._clock, call)
        if not result.ok:
            raise tool.failure(call, result)

    def _names(self, app: str) -> dict[str, str]:
        """Return name to image id of what this app has."""
        return self._of(app, self._all_names())

    @staticmethod
    def _of(app: str, names: Mapping[str, str]) -> dict[str, str]:
        return {name: digest for name, digest in names.items() if name.startswith(_name(app, ""))}

    def _all_names(self) -> dict[str, str]:
        return self._listed() or {}

    def _listed(self) -> dict[str, str] | None:
        """Return name to image id of all images; None where podman does not say."""
        words = ("images", "--all", "--no-trunc", "--format={{.Repository}}:{{.Tag}} {{.Id}}")
        result = tool.ask([*self._podman, *words], self._clock, limit=_MAX_LIST_BYTES)
        if not result.ok:
            return None
        rows = (line.split() for line in result.output.splitlines())
        return {row[0]: row[1].removeprefix("sha256:") for row in rows if len(row) == 2 and row[0] != "<none>:<none>"}

    def _has_podman(self) -> bool:
        try:
            tool.require(KIND, self._podman[0])
        except InputError:
            return False
        return True

    def _call(self, *words: str) -> HookResult:
        return tool.ask([*self._podman, *words], self._clock)


def _name(app: str, tag: str) -> str:
    return f"{REPOSITORY}/{app}:{tag}"


def _release_name(plan: InstallPlan) -> str:
    return _name(plan.app, _tag_of(plan.release_id))


def _tag_of(release_id: str) -> str:
    """Return the tag of a release: its id, with what a tag may not hold (`+`, `~`) as `_`."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", release_id)
