"""The command `towpath`: its commands, and the one place where an error becomes a line and an exit code.

Rules: an error is one line on stderr and never a traceback; exit code 1 for an error, 2 for a wrong command line, 130
when interrupted (`deploy --wait` has its own, see there). TOWPATH_DEBUG=1 shows the traceback of a fault of our own.
Commands are loaded when they are called: a short command does not wait for what only another needs.
"""

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from towpath.errors import TowpathError
from towpath_cli.output import say_error

# gRPC's own log lines would stand beside the one line that we promise.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

USAGE = 2
INTERRUPTED = 130
COMMANDS: Mapping[str, str] = {
    "init": "init:init",
    "relay": "relay:relay",
    "server": "server:server",
    "operator": "operator:operator",
    "environment": "environment:environment",
    "parameter": "parameter:parameter",
    "token": "token:token",
    "host": "host:host",
    "release": "release:release",
    "plan": "plan:plan",
    "rehearse": "rehearse:rehearse",
    "deploy": "deploy:deploy",
    "bundle": "bundle:bundle",
    "apply": "apply:apply",
    "diff": "apply:diff",
    "promote": "promote:promote",
    "rollout": "rollout:rollout",
    "undo": "promote:undo",
    "freeze": "calendar:freeze",
    "window": "calendar:window",
    "undeploy": "deploy:undeploy",
    "status": "status:status",
    "why": "host:why",
    "trust": "trust:trust",
    "audit": "audit:audit",
    "restored": "restored:restored",
    "version": "version:version",
}


class Towpath(click.Group):
    """The root group: loads commands by name, turns errors into lines."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they are met."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported now; None for an unknown name."""
        del ctx
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        module, _, name = place.partition(":")
        command = getattr(import_module(f"towpath_cli.commands.{module}"), name)
        return command if isinstance(command, click.Command) else None

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and exit with the code that the outcome asks for."""
        try:
            result = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
            code = result if isinstance(result, int) else 0
        except Exception as error:  # noqa: BLE001 - the outermost edge: said in one line, never swallowed
            code = _tell(error)
        if standalone_mode:
            sys.exit(code)
        return code


def _tell(error: Exception) -> int:
    match error:
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return USAGE
        case click.UsageError():
            command = error.ctx.command_path if error.ctx is not None else "towpath"
            message = error.format_message()
            say_error(f"{message[:1].lower()}{message[1:].rstrip('.')}; see: {command} --help")
            return error.exit_code
        case click.ClickException():
            say_error(error.format_message())
            return error.exit_code
        case click.Abort():
            say_error("interrupted")
            return INTERRUPTED
        case TowpathError():
            say_error(str(error))
            return 1
        case _:
            if os.environ.get("TOWPATH_DEBUG"):
                traceback.print_exception(error)
            reason = f"{type(error).__name__}: {error}"
            say_error(f"cannot go on: {reason}; this is a fault of towpath, TOWPATH_DEBUG=1 shows where")
            return 1


@click.group(cls=Towpath, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Publish signed releases, say which hosts run them, and see what they prove."""


def main() -> None:
    """Run the command line."""
    cli(prog_name="towpath")


if __name__ == "__main__":
    main()
