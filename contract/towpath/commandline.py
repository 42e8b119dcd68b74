"""How every program ends: what went wrong is one line on stderr and never a traceback, and the exit code says its kind.

0: well (a command may have codes of its own), 1: an error, 2: a wrong command line, 130: interrupted.
"""

import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import click
from click.core import ParameterSource

from towpath import __version__
from towpath.errors import TowpathError
from towpath.settings import Setting, parsed

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

ERROR, WRONG_COMMAND, INTERRUPTED = 1, 2, 130


def run(group: click.Group, program: str, *, typed: str = "", arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit. `program` begins its errors; `typed`: what a person calls it, where that differs."""
    sys.exit(code_of(group.main, program, args=arguments, prog_name=typed or program))


def code_of(main: Any, program: str, **words: Any) -> int:
    """Return the exit code of click's `main(**words)`, after its line where it failed."""
    try:
        result = main(**words, standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the outermost edge: said, never swallowed
        return _told(error, program)
    # click hands the code of Context.exit, or of Exit, back here.
    return result if isinstance(result, int) else 0


def clean(text: str) -> str:
    """Return `text` in one line, every control and unprintable character escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def say(program: str, message: str) -> None:
    """Print one line on stderr, whatever is in `message`."""
    click.echo(f"{program}: {clean(' '.join(message.split()))}", err=True)


def version_option(program: str) -> Callable[[F], F]:
    """Return what gives a program `--version`: one line with its name and version, as the command `version` has."""
    return click.version_option(__version__, prog_name=program, message="%(prog)s %(version)s")


def setting(parse: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, str | None], T | None]:
    """Return the callback of an option whose text `parse` reads, None where there is none.

    Its InputError says where the text stands: the flag, the variable, or the key and its file.
    """

    def read(context: click.Context, parameter: click.Parameter, text: str | None) -> T | None:
        return None if text is None else parsed(_place(context, parameter), parse, text)

    return read


def _place(context: click.Context, parameter: click.Parameter) -> str:
    name = parameter.name or ""
    source = context.get_parameter_source(name)
    if source is ParameterSource.ENVIRONMENT:
        return str(parameter.envvar)
    kept = (context.default_map or {}).get(name)
    return kept.place if source is ParameterSource.DEFAULT_MAP and isinstance(kept, Setting) else parameter.opts[0]


def _told(error: BaseException, program: str) -> int:
    match error:
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return WRONG_COMMAND
        case click.UsageError():
            command = error.ctx.command_path if error.ctx is not None else program
            message = error.format_message()
            say(program, f"{message[:1].lower()}{message[1:].rstrip('.')}; see: {command} --help")
            return error.exit_code
        case click.ClickException():
            say(program, error.format_message())
            return error.exit_code
        case click.Abort() | KeyboardInterrupt():
            say(program, "interrupted")
            return INTERRUPTED
        case TowpathError():
            say(program, str(error))
            return ERROR
        case _:
            where = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__}: {error} ({where.filename}, line {where.lineno})"
            say(program, f"cannot go on: {reason}; this is a fault of Towpath")
            return ERROR
