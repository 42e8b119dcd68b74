"""YAML with lines: what is read, what is refused."""

import pytest

from towpath.errors import InputError
from towpath_cli.yamlfile import MAX_FILE_BYTES, Text, parse_yaml


def test_scalars_stay_texts() -> None:
    """A version such as 1.10 keeps its zero, and yes, no and 0755 are texts until a field reads them."""
    data = parse_yaml("version: 1.10\na: no\nb: 0755\n", "f").data
    assert data == {"version": "1.10", "a": "no", "b": "0755"}


def test_lines_of_nested_values() -> None:
    """Every key and list entry knows its line, and a step that names nothing falls back to what is around it."""
    document = parse_yaml("a:\n  b:\n    - 1\n    - c: 2\n", "f")
    assert document.line(("a",)) == 1
    assert document.line(("a", "b", 1, "c")) == 4
    assert document.line(("a", "b", 0, "nothing")) == 3
    assert document.line(("a", "tag-of-a-union", "b")) == 2


def test_null_is_told_from_a_quoted_word() -> None:
    """An empty value and ~ are null; the same words in quotes are texts."""
    data = parse_yaml("a:\nb: ~\nc: '~'\nd: \"null\"\n", "f").data
    assert isinstance(data, dict)
    assert [isinstance(value, Text) and value.is_null for value in data.values()] == [True, True, False, False]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "there twice, first in line 1"),
        ("a: &x [1]\nb: *x\n", 1, "anchors and aliases"),
        ("a: 1\nb: *x\n", 2, "anchors and aliases"),
        ("a: !!python/object:os.system x\n", 1, "tags"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("a: 1\n? [b]\n: 2\n", 2, "a key must be a plain word"),
        ("a: 1\nb: [1, 2\nc: 3\n", 3, ""),
        ("a: 1\n\tb: 2\n", 2, ""),
        ("# Towpath\n\nA system: it deploys: well.\n", 3, "is it the right file, and YAML?"),
        ("\n" + "[" * 40, 2, "nested too deeply"),
    ],
)
def test_refused_with_its_line(text: str, line: int, reason: str) -> None:
    """Whatever cannot be used is one error that names file and line."""
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "towpath.yaml")
    assert f"towpath.yaml, line {line}:" in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "a: \x00\n", "x" * (MAX_FILE_BYTES + 1), "[" * 200_000])
def test_garbage_is_an_input_error(text: str) -> None:
    """Empty, binary, huge and endlessly nested files are refused and never crash."""
    with pytest.raises(InputError, match="f"):
        parse_yaml(text, "f")
