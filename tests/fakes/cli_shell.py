"""Typing `towpath ...` in a test: CliRunner, a fleet of its own, and a world without waiting."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from towpath_cli.fleet import create_fleet
from towpath_cli.main import cli
from towpath_cli.world import World

CLEAR: dict[str, str | None] = dict.fromkeys(
    ("TOWPATH_DIR", "TOWPATH_SERVER", "TOWPATH_OUTPUT", "TOWPATH_PASSPHRASE_FILE")
)
NOW_MS = World().now_ms


@dataclass
class Typed:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return stdout as JSON."""
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """Return the one line of an error."""
        assert self.code != 0, self.out
        assert self.out == "", self.out
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("towpath: "), self.err
        return self.err.removeprefix("towpath: ").rstrip("\n")


@dataclass
class CliShell:
    """A person at the keyboard. `became` is what `server run` would have become."""

    fleet: Path
    server: str = ""
    tty: bool = False
    became: list[Sequence[str]] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def type(self, *words: str, input: str | None = None, fleet: bool = True) -> Typed:  # noqa: A002 - CliRunner's name
        """Run `towpath WORDS`; `--dir` and `--server` are added where `fleet`."""
        world = World(sleep=self.slept.append, become=self.became.append, is_tty=lambda: self.tty)
        args = [*words]
        env = dict(CLEAR)
        if fleet:
            env["TOWPATH_DIR"] = str(self.fleet)
            env["TOWPATH_SERVER"] = self.server or None
        done = CliRunner(env=env).invoke(cli, args, obj=world, input=input)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return Typed(done.exit_code, done.stdout, done.stderr)


def new_fleet(path: Path, passphrase: bytes | None = None) -> Path:
    """Make a fleet as `towpath init` does."""
    create_fleet(path, passphrase=passphrase, operator="ana", now_ms=NOW_MS())
    return path
