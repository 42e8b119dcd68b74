"""The kinds of installers, services and probes, and the options that each takes.

One row here and one file in the agent add a kind. The rows stand here, not in the agent, because a publisher's lint
must know them without the agent (import rule 1). Option types: text, texts, pairs (texts NAME=VALUE, each name once),
int, bool, duration (ms), size (bytes), port, number (a decimal as text); or the words to choose from, as `one|other`. A
type with a trailing `!` is required. `port`, `int` and `number` also take a `${parameter}`.
"""

import re
from collections.abc import Mapping

from towpath.errors import InputError

Value = str | int | bool | tuple[str, ...]
OptionSpec = str

INSTALLERS: Mapping[str, Mapping[str, OptionSpec]] = {
    "tree": {"shared": "texts"},
    "file": {"path": "text!", "mode": "int", "existing": "refuse|overwrite|keep"},
    "exec": {"driver": "text!", "options": "pairs", "timeout": "duration", "shared": "texts"},
    "deb": {"package": "text", "adopt": "bool", "timeout": "duration"},
    "rpm": {"package": "text", "adopt": "bool", "timeout": "duration"},
    "oci": {"timeout": "duration"},
}

SERVICES: Mapping[str, Mapping[str, OptionSpec]] = {
    "systemd": {"unit": "text!"},
    "process": {},
    "none": {},
    "agent": {},
}

PROBES: Mapping[str, Mapping[str, OptionSpec]] = {
    "http": {"url": "text!", "status": "int", "body": "text", "ca": "text", "verify": "bool"},
    "tcp": {"host": "text", "port": "port!"},
    "grpc": {"host": "text", "port": "port!", "service": "text"},
    "exec": {"command": "texts!"},
    "process": {"max_rss": "size", "max_restarts": "int"},
    "unit": {"unit": "text!"},
    "log": {"pattern": "text", "forbid": "text", "path": "text"},
    "fresh": {"path": "text!", "max_age": "duration!", "min_size": "size"},
    "disk": {"free": "size!", "path": "text"},
    "memory": {"available": "size!"},
    "prometheus": {
        "url": "text!",
        "metric": "text!",
        "labels": "texts",
        "min": "number",
        "max": "number",
        "ca": "text",
        "verify": "bool",
    },
    "agent": {},
}

# Services whose app writes to the log that the agent keeps of each release.
LOGGED_SERVICES = frozenset({"process"})

_DECIMAL = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
_HOLE = re.compile(r"\$\{[^{}]+\}")
_PAIR_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_DRIVER_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_PYTHON_TYPES: Mapping[str, tuple[type, ...]] = {
    "text": (str,),
    "texts": (tuple,),
    "pairs": (tuple,),
    "int": (int, str),
    "port": (int, str),
    "number": (int, str),
    "bool": (bool,),
    "duration": (int,),
    "size": (int,),
}


def is_number(text: str) -> bool:
    """Return whether an option of type `number` may be that text: a decimal, or one whole `${parameter}`."""
    return _DECIMAL.fullmatch(text) is not None or _HOLE.fullmatch(text) is not None


def check_options(where: str, specs: Mapping[str, OptionSpec], options: Mapping[str, Value]) -> None:
    """Raise InputError for an unknown, missing or wrongly typed option; `where` begins the message."""
    for name, value in options.items():
        if name not in specs:
            known = ", ".join(sorted(specs)) or "none"
            raise InputError(f"cannot use {where}: unknown option {name!r}; known are {known}")
        spec = specs[name].rstrip("!")
        if "|" in spec:
            _check_choice(where, name, spec.split("|"), value)
            continue
        if not isinstance(value, _PYTHON_TYPES[spec]) or (isinstance(value, bool) and spec != "bool"):
            raise InputError(f"cannot use {where}: option {name!r} must be of type {spec}, not {value!r}")
        if spec in ("int", "port") and isinstance(value, str) and _HOLE.fullmatch(value) is None:
            raise InputError(f"cannot use {where}: option {name!r} must be a number or a ${{parameter}}, not {value!r}")
        if spec == "pairs" and isinstance(value, tuple):
            _check_pairs(where, name, value)
        if spec == "port" and isinstance(value, int) and not 1 <= value <= 65535:
            raise InputError(f"cannot use {where}: option {name!r} must be a port, 1 to 65535, not {value}")
        if spec == "number" and isinstance(value, str) and not is_number(value):
            raise InputError(f"cannot use {where}: option {name!r} must be a number or a ${{parameter}}, not {value!r}")
    for name, spec in specs.items():
        if spec.endswith("!") and name not in options:
            raise InputError(f"cannot use {where}: option {name!r} is missing")


def _check_choice(where: str, name: str, words: list[str], value: Value) -> None:
    if value not in words:
        raise InputError(f"cannot use {where}: option {name!r} must be one of {', '.join(words)}, not {value!r}")


def _check_pairs(where: str, name: str, pairs: tuple[str, ...]) -> None:
    names = [pair.partition("=")[0] for pair in pairs]
    for pair, left in zip(pairs, names, strict=True):
        if "=" not in pair or _PAIR_NAME.fullmatch(left) is None or names.count(left) > 1:
            raise InputError(
                f"cannot use {where}: option {name!r} must hold NAME=VALUE, each name once and of lower-case letters, "
                f"digits and '_', not {pair[:80]!r}"
            )


def check_driver(where: str, driver: str) -> None:
    """Raise InputError unless `driver` is a driver's name, or `./PATH` inside the release's tree (kind `exec`)."""
    inside = driver.removeprefix("./")
    parts = inside.split("/")
    if inside != driver and inside.isprintable() and not {"", ".", ".."} & set(parts) and "$" not in inside:
        return
    if _DRIVER_NAME.fullmatch(driver) is None:
        raise InputError(
            f"cannot use {where}: driver {driver[:80]!r} must be the name of a driver of the host, or a program of the "
            "release as ./PATH; it may not be a parameter"
        )
