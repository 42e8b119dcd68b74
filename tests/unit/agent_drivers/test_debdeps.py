"""What a Debian package depends on, by the rules of Debian Policy 7, without a host."""

import pytest

from towpath_agent.installers.debdeps import Available, fields, missing, parse

ORDER = {"lt": lambda a, b: a < b, "le": lambda a, b: a <= b, "eq": lambda a, b: a == b}
ORDER |= {"ge": lambda a, b: a >= b, "gt": lambda a, b: a > b}
THERE = [Available("a", "5"), Available("b", "1", "virtual, numbered (= 4)"), Available("nothing-yet", "")]


def lacking(text: str) -> list[str]:
    return missing(parse(text), THERE, lambda a, relation, b: ORDER[relation](a, b))


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "a, b", "a (= 5)", "a (>= 5), a (<= 5), a (>> 4), a (<< 6)", "c | a", "a:any (>= 1)", "a:amd64"),
        *("virtual", "numbered (>= 3)", "c (>= 1) | numbered (= 4)", " a ,\n b ", "a(>=5)"),
    ],
)
def test_what_is_there_in_that_version_is_enough(text: str) -> None:
    """Names, versions, alternatives and what others provide."""
    assert lacking(text) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("c", ["c"]),
        ("c, a, d (>= 1)", ["c", "d (>= 1)"]),
        ("a (>> 5)", ["a (>> 5)"]),
        ("a (<< 5) | c", ["a (<< 5) | c"]),
        ("virtual (>= 1)", ["virtual (>= 1)"]),
        ("numbered (= 5)", ["numbered (= 5)"]),
        ("nothing-yet (>= 0)", ["nothing-yet (>= 0)"]),
    ],
)
def test_what_is_missing_is_named_as_the_package_has_it(text: str, words: list[str]) -> None:
    """What is provided without a version satisfies no version."""
    assert lacking(text) == words


def test_a_folded_field_is_one_line() -> None:
    """Continuation lines begin with a blank; what is no field is left out."""
    text = "Package: a\nDepends: b,\n c (>= 1),\n\td\nnonsense\nVersion: 1:2-3\n"
    assert fields(text) == {"Package": "a", "Depends": "b, c (>= 1), d", "Version": "1:2-3"}
