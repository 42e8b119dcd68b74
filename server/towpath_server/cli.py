"""`towpath-server run`: puts the parts together, serves until told to stop, and stops gracefully.

Everything of a server is in one folder: ca.pem, ca.key and keys/ and metadata/ (made by `towpath init`), server.toml,
and what the server itself keeps: towpath.db and objects/. Strength of settings: flag, TOWPATH_* variable,
server.toml, default.
"""

import asyncio
import fcntl
import logging
import os
import secrets
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from towpath import __version__
from towpath.errors import InputError, TowpathError
from towpath.settings import check_settings
from towpath_server.ports import Clock

if TYPE_CHECKING:
    from towpath_server.domain.leasing import Claim

SETTINGS = ("agent_listen", "enroll_listen", "operator_listen", "public_address", "prometheus_url")
MAX_FILE_BYTES = 4 * 2**20
STOP_GRACE_S = 5.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What a server is started with."""

    folder: Path
    agent_listen: str
    enroll_listen: str
    operator_listen: str
    public_address: str
    prometheus_url: str = ""


class SystemClock:
    """The machine's clock."""

    def now_unix_ms(self) -> int:
        """Return Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> float:
        """Return milliseconds since some moment."""
        return time.monotonic() * 1000


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}; --dir must be the server folder that 'towpath init' made"
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder: a second server on it would be two writers of one truth."""
    if not folder.is_dir():
        raise InputError(f"cannot find {folder}: make it with 'towpath init'")
    with (folder / "server.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"cannot start: another server runs on {folder}; stop it first") from error
        yield


def _claim(folder: Path) -> "Claim":
    """Return this server's name for the lease, and its seat: the folder's lock on this boot of this machine."""
    from towpath_server.domain.leasing import Claim  # noqa: PLC0415

    lock, boot = folder / "server.lock", Path("/proc/sys/kernel/random/boot_id")
    seat = ""
    if lock.exists() and boot.exists():
        found = lock.stat()
        seat = f"{boot.read_text().strip()}:{found.st_dev}:{found.st_ino}"
    return Claim(secrets.token_hex(8), seat)


def _settings(folder: Path) -> dict[str, str]:
    path = folder / "server.toml"
    if not path.exists():
        return {}
    try:
        table = tomllib.loads(_read(path).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    return check_settings(table, SETTINGS, str(path))


def announce(agents: str, enrolment: str, operators: str) -> None:
    """Print where the server listens; `ready` comes last."""
    click.echo(f"agents on {agents}\nenrolment on {enrolment}\noperators on {operators}\nready")


async def serve(  # noqa: PLR0915 - one thing after the other, each once
    options: Options,
    stop: asyncio.Event,
    *,
    clock: Clock | None = None,
    listening: Callable[[str, str, str], None] = announce,
) -> None:
    """Serve until `stop` is set, or until a part of the server fails. `listening` is told the three addresses."""
    # Imported here: `towpath-server --version` and a bad flag should not wait for grpc and SQLAlchemy.
    from towpath import pki  # noqa: PLC0415
    from towpath_server.api.hub import Hub  # noqa: PLC0415
    from towpath_server.api.listeners import Addresses, Certificates, Listeners, check_address  # noqa: PLC0415
    from towpath_server.domain.metadata import OnlineKeys  # noqa: PLC0415
    from towpath_server.prometheus import connected  # noqa: PLC0415
    from towpath_server.reconciler import Reconciler, housekeeping, last_words  # noqa: PLC0415
    from towpath_server.services import publishing  # noqa: PLC0415
    from towpath_server.services.authority import Authority  # noqa: PLC0415
    from towpath_server.services.context import Context  # noqa: PLC0415
    from towpath_server.services.signals import Signals  # noqa: PLC0415
    from towpath_server.services.syncing import Sequencer  # noqa: PLC0415
    from towpath_server.services.thread import StorageThread  # noqa: PLC0415
    from towpath_server.storage import FolderBlobs, SqlStorage  # noqa: PLC0415

    folder = options.folder
    addresses = Addresses(
        check_address(options.agent_listen, "--agent-listen"),
        check_address(options.enroll_listen, "--enroll-listen"),
        check_address(options.operator_listen, "--operator-listen"),
    )
    clock = clock or SystemClock()
    authority = Authority(_read(folder / "ca.pem"), pki.key_from_pem(_read(folder / "ca.key")))
    keys = OnlineKeys(
        **{role: _read(folder / "keys" / f"{role}.pem") for role in ("snapshot", "timestamp", "director")}
    )
    metadata = {path.name: _read(path) for path in sorted((folder / "metadata").glob("*.json"))}
    thread = StorageThread()
    signals = Signals(asyncio.get_running_loop())
    hub = Hub()
    signals.on_changed(hub.changed)
    storage = await thread.run(SqlStorage, folder / "towpath.db")
    listeners = None
    tasks: list[asyncio.Task[None]] = []
    context = Context(
        storage=storage,
        blobs=await thread.run(FolderBlobs, folder / "objects"),
        clock=clock,
        hints=signals,
        authority=authority,
        keys=keys,
        started_unix_ms=clock.now_unix_ms(),
        claim=_claim(folder),
        metrics=connected(options.prometheus_url),
    )
    try:
        for warning in await thread.run(publishing.adopt, context, metadata):
            logger.warning("%s", warning)
        await thread.run(publishing.check_whole, context)
        await thread.run(publishing.refresh, context)
        sequencer = await thread.run(Sequencer, context)
        certificates = Certificates(authority, clock.now_unix_ms)
        listeners = Listeners(context, thread, hub=hub, sequencer=sequencer, certificates=certificates)
        bound = await listeners.start(addresses)
        context.agent_address = _agent_address(options.public_address, bound.agents)
        reconciler = Reconciler(context, thread, signals)
        tasks = [asyncio.create_task(reconciler.run()), *housekeeping(context, thread, sequencer)]
        await listeners.serve()
        listening(bound.agents, bound.enrolment, bound.operators)
        await _until(stop, tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if listeners is not None:
            await listeners.stop(STOP_GRACE_S)
        await thread.run(last_words, context)
        await thread.run(storage.close)
        thread.close()


async def _until(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Wait for `stop`; a task that ends before it raises what ended it."""
    waiting = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        waiting.cancel()


def _agent_address(public: str, bound: str) -> str:
    """Return what new hosts are told to dial: an empty host means the one that they dialled."""
    port = bound.rpartition(":")[2]
    if not public:
        return f":{port}"
    return public if ":" in public else f"{public}:{port}"


async def _run(options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(options, stop)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="towpath-server")
def group() -> None:
    """Say what runs where: the server that agents pull from."""


def _load_settings(context: click.Context, _parameter: click.Parameter, value: Path) -> Path:
    context.default_map = {**_settings(value), **(context.default_map or {})}
    return value


@group.command()
@click.option(
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
@click.option("--agent-listen", envvar="TOWPATH_AGENT_LISTEN", default="127.0.0.1:7443", show_default=True)
@click.option("--enroll-listen", envvar="TOWPATH_ENROLL_LISTEN", default="127.0.0.1:7444", show_default=True)
@click.option("--operator-listen", envvar="TOWPATH_OPERATOR_LISTEN", default="127.0.0.1:7445", show_default=True)
@click.option(
    "--public-address",
    envvar="TOWPATH_PUBLIC_ADDRESS",
    default="",
    help="HOST or HOST:PORT that new hosts are told to sync with; default: the host that they enrolled at.",
)
@click.option(
    "--prometheus-url",
    envvar="TOWPATH_PROMETHEUS_URL",
    default="",
    help="Where metrics of rollouts are asked for, such as http://127.0.0.1:9090; default: nowhere.",
)
def run(folder: Path, **listen: Any) -> None:
    """Serve agents, enrolment and operators until SIGTERM. Port 0 picks a free port and prints it."""
    options = Options(folder, **listen)
    with _locked(folder):
        asyncio.run(_run(options))


def main() -> None:
    """Run the command; an error is one line."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own lines would stand around our one
    logging.basicConfig(level=logging.WARNING, format="towpath-server: %(message)s", stream=sys.stderr)
    try:
        group(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except TowpathError as error:
        click.echo(f"towpath-server: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
