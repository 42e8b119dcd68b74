"""The agent's dependencies, those of its dependencies included, are a list that someone has looked at.

A new line means more code on every host, run as root. To accept one, add it to tests/golden/agent-dependencies.txt
and say in the commit what it is for.
"""

import importlib.metadata
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(requirements: Iterable[str]) -> set[str]:
    """Every distribution that these requirements bring on this platform, extras that are asked for included."""
    found: set[str] = set()
    todo = [(Requirement(line), "") for line in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        found.add(name)
        for wanted in ("", *requirement.extras):
            todo.extend((Requirement(line), wanted) for line in importlib.metadata.requires(name) or [])
    return found


def test_the_agents_dependencies_are_the_golden_list(root: Path) -> None:
    """No dependency of the agent, direct or not, comes or goes without a visible change of the golden list."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    golden = (root / "tests/golden/agent-dependencies.txt").read_text().split()
    assert golden == sorted(golden)
    assert closure(project["dependencies"]) == set(golden)


def test_the_closure_follows_dependencies_of_dependencies() -> None:
    """A dependency two steps away counts: cryptography brings cffi, cffi brings pycparser."""
    assert {"cryptography", "cffi", "pycparser"} <= closure(["cryptography"])


def test_the_closure_leaves_out_what_a_marker_leaves_out() -> None:
    """Requirements for other platforms and for extras that nobody asked for do not count."""
    assert closure(["click; sys_platform == 'no-such-platform'"]) == set()
    assert closure(["psutil"]) == {"psutil"}
