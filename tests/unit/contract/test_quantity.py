"""Durations and sizes: what people write, and what they are shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import InputError
from towpath.quantity import (
    MAX_DURATION_MS,
    MAX_SIZE,
    format_duration,
    format_rate,
    format_size,
    parse_duration_ms,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("500ms", 500),
        ("0s", 0),
        ("10s", 10_000),
        ("1.5m", 90_000),
        ("2h", 7_200_000),
        ("7d", 604_800_000),
        (" 3 s ", 3_000),
        ("366d", MAX_DURATION_MS),
    ],
)
def test_durations_are_read_as_milliseconds(text: str, ms: int) -> None:
    """A number and a unit, spaces around and between allowed, become milliseconds."""
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "10", "s", "10 sec", "-1s", "1,5m", "1e3s", "10S", "1.s", ".5s", "٣s", "1s2"])
def test_other_durations_are_refused_with_an_example(text: str) -> None:
    """A duration without a unit is not guessed at; the message shows one that works."""
    with pytest.raises(InputError, match="as a duration: write a number .* such as 90s"):
        parse_duration_ms(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("1B", 1),
        ("2KB", 2_000),
        ("2MB", 2_000_000),
        ("2GB", 2_000_000_000),
        ("1TB", 10**12),
        ("1KiB", 1024),
        ("400MiB", 400 * 2**20),
        ("1.5 GiB", 3 * 2**29),
        ("1TiB", 2**40),
        ("1024TiB", MAX_SIZE),
    ],
)
def test_sizes_are_read_as_bytes(text: str, size: int) -> None:
    """Decimal and binary units become bytes; a bare number is bytes."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "1mb", "1kib", "-1", "1PB", "1_000"])
def test_other_sizes_are_refused_with_the_units(text: str) -> None:
    """An unknown unit is an error that names the known ones."""
    with pytest.raises(InputError, match="as a size: write a number and KiB"):
        parse_size(text)


def test_too_much_is_refused_by_name() -> None:
    """Beyond the limits the message says the most that is allowed."""
    with pytest.raises(InputError, match="the most is 366d"):
        parse_duration_ms("366.00001d")
    with pytest.raises(InputError, match="the most is 1024TiB"):
        parse_size("1024.1TiB")


def test_a_long_text_is_cut_in_the_message() -> None:
    """A message shows forty characters of what was written and no more."""
    for parse in (parse_duration_ms, parse_size):
        for text in (
            "x" * 5000,
            "9" * 18 + "." + "9" * 18 + " " * 5000 + ("d" if parse is parse_duration_ms else "TiB"),
        ):
            with pytest.raises(InputError) as caught:
                parse(text)
            assert repr(text[:40]) in str(caught.value)


@given(st.one_of(st.text(max_size=40), st.from_regex(r"[0-9]{1,400}(\.[0-9]{1,400})?(s|d|TiB|)", fullmatch=True)))
def test_any_text_is_a_quantity_within_limits_or_bad_input(text: str) -> None:
    """No text, however long its number, makes anything but a value within limits or an InputError of one line."""
    for parse, most in ((parse_duration_ms, MAX_DURATION_MS), (parse_size, MAX_SIZE)):
        try:
            assert 0 <= parse(text) <= most
        except InputError as error:
            assert len(str(error)) < 400


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0ms"),
        (850, "850ms"),
        (999, "999ms"),
        (1_000, "1s"),
        (12_999, "12s"),
        (119_999, "119s"),
        (120_000, "2m"),
        (7_199_999, "119m"),
        (7_200_000, "2h"),
        (172_799_999, "47h"),
        (172_800_000, "2d"),
        (6 * 86_400_000, "6d"),
    ],
)
def test_durations_are_shown_in_the_unit_that_keeps_them_short(ms: int, text: str) -> None:
    """A person reads at most three digits up to two days, never rounded up."""
    assert format_duration(ms) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_468_006, "1.4 MiB"),
        (2**20 - 1, "1.0 MiB"),
        (2**20 - 10, "1.0 MiB"),
        (2**30, "1.0 GiB"),
        (5 * 2**39, "2.5 TiB"),
        (1000 * 2**40, "1000.0 TiB"),
    ],
)
def test_sizes_are_shown_with_a_binary_unit(size: int, text: str) -> None:
    """A size has one decimal and the unit that keeps it below 1024, after rounding too."""
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("256KiB/s", 262_144),
        ("1.5 MiB/s", 3 * 2**19),
        ("2MB/s", 2_000_000),
        ("800B / s", 800),
        ("64kbit/s", 8_000),
        ("10Mbit/s", 1_250_000),
        ("1Gbit/s", 125_000_000),
        ("8bit/s", 1),
        ("1024TiB/s", MAX_SIZE),
    ],
)
def test_rates_are_read_as_bytes_a_second(text: str, rate: int) -> None:
    """A size a second, or bits as lines are sold."""
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "256KiB", "256/s", "256KiB/m", "256KiB/s/s", "64kbps", "1Kbit/s", "-1KiB/s", "KiB/s"]
)
def test_other_rates_are_refused_with_the_units(text: str) -> None:
    """A size without a second, and a number without a unit, are no rates."""
    with pytest.raises(InputError, match="as a rate: write a number and KiB/s"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["0KiB/s", "7bit/s", "1025TiB/s"])
def test_a_rate_of_nothing_is_refused(text: str) -> None:
    """A limit under which nothing ever comes is a mistake, and so is one beyond all lines."""
    with pytest.raises(InputError, match="at least 1B/s"):
        parse_rate(text)


def test_rates_are_shown_with_a_binary_unit() -> None:
    """As sizes are."""
    assert (format_rate(812), format_rate(262_144)) == ("812 B/s", "256.0 KiB/s")
