"""Who may touch files, processes and the clock, read from the syntax trees.

import-linter (`make check`) watches which module imports which; this watches what it cannot see: `open`, single
functions of `os`, methods of `Path`, `datetime.now`. Two rules:

- the agent: only `towpath_agent.system` touches files, processes and the clock, so that a test can take its place,
  record every operation and cut the power between any two; SQLite belongs to the journal alone;
- engine, domain and contract decide and do no I/O at all.
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

# Modules whose every use is files, processes or time.
OUTSIDE = frozenset(
    "ctypes fcntl fileinput glob linecache mmap multiprocessing psutil pty sched shelve shutil subprocess tempfile time".split()
)
# What a module that only decides needs even less.
IMPURE = OUTSIDE | frozenset(
    "asyncio concurrent grpc http logging os queue random requests selectors signal socket sqlalchemy sqlite3 ssl "
    "threading urllib urllib3".split()
)
# `os` is allowed by name: constants, the environment, replacing the own program, pure functions on paths.
OS_ALLOWED = frozenset(
    "PathLike _exit cpu_count environ execv execve fsdecode fsencode fspath getenv getpid geteuid linesep name path sep "
    "strerror uname urandom".split()
)
OS_PATH_ALLOWED = frozenset("basename commonpath dirname isabs join normpath relpath sep split splitext".split())
BUILTINS = frozenset("open input __import__ eval exec breakpoint".split())
IO_ALLOWED = frozenset(
    "BytesIO StringIO BufferedReader RawIOBase BufferedIOBase IOBase TextIOBase UnsupportedOperation".split()
)
# Methods that only paths have. Names that a port may have too (exists, rename, stat) count where they have no argument.
PATH_METHODS = frozenset(
    "chmod hardlink_to is_mount is_symlink iterdir lchmod lstat mkdir read_bytes read_text readlink rglob rmdir "
    "samefile symlink_to touch unlink write_bytes write_text".split()
)
PATH_METHODS_WITHOUT_ARGUMENTS = frozenset(
    "absolute cwd exists expanduser home is_dir is_file owner resolve stat".split()
)
NOW = frozenset({("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")})


def dotted(node: ast.expr) -> str:
    """`a.b.c` of names and attributes, with '?' where the chain starts at something else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return "?"


def aliases(tree: ast.AST) -> dict[str, str]:
    """Local names of modules and of what was imported from them: `import os as o` gives o: os."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def imports(tree: ast.AST, modules: frozenset[str]) -> Iterator[str]:
    """Every import of one of the modules, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            wanted = [node.module or ""]
        else:
            continue
        yield from (f"line {node.lineno}: import {name}" for name in wanted if name.partition(".")[0] in modules)


def touches(source: str, modules: frozenset[str] = OUTSIDE) -> Iterator[str]:
    """One line for everything that reaches outside: an import, a function, a method of a path."""
    tree = ast.parse(source)
    yield from imports(tree, modules)
    names = aliases(tree)
    yield from (f"from-import of {name}" for name in names.values() if _reaches_outside(name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            head, _, rest = dotted(node).partition(".")
            if head in names and _reaches_outside(f"{names[head]}.{rest}"):
                yield f"line {node.lineno}: {dotted(node)}"
        elif isinstance(node, ast.Call):
            yield from (f"line {node.lineno}: {what}" for what in _of_call(node))


def _reaches_outside(name: str) -> bool:
    parts = name.split(".")
    if parts[:2] == ["os", "path"] and len(parts) > 2:
        return parts[2] not in OS_PATH_ALLOWED
    if parts[0] == "os" and len(parts) > 1:
        return parts[1] not in OS_ALLOWED
    if parts[0] == "io" and len(parts) > 1:
        return parts[1] not in IO_ALLOWED
    return parts[0] == "datetime" and len(parts) > 1 and (parts[-2], parts[-1]) in NOW


def _of_call(node: ast.Call) -> Iterator[str]:
    if isinstance(node.func, ast.Name) and node.func.id in BUILTINS:
        yield f"{node.func.id}()"
    if isinstance(node.func, ast.Attribute):
        attr = node.func.attr
        bare = not node.args and not node.keywords
        if attr in PATH_METHODS or (bare and attr in PATH_METHODS_WITHOUT_ARGUMENTS):
            yield f"{dotted(node.func)}()"


def violations(root: Path, files: list[Path], find: Callable[[str], Iterable[str]]) -> list[str]:
    assert files, "no files to look at"
    return [f"{path.relative_to(root)} {line}" for path in files for line in find(path.read_text())]


def python_files(folder: Path, *, without: tuple[str, ...] = ()) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*.py"))
        if not set(path.relative_to(folder).with_suffix("").parts) & set(without)
    ]


def test_only_system_touches_files_processes_and_the_clock(root: Path) -> None:
    """Outside towpath_agent.system no module opens, renames, starts or asks the time.

    The launcher is no module of the agent: a program that stands on nothing, not even on system (ADR 30).
    """
    files = python_files(root / "agent/towpath_agent", without=("system", "launcher"))
    assert violations(root, files, touches) == []


def test_sqlite_is_the_journals_alone(root: Path) -> None:
    """In the agent only the journal opens a database."""
    files = python_files(root / "agent/towpath_agent", without=("journal",))
    assert violations(root, files, lambda source: imports(ast.parse(source), frozenset({"sqlite3"}))) == []


@pytest.mark.parametrize("folder", ["contract/towpath", "agent/towpath_agent/engine", "server/towpath_server/domain"])
def test_what_decides_does_no_io(root: Path, folder: str) -> None:
    """Contract, engine and domain are given bytes, facts and a time; they fetch nothing themselves."""
    files = python_files(root / folder, without=("v1",))
    assert violations(root, files, lambda source: touches(source, IMPURE)) == []


@pytest.mark.parametrize(
    "source",
    [
        "open('x')",
        "import subprocess",
        "from subprocess import run",
        "def f():\n    import time\n    return time.monotonic()",
        "import os\nos.replace('a', 'b')",
        "import os as system\nsystem.rename('a', 'b')",
        "from os import replace",
        "import os\nos.path.exists('a')",
        "from os import path\npath.getsize('a')",
        "import io\nio.open('x')",
        "from pathlib import Path\nPath('x').write_text('y')",
        "def f(path):\n    path.unlink(missing_ok=True)",
        "def f(path):\n    return path.exists()",
        "from datetime import UTC, datetime\ndatetime.now(UTC)",
        "import datetime\ndatetime.datetime.now()",
        "import datetime as dt\ndt.date.today()",
        "import psutil",
    ],
)
def test_the_rule_catches(source: str) -> None:
    """Each way around `system` is seen, whatever name it was imported by."""
    assert list(touches(source))


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.environ['X']",
        "import os\nos.path.join('a', 'b')",
        "from io import BytesIO",
        "def f(files, path):\n    return files.exists(path)",
        "def f(files):\n    files.rename('a', 'b')",
        "from datetime import UTC, datetime\ndatetime.fromtimestamp(0, UTC)",
        "from towpath_agent.system.process import spawn",
        "'a'.replace('a', 'b')",
    ],
)
def test_the_rule_lets_pass(source: str) -> None:
    """Ports, constants and pure functions are no I/O."""
    assert list(touches(source)) == []
