"""The scalar types of a release file: from text to milliseconds, bytes, numbers; each with its JSON Schema.

A field, not YAML, says what a scalar is. Errors are raised as pydantic's own so that all of a file's are found at once;
`towpath_cli.releasefile` adds the line.
"""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from towpath.errors import InputError
from towpath.kinds import is_number
from towpath.names import check_app, check_environment, check_version
from towpath.quantity import parse_duration_ms, parse_size
from towpath_cli.yamlfile import Text

FAULT = "towpath"
MAX_NUMBER = 2**63 - 1
_NUMBER = re.compile(r"-?[0-9]{1,19}")
_HOLE = re.compile(r"\$\{[a-z][a-z0-9_]{0,39}\}")
_OCTAL = re.compile(r"(0o?)?[0-7]{3}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def fault(reason: str, key: str | None = None) -> PydanticCustomError:
    """Return the error of a wrong value; `key` is where inside the value, for its line."""
    return PydanticCustomError(FAULT, "{reason}", {"reason": reason, "key": key})


def shown(value: object) -> str:
    """Return a wrong value for a message, short."""
    if isinstance(value, str):
        return repr(str(value)[:60])
    return "a list" if isinstance(value, list) else "a mapping"


def scalar(value: object, what: str) -> str:
    """Return the text of a scalar that is not null."""
    if not isinstance(value, str) or (isinstance(value, Text) and value.is_null):
        given = "nothing" if isinstance(value, str) else shown(value)
        raise fault(f"{what} is expected, not {given}")
    return str(value)


def _asked(read: Callable[[str], Any], what: str) -> Callable[[object], Any]:
    def validate(value: object) -> Any:
        try:
            return read(scalar(value, what))
        except InputError as error:
            raise fault(str(error)) from error

    return validate


def _number(text: str) -> int:
    if _NUMBER.fullmatch(text) is None or abs(int(text)) > MAX_NUMBER:
        raise InputError(f"a whole number is expected, not {text[:60]!r}")
    return int(text)


def _number_or_hole(text: str) -> int | str:
    return text if _HOLE.fullmatch(text) else _number(text)


def _decimal_or_hole(text: str) -> str:
    if not is_number(text):
        raise InputError(f"a number is expected, such as 0.95, or a ${{parameter}}, not {text[:60]!r}")
    return text


def _file_mode(text: str) -> int:
    if _OCTAL.fullmatch(text) is None:
        raise InputError(f"a file mode of three octal digits is expected, such as 0644, not {text[:60]!r}")
    return int(text.removeprefix("0o"), 8)


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise InputError(f"true or false is expected, not {text[:60]!r}")
    return text == "true"


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise fault(
            f"a list is expected, not {shown(value)}; write [{value}]"
            if isinstance(value, str)
            else "a list is expected"
        )
    return tuple(scalar(item, "a text") for item in value)


def _pairs(value: object) -> tuple[str, ...]:
    if not isinstance(value, Mapping):
        raise fault(f"a mapping of names and values is expected, not {shown(value)}")
    return tuple(f"{name}={scalar(item, f'the value of {name}')}" for name, item in sorted(value.items()))


def choice(words: Sequence[str]) -> Any:
    """Return the type of a value that is one of `words`."""

    def read(text: str) -> str:
        if text not in words:
            raise InputError(f"one of {', '.join(words)} is expected, not {text[:60]!r}")
        return text

    return Annotated[str, BeforeValidator(_asked(read, "a text")), WithJsonSchema({"enum": list(words)})]


def _command(value: object) -> tuple[str, ...]:
    if isinstance(value, list):
        words = _texts(value)
    else:
        try:
            words = tuple(shlex.split(scalar(value, "a command")))
        except ValueError as error:
            raise fault(f"cannot split the command {shown(value)}: {str(error).lower()}") from error
    if not words or not words[0]:
        raise fault("a command is expected: a program and its arguments")
    return words


def _environments(value: object) -> tuple[str, ...]:
    try:
        return tuple(check_environment(name) for name in _texts(value))
    except InputError as error:
        raise fault(str(error)) from error


def _env(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise fault(f"a mapping of names and values is expected, not {shown(value)}")
    result: dict[str, str] = {}
    for name, item in value.items():
        if _ENV_NAME.fullmatch(name) is None:
            raise fault(f"cannot use {name[:60]!r} as the name of an environment variable", name)
        if name.startswith("TOWPATH_"):
            raise fault(f"cannot set {name[:60]!r}: names that begin with TOWPATH_ are set by the agent", name)
        # An empty value is a value here: `DEBUG:` sets it to nothing.
        result[name] = "" if isinstance(item, Text) and item.is_null else scalar(item, f"the value of {name}")
    return result


_TEXT_SCHEMA = {"type": "string"}
_TEXTS_SCHEMA = {"type": "array", "items": {"type": "string"}}
_COMMAND_SCHEMA = {"anyOf": [{"type": "string"}, _TEXTS_SCHEMA]}
_HOLE_SCHEMA = {"type": "string", "pattern": r"^\$\{[a-z][a-z0-9_]*\}$"}
_DURATION_SCHEMA = {"type": "string", "pattern": r"^\d+(\.\d+)?\s*(ms|s|m|h|d)$", "examples": ["10s", "5m"]}
_SIZE_SCHEMA = {"type": ["string", "integer"], "examples": ["400MiB"]}

AppName = Annotated[str, BeforeValidator(_asked(check_app, "an app's name")), WithJsonSchema(_TEXT_SCHEMA)]
Version = Annotated[
    str, BeforeValidator(_asked(check_version, "a version")), WithJsonSchema({"type": ["string", "number"]})
]
PlainText = Annotated[str, BeforeValidator(_asked(str, "a text")), WithJsonSchema(_TEXT_SCHEMA)]
Number = Annotated[int, BeforeValidator(_asked(_number, "a whole number")), WithJsonSchema({"type": "integer"})]
NumberOrHole = Annotated[
    int | str,
    BeforeValidator(_asked(_number_or_hole, "a number or a ${parameter}")),
    WithJsonSchema({"anyOf": [{"type": "integer"}, _HOLE_SCHEMA]}),
]
DecimalOrHole = Annotated[
    str,
    BeforeValidator(_asked(_decimal_or_hole, "a number or a ${parameter}")),
    WithJsonSchema({"anyOf": [{"type": "number"}, _HOLE_SCHEMA]}),
]
FileMode = Annotated[
    int, BeforeValidator(_asked(_file_mode, "a file mode")), WithJsonSchema({"type": ["string", "integer"]})
]
Truth = Annotated[bool, BeforeValidator(_asked(_truth, "true or false")), WithJsonSchema({"type": "boolean"})]
DurationMs = Annotated[int, BeforeValidator(_asked(parse_duration_ms, "a duration")), WithJsonSchema(_DURATION_SCHEMA)]
Size = Annotated[int, BeforeValidator(_asked(parse_size, "a size")), WithJsonSchema(_SIZE_SCHEMA)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts), WithJsonSchema(_TEXTS_SCHEMA)]
Pairs = Annotated[
    tuple[str, ...],
    BeforeValidator(_pairs),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}),
]
Environments = Annotated[tuple[str, ...], BeforeValidator(_environments), WithJsonSchema(_TEXTS_SCHEMA)]
Command = Annotated[tuple[str, ...], BeforeValidator(_command), WithJsonSchema(_COMMAND_SCHEMA)]
Env = Annotated[
    dict[str, str],
    BeforeValidator(_env),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}}),
]
