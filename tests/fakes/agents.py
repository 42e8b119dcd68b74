"""Releases of the agent for hosts of tests: this very agent under another version, whole or broken in a chosen way.

The tree has the form of the packaged one: `bin/towpath-agent` starts the interpreter beside it, and that the agent beside
it. The standard library and what the agent stands on are those of the tests' environment: megabytes, not eighty.
"""

import shutil
import sys
from pathlib import Path

import click

import towpath
import towpath_agent
from towpath import __version__

POLICY = "{healthy_for: 500ms, deadline: 20s, probation: 1s}"
_MAIN = "from towpath_agent.cli import main; main()"
# What `bin/towpath-agent` does instead of starting the agent.
BROKEN = {
    "does not start": 'echo "ModuleNotFoundError: No module named grpc" >&2; exit 1',
    "hangs": "exec sleep 600",
}
# What is put at the top of the daemon's `run`.
SICK = {
    "crashes at once": 'raise SystemExit("assertion failed: boom")',
    "crashes in staging": 'if self._folder.name.startswith("s"): raise SystemExit("assertion failed: not in staging")',
    "never reports": """from towpath.errors import Unavailable

        def unheard(*_: object) -> None:
            raise Unavailable("nobody hears this one")

        self._server.report = unheard""",
    "spoils the journal": """import sqlite3
        db = sqlite3.connect(self._folder / "state.db")
        db.execute("PRAGMA user_version=99")
        db.close()
        raise SystemExit("migrated the journal, then died")""",
}


def release_file(folder: Path, version: str, *, fault: str = "", policy: str = POLICY) -> Path:
    """Return the release file of this agent as `version`; `fault` is one of BROKEN or SICK."""
    tree = folder / "tree"
    library = tree / "lib/python3.11/site-packages"
    for package in (towpath, towpath_agent):
        source = Path(str(package.__file__)).parent
        shutil.copytree(source, library / package.__name__, ignore=shutil.ignore_patterns("__pycache__"))
    (library / "others.pth").write_text(f"{Path(click.__file__).parents[1]}\n")
    _replace(library / "towpath/__init__.py", f'"{__version__}"', f'"{version}"')
    if fault in SICK:
        daemon = library / "towpath_agent/daemon.py"
        line = '        line = f"host {self._identity.host.name} in'
        _replace(daemon, line, f"        {SICK[fault]}\n{line}")
    interpreter = Path(sys.executable).resolve()
    (tree / "bin").mkdir()
    shutil.copy(interpreter, tree / "bin/python3.11")
    (tree / "pyvenv.cfg").write_text(f"home = {interpreter.parent}\ninclude-system-site-packages = false\n")
    program = tree / "bin/towpath-agent"
    start = f'exec "${{0%/*}}/python3.11" -I -c "{_MAIN}" "$@"'
    program.write_text(f"#!/bin/sh\n{BROKEN.get(fault, start)}\n")
    program.chmod(0o755)
    made = folder / "towpath.yaml"
    made.write_text(f"""\
app: towpath-agent
artifact: ./tree
install: {{kind: tree}}
run: {{kind: agent}}
probes:
  - agent: {{interval: 200ms}}
health: {policy}
""")
    return made


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    if old not in text:
        raise AssertionError(f"{path} has no {old!r}")
    path.write_text(text.replace(old, new, 1))
