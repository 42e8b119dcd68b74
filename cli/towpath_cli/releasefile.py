"""The release file (DESIGN section 4): YAML to a checked `towpath.release.Release`, every fault with its line.

All faults of a file are found in one go; the error's message names the first, `ReleaseFileError.problems` holds all.
`towpath.release.check_release` has the last word, the same as on the server and on the host. Counter and artifact are
not in the file: they are handed in once the tree is hashed and the server was asked.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from towpath import handover
from towpath.errors import InputError
from towpath.kinds import INSTALLERS, PROBES, SERVICES
from towpath.names import check_app, check_version
from towpath.parameters import Parameter, Value, placeholders
from towpath.probes import clock_fault, probe_faults
from towpath.quantity import format_duration
from towpath.release import (
    HOOK_POINTS,
    TOGETHER_FEATURE,
    Artifact,
    HealthPolicy,
    Hook,
    Install,
    Probe,
    Release,
    Run,
    check_release,
)
from towpath_cli.releasemodels import ProbeItem, ReleaseSection, Section
from towpath_cli.yamlfile import MAX_FILE_BYTES, Document, Text, parse_yaml

SCHEMA_TITLE = "Towpath release file"


class ReleaseFileError(InputError):
    """A release file that cannot be used; `problems` has one line for each fault."""

    code = "bad-release-file"

    def __init__(self, problems: Sequence[str]) -> None:
        """Keep all problems, at least one; the message is the first."""
        self.problems = tuple(problems)
        more = len(self.problems) - 1
        super().__init__(self.problems[0] + (f" (and {more} more; see: towpath release lint)" if more else ""))


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """A file whose every section is well-formed."""

    path: Path
    document: Document
    section: ReleaseSection
    parameters: tuple[Parameter, ...]

    @property
    def artifact_path(self) -> Path:
        """Return where the artifact stands; relative to the file's own folder."""
        return self.path.parent / self.section.artifact

    def error(self, path: Sequence[str | int], reason: str) -> str:
        """Return the message for something wrong at `path` of the file."""
        return self.document.error(path, reason)

    def release(self, *, version: str | None, counter: int, artifact: Artifact) -> Release:
        """Return the checked release; `version` is stronger than the file's own."""
        section = self.section
        number = version if version is not None else section.version
        if number is None:
            raise InputError(f"cannot publish {self.path}: it names no version; give one with --version")
        install = section.install.kind
        run = section.run.kind
        release = Release(
            app=section.app,
            version=check_version(number),
            counter=counter,
            artifact=artifact,
            install=Install(
                install,
                _options(section.install, INSTALLERS[install]),
                section.install.keep,
                section.install.keep_bytes,
            ),
            run=Run(
                kind=run,
                options=_options(section.run, SERVICES[run]),
                command=getattr(section.run, "command", ()),
                env=section.run.env,
                stop_timeout_ms=section.run.stop_timeout,
                handover=_handover(section.run),
            ),
            rollback_floor=section.rollback_floor,
            hooks=tuple(_hooks(section)),
            probes=tuple(_probe(item) for item in section.probes),
            health=HealthPolicy(section.health.healthy_for, section.health.deadline, section.health.probation),
            parameters=self.parameters,
            requires_disk_bytes=section.requires.disk,
            requires_apps=section.requires.apps,
            together=section.requires.together,
            platforms=section.platforms,
            environments=section.environments,
            critical=_critical(section),
        )
        return check_release(release)


def _options(section: Section, specs: Mapping[str, str]) -> dict[str, Value]:
    return {name: value for name in specs if (value := getattr(section, name)) is not None}


def _handover(run: Section) -> handover.Handover | None:
    asked = getattr(run, "handover", None)
    return None if asked is None else handover.Handover(asked.ports, asked.drain)


def _critical(section: ReleaseSection) -> tuple[str, ...]:
    """Return the features without which an agent must not run the release."""
    handed = (handover.FEATURE,) if _handover(section.run) is not None else ()
    return handed + ((TOGETHER_FEATURE,) if section.requires.together else ())


def _hooks(section: ReleaseSection) -> Iterator[Hook]:
    for point in HOOK_POINTS:
        command = getattr(section.hooks, point)
        if command is not None:
            yield Hook(point, command, section.hooks.timeout)


def _probe(item: ProbeItem) -> Probe:
    kind, probe = next((kind, value) for kind in PROBES if (value := getattr(item, kind)) is not None)
    return Probe(kind, _options(probe, PROBES[kind]), probe.interval, probe.timeout, probe.successes, probe.failures)


def load_release_file(path: Path) -> ReleaseFile:
    """Return the file at `path`; ReleaseFileError (an InputError) names every fault with its line."""
    if path.is_dir():
        raise InputError(f"cannot read the release file {path}: it is a folder; give the file: {path / 'towpath.yaml'}")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read the release file {path}: {error.strerror}") from error
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read the release file {path}: it is not UTF-8 text") from error
    return parse_release_file(text, path)


