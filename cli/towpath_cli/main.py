"""The command `towpath` and its commands; how it ends is `towpath.commandline` (`deploy --wait` has codes of its own).

Commands are loaded when they are called: a short command does not wait for what only another needs.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from towpath.commandline import code_of, version_option
from towpath_cli.output import PROGRAM

# gRPC's own log lines would stand beside the one line that we promise.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

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
        code = code_of(super().main, PROGRAM, args=args, prog_name=prog_name, complete_var=complete_var, **extra)
        if standalone_mode:
            sys.exit(code)
        return code


@click.group(cls=Towpath, context_settings={"help_option_names": ["-h", "--help"]})
@version_option(PROGRAM)
def cli() -> None:
    """Publish signed releases, say which hosts run them, and see what they prove."""


def main() -> None:
    """Run the command line."""
    cli(prog_name=PROGRAM)


if __name__ == "__main__":
    main()
