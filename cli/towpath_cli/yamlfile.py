"""YAML as a release file may use it, with the line of every key and value.

Scalars stay texts that remember whether they were plain: `version: 1.10` is the text 1.10 and never the number 1.1, and
only the field that reads a value says what it is. Refused with their line: keys that are there twice, anchors and
aliases (a short file could grow without end), tags, several documents, deep nesting.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import yaml

from towpath.errors import InputError

MAX_FILE_BYTES = 256 * 2**10
MAX_DEPTH = 16

Path = tuple[str | int, ...]


class Text(str):
    """A scalar as written; `plain` where it stood without quotes."""

    __slots__ = ("plain",)
    plain: bool

    def __new__(cls, text: str, *, plain: bool) -> Self:
        """Keep the text and how it was written."""
        new = super().__new__(cls, text)
        new.plain = plain
        return new

    @property
    def is_null(self) -> bool:
        """True for nothing at all, `~` and `null`."""
        return self.plain and self in ("", "~", "null")


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: nested dicts and lists of `Text`, and the line (from 1) of each path into them."""

    name: str
    data: object
    lines: dict[Path, int] = field(default_factory=dict)

    def line(self, path: Sequence[str | int]) -> int:
        """Return the line of `path`, or of the nearest part around it; steps that name nothing here are skipped."""
        known: Path = ()
        for step in path:
            if (*known, step) in self.lines:
                known = (*known, step)
        return self.lines.get(known, 1)

    def error(self, path: Sequence[str | int], reason: str) -> str:
        """Return the message that names file and line."""
        return f"cannot use {self.name}, line {self.line(path)}: {reason}"


def parse_yaml(text: str, name: str) -> Document:
    """Return the document in `text`; InputError names the file and the line."""
    document = Document(name, None)
    if len(text.encode("utf-8", "replace")) > MAX_FILE_BYTES:
        raise InputError(f"cannot use {name}: it is longer than {MAX_FILE_BYTES // 1024} KiB")
    try:
        events = yaml.parse(text, Loader=yaml.SafeLoader)
        data = _Reader(document, events).read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        reason = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise InputError(f"cannot read {name}, line {line}: {reason}; is it the right file, and YAML?") from error
    except yaml.YAMLError as error:
        raise InputError(f"cannot read {name}: {' '.join(str(error).split())[:200]}") from error
    return Document(name, data, document.lines)


def _line(event: yaml.Event) -> int:
    return 1 if event.start_mark is None else event.start_mark.line + 1


class _Reader:
    """Builds values from parser events; recursion is bounded by MAX_DEPTH."""

    def __init__(self, document: Document, events: Iterator[yaml.Event]) -> None:
        self._document = document
        self._events = events

    def read(self) -> object:
        next(self._events)  # the stream begins
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise InputError(f"cannot use {self._document.name}: it is empty")
        data = self._value(next(self._events), (), 0)
        next(self._events)  # the document ends
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise self._refuse(after, "a second document begins; one file holds one release")
        return data

    def _refuse(self, event: yaml.Event, reason: str) -> InputError:
        return InputError(f"cannot use {self._document.name}, line {_line(event)}: {reason}")

    def _value(self, event: yaml.Event, path: Path, depth: int) -> object:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise self._refuse(event, "anchors and aliases are not supported; write the value out")
        if getattr(event, "tag", None) not in (None, "!"):
            raise self._refuse(event, "tags ('!...') are not supported")
        if depth > MAX_DEPTH:
            raise self._refuse(event, "it is nested too deeply")
        self._document.lines.setdefault(path, _line(event))
        if isinstance(event, yaml.ScalarEvent):
            return Text(event.value, plain=event.style is None)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[object] = []
            while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
                items.append(self._value(event, (*path, len(items)), depth + 1))
            return items
        return self._mapping(path, depth)

    def _mapping(self, path: Path, depth: int) -> dict[str, object]:
        result: dict[str, object] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self._refuse(event, "a key must be a plain word")
            key = event.value
            if key in result:
                first = self._document.lines[(*path, key)]
                raise self._refuse(event, f"key {key[:60]!r} is there twice, first in line {first}")
            self._document.lines[(*path, key)] = _line(event)
            result[key] = self._value(next(self._events), (*path, key), depth + 1)
        return result
