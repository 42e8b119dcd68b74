"""Settings: which keys a TOML table may hold, and how what one says is read, so that an error names where it stands.

Strength: flag, TOWPATH_* variable (an empty one counts as none), file, default.
"""

import difflib
from collections.abc import Callable, Collection, Mapping
from typing import Self, TypeVar

from towpath.errors import InputError

T = TypeVar("T")


class Setting(str):
    """The text of a setting in a file. `place`: what a person has to look at, `max_rate in /etc/towpath/agent.toml`."""

    __slots__ = ("place",)
    place: str

    def __new__(cls, text: str, place: str) -> Self:
        """Keep `text`, and where it stands."""
        made = super().__new__(cls, text)
        made.place = place
        return made


def check_settings(table: Mapping[str, object], known: Collection[str], file_name: str) -> dict[str, Setting]:
    """Return the table as texts, keys with '_'; InputError names a stranger, its file and the nearest known key."""
    result: dict[str, Setting] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
            raise InputError(f"cannot use {file_name}: unknown key {key!r}; {hint}")
        if not isinstance(value, str | int | float):
            raise InputError(f"cannot use {file_name}: {key!r} must be one text, number or truth value")
        text = str(value).lower() if isinstance(value, bool) else str(value)
        result[name] = Setting(text, f"{key} in {file_name}")
    return result


def parsed(place: str, parse: Callable[[str], T], text: str) -> T:
    """Return what `parse` makes of `text`; its InputError says then that the text stands at `place`."""
    try:
        return parse(text)
    except InputError as error:
        raise InputError(f"cannot use {place}: {error}") from error


def read(settings: Mapping[str, Setting], key: str, parse: Callable[[str], T]) -> T | None:
    """Return what `parse` makes of a setting, None where it is not set; InputError names its key and file."""
    found = settings.get(key)
    return None if found is None else parsed(found.place, parse, found)
