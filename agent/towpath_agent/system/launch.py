"""How this agent was started: what its launcher said in the environment, and the way back to it.

The name is taken out of the environment: hooks and apps are no part of it. Not handled here: which version should run
(`engine.selfupdate`).
"""

import json
import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

VARIABLE = "TOWPATH_LAUNCH"
LAUNCHER = Path(__file__).resolve().parent.parent / "launcher.py"
EXIT_AGAIN = 75


@dataclass(frozen=True, slots=True)
class Launch:
    """`release`: this agent's id as a release, empty for the packaged one. `argv` empty: nobody launched it.

    `folder` is the agent's, in which the launcher counts; empty: an older launcher, which does not say.
    """

    argv: tuple[str, ...] = ()
    release: str = ""
    trial: bool = False
    folder: str = ""

    def again(self, environment: Mapping[str, str]) -> int:
        """Start what should run by now, in this process or in a new one; return the code to end with where it is so.

        Everything must be closed. On trial the launcher is the parent, which waits; else it takes this one's place.
        """
        if self.argv and not self.trial:
            become(self.argv, environment)
        return EXIT_AGAIN


def become(argv: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Run another program in this process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(argv[0], list(argv), dict(environment))  # noqa: S606  (no shell is wanted)


def taken(environment: MutableMapping[str, str]) -> Launch:
    """Return what the launcher said, and take it out of `environment`."""
    try:
        raw = json.loads(environment.pop(VARIABLE, ""))
        argv = tuple(map(str, raw["argv"]))
        return Launch(argv, str(raw["release"]), raw["trial"] is True, str(raw.get("folder", "")))
    except (ValueError, KeyError, TypeError):
        return Launch()


def is_launched(environment: Mapping[str, str]) -> bool:
    """Return whether this process was started by a launcher."""
    return VARIABLE in environment


def launch(words: Sequence[str]) -> None:
    """Become the launcher, with this environment's command as the packaged agent; return where that has none."""
    command = Path(sys.executable).parent / "towpath-agent"
    if not os.access(command, os.X_OK):
        return
    argv = [sys.executable, "-I", "-S", str(LAUNCHER), str(command), *words]
    become(argv, os.environ)
