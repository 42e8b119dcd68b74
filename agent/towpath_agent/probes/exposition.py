r"""The text format in which programs expose metrics to Prometheus (version 0.0.4), read exactly. Pure.

A page is lines; a line is empty, a comment (`#`, with HELP and TYPE among them) or a sample:
`name{label="value",...} value [timestamp in ms]`, its parts apart by spaces or tabs. Label values know the escapes
`\\`, `\"` and `\n`; another backslash stands for itself, as Prometheus reads it. A value is a decimal, NaN or Inf.
Source: https://prometheus.io/docs/instrumenting/exposition_formats/#text-format-details.
Not handled here: OpenMetrics and protobuf pages, quoted UTF-8 metric names (servers send them only where asked for).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_BLANKS = re.compile(r"[ \t]*")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_LABEL_VALUE = re.compile(r'"([^"\\\n]*(?:\\[^\n][^"\\\n]*)*)"')
_ESCAPE = re.compile(r'\\([\\"n])')
_VALUE = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?|nan)", re.ASCII | re.IGNORECASE
)
_TIMESTAMP = re.compile(r"[+-]?[0-9]{1,19}")
_SHOWN_CHARS = 80


class ExpositionError(ValueError):
    """A line that is no line of the format."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample; `line` is what it was read from, `timestamp_ms` None where it has none."""

    name: str
    labels: Mapping[str, str]
    value: float
    timestamp_ms: int | None
    line: str


def parse(page: str) -> Iterator[Sample]:
    """Yield every sample of a page; ExpositionError at the first line that is none."""
    for line in page.split("\n"):
        sample = parse_line(line)
        if sample is not None:
            yield sample


def samples_of(page: str, metric: str) -> Iterator[Sample]:
    """Yield the samples of one metric; lines of others are not looked into, so a large page costs little."""
    for line in page.split("\n"):
        text = line.lstrip(" \t")
        match = _NAME.match(text) if text.startswith(metric) else None
        if match is not None and match[0] == metric:
            sample = parse_line(text)
            assert sample is not None  # noqa: S101 - the line begins with a name
            yield sample


def parse_line(line: str) -> Sample | None:
    """Return the sample in `line`, None for a comment or an empty line."""
    text = line.strip(" \t")
    if not text or text.startswith("#"):
        return None
    match = _NAME.match(text)
    if match is None:
        raise _error("it begins with no metric's name", text)
    name, at = match[0], _skip(text, match.end())
    labels: dict[str, str] = {}
    if text.startswith("{", at):
        labels, at = _labels(text, at + 1)
        at = _skip(text, at)
    elif at == match.end():
        raise _error("no blank follows its name", text)
    words = text[at:].split(" ") if "\t" not in text[at:] else re.split(r"[ \t]", text[at:])
    words = [word for word in words if word]
    if not 1 <= len(words) <= 2 or _VALUE.fullmatch(words[0]) is None:
        raise _error("no value, or more than value and timestamp, follow its name", text)
    timestamp = None
    if len(words) == 2:
        if _TIMESTAMP.fullmatch(words[1]) is None:
            raise _error("its timestamp is no whole number", text)
        timestamp = int(words[1])
    return Sample(name, labels, float(words[0]), timestamp, text)


def _labels(text: str, at: int) -> tuple[dict[str, str], int]:
    """Return the labels that begin at `at`, behind the brace, and where the closing brace ends."""
    labels: dict[str, str] = {}
    at = _skip(text, at)
    while not text.startswith("}", at):
        name = _LABEL_NAME.match(text, at)
        if name is None:
            raise _error("a label's name or a brace is missing", text)
        at = _skip(text, name.end())
        if not text.startswith("=", at):
            raise _error(f"no '=' follows label {name[0]}", text)
        value = _LABEL_VALUE.match(text, _skip(text, at + 1))
        if value is None:
            raise _error(f"label {name[0]} has no quoted value", text)
        if name[0] in labels:
            raise _error(f"label {name[0]} is there twice", text)
        labels[name[0]] = _ESCAPE.sub(lambda match: "\n" if match[1] == "n" else match[1], value[1])
        at = _skip(text, value.end())
        if text.startswith(",", at):
            at = _skip(text, at + 1)
        elif not text.startswith("}", at):
            raise _error(f"no comma or brace follows label {name[0]}", text)
    return labels, at + 1


def _skip(text: str, at: int) -> int:
    """Return where the blanks at `at` end."""
    match = _BLANKS.match(text, at)
    return match.end() if match is not None else at


def _error(reason: str, text: str) -> ExpositionError:
    return ExpositionError(f"no line of the format, {reason}: {text[:_SHOWN_CHARS]!r}")
