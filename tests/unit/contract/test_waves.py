"""Waves as operators write them: what is read, what is refused, and with which words."""

import pytest

from towpath.errors import InputError
from towpath.waves import (
    MAX_SOAK_MS,
    WHOLE,
    Target,
    Wave,
    check_waves,
    effective,
    format_share,
    parse_share,
    parse_target,
    parse_waves,
    words,
)


def test_a_list_of_waves_is_read_with_its_gates_and_the_last_covers_all() -> None:
    """Gates of their own, the common soak for the others, and 100% added where it was not written."""
    read = parse_waves("canary,10%:1h,rack=a+zone=1:manual", soak_ms=60_000)
    assert read == (
        Wave("canary", 60_000),
        Wave("10%", 3_600_000),
        Wave("rack=a+zone=1", manual=True),
        Wave("100%", 60_000),
    )
    assert words(read) == "canary:60s,10%:60m,rack=a+zone=1:manual,100%:60s"
    assert parse_waves(words(read)) == read
    assert parse_waves("1, 50% ,100%:2m") == (Wave("1"), Wave("50%"), Wave("100%", 120_000))


@pytest.mark.parametrize(
    ("what", "target"),
    [
        ("canary", Target(labels={"wave": "canary"})),
        ("rack=a", Target(labels={"rack": "a"})),
        ("rack=a+zone=1", Target(labels={"rack": "a", "zone": "1"})),
        ("3", Target(count=3)),
        ("10%", Target(share=1_000)),
        ("0.5%", Target(share=50)),
        ("0.25%", Target(share=25)),
    ],
)
def test_who_a_wave_means(what: str, target: Target) -> None:
    """A name is the label wave=NAME; numbers are hosts, with % a share of them."""
    assert parse_target(what) == target


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "cannot read '' as waves"),
        ("canary,,100%", "as waves"),
        ("canary:", "as waves"),
        ("canary:soon", "as a duration"),
        ("0", "a wave of 0 hosts"),
        ("0%", "above 0% and at most 100%"),
        ("101%", "at most 100%"),
        ("ten%", "as a share"),
        ("-1", "as a wave: write NAME"),
        ("12345678", "as a wave"),
        ("=a", "write KEY=VALUE"),
        ("rack=", "write KEY=VALUE"),
        ("a=1+a=2", "write KEY=VALUE"),
        ("a=1+b", "write KEY=VALUE"),
        ("ca nary", "the value of label wave"),
        ("ra ck=1", "a label"),
        ("canary,canary", "wave canary twice"),
        ("canary,wave=canary", "wave wave=canary twice"),
        ("50%,10%", "cannot use wave 10% after 50%: each is of all hosts, so it must grow"),
        ("5,canary,3", "cannot use wave 3 after 5"),
        ("100%,canary", "after 100%"),
        ("canary:31d", "the most is 30d"),
        (",".join(str(n) for n in range(1, 25)), "cannot use 25 waves: at most 20"),
    ],
)
def test_a_list_that_could_not_be_followed_is_refused_in_one_line(text: str, part: str) -> None:
    """Typing mistakes, waves that shrink and waves for which nobody would be left."""
    with pytest.raises(InputError) as caught:
        parse_waves(text)
    message = str(caught.value)
    assert message.startswith("cannot ")
    assert "\n" not in message
    assert part in message


def test_what_a_client_of_its_own_sends_is_checked_too() -> None:
    """The list has to end with everybody, and a soak has bounds."""
    assert check_waves([Wave("1"), WHOLE]) == (Wave("1"), WHOLE)
    for bad in ([], [Wave("1")]):
        with pytest.raises(InputError, match="do not end with 100%"):
            check_waves(bad)
    for soak in (-1, MAX_SOAK_MS + 1):
        with pytest.raises(InputError, match="soak that long: the most is 30d"):
            check_waves([Wave("100%", soak)])


def test_shares_are_said_as_they_are_written() -> None:
    """Hundredths of a percent, without noughts that say nothing."""
    for text in ("10%", "0.5%", "0.25%", "100%", "0.01%"):
        assert format_share(parse_share(text)) == text
    assert parse_share("1.50%") == 150


def test_no_waves_are_one_of_all_hosts() -> None:
    """A rollout without waves is the rollout of before."""
    assert effective(()) == (WHOLE,)
    assert effective((Wave("1"), WHOLE)) == (Wave("1"), WHOLE)
