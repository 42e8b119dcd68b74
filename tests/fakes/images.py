"""Real images for a real podman that keeps them in a folder of the test, and never reaches a registry.

An image is one static busybox and a file that says its version, put together here as an OCI or docker archive: podman
only has to load it. Where podman is missing, the test is skipped.
"""

import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fakes.packages import BUSYBOX, need, run
from towpath_agent.identity import local_platform
from towpath_agent.installers.oci import OciInstaller
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"


def tar(files: dict[str, bytes], mode: int = 0o755) -> bytes:
    """Return an archive of these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def build_image(
    version: str, *, layout: str = "oci", name: str = "", platform: str | None = None, programs: bool = False
) -> bytes:
    """Return an archive whose image says `version` in /version; with `programs`, /busybox can be run in it."""
    content = {"version": version.encode()}
    if programs:
        need("busybox", "busybox-static")
        content["busybox"] = BUSYBOX.read_bytes()
    layer = tar(content)
    system, machine = (platform or local_platform()).split("/")
    config = json.dumps(
        {
            "architecture": machine,
            "os": system,
            "config": {"Cmd": ["/busybox", "cat", "/version"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    if layout == "docker":
        number = hashlib.sha256(config).hexdigest()
        manifest = [{"Config": f"{number}.json", "RepoTags": [name] if name else [], "Layers": ["layer.tar"]}]
        return tar({"layer.tar": layer, f"{number}.json": config, "manifest.json": json.dumps(manifest).encode()})
    body = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _described(config, OCI_CONFIG),
            "layers": [_described(layer, OCI_LAYER)],
        }
    ).encode()
    entry = _described(body, OCI_MANIFEST)
    if name:
        entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    return tar(
        {
            "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
            "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(),
            **{f"blobs/sha256/{hashlib.sha256(data).hexdigest()}": data for data in (layer, config, body)},
        }
    )


def _described(data: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


@dataclass(frozen=True)
class ImageHost:
    """A podman with storage of its own below `folder`."""

    folder: Path

    @staticmethod
    def make() -> "ImageHost":
        """Make one without any image. Its folder has a short name: podman allows 50 characters."""
        need("podman", "podman runc")
        return ImageHost(Path(tempfile.mkdtemp(prefix="towpath-podman-")))

    @property
    def podman(self) -> tuple[str, ...]:
        """Return the command of podman."""
        places = (f"--root={self.folder}/storage", f"--runroot={self.folder}/run", f"--tmpdir={self.folder}/tmp")
        return (
            "podman",
            *places,
            "--storage-driver=vfs",
            "--cgroup-manager=cgroupfs",
            "--events-backend=none",
            *_runtime(),
        )

    def installer(self, files: Files | None = None) -> OciInstaller:
        """Return the installer that works here."""
        return OciInstaller(files or Files(), SystemClock(), podman=self.podman)

    def by_hand(self, *words: object) -> str:
        """Let somebody else do something with podman."""
        return run(*self.podman, *words, check=False)

    def names(self) -> list[str]:
        """Return all names of images."""
        output = run(*self.podman, "images", "--format={{.Repository}}:{{.Tag}}")
        return sorted(line for line in output.splitlines() if line)

    def remove(self) -> None:
        """End and remove everything."""
        run(*self.podman, "rm", "--all", "--force", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def _runtime() -> tuple[str, ...]:
    return ("--runtime=runc",) if shutil.which("runc") else ()
