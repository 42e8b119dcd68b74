"""The first member: what a bundle is, for whom, until when, and the digests of members that do not prove themselves.

Signed by the director, in an envelope of a type of its own, so that it can stand for no manifest and no manifest for
it. JSON, for it is read by people too. `id` is the nonce of every manifest in the bundle: that ties them together.
Objects are not listed: their names are their digests, and which of them have to be here follows from the releases.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from towpath.bundle.layout import garbled
from towpath.errors import InputError, Refusal
from towpath.manifest import NONCE_BYTES
from towpath.names import check_app, check_environment, check_host, check_version
from towpath.quantity import format_duration

TYPE = "application/vnd.towpath.bundle.v1+json"
# A bundle's signatures are the only ones that nothing renews: they end some day.
_HOUR_MS = 3_600_000
MIN_VALID_MS = _HOUR_MS
MAX_VALID_MS = 90 * 86_400_000
DEFAULT_VALID_MS = 14 * 86_400_000
MAX_HOSTS = 1000
MAX_RELEASES = 64
MAX_LISTED = 20_000
_LAST_MS = 253_402_300_799_000  # of the year 9999


@dataclass(frozen=True, slots=True)
class For:
    """A host that the bundle is for."""

    id: str
    name: str
    environment: str


@dataclass(frozen=True, slots=True)
class Carried:
    """A release that is carried, and the versions from which a host may come; none: it needs nothing of the app."""

    app: str
    version: str
    since: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listed:
    """A member that is no object: its name, length and SHA-256 (hex)."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Statement:
    """See the module. Times are Unix milliseconds, `id` is hex; `object_bytes` are carried ones."""

    id: str
    created_unix_ms: int
    valid_until_unix_ms: int
    created_by: str
    hosts: tuple[For, ...]
    releases: tuple[Carried, ...]
    members: tuple[Listed, ...]
    objects: int
    object_bytes: int

    @property
    def nonce(self) -> bytes:
        """Return what the manifests answer."""
        return bytes.fromhex(self.id)


def when(unix_ms: int) -> str:
    """Return a time as people read it; one before 1970 or after 9999 as the nearest of these."""
    return datetime.fromtimestamp(min(max(unix_ms, 0), _LAST_MS) // 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def check_valid_ms(valid_ms: int) -> int:
    """Return for how long a bundle is to be good where that can be (0: the default); InputError otherwise."""
    valid = valid_ms or DEFAULT_VALID_MS
    if not MIN_VALID_MS <= valid <= MAX_VALID_MS:
        raise InputError(
            f"cannot make a bundle that is good for {format_duration(valid)}: from {MIN_VALID_MS // _HOUR_MS}h to "
            f"{format_duration(MAX_VALID_MS)} are allowed"
        )
    return valid


def check_lapse(statement: Statement, now_unix_ms: int) -> None:
    """Return where the bundle is good at that time; Refusal `lapsed` otherwise."""
    until = statement.valid_until_unix_ms
    if until <= now_unix_ms:
        raise Refusal(
            f"cannot use the bundle: its signatures lapsed on {when(until)}; make a new one with: "
            "towpath bundle create",
            code="lapsed",
        )


def listed(name: str, data: bytes) -> Listed:
    """Return how a statement lists a member."""
    return Listed(name, len(data), hashlib.sha256(data).hexdigest())


def encode(statement: Statement) -> bytes:
    """Return the bytes that the director signs."""
    return json.dumps(asdict(statement), indent=1).encode()


def decode(payload: bytes) -> Statement:
    """Return the statement in bytes whose signature was verified; Refusal where garbled or beyond a limit."""
    try:
        raw = json.loads(payload)
        statement = Statement(
            id=_text(raw["id"]),
            created_unix_ms=_number(raw["created_unix_ms"]),
            valid_until_unix_ms=_number(raw["valid_until_unix_ms"]),
            created_by=_text(raw["created_by"]),
            hosts=tuple(_host(it) for it in _some(raw["hosts"], MAX_HOSTS)),
            releases=tuple(_release(it) for it in _some(raw["releases"], MAX_RELEASES)),
            members=tuple(_listed(it) for it in _some(raw["members"], MAX_LISTED)),
            objects=_number(raw["objects"]),
            object_bytes=_number(raw["object_bytes"]),
        )
        good = len(statement.nonce) == NONCE_BYTES and statement.valid_until_unix_ms <= _LAST_MS
    except (ValueError, KeyError, TypeError, RecursionError, InputError) as error:
        raise garbled("its statement is garbled") from error
    if not good:
        raise garbled("its statement is garbled")
    return statement


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value


def _some(value: Any, limit: int) -> Iterable[Any]:
    if not isinstance(value, list):
        raise TypeError
    if len(value) > limit:
        raise Refusal(f"cannot use the bundle: its statement lists more than {limit} of a kind", code="endless-data")
    return value


def _host(raw: Any) -> For:
    return For(_text(raw["id"]), check_host(_text(raw["name"])), check_environment(_text(raw["environment"])))


def _release(raw: Any) -> Carried:
    since = tuple(check_version(_text(one)) for one in _some(raw["since"], MAX_RELEASES))
    return Carried(check_app(_text(raw["app"])), check_version(_text(raw["version"])), since)


def _listed(raw: Any) -> Listed:
    return Listed(_text(raw["name"]), _number(raw["size"]), _text(raw["sha256"]))
