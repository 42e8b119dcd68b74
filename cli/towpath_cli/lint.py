"""Does a release fit its own tree: every program and unit that it names is there, and can be executed.

A release file and a hashed tree in, problems out, each with the line of the file. A program is found as the
agent finds it: a path with a slash lies in the tree, a bare name is a file of the tree or else on the host's PATH.
What is the host's (an absolute path, a program on PATH) cannot be checked here.
"""

from collections.abc import Iterator, Sequence

from towpath.index import Entry, EntryType
from towpath.release import HOOK_POINTS, Release
from towpath.selfupdate import AGENT_COMMAND, AGENT_KIND
from towpath_cli.packages import package_problem
from towpath_cli.releasefile import ReleaseFile
from towpath_cli.tree import Tree

Where = tuple[str | int, ...]
_MAX_LINKS = 16


def check_tree(file: ReleaseFile, release: Release, tree: Tree) -> list[str]:
    """Return a problem with its line for everything that the tree does not hold."""
    entries = {entry.path: entry for entry in tree.entries}
    problems = [
        file.error(where, reason)
        for where, program in _programs(release)
        if (reason := _program_fault(entries, program))
    ]
    if release.run.kind == "systemd":
        unit = str(release.run.options["unit"])
        found = find_file(entries, unit)
        if found is None:
            problems.append(file.error(("run", "unit"), f"the tree has no file {unit!r}"))
    if release.install.kind == "file" and (tree.files != 1 or len(tree.entries) != 1):
        reason = f"install kind 'file' takes one file, the artifact has {tree.files} files"
        problems.append(file.error(("artifact",), reason))
    reason = package_problem(release.install.kind, tree) if tree.files else ""
    if reason:
        problems.append(file.error(("artifact",), reason))
    if not tree.files:
        problems.append(file.error(("artifact",), f"the artifact {file.artifact_path} is empty"))
    return problems


def _programs(release: Release) -> Iterator[tuple[Where, str]]:
    """Yield (where, program) for all that a host would execute."""
    if release.run.command:
        yield ("run", "command"), release.run.command[0]
    if release.run.kind == AGENT_KIND:
        yield ("run",), f"./{AGENT_COMMAND}"
    for point in HOOK_POINTS:
        hook = release.hook(point)
        if hook is not None:
            yield ("hooks", point), hook.command[0]
    for number, probe in enumerate(release.probes):
        command = probe.options.get("command")
        if isinstance(command, tuple) and command:
            yield ("probes", number, probe.kind, "command"), command[0]


def _program_fault(entries: dict[str, Entry], program: str) -> str:
    if program.startswith("/"):
        return ""
    entry = find_file(entries, program)
    if entry is None and "/" not in program:
        return ""
    if entry is None:
        return f"the tree has no file {program!r}"
    if not entry.mode & 0o100:
        return f"{program!r} is not executable in the tree; run chmod +x on it"
    return ""


def find_file(entries: dict[str, Entry], path: str) -> Entry | None:
    """Return the file at `path` of a tree, links followed; None where there is none."""
    for _ in range(_MAX_LINKS):
        normal = _normal(path.split("/"))
        if normal is None:
            return None
        parts = normal.split("/")
        for end in range(1, len(parts) + 1):
            entry = entries.get("/".join(parts[:end]))
            if entry is None:
                return None
            if entry.type is EntryType.LINK:
                path = "/".join([*parts[: end - 1], entry.target, *parts[end:]])
                break
            if end == len(parts):
                return entry if entry.type is EntryType.FILE else None
    return None


def _normal(parts: Sequence[str]) -> str | None:
    kept: list[str] = []
    for part in parts:
        if part == "..":
            if not kept:
                return None
            kept.pop()
        elif part not in ("", "."):
            kept.append(part)
    return "/".join(kept) if kept else None
