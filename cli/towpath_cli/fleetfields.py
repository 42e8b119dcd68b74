"""The values of a fleet file: waves, shares, labels, windows, times, metrics; from YAML to the words of the options.

Each reads what the option of the same name reads, and more forms where a list or a mapping is easier to read. Errors
are pydantic's own so that all of a file's are found at once; `towpath_cli.fleetfile` adds the line.
"""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import click
from pydantic import BeforeValidator, Field, WithJsonSchema

from towpath.budgets import MAX_PRIORITY, parse_budgets, parse_order
from towpath.errors import InputError
from towpath.holds import check_line
from towpath.metrics import parse_metric
from towpath.names import check_environment, check_labels
from towpath.operators import parse_approvers
from towpath.waves import APPROVE, MANUAL, METRIC, parse_share, parse_waves
from towpath.windows import parse_moment, parse_windows, parse_zone
from towpath_cli.policyoption import CHOICE, PolicyOption
from towpath_cli.releasefields import DurationMs, Number, Truth, choice, fault, scalar, shown

_WAVE_KEYS = ("what", "soak", "manual", "approve", "metrics")
_WAVE_SCHEMA = {
    "type": "object",
    "properties": {
        "what": {"type": ["string", "integer"]},
        "soak": {"type": "string"},
        "manual": {"type": "boolean"},
        "approve": {"type": "integer"},
        "metrics": {"type": "array", "items": {"type": "string"}},
    },
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
    gates = [scalar(value["soak"], "a duration")] if "soak" in value else []
    gates += [f"{APPROVE}={scalar(value['approve'], 'how many operators')}"] if "approve" in value else []
    gates += [f"{METRIC}={name}" for name in _names(value.get("metrics", []))]
    manual = scalar(value.get("manual", "false"), "true or false")
    if manual not in ("true", "false") or (manual == "true" and gates):
        raise fault("a wave is either manual (true) or has a soak, approvals or metrics")
    return ":".join(
        (scalar(value["what"], "what a wave is"), *(["+".join(gates) or MANUAL] if gates or manual == "true" else []))
    )


def _names(value: object) -> list[str]:
    if not isinstance(value, list):
        raise fault(f"a list of the names of metrics is expected, not {shown(value)}")
    return [scalar(item, "the name of a metric") for item in value]


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


TEXT = WithJsonSchema({"type": "string"})
_LABELS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
Environment = Annotated[str, BeforeValidator(_environment), TEXT]
Labels = Annotated[dict[str, str], BeforeValidator(_labels), WithJsonSchema(_LABELS)]


def _read(value: object, read: Callable[[str], object], what: str) -> str:
    """Return the text of a scalar that `read` can read."""
    text = scalar(value, what)
    try:
        read(text)
    except InputError as error:
        raise fault(str(error)) from error
    return text


def _list_of(value: object, read: Callable[[str], object], what: str) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(_read(item, read, what) for item in items)


def _windows(value: object) -> tuple[str, ...]:
    texts = _list_of(value, lambda text: parse_windows([text]), "a window")
    try:
        return tuple(window.text for window in parse_windows(texts))
    except InputError as error:
        raise fault(str(error)) from error


def _metrics(value: object) -> tuple[str, ...]:
    return _list_of(value, parse_metric, "a metric")


def _approvers(value: object) -> str:
    names = [scalar(item, "the name of an operator") for item in value] if isinstance(value, list) else [value]
    text = ",".join(scalar(name, "the name of an operator") for name in names)
    return _read(text, parse_approvers, "names of operators")


def _moment(value: object) -> str:
    return _read(value, parse_moment, "a time")


def _zone(value: object) -> str:
    return _read(value, parse_zone, "a time zone")


def _label(value: object) -> str:
    text = scalar(value, "a label KEY=VALUE")
    key, equals, item = text.partition("=")
    if not equals:
        raise fault(f"a label KEY=VALUE is expected, not {text[:60]!r}")
    return f"{key}={_labels({key: item})[key]}"


def _parameters(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise fault(f"a mapping of parameters, such as hello.port: 8080, is expected, not {shown(value)}")
    for name in value:
        if not re.fullmatch(r"[^.]+\.[^.]+", name):
            raise fault(f"cannot use {name[:60]!r} as a parameter: write APP.NAME, such as hello.port", name)
    # An empty value in quotes is a value; nothing at all is a mistake.
    return {name: scalar(item, f"the value of {name}") for name, item in value.items()}


def _line(value: object) -> str:
    return _read(value, lambda text: check_line(text, "reason"), "a reason")


def _budgets(value: object) -> tuple[str, ...]:
    if not isinstance(value, Mapping):
        raise fault(f"a mapping of label to 1 or 20% is expected, not {shown(value)}")
    texts = tuple(f"{key}={scalar(item, f'the budget of {key}')}" for key, item in value.items())
    try:
        parse_budgets(texts)
    except InputError as error:
        raise fault(str(error)) from error
    return texts


def _order(value: object) -> str:
    return _read(value, parse_order, "hash or label:KEY")


_BUDGETS = {"type": "object", "additionalProperties": {"type": ["string", "integer"]}}
_TEXT_OR_TEXTS = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
Waves = Annotated[str, BeforeValidator(_waves), WithJsonSchema(_WAVES_SCHEMA)]
Share = Annotated[str, BeforeValidator(_share), TEXT]
Windows = Annotated[tuple[str, ...], BeforeValidator(_windows), _TEXT_OR_TEXTS]
Metrics = Annotated[tuple[str, ...], BeforeValidator(_metrics), _TEXT_OR_TEXTS]
Approvers = Annotated[str, BeforeValidator(_approvers), _TEXT_OR_TEXTS]
Moment = Annotated[str, BeforeValidator(_moment), TEXT]
Zone = Annotated[str, BeforeValidator(_zone), TEXT]
Label = Annotated[str, BeforeValidator(_label), TEXT]
Parameters = Annotated[dict[str, str], BeforeValidator(_parameters), WithJsonSchema(_LABELS)]
Line = Annotated[str, BeforeValidator(_line), TEXT]
Budgets = Annotated[tuple[str, ...], BeforeValidator(_budgets), WithJsonSchema(_BUDGETS)]
Order = Annotated[str, BeforeValidator(_order), TEXT]
Priority = Annotated[Number, Field(ge=0, le=MAX_PRIORITY)]
Duration = DurationMs
AtLeastOne = Annotated[Number, Field(ge=1)]
AtLeastZero = Annotated[Number, Field(ge=0)]
Flag = Truth


def type_of(option: PolicyOption) -> Any:
    """Return the type of an option's key in a fleet file."""
    kind = option.click.get("type")
    if option.yaml == CHOICE and isinstance(kind, click.Choice):
        return choice(list(kind.choices))
    return globals()[option.yaml]
