"""Enrolment tokens: what an operator may ask for, and whether one that is presented still counts.

The secret has 256 bits, so one SHA-256 is enough and no slow hash is needed. Comparing is constant-time, and a token
that does not exist costs the same comparison. Spending a use is `storage`'s atomic decrement, not a decision of this
module.
"""

import hmac
from collections.abc import Mapping

from towpath.errors import InputError, Refusal
from towpath.names import check_environment, check_labels
from towpath.token import secret_sha256
from towpath_server.domain.hosts import LostTime
from towpath_server.domain.model import EnrolmentToken

MAX_USES = 10_000
MAX_TTL_MS = 30 * 86_400_000
DEFAULT_TTL_MS = 3_600_000
_NOBODY = bytes(32)


def new_token(
    *,
    token_id: str,
    secret: bytes,
    environment: str,
    labels: Mapping[str, str],
    uses: int,
    ttl_ms: int,
    now_unix_ms: int,
    created_by: str,
) -> EnrolmentToken:
    """Return the row of a new token; zero `uses` or `ttl_ms` mean the defaults (1, 1h). InputError for bad ones."""
    check_environment(environment)
    check_labels(dict(labels))
    uses = uses or 1
    ttl_ms = ttl_ms or DEFAULT_TTL_MS
    if uses > MAX_USES:
        raise InputError(f"cannot create a token for {uses} hosts: at most {MAX_USES}")
    if ttl_ms > MAX_TTL_MS:
        raise InputError("cannot create a token that lives longer than 30d: give a shorter --ttl")
    return EnrolmentToken(
        id=token_id,
        secret_sha256=secret_sha256(secret),
        environment=environment,
        uses_left=uses,
        expires_unix_ms=now_unix_ms + ttl_ms,
        created_unix_ms=now_unix_ms,
        created_by=created_by,
        labels=dict(labels),
    )


def check_presented(token: EnrolmentToken | None, secret: bytes, now_unix_ms: int) -> EnrolmentToken:
    """Return `token` where `secret` is its and it has not expired; Refusal otherwise. Uses are not looked at."""
    expected = token.secret_sha256 if token is not None else _NOBODY
    same = hmac.compare_digest(secret_sha256(secret), expected)
    if token is None or not same:
        raise Refusal("cannot enrol: the token is unknown; ask the operator for a new one", code="token-unknown")
    if token.expires_unix_ms <= now_unix_ms:
        raise Refusal("cannot enrol: the token has expired; ask the operator for a new one", code="token-expired")
    return token


def check_remembered(token: EnrolmentToken, lost: LostTime) -> None:
    """Refuse a token from before the backup that this server was restored from: nobody knows which uses are left."""
    if token.created_unix_ms <= lost.from_unix_ms:
        raise Refusal(
            "cannot enrol: the token is from before a restore of the server; ask the operator for a new one",
            code="token-used",
        )


def used_up() -> Refusal:
    """Return the refusal of a token without uses left."""
    return Refusal("cannot enrol: the token is used up; ask the operator for a new one", code="token-used")
