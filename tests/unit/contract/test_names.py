"""Names: what they may look like, decided in one place."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath import names
from towpath.errors import InputError

CHECKS: dict[str, tuple[Callable[[str], str], list[str], list[str]]] = {
    "host": (
        names.check_host,
        ["h", "9", "web-1.example", "a_b", "x" * 63],
        ["", "H1", "-a", "a-", ".a", "a.", "_a", "x" * 64, "a b", "a/b", "a\n", "ä"],
    ),
    "app": (
        names.check_app,
        ["a", "hello", "a-b", "a1", "x" * 40],
        ["", "1a", "Hello", "a-", "-a", "a.b", "a_b", "x" * 41, "a/b", "a\n", "..", "a b"],
    ),
    "version": (
        names.check_version,
        ["1", "1.0.0", "2.4.1-rc.1+build_7~x", "V1", "x" * 64],
        ["", "..", "1..0", ".1", "1.", "-1", "x" * 65, "1/0", "1 0", "1\n", "1\\0"],
    ),
    "environment": (
        names.check_environment,
        ["dev", "staging", "eu-west.prod", "x" * 63],
        ["", "Dev", "dev-", "dev/eu", "x" * 64, "dev\n"],
    ),
}


@pytest.mark.parametrize("what", CHECKS)
def test_usable_names_come_back_unchanged(what: str) -> None:
    """A usable name is returned as it is."""
    check, good, _ = CHECKS[what]
    assert [check(name) for name in good] == good


@pytest.mark.parametrize("what", CHECKS)
def test_other_names_are_refused_with_the_rule(what: str) -> None:
    """What could leave a folder, a TUF path or a URI is refused, and the message says what is allowed."""
    check, _, bad = CHECKS[what]
    for name in bad:
        with pytest.raises(InputError, match="^cannot use .* allowed"):
            check(name)


def test_a_message_shows_80_characters_whole_and_cuts_longer_names() -> None:
    """A megabyte of garbage as a name gives a message of one line; a name that fits is shown whole."""
    for check in (names.check_host, names.check_version):
        with pytest.raises(InputError) as caught:
            check("../" * 1000)
        assert len(str(caught.value)) < 250
    with pytest.raises(InputError, match=f"'{'A' * 80}'"):
        names.check_host("A" * 80)
    with pytest.raises(InputError, match=f"'{'A' * 77}...'"):
        names.check_host("A" * 81)


def test_labels_may_have_empty_values_but_not_empty_keys() -> None:
    """Labels are returned; an empty value is a flag, an empty key is an error."""
    labels = {"role": "web", "k8s.io/zone": "eu-1", "canary": ""}
    assert names.check_labels(labels) is labels
    for bad in ({"": "x"}, {"a b": "x"}, {"role": "a b"}, {"role": "x" * 64}, {"-a": "x"}):
        with pytest.raises(InputError):
            names.check_labels(bad)
    with pytest.raises(InputError, match="the value of label role"):
        names.check_labels({"role": "!"})


def test_at_most_64_labels() -> None:
    """The number of labels is limited."""
    many = {f"l{n}": "" for n in range(names.MAX_LABELS)}
    assert names.check_labels(many) is many
    with pytest.raises(InputError, match="at most 64"):
        names.check_labels({**many, "one-more": ""})


def test_paths_and_roles_of_an_app() -> None:
    """The TUF names and the folder of a release are these, for ever: they are signed, and on disk."""
    assert names.target_path("hello", "1.0.0") == "hello/1.0.0.release"
    assert names.app_role("hello") == "app-hello"
    assert names.release_id("1.0.0", bytes(range(32))) == "1.0.0-0001020304050607"


@given(st.text(max_size=70))
def test_no_accepted_name_can_leave_a_folder(name: str) -> None:
    """Whatever a check accepts is one path part: no separator, no '..', nothing invisible."""
    for check, _, _ in CHECKS.values():
        try:
            check(name)
        except InputError:
            continue
        assert "/" not in name
        assert name not in ("", ".", "..")
        assert name.isascii()
        assert name.isprintable()
