"""Parameters: the typed holes in a release that an operator fills, and nothing else of it.

A value replaces `${name}` inside one word of a command, one environment value or one option of a driver. It can never
become another word, so it can never become another option or program.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from towpath.errors import InputError

Value = str | int | bool | tuple[str, ...]

TYPES = ("string", "int", "bool", "port")
MAX_PARAMETERS = 128
MAX_TEXT = 4096

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_HOLE = re.compile(r"\$\{([^}]*)\}")
# Control characters, and lone surrogates: bytes that were no UTF-8 and that no wire format carries.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A declaration; `default` None means that the operator must set it."""

    name: str
    type: str
    default: Value | None = None
    choices: tuple[str, ...] = ()


def check_declarations(parameters: Iterable[Parameter]) -> None:
    """Raise InputError where a declaration is unusable or there twice."""
    seen: set[str] = set()
    for parameter in parameters:
        if _NAME.fullmatch(parameter.name) is None:
            raise InputError(f"cannot use parameter {parameter.name[:60]!r}: lower-case letters, digits and '_' only")
        if parameter.name in seen:
            raise InputError(f"cannot use parameter {parameter.name!r}: it is declared twice")
        if parameter.type not in TYPES:
            raise InputError(
                f"cannot use parameter {parameter.name!r}: type {parameter.type!r}, known are {', '.join(TYPES)}"
            )
        seen.add(parameter.name)
        if parameter.default is not None:
            check_value(parameter, parameter.default)
    if len(seen) > MAX_PARAMETERS:
        raise InputError(f"cannot use {len(seen)} parameters: at most {MAX_PARAMETERS} are allowed")


def check_value(parameter: Parameter, value: Value) -> Value:
    """Return `value` where it has the declared type, else raise InputError."""
    name = parameter.name
    if parameter.type == "bool":
        if not isinstance(value, bool):
            raise InputError(f"cannot set {name} to {value!r}: it is a bool, true or false")
        return value
    if parameter.type in ("int", "port"):
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63:
            raise InputError(f"cannot set {name} to {value!r}: it is a {parameter.type}, a whole number")
        if parameter.type == "port" and not 1 <= value <= 65535:
            raise InputError(f"cannot set {name} to {value}: a port is 1 to 65535")
    elif not isinstance(value, str) or len(value) > MAX_TEXT or _UNPRINTABLE.search(value) is not None:
        raise InputError(f"cannot set {name}: it is a string of at most {MAX_TEXT} printable characters")
    if parameter.choices and str(value) not in parameter.choices:
        raise InputError(f"cannot set {name} to {value!r}: choose one of {', '.join(parameter.choices)}")
    return value


def parse_value(parameter: Parameter, text: str) -> Value:
    """Return the typed value of what a person typed, else raise InputError."""
    if parameter.type == "bool":
        if text.lower() not in ("true", "false"):
            raise InputError(f"cannot set {parameter.name} to {text!r}: it is a bool, true or false")
        return text.lower() == "true"
    if parameter.type in ("int", "port"):
        if re.fullmatch(r"-?[0-9]{1,19}", text) is None:
            raise InputError(
                f"cannot set {parameter.name} to {text[:40]!r}: it is a {parameter.type}, a whole number such as 8080"
            )
        return check_value(parameter, int(text))
    return check_value(parameter, text)


def fill(parameters: Iterable[Parameter], given: Mapping[str, Value]) -> dict[str, Value]:
    """Return the value of every declared parameter; InputError for a stranger, a wrong type or a missing one."""
    declared = {parameter.name: parameter for parameter in parameters}
    strangers = sorted(set(given) - set(declared))
    if strangers:
        raise InputError(f"cannot set {strangers[0]}: the release declares no such parameter")
    values: dict[str, Value] = {}
    for name, parameter in declared.items():
        value = given.get(name, parameter.default)
        if value is None:
            raise InputError(f"cannot go on without parameter {name}: it has no default")
        values[name] = check_value(parameter, value)
    return values


def placeholders(text: str) -> set[str]:
    """Return the names inside `${...}` of `text`."""
    return set(_HOLE.findall(text))


def render(text: str, values: Mapping[str, Value]) -> str:
    """Return `text` with every `${name}` replaced once; what a value contains is never expanded again."""

    def replace(match: re.Match[str]) -> str:
        value = values[match[1]]
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value)

    return _HOLE.sub(replace, text)
