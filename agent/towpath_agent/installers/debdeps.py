"""What a Debian package depends on, and which of that a host does not have. Pure: texts in, names out.

Debian Policy 7.1: `a (>= 1) | b, c:any`; a package also offers what it provides, versioned or not (7.5).
Not handled: `Breaks`, `Conflicts` (dpkg's dry run says them) and architecture qualifiers beyond their being cut off.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Compare = Callable[[str, str, str], bool]

_ALTERNATIVE = re.compile(r"([a-z0-9][a-z0-9+.-]*)(?::[a-z0-9-]+)?\s*(?:\(\s*(<<|<=|=|>=|>>)\s*([^)\s]+)\s*\))?")
_RELATIONS = {"<<": "lt", "<=": "le", "=": "eq", ">=": "ge", ">>": "gt"}


@dataclass(frozen=True, slots=True)
class Available:
    """One installed package and its field `Provides`."""

    name: str
    version: str
    provides: str = ""


@dataclass(frozen=True, slots=True)
class Alternative:
    """One package that would do; `relation` is "" where any version does."""

    name: str
    relation: str = ""
    version: str = ""

    def __str__(self) -> str:
        """Return it as a control file has it."""
        return f"{self.name} ({self.relation} {self.version})" if self.relation else self.name


def fields(text: str) -> dict[str, str]:
    """Return the fields of one paragraph of a control file; a folded value is one line."""
    result: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line[:1] in (" ", "\t") and name:
            result[name] += f" {line.strip()}"
        elif ":" in line:
            name, _, value = line.partition(":")
            result[name] = value.strip()
    return result


def parse(text: str) -> list[tuple[Alternative, ...]]:
    """Return the groups of a dependency field, of each of which one alternative is needed."""
    groups = []
    for group in text.split(","):
        found = (_ALTERNATIVE.match(word.strip()) for word in group.split("|"))
        alternatives = tuple(Alternative(it[1], it[2] or "", it[3] or "") for it in found if it is not None)
        if alternatives:
            groups.append(alternatives)
    return groups


def missing(wanted: Iterable[Sequence[Alternative]], there: Iterable[Available], compare: Compare) -> list[str]:
    """Return the groups that nothing of `there` satisfies; `compare(a, "ge", b)` orders two versions."""
    offered: dict[str, list[str]] = {}
    for package in there:
        offered.setdefault(package.name, []).append(package.version)
        for (provided,) in (group for group in parse(package.provides) if len(group) == 1):
            # Without a version of its own, what is provided satisfies no versioned dependency.
            offered.setdefault(provided.name, []).append(provided.version)

    def satisfied(alternative: Alternative) -> bool:
        versions = offered.get(alternative.name, [])
        if not alternative.relation:
            return bool(versions)
        relation = _RELATIONS[alternative.relation]
        return any(version and compare(version, relation, alternative.version) for version in versions)

    return [" | ".join(map(str, group)) for group in wanted if not any(map(satisfied, group))]
