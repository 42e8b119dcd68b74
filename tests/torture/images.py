"""Real filesystems in files, mounted by loop, whose power can be cut. Needs root.

A cut of ext4 and XFS is the filesystem's own shutdown without a flush of its journal (FS_IOC_SHUTDOWN, flag 2): what was
not synced is gone. btrfs has no such call: its backing file is copied while it is mounted, which holds what reached the
disk, and the copy is mounted instead. Not modelled: writes that a disk's own cache reorders.
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_SHUTDOWN = 0x8004587D
_NO_FLUSH = 2
_LET_GO_S = 10.0
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 0x4000, 0x40000  # sched.h, mount.h


@dataclass(frozen=True, slots=True)
class Kind:
    """How to make and mount a filesystem. ext4 must not hide a missing fsync behind its own allocation rules."""

    name: str
    make: tuple[str, ...]
    size_mib: int
    options: str
    shutdown: bool = True


KINDS = (
    Kind("ext4", ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"), 160, "noauto_da_alloc"),
    Kind("xfs", ("mkfs.xfs", "-q", "-f"), 320, "noatime,nouuid"),
    Kind("btrfs", ("mkfs.btrfs", "-q", "-f"), 256, "noatime", shutdown=False),
)


class ImageError(Exception):
    """A filesystem could not be made or mounted here."""


def _do(*words: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    except FileNotFoundError as error:
        raise ImageError(f"{words[0]} is not installed") from error
    if done.returncode:
        raise ImageError(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()[-300:]}")


def _do_when_let_go(held: str, *words: str) -> None:
    """Do it, again for a while where the error has `held` in it."""
    end = time.monotonic() + _LET_GO_S
    while True:
        try:
            return _do(*words)
        except ImageError as error:
            if held not in str(error) or time.monotonic() > end:
                raise
        time.sleep(0.05)


def _apart() -> None:
    """Mount in a namespace of this process's own from now on, where the kernel lets it.

    Who makes a namespace elsewhere (podman, a packager) copies every mount that it sees, and a copy keeps a filesystem
    alive that was cut and unmounted here.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) == 0:
        libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None)


class Image:
    """One filesystem: `kept` is its clean state, `live` what is mounted at `at`."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        """Make it below `folder` and mount it."""
        if os.geteuid() != 0:
            raise ImageError("mounting needs root")
        _apart()
        self.kind, self.at = kind, folder / "mnt"
        self.live, self._kept = folder / "live.img", folder / "kept.img"
        self.at.mkdir(parents=True)
        with self.live.open("wb") as file:
            file.truncate(kind.size_mib * 2**20)
        _do(*kind.make, str(self.live))
        self.mount()

    def mount(self) -> None:
        """Mount what is live; the kernel may need a moment to let go of what was mounted before."""
        options = ("-o", f"loop,{self.kind.options}", "-t", self.kind.name)
        _do_when_let_go("already mounted", "mount", *options, str(self.live), str(self.at))

    def _mounted(self) -> bool:
        """Return whether something is mounted; by the kernel's list, for a filesystem that was cut answers no stat."""
        return str(self.at.parent.resolve() / self.at.name) in Path("/proc/mounts").read_text().split()

    def unmount(self) -> None:
        """Unmount; harmless where nothing is mounted. Who was killed on it just now may hold it for a moment."""
        if self._mounted():
            _do_when_let_go("busy", "umount", str(self.at))

    def keep(self) -> None:
        """Keep the state as it is now, clean, to go back to."""
        self.unmount()
        _do("cp", "--sparse=always", str(self.live), str(self._kept))
        self.mount()

    def back(self) -> None:
        """Go back to what was kept."""
        self.unmount()
        _do("cp", "--sparse=always", str(self._kept), str(self.live))
        self.mount()

    def cut(self) -> None:
        """Cut the power and mount what is left. Nothing may run on the filesystem."""
        if self.kind.shutdown:
            descriptor = os.open(self.at, os.O_RDONLY)
            try:
                fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_FLUSH))
            finally:
                os.close(descriptor)
            self.unmount()
        else:
            left = self.live.with_suffix(".left")
            _do("cp", "--sparse=always", str(self.live), str(left))
            self.unmount()
            left.replace(self.live)
        self.mount()
        self._check_alive()

    def _check_alive(self) -> None:
        """Raise ImageError where the mount gave the dead filesystem back, because somebody else still holds it."""
        probe = self.at / ".alive"
        try:
            descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            probe.unlink()
        except OSError as error:
            raise ImageError(f"{self.at} is still the filesystem that was cut: {error}; who holds it?") from error

    def close(self) -> None:
        """Unmount and remove."""
        with contextlib.suppress(ImageError):
            self.unmount()
        if not self._mounted():
            shutil.rmtree(self.at.parent, ignore_errors=True)


def check_cut(image: Image) -> None:
    """Return where a cut really loses what was not synced and keeps what was; ImageError where it proves nothing."""
    lost, kept = image.at / "lost", image.at / "kept"
    with kept.open("wb") as file:
        file.write(b"x" * 5000)
        file.flush()
        os.fsync(file.fileno())
    descriptor = os.open(image.at, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    lost.write_bytes(b"x" * 5000)
    image.cut()
    sharp = kept.read_bytes() == b"x" * 5000 and (not lost.exists() or lost.read_bytes() != b"x" * 5000)
    kept.unlink(missing_ok=True)
    lost.unlink(missing_ok=True)
    if not sharp:
        raise ImageError("a power cut loses nothing here, so that it would prove nothing")
