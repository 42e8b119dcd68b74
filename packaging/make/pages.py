"""The man page, or completion for a shell, made from the commands themselves.

    pages.py man|bash|zsh|fish TIME NAME MODULE GROUP

Runs in the packaged Python, so it shows what that program knows.
"""

import datetime
import sys
from importlib import import_module

import click
from click.shell_completion import get_completion_class

from towpath import __version__

FILES = {
    "towpath-agent": (
        ("/etc/towpath/agent.toml", "Settings of the agent in /var/lib/towpath."),
        ("/var/lib/towpath", "Identity, journal and releases of this host. It stays when the package is removed."),
    ),
    "towpath-server": (
        ("/etc/towpath/server.toml", "Settings of the server in /var/lib/towpath-server."),
        ("/var/lib/towpath-server", "The fleet's CA, online keys, database and objects. No removal takes them away."),
    ),
    "towpath": (("./fleet", "The folder that towpath init made; --dir or TOWPATH_DIR name another."),),
}


def escape(text: str) -> str:
    """Return text that roff takes as it is."""
    text = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in {".", "'"} else text


def commands(of: click.Group, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    """Return every command below a group with the words that call it, subcommands after their group."""
    found: list[tuple[tuple[str, ...], click.Command]] = []
    context = click.Context(of)
    for name in sorted(of.list_commands(context)):
        command = of.get_command(context, name)
        if command is None or command.hidden:
            continue
        found.append(((*path, name), command))
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
    return found


def man(group: click.Group, program: str, time_s: int) -> str:
    """Return the page in section 1."""
    day = datetime.datetime.fromtimestamp(time_s, datetime.UTC).date()
    lines = [
        f'.TH {escape(program.upper())} 1 {day} "Towpath {__version__}" "Towpath"',
        ".SH NAME",
        f"{escape(program)} \\- {escape((group.help or '').rstrip('.').lower())}",
        ".SH SYNOPSIS",
        f".B {escape(program)}",
        "COMMAND [OPTIONS]",
        ".SH COMMANDS",
    ]
    for path, command in commands(group, (program,)):
        context = click.Context(command, info_name=" ".join(path))
        lines += [f".SS {escape(' '.join((*path[1:], *command.collect_usage_pieces(context))))}"]
        for paragraph in (command.help or "").split("\n\n"):
            lines += [".PP", escape(paragraph)]
        for parameter in command.get_params(context):
            record = parameter.get_help_record(context)
            if record is not None:
                lines += [".TP", f"\\fB{escape(record[0])}\\fR", escape(record[1]) or "\\&"]
    lines.append(".SH FILES")
    for path_, text in FILES[program]:
        lines += [".TP", f".I {escape(path_)}", escape(text)]
    lines += [".SH EXIT STATUS", "0: done. 1: not done, one line says why. 2: a wrong command line."]
    return "\n".join(lines) + "\n"


def completion(group: click.Group, program: str, shell: str) -> str:
    """Return the shell's script."""
    kind = get_completion_class(shell)
    if kind is None:
        raise SystemExit(f"no completion for {shell}")
    made = kind(group, {}, program, f"_{program.upper().replace('-', '_')}_COMPLETE")
    return made.source_template % made.source_vars()


if __name__ == "__main__":
    what, time_text, name, module, attribute = sys.argv[1:]
    root = getattr(import_module(module), attribute)
    sys.stdout.write(man(root, name, int(time_text)) if what == "man" else completion(root, name, what))
