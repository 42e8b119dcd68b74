"""The fleet file of `towpath apply` and `towpath diff`: YAML to what it asks for, each fault with its line.

    environments: {dev: , staging: , production: {healthy_for: 2h, parameters: {hello.port: 8080}}}
    policies:
      careful: {waves: "canary:10m,10%,100%", on_breach: revert}
    freezes:
      - {environment: production, from: 2026-12-20T00:00, until: 2027-01-02T00:00, zone: Europe/Berlin, reason: feast}
    assignments:
      - {app: hello, version: 1.2.0, environment: production, select: {role: web}, policy: careful}

All faults of a file are found in one go; the message names the first and says how many more. Nothing is asked of the
server here. `docs/fleet.schema.json` is the same as JSON Schema, for editors.
"""

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from towpath.errors import InputError
from towpath.windows import parse_window
from towpath_cli.fleetmodels import AssignmentSection, FleetSection, FreezeSection, given
from towpath_cli.model import DeployOrder, EntryOrder
from towpath_cli.policy import policy
from towpath_cli.releasefile import in_order
from towpath_cli.timing import zoned
from towpath_cli.wishes import EnvironmentWish, FleetFile, FreezeWish, HostWish, ParameterWish, Place
from towpath_cli.yamlfile import MAX_FILE_BYTES, Document, parse_yaml

SCHEMA_TITLE = "Towpath fleet file"
S = TypeVar("S")
W = TypeVar("W")


def load_fleet_file(path: Path) -> FleetFile:
    """Return the file at `path`; InputError names file, line and key of what is wrong."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        text = data.decode("utf-8")
    except OSError as error:
        raise InputError(f"cannot read the fleet file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read the fleet file {path}: it is not UTF-8 text") from error
    return parse_fleet_file(text, str(path))


def parse_fleet_file(text: str, name: str) -> FleetFile:
    """Return the fleet file in `text`; `name` is for messages."""
    document = parse_yaml(text, name)
    try:
        section = FleetSection.model_validate(document.data)
    except ValidationError as error:
        raise _refusal(in_order(document, error.errors(include_url=False))) from error
    problems = list(_problems(document, section))
    places = [_place(document, section, number) for number in range(len(section.assignments))]
    orders = _each(section.assignments, places, lambda one: _order(section, one), problems)
    where = [Place(document, ("freezes", number)) for number in range(len(section.freezes or ()))]
    freezes = _each(section.freezes or (), where, _freeze, problems)
    if problems:
        raise _refusal(problems)
    return FleetFile(
        environments=tuple(_environments(document, section)),
        parameters=tuple(_parameters(document, section)),
        hosts=tuple(_hosts(document, section)),
        freezes=tuple(map(FreezeWish, freezes, where)) if section.freezes is not None else None,
        orders=tuple(orders),
        places=tuple(places),
    )


def _each(sections: Iterable[S], places: Iterable[Place], read: Callable[[S], W], problems: list[str]) -> list[W]:
    """Return what `read` makes of each section; what cannot be read goes to `problems`, with its line."""
    result = []
    for one, place in zip(sections, places, strict=True):
        try:
            result.append(read(one))
        except InputError as error:
            problems.append(str(place.error(str(error))))
    return result


def _refusal(problems: Iterable[str]) -> InputError:
    first, *rest = problems
    return InputError(first + (f" (and {len(rest)} more)" if rest else ""))


def _place(document: Document, section: FleetSection, number: int) -> Place:
    name = section.assignments[number].policy
    return Place(document, ("assignments", number), ("policies", name) if name is not None else ())


def _problems(document: Document, section: FleetSection) -> Iterator[str]:
    """Yield what no single section can know: names that are not declared, rules that are there twice."""
    for name, stage in section.environments.items():
        if stage.after is not None and stage.first:
            where = Place(document, ("environments", name))
            yield str(where.error("it has both after and first: choose one", "first"))
    for number, freeze in enumerate(section.freezes or ()):
        if freeze.environment is not None:
            yield from _unknown(Place(document, ("freezes", number)), freeze.environment, section)
    seen: dict[object, int] = {}
    for number, one in enumerate(section.assignments):
        place = _place(document, section, number)
        yield from _unknown(place, one.environment, section)
        if one.policy is not None and one.policy not in section.policies:
            hint = _hint(one.policy, section.policies)
            yield str(place.error(f"there is no policy {one.policy[:60]!r}; {hint}", "policy"))
        if bool(one.select) == one.all_hosts:
            yield str(place.error("give either select (labels) or all_hosts: true"))
        rule = (one.app, one.environment, tuple(sorted(one.select.items())))
        if rule in seen:
            line = document.line(("assignments", seen[rule]))
            yield str(place.error(f"the same app, environment and select stand in line {line} already"))
        seen.setdefault(rule, number)


def _unknown(place: Place, environment: str, section: FleetSection) -> Iterator[str]:
    if environment not in section.environments:
        hint = _hint(environment, section.environments)
        yield str(place.error(f"{environment!r} is not among the environments of this file; {hint}", "environment"))


def _hint(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known) or 'none'}"


def _environments(document: Document, section: FleetSection) -> Iterator[EnvironmentWish]:
    above: str | None = None
    for name, one in section.environments.items():
        after = "" if one.first else one.after or above
        yield EnvironmentWish(name, after, one.healthy_for, one.windows, Place(document, ("environments", name)))
        above = name


def _parameters(document: Document, section: FleetSection) -> Iterator[ParameterWish]:
    for name, one in section.environments.items():
        for key, text in one.parameters.items():
            place = Place(document, ("environments", name, "parameters", key))
            yield ParameterWish(name, "", key, text, place)
        for label, texts in one.labels.items():
            for key, text in texts.items():
                place = Place(document, ("environments", name, "labels", label, key))
                yield ParameterWish(name, label, key, text, place)


def _hosts(document: Document, section: FleetSection) -> Iterator[HostWish]:
    for name, one in section.hosts.items():
        for key, text in one.parameters.items():
            yield HostWish(name, key, text, Place(document, ("hosts", name, "parameters", key)))


def _freeze(one: FreezeSection) -> EntryOrder:
    begins: str | None = getattr(one, "from")
    if (one.environment is None) != one.all_environments:
        raise InputError("give either environment or all_environments: true")
    if (one.weekly is None) == (begins is None and one.until is None):
        raise InputError("give either weekly, or from and until")
    if one.weekly is None and (begins is None or one.until is None):
        raise InputError("a freeze that is not weekly needs both from and until")
    return EntryOrder(
        kind="freeze",
        environment=one.environment or "",
        reason=one.reason,
        everywhere=one.all_environments,
        selector=one.select,
        weekly=parse_window(one.weekly).text if one.weekly is not None else "",
        begins=zoned(begins or "", one.zone or "", "from"),
        ends=zoned(one.until or "", one.zone or "", "until"),
    )


def _order(section: FleetSection, one: AssignmentSection) -> DeployOrder:
    named = section.policies.get(one.policy or "")
    return DeployOrder(
        app=one.app,
        version=one.version,
        environment=one.environment,
        selector=one.select,
        whole_environment=one.all_hosts,
        **policy(**(given(named) if named is not None else {}) | given(one)),
    )


def schema_json() -> str:
    """Return the JSON Schema of a fleet file, for editors."""
    schema = FleetSection.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = SCHEMA_TITLE
    return json.dumps(schema, indent=2, sort_keys=True)
