"""What every command about a server's folder needs: the folder, its settings, where it listens, and its lock.

Strength of settings: flag, TOWPATH_* variable, DIR/server.toml, then (for the folder of the package alone)
/etc/towpath/server.toml, default.
"""

import fcntl
import os
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from towpath.commandline import setting
from towpath.errors import InputError
from towpath.quantity import parse_duration_ms, parse_size
from towpath.settings import Setting, check_settings

SETTINGS = (
    "agent_listen",
    "delta_cpu",
    "delta_largest",
    "delta_space",
    "enroll_listen",
    "object_store",
    "object_store_direct",
    "object_store_endpoint",
    "object_store_region",
    "operator_listen",
    "prometheus_url",
    "public_address",
)
# Where the package keeps state, and settings beside it. What stands in the folder itself is stronger.
PACKAGE_DIR = Path("/var/lib/towpath-server")
PACKAGE_SETTINGS = Path("/etc/towpath/server.toml")
LOCK = "server.lock"
MAX_FILE_BYTES = 4 * 2**20
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def read(path: Path) -> bytes:
    """Return a small file of the server's folder; InputError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}; --dir must be the server folder that 'towpath init' made"
        ) from error


def give_to_owner(path: Path) -> None:
    """Give a file that root made to the owner of its folder: the server's user has to work with it."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


@contextmanager
def locked(folder: Path, doing: str = "start") -> Iterator[None]:
    """Hold the folder: a second server on it would be two writers of one truth."""
    if not folder.is_dir():
        raise InputError(f"cannot find {folder}: make it with 'towpath init'")
    try:
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise InputError(f"cannot {doing}: {folder / LOCK}: {error.strerror}; run it as the server's user") from error
    with lock:
        give_to_owner(folder / LOCK)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"cannot {doing}: another server runs on {folder}; stop it first") from error
        yield


def runs(folder: Path) -> bool:
    """Return whether a server runs on `folder`. Makes no file."""
    try:
        lock = (folder / LOCK).open("rb")
    except FileNotFoundError:
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def seat(folder: Path) -> str:
    """Return the seat for the lease: the folder's lock on this boot of this machine; empty where it cannot be told."""
    lock = folder / LOCK
    if not lock.exists() or not _BOOT_ID.exists():
        return ""
    found = lock.stat()
    return f"{_BOOT_ID.read_text().strip()}:{found.st_dev}:{found.st_ino}"


def settings_files(folder: Path) -> list[Path]:
    """Return where settings of the server in `folder` may stand, the weakest first."""
    return [*([PACKAGE_SETTINGS] if folder == PACKAGE_DIR else []), folder / "server.toml"]


def read_settings(paths: list[Path]) -> dict[str, Setting]:
    """Return what those of the files say that exist, later ones beating earlier ones; InputError names a bad one."""
    settings: dict[str, Setting] = {}
    for path in paths:
        if not path.exists():
            continue
        try:
            table = tomllib.loads(read(path).decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {path}: {error}") from error
        settings |= check_settings(table, SETTINGS, str(path))
    return settings


def _load_settings(context: click.Context, _parameter: click.Parameter, value: Path) -> Path:
    context.default_map = {**read_settings(settings_files(value)), **(context.default_map or {})}
    return value


folder_option = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="TOWPATH_SERVER_DIR",
    default="./fleet/server",
    show_default=True,
    is_eager=True,
    callback=_load_settings,
    help="The server's folder, made by 'towpath init'.",
)


def listen_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where the server listens."""
    ports = {"agent": 7443, "enroll": 7444, "operator": 7445}
    for name, port in reversed(ports.items()):
        command = click.option(
            f"--{name}-listen",
            envvar=f"TOWPATH_{name.upper()}_LISTEN",
            default=f"127.0.0.1:{port}",
            show_default=True,
            help=f"HOST:PORT for {'enrolment' if name == 'enroll' else name + 's'}.",
        )(command)
    return command


_BUCKET_OPTIONS = (
    click.option(
        "--object-store",
        envvar="TOWPATH_OBJECT_STORE",
        default="",
        help="Keep objects in a bucket, s3://BUCKET/PREFIX; its keys come from AWS_* variables. Default: the folder.",
    ),
    click.option(
        "--object-store-endpoint",
        envvar="TOWPATH_OBJECT_STORE_ENDPOINT",
        default="",
        help="The URL of an S3 service that is not Amazon's.",
    ),
    click.option(
        "--object-store-region", envvar="TOWPATH_OBJECT_STORE_REGION", default="", help="The bucket's region."
    ),
)
_STORE_OPTIONS = (
    *_BUCKET_OPTIONS,
    click.option(
        "--object-store-direct",
        envvar="TOWPATH_OBJECT_STORE_DIRECT",
        default="0s",
        callback=setting(parse_duration_ms),
        help="Let hosts that may (direct_from) get large objects from the bucket, by addresses good for so long (15m).",
    ),
    click.option(
        "--delta-space",
        envvar="TOWPATH_DELTA_SPACE",
        default="2GiB",
        show_default=True,
        callback=setting(parse_size),
        help="What deltas between releases may take on disk; 0: none are made and none are served.",
    ),
    click.option(
        "--delta-cpu",
        envvar="TOWPATH_DELTA_CPU",
        default="10m",
        show_default=True,
        callback=setting(parse_duration_ms),
        help="CPU time for one delta, at the lowest priority.",
    ),
    click.option(
        "--delta-largest",
        envvar="TOWPATH_DELTA_LARGEST",
        default="4GiB",
        show_default=True,
        callback=setting(parse_size),
        help="The most bytes that two releases may have together; as much disk is taken while their delta is made.",
    ),
)


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where objects are, and what deltas between releases may cost."""
    for option in reversed(_STORE_OPTIONS):
        command = option(command)
    return command


def bucket_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where objects are."""
    for option in reversed(_BUCKET_OPTIONS):
        command = option(command)
    return command