def parse_release_file(text: str, path: Path) -> ReleaseFile:
    """Return the release file in `text`; `path` names it and says where its artifact is."""
    document = parse_yaml(text, str(path))
    try:
        section = ReleaseSection.model_validate(document.data)
    except ValidationError as error:
        raise ReleaseFileError(in_order(document, error.errors(include_url=False))) from error
    parameters, problems = _parameters(document, section)
    problems.extend(_strangers(document, set(section.parameters)))
    problems.extend(_handover_faults(document, section, parameters))
    problems.extend(_probe_problems(document, section, parameters))
    for key, names in (("apps", section.requires.apps), ("together", section.requires.together)):
        for name in names:
            try:
                check_app(name)
            except InputError as error:
                problems.append(document.error(("requires", key), str(error)))
    if problems:
        raise ReleaseFileError(problems)
    return ReleaseFile(path, document, section, tuple(parameters))


def in_order(document: Document, errors: Sequence[ErrorDetails]) -> list[str]:
    """Return what pydantic found as messages with file, line and key, in the order of the lines."""
    # A key that is missing comes last: most often it is there, misspelt, and that line says more.
    found = [(error["type"] == "missing", document.line(_where(error)), _problem(document, error)) for error in errors]
    return list(dict.fromkeys(message for _, _, message in sorted(found)))


def _where(error: ErrorDetails) -> tuple[str | int, ...]:
    key = (error.get("ctx") or {}).get("key")
    return (*error["loc"], key) if key else error["loc"]


def _problem(document: Document, error: ErrorDetails) -> str:
    where = _where(error)
    context = error.get("ctx") or {}
    label = _label(document, error["loc"])
    match error["type"]:
        case "towpath":  # releasefields.FAULT
            reason = str(context["reason"])
        case "missing":
            reason = f"key {error['loc'][-1]!r} is missing"
        case "union_tag_not_found":
            reason = "a mapping with a kind is expected, such as {kind: ...}"
        case "union_tag_invalid":
            known = str(context["expected_tags"]).replace("'", "")
            reason = f"kind {context['tag']!r} is unknown; known are {known}"
        case "greater_than_equal":
            reason = f"at least {context['ge']} is expected"
        case "less_than_equal":
            reason = f"at most {context['le']} is allowed"
        case "list_type":
            reason = "a list is expected; begin each entry with '-'"
        case _:
            reason = error["msg"]
    return document.error(where, f"{label}{reason}")


def _label(document: Document, where: Sequence[str | int]) -> str:
    label = ""
    known: tuple[str | int, ...] = ()
    for step in where:
        if (*known, step) in document.lines:
            known = (*known, step)
            label += f"[{step}]" if isinstance(step, int) else f".{step}"
    return f"{label.removeprefix('.')}: " if label else ""


def _parameters(document: Document, section: ReleaseSection) -> tuple[list[Parameter], list[str]]:
    parameters: list[Parameter] = []
    problems: list[str] = []
    for name, declared in section.parameters.items():
        try:
            parameters.append(declared.declare(name))
        except InputError as error:
            problems.append(document.error(("parameters", name), str(error)))
            parameters.append(Parameter(name, "string"))
    return parameters, problems


def _probe_problems(document: Document, section: ReleaseSection, parameters: Sequence[Parameter]) -> Iterator[str]:
    """Yield a problem for each probe that can never pass, or whose check may outlast the deadline that judges it."""
    health = section.health
    for number, item in enumerate(section.probes):
        probe = _probe(item)
        faults = list(probe_faults(probe.kind, probe.options, parameters, section.run.kind))
        clocks = clock_fault(
            interval_ms=probe.interval_ms,
            successes=probe.successes,
            healthy_for_ms=health.healthy_for,
            deadline_ms=health.deadline,
        )
        if clocks:
            faults.append(("successes", clocks))
        if probe.timeout_ms > health.deadline:
            long, short = format_duration(probe.timeout_ms), format_duration(health.deadline)
            faults.append(("timeout", f"a check may take {long}, longer than the health deadline of {short}"))
        for option, reason in faults:
            where = ("probes", number, probe.kind, option)
            yield document.error(where, f"{_label(document, where)}{reason}")


def _strangers(document: Document, declared: set[str]) -> Iterator[str]:
    """Yield a problem for each `${name}` that is no declared parameter, with its line."""
    for path, text in _texts(document.data, ()):
        if path[0] in ("install", "run", "hooks", "probes"):
            for name in sorted(placeholders(text) - declared):
                yield document.error(path, f"${{{name}}} is no declared parameter; declare it under parameters")


def _handover_faults(document: Document, section: ReleaseSection, parameters: Sequence[Parameter]) -> Iterator[str]:
    """Yield what a handover lacks in the rest of the file; `check_handover` says the same without lines."""
    asked = _handover(section.run)
    if asked is None:
        return
    types = {parameter.name: parameter.type for parameter in parameters}
    for name in asked.ports:
        if types.get(name) != "port":
            reason = f"{name!r} is no parameter of type port; declare it under parameters"
            yield document.error(("run", "handover", "ports"), reason)
    if section.hooks.handover is None:
        yield document.error(("run", "handover"), "a handover needs hooks: {handover: ...} to point the proxy to it")


def _texts(data: object, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(data, Text):
        yield path, data
    elif isinstance(data, Mapping):
        for key, value in data.items():
            yield from _texts(value, (*path, key))
    elif isinstance(data, list):
        for number, value in enumerate(data):
            yield from _texts(value, (*path, number))


def schema_json() -> str:
    """Return the JSON Schema of a release file, for editors."""
    schema = ReleaseSection.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = SCHEMA_TITLE
    return json.dumps(schema, indent=2, sort_keys=True)
