"""The fleet file of `towpath apply` and `towpath diff`: YAML to the deploys that it asks for, each fault with its line.

    environments: {dev: , production: }
    policies:
      careful: {waves: "canary:10m,10%,100%", on_breach: revert}
    assignments:
      - {app: hello, version: 1.2.0, environment: production, select: {role: web}, policy: careful}

All faults of a file are found in one go; the message names the first and says how many more. Nothing is asked of the
server here. `docs/fleet.schema.json` is the same as JSON Schema, for editors.
"""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from towpath.errors import InputError
from towpath.metrics import DEFAULT_PATIENCE_MS
from towpath_cli.fleetmodels import AssignmentSection, FleetSection
from towpath_cli.model import DeployOrder
from towpath_cli.policy import policy
from towpath_cli.releasefile import in_order
from towpath_cli.yamlfile import MAX_FILE_BYTES, Document, parse_yaml

SCHEMA_TITLE = "Towpath fleet file"
_DEFAULTS: Mapping[str, Any] = {
    "waves": "",
    "soak": None,
    "max_unavailable": None,
    "max_failures": None,
    "max_failure_share": "",
    "on_breach": "halt",
    "progress_deadline": None,
    "approvers": "",
    "metrics": (),
    "metric_patience": DEFAULT_PATIENCE_MS,
}


@dataclass(frozen=True, slots=True)
class FleetFile:
    """What a file asks for. `names`: its environments, in the order in which they stand there."""

    names: tuple[str, ...]
    orders: tuple[DeployOrder, ...]


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
    orders = []
    for number, one in enumerate(section.assignments):
        try:
            orders.append(_order(section, one))
        except InputError as error:
            problems.append(document.error(("assignments", number), f"assignments[{number}]: {error}"))
    if problems:
        raise _refusal(problems)
    return FleetFile(tuple(section.environments), tuple(orders))


def _refusal(problems: Iterable[str]) -> InputError:
    first, *rest = problems
    return InputError(first + (f" (and {len(rest)} more)" if rest else ""))


def _problems(document: Document, section: FleetSection) -> Iterator[str]:
    """Yield what no single section can know: names that are not declared, rules that are there twice."""
    seen: dict[object, int] = {}
    for number, one in enumerate(section.assignments):
        where = ("assignments", number)
        label = f"assignments[{number}]"
        if one.environment not in section.environments:
            hint = _hint(one.environment, section.environments)
            yield document.error(
                (*where, "environment"),
                f"{label}.environment: {one.environment!r} is not among the environments of this file; {hint}",
            )
        if one.policy is not None and one.policy not in section.policies:
            hint = _hint(one.policy, section.policies)
            yield document.error((*where, "policy"), f"{label}.policy: there is no policy {one.policy[:60]!r}; {hint}")
        if bool(one.select) == one.all_hosts:
            yield document.error(where, f"{label}: give either select (labels) or all_hosts: true")
        rule = (one.app, one.environment, tuple(sorted(one.select.items())))
        if rule in seen:
            line = document.line(("assignments", seen[rule]))
            yield document.error(where, f"{label}: the same app, environment and select stand in line {line} already")
        seen.setdefault(rule, number)


def _hint(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known) or 'none'}"


def _order(section: FleetSection, one: AssignmentSection) -> DeployOrder:
    named = section.policies.get(one.policy or "")
    given = named.limits() if named is not None else {}
    limits = {**_DEFAULTS, **given, **one.limits()}
    return DeployOrder(
        app=one.app,
        version=one.version,
        environment=one.environment,
        selector=one.select,
        whole_environment=one.all_hosts,
        **policy(**limits, allow_empty=one.allow_empty),
    )


def schema_json() -> str:
    """Return the JSON Schema of a fleet file, for editors."""
    schema = FleetSection.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = SCHEMA_TITLE
    return json.dumps(schema, indent=2, sort_keys=True)
