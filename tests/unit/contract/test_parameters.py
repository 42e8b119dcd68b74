"""Parameters: typed holes that an operator fills, and nothing else of a release."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import InputError
from towpath.parameters import (
    MAX_PARAMETERS,
    MAX_TEXT,
    Parameter,
    Value,
    check_declarations,
    check_value,
    fill,
    parse_value,
    placeholders,
    render,
)

PORT = Parameter("port", "port", 8080)
COLOUR = Parameter("colour", "string", "red", ("red", "green"))


def test_good_declarations_pass() -> None:
    """All types, with and without defaults and choices, are usable; as many as the limit allows."""
    check_declarations([PORT, COLOUR, Parameter("n", "int"), Parameter("debug", "bool", default=False)])
    check_declarations([Parameter(f"p{n}", "int") for n in range(MAX_PARAMETERS)])


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        ([Parameter("Port", "int")], "lower-case"),
        ([Parameter("", "int")], "lower-case"),
        ([Parameter("1st", "int")], "lower-case"),
        ([Parameter("a-b", "int")], "lower-case"),
        ([Parameter("x" * 41, "int")], "lower-case"),
        ([PORT, PORT], "declared twice"),
        ([Parameter("a", "float")], "known are string, int, bool, port"),
        ([Parameter("a", "int", "8")], "whole number"),
        ([Parameter("a", "port", 0)], "a port is 1 to 65535"),
        ([Parameter("a", "string", "blue", ("red",))], "choose one of red"),
        ([Parameter(f"p{n}", "int") for n in range(MAX_PARAMETERS + 1)], "at most 128"),
    ],
)
def test_bad_declarations_are_refused_by_reason(declared: list[Parameter], why: str) -> None:
    """A bad name, a duplicate, an unknown type, a default that does not fit, too many: each says so."""
    with pytest.raises(InputError, match=why):
        check_declarations(declared)


GOOD: list[tuple[str, Value]] = [
    ("bool", True),
    ("bool", False),
    ("int", 0),
    ("int", -(2**63) + 1),
    ("int", 2**63 - 1),
    ("port", 1),
    ("port", 65535),
    ("string", ""),
    ("string", "x" * MAX_TEXT),
    ("string", "blank, \u00e4 and \u00a0"),
]
BAD: list[tuple[str, Value]] = [
    ("bool", 1),
    ("bool", "true"),
    ("int", True),
    ("int", "1"),
    ("int", 2**63),
    ("int", -(2**63)),
    ("port", 0),
    ("port", 65536),
    ("port", True),
    ("port", "80"),
    ("string", 1),
    ("string", True),
    ("string", ("a",)),
    ("string", "x" * (MAX_TEXT + 1)),
    ("string", "a\nb"),
    ("string", "a\x00"),
    ("string", "a\x7f"),
    ("string", "\x1b[2J"),
    ("string", "\x9b2J"),
    ("string", "not utf-8: \udcff"),
]


@pytest.mark.parametrize(("kind", "value"), GOOD)
def test_values_of_the_declared_type_come_back_unchanged(kind: str, value: Value) -> None:
    """A value that fits is returned as it is."""
    assert check_value(Parameter("p", kind), value) is value


@pytest.mark.parametrize(("kind", "value"), BAD)
def test_values_of_another_type_are_refused(kind: str, value: Value) -> None:
    """True is no number, a number is no text, controls and bytes that are no UTF-8 are no text."""
    with pytest.raises(InputError, match="^cannot set p"):
        check_value(Parameter("p", kind), value)


def test_choices_hold_for_texts_and_numbers() -> None:
    """Where choices are declared, nothing else is taken; the message lists them."""
    assert check_value(COLOUR, "green") == "green"
    level = Parameter("level", "int", choices=("1", "2"))
    assert check_value(level, 2) == 2
    with pytest.raises(InputError, match="choose one of 1, 2"):
        check_value(level, 3)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("bool", "true", True),
        ("bool", "FALSE", False),
        ("int", "-12", -12),
        ("port", "8080", 8080),
        ("string", "a b", "a b"),
        ("string", "8080", "8080"),
    ],
)
def test_what_a_person_types_gets_the_declared_type(kind: str, text: str, value: Value) -> None:
    """Text becomes the declared type, and only that."""
    parsed = parse_value(Parameter("p", kind), text)
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("bool", "yes"),
        ("bool", ""),
        ("int", "1.0"),
        ("int", "0x10"),
        ("int", ""),
        ("int", "9" * 5000),
        ("int", "9" * 19),
        ("int", "٣"),
        ("port", "0"),
        ("port", "http"),
        ("string", "a\tb"),
    ],
)
def test_what_does_not_fit_is_refused_as_typed(kind: str, text: str) -> None:
    """Typed text that is not of the type is an InputError of one line, however long it is."""
    with pytest.raises(InputError) as caught:
        parse_value(Parameter("p", kind), text)
    assert str(caught.value).startswith("cannot set p")
    assert len(str(caught.value)) < 200


def test_fill_takes_what_is_given_and_defaults_for_the_rest() -> None:
    """Every declared parameter has a value afterwards, given ones win over defaults, false and 0 included."""
    declared = [PORT, COLOUR, Parameter("n", "int", 5), Parameter("debug", "bool", default=True)]
    assert fill(declared, {"port": 9001, "n": 0, "debug": False}) == {
        "port": 9001,
        "colour": "red",
        "n": 0,
        "debug": False,
    }


def test_fill_refuses_strangers_missing_ones_and_wrong_types() -> None:
    """An undeclared name, a missing value and a wrong type each name the parameter."""
    with pytest.raises(InputError, match="cannot set a_stranger: the release declares no such parameter"):
        fill([PORT], {"zz": 1, "a_stranger": 1})
    with pytest.raises(InputError, match="without parameter token: it has no default"):
        fill([PORT, Parameter("token", "string")], {"port": 1})
    with pytest.raises(InputError, match="cannot set port"):
        fill([PORT], {"port": "9001"})


def test_placeholders_names_every_hole() -> None:
    """Each `${name}` is found once; a bare dollar is text."""
    assert placeholders("${a}-${b}${a} $c {d} ${}") == {"a", "b", ""}
    assert placeholders("no holes") == set()


def test_render_writes_booleans_as_words() -> None:
    """A bool becomes true or false, a number its digits."""
    assert (
        render("--debug=${d} --quiet=${q} :${p}", {"d": True, "q": False, "p": 80}) == "--debug=true --quiet=false :80"
    )


SEGMENTS = st.one_of(st.text(st.characters(blacklist_characters="${}"), max_size=8), st.just("$"), st.just("}"))
VALUES = st.one_of(st.text(max_size=20), st.sampled_from(["${a}", "${b}", "x y", "'; rm -rf / #", "--help", "$"]))


@given(
    st.lists(st.one_of(st.sampled_from(["${a}", "${b}"]), SEGMENTS), max_size=6),
    VALUES,
    VALUES,
)
def test_render_replaces_each_hole_once_and_never_expands_a_value(pieces: list[str], a: str, b: str) -> None:
    """The result is exactly the pieces with values in the holes: a value that looks like a hole stays as it is."""
    assert render("".join(pieces), {"a": a, "b": b}) == "".join(
        {"${a}": a, "${b}": b}.get(piece, piece) for piece in pieces
    )


@given(VALUES)
def test_render_never_creates_another_word(value: str) -> None:
    """A command has as many words after rendering as before, and each begins as it did: a value adds no option."""
    command = ("bin/serve", "--port=${a}", "-x${a}", "last")
    rendered = [render(word, {"a": value}) for word in command]
    assert rendered == ["bin/serve", f"--port={value}", f"-x{value}", "last"]
    assert shlex.split(shlex.join(rendered)) == rendered
