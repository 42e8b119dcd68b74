"""The man page, or completion for a shell, made from the commands themselves: `pages.py man|bash|zsh|fish TIME`.

Runs in the packaged Python, so it shows what that agent knows.
"""

import datetime
import sys

import click
from click.shell_completion import get_completion_class

from towpath import __version__
from towpath_agent.cli import group

NAME = "towpath-agent"
VARIABLE = "_TOWPATH_AGENT_COMPLETE"
FILES = (
    ("/etc/towpath/agent.toml", "Settings of the agent in /var/lib/towpath."),
    ("/var/lib/towpath", "Identity, journal and releases of this host. It stays when the package is removed."),
)


def escape(text: str) -> str:
    """Return text that roff takes as it is."""
    text = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in {".", "'"} else text


def commands(of: click.Group, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    """Return every command below a group with the words that call it, subcommands after their group."""
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for name, command in sorted(of.commands.items()):
        found.append(((*path, name), command))
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
    return found


def man(time_s: int) -> str:
    """Return the page in section 1."""
    day = datetime.datetime.fromtimestamp(time_s, datetime.UTC).date()
    lines = [
        f'.TH {escape(NAME.upper())} 1 {day} "Towpath {__version__}" "Towpath"',
        ".SH NAME",
        f"{escape(NAME)} \\- {escape((group.help or '').rstrip('.').lower())}",
        ".SH SYNOPSIS",
        f".B {escape(NAME)}",
        "COMMAND [OPTIONS]",
        ".SH COMMANDS",
    ]
    for path, command in commands(group, (NAME,)):
        context = click.Context(command, info_name=" ".join(path))
        lines += [f".SS {escape(' '.join((*path[1:], *command.collect_usage_pieces(context))))}"]
        for paragraph in (command.help or "").split("\n\n"):
            lines += [".PP", escape(paragraph)]
        for parameter in command.get_params(context):
            record = parameter.get_help_record(context)
            if record is not None:
                lines += [".TP", f"\\fB{escape(record[0])}\\fR", escape(record[1]) or "\\&"]
    lines.append(".SH FILES")
    for path_, text in FILES:
        lines += [".TP", f".I {escape(path_)}", escape(text)]
    lines += [".SH EXIT STATUS", "0: done. 1: not done, one line says why. 2: a wrong command line."]
    return "\n".join(lines) + "\n"


def completion(shell: str) -> str:
    """Return the shell's script."""
    kind = get_completion_class(shell)
    if kind is None:
        raise SystemExit(f"no completion for {shell}")
    made = kind(group, {}, NAME, VARIABLE)
    return made.source_template % made.source_vars()


if __name__ == "__main__":
    what, time_text = sys.argv[1:]
    sys.stdout.write(man(int(time_text)) if what == "man" else completion(what))
