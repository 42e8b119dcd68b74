"""`towpath-relay run`: puts the parts together and carries until told to stop.

Strength of settings: flag, TOWPATH_RELAY_* variable, DIR/relay.toml, default.
"""

import asyncio
import fcntl
import logging
import os
import resource
import signal
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from towpath import commandline
from towpath.commandline import setting, version_option
from towpath.errors import InputError, Unavailable
from towpath.quantity import format_size, parse_size
from towpath.settings import check_settings
from towpath_agent.engine.maxrate import MaxRate, parse_max_rate

SETTINGS = ("agent_dir", "listen", "enroll_listen", "server", "max_bytes", "max_rate")
MAX_SETTINGS_BYTES = 64 * 1024
STOP_GRACE_S = 2.0
TELL_S = 60.0
# How often it looks whether an import brought something.
ADOPT_S = 1.0
# How long an import waits for a relay that runs.
TAKEN_S = 60.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """What a relay is started with; `max_bytes` is the cache's limit, `max_rate` that of all fetches together."""

    folder: Path
    agent_dir: Path
    listen: str
    enroll_listen: str
    server: str
    max_bytes: int
    max_rate: MaxRate


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder, made where it is not there: two relays on one cache would each count for themselves."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / "relay.lock").open("w")
    except OSError as error:
        raise InputError(f"cannot use {folder} for the relay: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"cannot start: another relay runs in {folder}; stop it first") from error
        yield


def all_descriptors() -> int:
    """Take as many as the machine allows, and return how many.

    Each connection takes two or more, and the usual limit is for programs without hosts.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most if most != resource.RLIM_INFINITY else sys.maxsize


async def carry(options: Options, stop: asyncio.Event) -> None:
    """Carry until `stop` is set."""
    # Imported here: `towpath-relay --version` and a bad flag should not wait for grpc.
    from towpath_agent.system.clock import SystemClock  # noqa: PLC0415
    from towpath_agent.system.process import boot_id  # noqa: PLC0415
    from towpath_relay.cache import Cache  # noqa: PLC0415
    from towpath_relay.flights import Flights  # noqa: PLC0415
    from towpath_relay.front import Front, check_address, most_connections  # noqa: PLC0415
    from towpath_relay.service import RelayServicer, own_identity, serve  # noqa: PLC0415
    from towpath_relay.uplink import Uplink  # noqa: PLC0415

    for address, option in ((options.listen, "--listen"), (options.enroll_listen, "--enroll-listen")):
        check_address(address, option)
    most = most_connections(all_descriptors())
    clock = SystemClock()
    uplink = Uplink(options.agent_dir, clock, options.server, options.max_rate)
    cache = Cache(options.folder, options.max_bytes, boot_id())
    flights = Flights(cache, uplink.fetch)
    servicer = RelayServicer(flights.sources, clock.now_unix_ms, flights.lively)
    socket_path = options.folder / "service.sock"
    identity = own_identity(options.folder / "relay.pem", clock.now_unix_ms())
    service = serve(servicer, socket_path, identity, uplink.ca_pem)
    front = Front(server=uplink.server, enrolment=uplink.enrolment, service=socket_path, most=most)
    try:
        agents, enrolment = await front.start(options.listen, options.enroll_listen)
        held = f"fetching at most {options.max_rate.text}\n" if any(options.max_rate.rates) else ""
        click.echo(f"agents on {agents}\nenrolment on {enrolment}\nserver at {uplink.server()}\n{held}ready")
        told, tell_at_s = (0, 0), clock.monotonic() + TELL_S
        while not stop.is_set():
            try:
                async with asyncio.timeout(ADOPT_S):
                    await stop.wait()
            except TimeoutError:
                taken = await asyncio.to_thread(cache.adopt)
                if taken:
                    click.echo(f"took {taken} objects, indexes and deltas that were imported")
                if clock.monotonic() < tell_at_s:
                    continue
                now, tell_at_s = (servicer.sent_bytes, flights.fetched_bytes), clock.monotonic() + TELL_S
                if now != told:
                    click.echo(f"sent {format_size(now[0])} to hosts, fetched {format_size(now[1])} from the server")
                told = now
    finally:
        await front.stop()
        service.stop(STOP_GRACE_S).wait()
        flights.stop()
        uplink.close()
        flights.close()
        socket_path.unlink(missing_ok=True)


async def _run(options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await carry(options, stop)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@version_option("towpath-relay")
def group() -> None:
    """Carry bytes between the hosts of a site and their server, and fetch each object once."""


def _load_settings(context: click.Context, _parameter: click.Parameter, folder: Path) -> Path:
    path = folder / "relay.toml"
    try:
        text = path.read_bytes()[:MAX_SETTINGS_BYTES].decode() if path.exists() else ""
        table = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    context.default_map = {**check_settings(table, SETTINGS, str(path)), **(context.default_map or {})}
    return folder


dir_option = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="TOWPATH_RELAY_DIR",
    default="/var/lib/towpath-relay",
    show_default=True,
    is_eager=True,
    callback=_load_settings,
    help="The relay's folder: its cache and its settings. Made where it is not there.",
)
agent_dir_option = click.option(
    "--agent-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="TOWPATH_AGENT_DIR",
    default="/var/lib/towpath",
    show_default=True,
    help="The folder of this machine's agent: the relay fetches as this host, and reads its key.",
)
max_bytes_option = click.option(
    "--max-bytes",
    envvar="TOWPATH_RELAY_MAX_BYTES",
    default="10GiB",
    show_default=True,
    callback=setting(parse_size),
    help="What the cache may take on disk.",
)


@group.command()
@dir_option
@agent_dir_option
@click.option("--listen", envvar="TOWPATH_RELAY_LISTEN", default="0.0.0.0:7443", show_default=True, help="For agents.")
@click.option(
    "--enroll-listen",
    envvar="TOWPATH_RELAY_ENROLL_LISTEN",
    default="0.0.0.0:7444",
    show_default=True,
    help="For hosts that enrol.",
)
@click.option(
    "--server",
    envvar="TOWPATH_RELAY_SERVER",
    default="",
    help="The server's port for agents, HOST:PORT; default: where this machine's agent goes.",
)
@max_bytes_option
@click.option(
    "--max-rate",
    envvar="TOWPATH_RELAY_MAX_RATE",
    callback=setting(parse_max_rate),
    help="The most that all fetches from the server may take together, such as 256KiB/s or 2Mbit/s; other rates at "
    "other times: '256KiB/s; daily 22:00-06:00 local full'. Default: no limit.",
)
def run(folder: Path, max_rate: MaxRate | None, **rest: Any) -> None:
    """Carry until SIGTERM. Port 0 picks a free port and prints it."""
    if rest["server"]:
        from towpath_agent.transport.channel import parse_address  # noqa: PLC0415  (grpc: for this option alone)

        parse_address(rest["server"])
    options = Options(folder, max_rate=max_rate or MaxRate(), **rest)
    with _locked(folder):
        asyncio.run(_run(options))


@group.command(name="import")
@dir_option
@agent_dir_option
@max_bytes_option
@click.argument("file", type=click.Path(path_type=Path))
def import_bundle(folder: Path, agent_dir: Path, max_bytes: int, file: Path) -> None:
    """Put the objects and deltas of the bundle FILE into the cache, so that no host's fetch of them costs the line.

    Works beside a running relay, and without one: then it has them at its next start.
    """
    from towpath_agent import identity  # noqa: PLC0415
    from towpath_agent.system.clock import Deadline, SystemClock, pause  # noqa: PLC0415
    from towpath_agent.system.files import Files  # noqa: PLC0415
    from towpath_relay.bringing import bring, waiting  # noqa: PLC0415  (loads tuf)

    files, clock = Files(), SystemClock()
    identity.read_record(agent_dir, files)
    root = files.read(agent_dir / identity.ROOT, identity.MAX_FILE_BYTES)
    checked, count, size = bring(file, folder, root, max_bytes=max_bytes, now_unix_ms=clock.now_unix_ms())
    names = ", ".join(f"{one.app} {one.version}" for one in checked.statement.releases)
    click.echo(f"{names}: {count} objects, indexes and deltas, {format_size(size)}")
    deadline = Deadline(clock, TAKEN_S)
    while waiting(folder):
        if not _runs(folder):
            click.echo("no relay runs there: one that is started there will have them")
            return
        if deadline.expired:
            raise Unavailable(f"cannot say that the relay in {folder} has them: it has not taken them in {TAKEN_S:g} s")
        pause(ADOPT_S / 4)
    click.echo("the relay has them")


def _runs(folder: Path) -> bool:
    """Return whether a relay holds the folder."""
    try:
        with _locked(folder):
            return False
    except InputError:
        return True


def main() -> None:
    """Run the command; an error is one line."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.basicConfig(level=logging.WARNING, format="towpath-relay: %(message)s", stream=sys.stderr)
    # As a module it was started by `towpath relay`, and a person typed that.
    commandline.run(group, "towpath-relay", typed="towpath relay" if Path(sys.argv[0]).name == "cli.py" else "")


if __name__ == "__main__":
    main()
