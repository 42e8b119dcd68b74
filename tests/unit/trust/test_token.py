"""Tokens: one word that is whole or refused, and that shows no secret by accident."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath import pki
from towpath.errors import InputError
from towpath.token import Token, format_token, parse_token, secret_sha256

POINT = pki.ca_public_point(pki.new_ca(pki.new_key(), now_ms=1_800_000_000_000))
TOKEN = Token("0123456789abcdef", bytes(range(32)), POINT)
TEXT = format_token(TOKEN)


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=32, max_size=32), st.binary(min_size=33, max_size=33))
def test_a_token_survives_its_text(name: bytes, secret: bytes, point: bytes) -> None:
    """Every token is read back from its text, which is one word of harmless characters."""
    token = Token(name.hex(), secret, point)
    text = format_token(token)
    assert parse_token(text) == token
    assert text.startswith("tp1.")
    assert all(c.isalnum() or c in "-_." for c in text)


def test_space_around_a_token_is_ignored() -> None:
    """What a terminal adds on copying does not matter."""
    assert parse_token(f"  {TEXT}\n") == TOKEN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tp1.",
        "tp2." + TEXT[4:],
        TEXT[:-1],
        TEXT[:-9],
        TEXT + "AAAA",
        TEXT[:20] + ("A" if TEXT[20] != "A" else "B") + TEXT[21:],
        TEXT[:20] + "!" + TEXT[21:],
        TEXT[:20] + "ä" + TEXT[21:],
    ],
    ids=[str(number) for number in range(9)],
)
def test_a_damaged_token_is_said_so(text: str) -> None:
    """A token that is cut off, mistyped or of another kind is refused, and its text is not repeated."""
    with pytest.raises(InputError) as caught:
        parse_token(text)
    assert caught.value.code == "bad-token"
    assert TEXT[10:30] not in str(caught.value)


@pytest.mark.parametrize(
    "token", [Token("xyz", b"s" * 32, POINT), Token("0" * 16, b"s", POINT), Token("0" * 16, b"s" * 32, b"")]
)
def test_a_token_of_wrong_parts_is_not_made(token: Token) -> None:
    """A part of the wrong length is an error where the token is made, not where it is used."""
    with pytest.raises(InputError, match="cannot make a token"):
        format_token(token)


def test_the_secret_is_not_shown() -> None:
    """A token that ends up in a log shows its id and pin, not its secret."""
    assert "secret" not in repr(TOKEN)
    assert secret_sha256(TOKEN.secret) != TOKEN.secret
    assert len(secret_sha256(TOKEN.secret)) == 32
