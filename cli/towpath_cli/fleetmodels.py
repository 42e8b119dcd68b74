"""The sections of a fleet file as pydantic models: environments, policies, assignments; for validation and editors.

What a mapping may hold is its fields: an unknown key is an error that names its line and the nearest known one.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from towpath.errors import InputError
from towpath.names import check_environment, check_labels
from towpath.waves import MANUAL, parse_share, parse_waves
from towpath_cli.releasefields import (
    AppName,
    DurationMs,
    Number,
    PlainText,
    Truth,
    Version,
    choice,
    fault,
    scalar,
    shown,
)
from towpath_cli.releasemodels import Section

_WAVE_KEYS = ("what", "soak", "manual")
_WAVE_SCHEMA = {
    "type": "object",
    "properties": {"what": {"type": ["string", "integer"]}, "soak": {"type": "string"}, "manual": {"type": "boolean"}},
    "required": ["what"],
    "additionalProperties": False,
}
_WAVES_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"anyOf": [{"type": ["string", "integer"]}, _WAVE_SCHEMA]}},
    ]
}


def _wave(value: object) -> str:
    """Return one step as `--waves` writes it."""
    if not isinstance(value, Mapping):
        return scalar(value, "a wave")
    for key in value:
        if key not in _WAVE_KEYS:
            raise fault(f"unknown key {key[:60]!r} of a wave; known are {', '.join(_WAVE_KEYS)}")
    if "what" not in value:
        raise fault("a wave needs a key 'what': NAME, KEY=VALUE, 5 or 10%")
    what, soak = scalar(value["what"], "what a wave is"), value.get("soak")
    manual = scalar(value.get("manual", "false"), "true or false")
    if manual not in ("true", "false") or (manual == "true" and soak is not None):
        raise fault("a wave is either manual (true) or has a soak")
    gate = MANUAL if manual == "true" else scalar(soak, "a duration") if soak is not None else ""
    return f"{what}:{gate}" if gate else what


def _waves(value: object) -> str:
    text = ",".join(_wave(item) for item in value) if isinstance(value, list) else scalar(value, "a list of waves")
    try:
        parse_waves(text)
    except InputError as error:
        raise fault(str(error)) from error
    return text


def _share(value: object) -> str:
    text = scalar(value, "a share such as 5%")
    try:
        parse_share(text)
    except InputError as error:
        raise fault(str(error)) from error
    return text


def _environment(value: object) -> str:
    try:
        return check_environment(scalar(value, "the name of an environment"))
    except InputError as error:
        raise fault(str(error)) from error


def _labels(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise fault(f"a mapping of labels is expected, not {shown(value)}")
    try:
        return check_labels({key: scalar(item, f"the value of {key}") for key, item in value.items()})
    except InputError as error:
        raise fault(str(error)) from error


_TEXT = WithJsonSchema({"type": "string"})
_LABELS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
Environment = Annotated[str, BeforeValidator(_environment), _TEXT]
Labels = Annotated[dict[str, str], BeforeValidator(_labels), WithJsonSchema(_LABELS)]


class LimitsSection(Section):
    """A policy: what `towpath deploy` has options for. What is not given is the server's default."""

    waves: Annotated[str, BeforeValidator(_waves), WithJsonSchema(_WAVES_SCHEMA)] | None = None
    soak: DurationMs | None = None
    max_unavailable: Annotated[Number, Field(ge=1)] | None = None
    max_failures: Annotated[Number, Field(ge=0)] | None = None
    max_failure_share: Annotated[str, BeforeValidator(_share), _TEXT] | None = None
    on_breach: choice(["halt", "revert"]) | None = None  # type: ignore[valid-type]
    progress_deadline: DurationMs | None = None

    def limits(self) -> dict[str, Any]:
        """Return what is given, by name."""
        return {name: value for name in LimitsSection.model_fields if (value := getattr(self, name)) is not None}


class EnvironmentSection(Section):
    """What is said about one environment: its name, so far."""


class AssignmentSection(LimitsSection):
    """A rule: hosts of an environment with these labels run this release. Its own limits win over its policy's."""

    app: AppName
    version: Version
    environment: Environment
    select: Labels = Field(default_factory=dict)
    all_hosts: Truth = False
    policy: PlainText | None = None
    allow_empty: Truth = False


class FleetSection(Section):
    """A whole fleet file."""

    environments: dict[Environment, EnvironmentSection]
    policies: dict[str, LimitsSection] = Field(default_factory=dict)
    assignments: list[AssignmentSection] = Field(default_factory=list)
