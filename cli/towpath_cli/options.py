"""Options and argument types that the commands share, and the context that they hand over.

`operator_command` gives a command `--dir`, `--server` and `-o`, each from a flag, then a TOWPATH_* variable, then
`operator/towpath.toml` (through click's default_map), then the default.
"""

import functools
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from towpath.errors import InputError
from towpath.quantity import parse_duration_ms
from towpath_cli.operator_folder import DEFAULT_DIR, read_identity, read_settings
from towpath_cli.world import World

if TYPE_CHECKING:
    from towpath_cli.client import Client

DEFAULT_SERVER = "127.0.0.1:7445"
TABLE = "table"
JSON = "json"

F = TypeVar("F", bound=Callable[..., Any])


class Duration(click.ParamType[int]):
    """A duration such as 90s; the value is milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return milliseconds."""
        if isinstance(value, int):
            return value
        try:
            return parse_duration_ms(str(value))
        except InputError as error:
            self.fail(str(error), param, ctx)


DURATION = Duration()


@dataclass(frozen=True, slots=True)
class Operator:
    """Which fleet and server a command talks to, how it prints, and the machine that it runs on."""

    folder: Path
    server: str
    output: str
    world: World

    @property
    def json(self) -> bool:
        """Return True where the result is for machines."""
        return self.output == JSON

    def connect(self) -> "Client":
        """Return a client of the server; nothing is dialled before the first call."""
        from towpath_cli.client import Client  # noqa: PLC0415 - grpc is loaded only where it is needed

        start = f"towpath server run --dir {shlex.quote(str(self.folder / 'server'))}"
        return Client(self.server, read_identity(self.folder), start=start)


def world_of(ctx: click.Context) -> World:
    """Return the world that the program was started with."""
    return ctx.obj if isinstance(ctx.obj, World) else World()


def _load_settings(ctx: click.Context, _param: click.Parameter, folder: Path) -> Path:
    ctx.default_map = dict(read_settings(folder))
    return folder


def dir_option(function: F) -> F:
    """Give a command `--dir`, and the settings of that folder to its other options."""
    option = click.option(
        "--dir",
        "folder",
        type=click.Path(path_type=Path),
        envvar="TOWPATH_DIR",
        default=DEFAULT_DIR,
        show_default="./" + DEFAULT_DIR,
        is_eager=True,
        callback=_load_settings,
        help="The fleet's folder, with operator/ (and publisher/ to publish).",
    )
    return option(function)


def output_option(function: F) -> F:
    """Give a command `-o json`."""
    option = click.option(
        "-o",
        "--output",
        type=click.Choice([TABLE, JSON]),
        envvar="TOWPATH_OUTPUT",
        default=TABLE,
        show_default=True,
        help="How the result is printed.",
    )
    return option(function)


def operator_command(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the shared options and, as its first argument, the `Operator` that they make."""

    @functools.wraps(function)
    def call(folder: Path, server: str, output: str, **arguments: Any) -> None:
        world = world_of(click.get_current_context())
        function(Operator(folder, server, output, world), **arguments)

    server_option = click.option(
        "--server",
        envvar="TOWPATH_SERVER",
        default=DEFAULT_SERVER,
        show_default=True,
        metavar="HOST:PORT",
        help="The server's address for operators.",
    )
    return dir_option(server_option(output_option(call)))


def pairs(texts: Iterable[str], what: str) -> dict[str, str]:
    """Return `key=value` texts as a mapping; InputError for anything else and for a key that is there twice."""
    result: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError(f"cannot read {what} {text[:80]!r}: write it as key=value")
        if key in result:
            raise InputError(f"cannot use {what} {key[:80]!r} twice: say which value is meant")
        result[key] = value
    return result
