"""The kinds of installers, services and probes, and the options that each takes.

One row here and one file in the agent add a kind. The rows stand here, not in the agent, because a publisher's lint
must know them without the agent (import rule 1). Option types: text, texts, int, bool, duration (ms), size (bytes),
port. A type with a trailing `!` is required. `port` and `int` also take a `${parameter}`.
"""

import re
from collections.abc import Mapping

from towpath.errors import InputError

Value = str | int | bool | tuple[str, ...]
OptionSpec = str

INSTALLERS: Mapping[str, Mapping[str, OptionSpec]] = {
    "tree": {"shared": "texts"},
    "file": {"path": "text!", "mode": "int"},
    "deb": {"package": "text", "adopt": "bool", "timeout": "duration"},
    "rpm": {"package": "text", "adopt": "bool", "timeout": "duration"},
    "oci": {"timeout": "duration"},
}

SERVICES: Mapping[str, Mapping[str, OptionSpec]] = {
    "systemd": {"unit": "text!"},
    "process": {},
    "none": {},
}

PROBES: Mapping[str, Mapping[str, OptionSpec]] = {
    "http": {"url": "text!", "status": "int", "body": "text"},
    "tcp": {"host": "text", "port": "port!"},
    "exec": {"command": "texts!"},
    "process": {"max_rss": "size", "max_restarts": "int"},
}

_HOLE = re.compile(r"\$\{[^{}]+\}")
_PYTHON_TYPES: Mapping[str, tuple[type, ...]] = {
    "text": (str,),
    "texts": (tuple,),
    "int": (int, str),
    "port": (int, str),
    "bool": (bool,),
    "duration": (int,),
    "size": (int,),
}


def check_options(where: str, specs: Mapping[str, OptionSpec], options: Mapping[str, Value]) -> None:
    """Raise InputError for an unknown, missing or wrongly typed option; `where` begins the message."""
    for name, value in options.items():
        if name not in specs:
            known = ", ".join(sorted(specs)) or "none"
            raise InputError(f"cannot use {where}: unknown option {name!r}; known are {known}")
        spec = specs[name].rstrip("!")
        if not isinstance(value, _PYTHON_TYPES[spec]) or (isinstance(value, bool) and spec != "bool"):
            raise InputError(f"cannot use {where}: option {name!r} must be of type {spec}, not {value!r}")
        if spec in ("int", "port") and isinstance(value, str) and _HOLE.fullmatch(value) is None:
            raise InputError(f"cannot use {where}: option {name!r} must be a number or a ${{parameter}}, not {value!r}")
    for name, spec in specs.items():
        if spec.endswith("!") and name not in options:
            raise InputError(f"cannot use {where}: option {name!r} is missing")
