"""`towpath-server run`: puts the parts together, serves until told to stop, and stops gracefully.

Everything of a server is in one folder: ca.pem, ca.key and keys/ and metadata/ (made by `towpath init`), server.toml,
and what the server itself keeps: towpath.db and objects/. `options` reads its settings, `upkeep_cli` looks after it.
"""

import asyncio
import contextlib
import gc
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from towpath import commandline
from towpath.commandline import version_option
from towpath_server import upkeep_cli
from towpath_server.options import folder_option, listen_options, locked, read, seat, store_options
from towpath_server.ports import Clock

if TYPE_CHECKING:
    from towpath_server.domain.leasing import Claim
    from towpath_server.ports import Blobs

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
    object_store: str = ""
    object_store_endpoint: str = ""
    object_store_region: str = ""
    object_store_direct_ms: int = 0
    delta_space: int = 2 * 2**30
    delta_cpu_ms: int = 600_000
    delta_largest: int = 4 * 2**30


class SystemClock:
    """The machine's clock."""

    def now_unix_ms(self) -> int:
        """Return Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> float:
        """Return milliseconds since some moment."""
        return time.monotonic() * 1000


def _claim(folder: Path) -> "Claim":
    """Return this server's name for the lease, and its seat."""
    from towpath_server.domain.leasing import Claim  # noqa: PLC0415

    return Claim(secrets.token_hex(8), seat(folder))


def tell_systemd(state: str) -> None:
    """Send a line such as READY=1 to a supervisor that waits for it (Type=notify); nothing where there is none."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if place:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line, contextlib.suppress(OSError):
            line.connect("\0" + place[1:] if place.startswith("@") else place)
            line.send(state.encode())


def announce(agents: str, enrolment: str, operators: str) -> None:
    """Print where the server listens; `ready` comes last. Then systemd may count it as started."""
    click.echo(f"agents on {agents}\nenrolment on {enrolment}\noperators on {operators}\nready")
    tell_systemd("READY=1")


def _blobs(options: Options) -> "Blobs":
    """Return where objects are: the folder's own, or a bucket."""
    from towpath_server.storage.opening import ObjectStore, open_blobs  # noqa: PLC0415

    store = ObjectStore(
        options.object_store,
        options.object_store_endpoint,
        options.object_store_region,
        options.object_store_direct_ms,
    )
    return open_blobs(options.folder, store)


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
    from towpath_server.deltamaker import DeltaMaker  # noqa: PLC0415
    from towpath_server.deltas.process import Allowance  # noqa: PLC0415
    from towpath_server.domain.metadata import OnlineKeys  # noqa: PLC0415
    from towpath_server.prometheus import connected  # noqa: PLC0415
    from towpath_server.reconciler import Reconciler, housekeeping, last_words, remember_life  # noqa: PLC0415
    from towpath_server.services import backups, publishing  # noqa: PLC0415
    from towpath_server.services.authority import Authority  # noqa: PLC0415
    from towpath_server.services.context import Context  # noqa: PLC0415
    from towpath_server.services.encoding import Budget  # noqa: PLC0415
    from towpath_server.services.signals import Signals  # noqa: PLC0415
    from towpath_server.services.syncing import Sequencer  # noqa: PLC0415
    from towpath_server.services.thread import StorageThread  # noqa: PLC0415
    from towpath_server.storage import FolderDeltas, SqlStorage  # noqa: PLC0415

    folder = options.folder
    addresses = Addresses(
        check_address(options.agent_listen, "--agent-listen"),
        check_address(options.enroll_listen, "--enroll-listen"),
        check_address(options.operator_listen, "--operator-listen"),
    )
    clock = clock or SystemClock()
    authority = Authority(read(folder / "ca.pem"), pki.key_from_pem(read(folder / "ca.key")))
    keys = OnlineKeys(**{role: read(folder / "keys" / f"{role}.pem") for role in ("snapshot", "timestamp", "director")})
    metadata = {path.name: read(path) for path in sorted((folder / "metadata").glob("*.json"))}
    thread = StorageThread()
    signals = Signals(asyncio.get_running_loop())
    hub = Hub()
    signals.on_changed(hub.changed)
    # First: a bucket that cannot be used leaves no database behind that looks like one of a server that has run.
    blobs = await thread.run(_blobs, options)
    storage = await thread.run(SqlStorage, folder / "towpath.db")
    if storage.upgraded is not None:
        done = storage.upgraded
        logger.warning("upgraded the database from %s to %s; as it was: %s", done.before, done.after, done.copy)
    listeners = None
    tasks: list[asyncio.Task[None]] = []
    context = Context(
        storage=storage,
        blobs=blobs,
        clock=clock,
        hints=signals,
        authority=authority,
        keys=keys,
        started_unix_ms=clock.now_unix_ms(),
        claim=_claim(folder),
        metrics=connected(options.prometheus_url),
    )
    making = None
    if options.delta_space:
        beside, arriving = folder / "objects", folder / "objects" / "incoming"
        if options.object_store:
            beside, arriving = folder, folder / "arriving"
        context.deltas = await thread.run(FolderDeltas, beside / "deltas")
        allowance = Allowance(max(1, options.delta_cpu_ms // 1000), arriving)
        making = DeltaMaker(context, thread, allowance, Budget(options.delta_space, options.delta_largest))
    try:
        await thread.run(remember_life, context)
        for warning in await thread.run(publishing.adopt, context, metadata):
            logger.warning("%s", warning)
        await thread.run(publishing.check_whole, context)
        await thread.run(backups.remember, context)
        await thread.run(publishing.refresh, context)
        sequencer = await thread.run(Sequencer, context)
        certificates = Certificates(authority, clock.now_unix_ms)
        listeners = Listeners(context, thread, hub=hub, sequencer=sequencer, certificates=certificates)
        bound = await listeners.start(addresses)
        context.agent_address = _agent_address(options.public_address, bound.agents)
        reconciler = Reconciler(context, thread, signals)
        tasks = [asyncio.create_task(reconciler.run()), *housekeeping(context, thread, sequencer)]
        if making is not None:
            tasks.append(asyncio.create_task(making.run()))
        await listeners.serve()
        listening(bound.agents, bound.enrolment, bound.operators)
        await _until(stop, tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if making is not None:
            await asyncio.to_thread(making.close)
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
@version_option("towpath-server")
def group() -> None:
    """Say what runs where: the server that agents pull from."""


@group.command()
@folder_option
@listen_options
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
@store_options
def run(folder: Path, object_store_direct: int, delta_cpu: int, **rest: Any) -> None:
    """Serve agents, enrolment and operators until SIGTERM. Port 0 picks a free port and prints it."""
    options = Options(folder, **rest, object_store_direct_ms=object_store_direct, delta_cpu_ms=delta_cpu)
    with locked(folder):
        # A full collection walks all that ticks keep in memory: of 100,000 hosts a second, every few ticks by default.
        gc.set_threshold(10_000, 10, 50)
        asyncio.run(_run(options))


upkeep_cli.add_to(group)


def main() -> None:
    """Run the command; an error is one line."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own lines would stand around our one
    logging.basicConfig(level=logging.WARNING, format="towpath-server: %(message)s", stream=sys.stderr)
    # As a module it was started by `towpath server`, and a person typed that.
    commandline.run(group, "towpath-server", typed="towpath server" if Path(sys.argv[0]).name == "cli.py" else "")


if __name__ == "__main__":
    main()
