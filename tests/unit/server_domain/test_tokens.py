"""Enrolment tokens as the server keeps them."""

from dataclasses import replace
from typing import Any

import pytest

from towpath.errors import InputError, Refusal
from towpath.token import secret_sha256
from towpath_server.domain.hosts import LostTime
from towpath_server.domain.model import EnrolmentToken
from towpath_server.domain.tokens import (
    DEFAULT_TTL_MS,
    MAX_TTL_MS,
    MAX_USES,
    check_presented,
    check_remembered,
    new_token,
    used_up,
)

NOW = 1_800_000_000_000
SECRET = bytes(range(32))


def make(**fields: Any) -> EnrolmentToken:
    known = {"token_id": "00112233", "secret": SECRET, "environment": "production", "labels": {"role": "web"}}
    return new_token(**known | {"uses": 0, "ttl_ms": 0, "now_unix_ms": NOW, "created_by": "ann"} | fields)


def test_a_token_has_one_use_for_an_hour_and_its_secret_is_not_kept() -> None:
    """Zero means the default; the row has the digest of the secret, never the secret."""
    token = make()
    assert (token.uses_left, token.expires_unix_ms) == (1, NOW + DEFAULT_TTL_MS)
    assert token.secret_sha256 == secret_sha256(SECRET)
    assert SECRET not in [getattr(token, name) for name in EnrolmentToken.__slots__]
    most = make(uses=MAX_USES, ttl_ms=MAX_TTL_MS)
    assert (most.uses_left, most.expires_unix_ms) == (MAX_USES, NOW + MAX_TTL_MS)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"uses": MAX_USES + 1}, "at most 10000"),
        ({"ttl_ms": MAX_TTL_MS + 1}, "longer than 30d"),
        ({"environment": ""}, "an environment"),
        ({"labels": {"a b": "c"}}, "a label"),
    ],
)
def test_a_token_that_is_too_much_or_misnamed_is_not_made(fields: dict[str, Any], said: str) -> None:
    """Uses, lifetime, environment and labels are checked when it is asked for, not when a host comes."""
    with pytest.raises(InputError, match=said):
        make(**fields)


def test_a_presented_token_counts_by_its_secret_until_it_expires() -> None:
    """A wrong secret and a token that does not exist look the same; expiry is told only to who has the secret."""
    token = make()

    def refusal(row: EnrolmentToken | None, secret: bytes, now: int = NOW) -> tuple[str, str]:
        with pytest.raises(Refusal) as caught:
            check_presented(row, secret, now)
        return caught.value.code, str(caught.value)

    assert check_presented(token, SECRET, token.expires_unix_ms - 1) is token
    assert refusal(token, bytes(32)) == refusal(None, SECRET)
    assert refusal(token, bytes(32))[0] == "token-unknown"
    assert refusal(token, SECRET, token.expires_unix_ms)[0] == "token-expired"
    assert refusal(token, bytes(32), token.expires_unix_ms)[0] == "token-unknown"
    assert check_presented(replace(token, uses_left=0), SECRET, NOW), "uses are spent by storage"
    assert used_up().code == "token-used"


def test_a_token_from_before_a_restore_is_void() -> None:
    """Nobody knows how many of its uses were spent in the hours that the backup does not hold; a new one counts."""
    token = make()
    check_remembered(token, LostTime())
    check_remembered(token, LostTime(NOW - 1, NOW + 5_000))
    with pytest.raises(Refusal, match="restore") as caught:
        check_remembered(token, LostTime(NOW, NOW + 5_000))
    assert caught.value.code == "token-used"
