"""Publishing one release: read the tree, see that the version is free, upload what is missing, sign, publish.

Rules: whether the version is taken is known before anything travels; the release is signed on what the server has after
the upload, because another publisher may have been quicker; the same release again changes nothing.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from towpath.packages import PACKAGES
from towpath.release import Release
from towpath_cli.lint import check_tree
from towpath_cli.releasefile import ReleaseFile, ReleaseFileError
from towpath_cli.tree import Progress, Tree, read_tree
from towpath_cli.upload import ObjectStore, Uploaded, upload_tree
from towpath_cli.world import World

Show = Callable[[str, int], AbstractContextManager[Progress]]


class Registry(ObjectStore, Protocol):
    """The part of a server that a publisher talks to."""

    def repository(self) -> dict[str, bytes]:
        """Return the TUF metadata files by name, unverified."""
        ...

    def publish(self, target_path: str, release: bytes, metadata: Mapping[str, bytes]) -> int:
        """Publish a signed release; return the new snapshot's version."""
        ...


class SignedRelease(Protocol):
    """What a signer returns."""

    @property
    def target_path(self) -> str:
        """Return the TUF target path."""
        ...

    @property
    def release(self) -> bytes:
        """Return the release exactly as signed."""
        ...

    @property
    def metadata(self) -> Mapping[str, bytes]:
        """Return the new roles."""
        ...

    @property
    def already(self) -> bool:
        """Return True where this very release is published."""
        ...


class Signer(Protocol):
    """The publisher's keys."""

    def next_counter(self, files: Mapping[str, bytes], app: str) -> int:
        """Return the counter for the next release of an app."""
        ...

    def sign(self, files: Mapping[str, bytes], release: Release, *, now_ms: int) -> SignedRelease:
        """Return the signed release; InputError where its version is taken by another content."""
        ...


@dataclass(frozen=True, slots=True)
class Published:
    """What was done. `uploaded` is None where the release was there already."""

    release: Release
    tree: Tree
    unchanged: bool
    uploaded: Uploaded | None = None


def checked(file: ReleaseFile, *, version: str | None, counter: int, show: Show) -> tuple[Release, Tree]:
    """Return the release of a file and its hashed tree; ReleaseFileError where they do not fit."""
    with show("reading", 0) as progress:
        tree = read_tree(file.artifact_path, progress, packed=file.section.install.kind in PACKAGES)
    release = file.release(version=version, counter=counter, artifact=tree.artifact)
    problems = check_tree(file, release, tree)
    if problems:
        raise ReleaseFileError(problems)
    return release, tree


def publish(
    file: ReleaseFile, registry: Registry, signer: Signer, *, version: str | None, world: World, show: Show
) -> Published:
    """Publish the release of `file`."""
    files = registry.repository()
    counter = signer.next_counter(files, file.section.app)
    release, tree = checked(file, version=version, counter=counter, show=show)
    if signer.sign(files, release, now_ms=world.now_ms()).already:
        return Published(release, tree, unchanged=True)
    uploaded = upload_tree(registry, tree, show=lambda total: show("uploading", total), sleep=world.sleep)
    files = registry.repository()
    counter = signer.next_counter(files, release.app)
    release = file.release(version=version, counter=counter, artifact=tree.artifact)
    signed = signer.sign(files, release, now_ms=world.now_ms())
    if signed.already:
        return Published(release, tree, unchanged=True, uploaded=uploaded)
    registry.publish(signed.target_path, signed.release, signed.metadata)
    return Published(release, tree, unchanged=False, uploaded=uploaded)
