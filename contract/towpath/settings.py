"""Settings files: which keys a TOML table may hold. Strength: flag, TOWPATH_* variable, file, default."""

import difflib
from collections.abc import Collection, Mapping

from towpath.errors import InputError


def check_settings(table: Mapping[str, object], known: Collection[str], file_name: str) -> dict[str, str]:
    """Return the table as texts, keys with '_'; InputError names a stranger, its file and the nearest known key."""
    result: dict[str, str] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
            raise InputError(f"cannot use {file_name}: unknown key {key!r}; {hint}")
        if isinstance(value, bool):
            result[name] = "true" if value else "false"
        elif isinstance(value, str | int | float):
            result[name] = str(value)
        else:
            raise InputError(f"cannot use {file_name}: {key!r} must be one text, number or truth value")
    return result
