"""Who may speak as a host: serials, expiry, revocation, recovery, names and presence."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from towpath.errors import InputError, Refusal
from towpath.names import check_host
from towpath_server.domain.hosts import (
    CERTIFICATE_LIFE_MS,
    ONLINE_MS,
    RECOVERY_GRACE_MS,
    RECOVERY_SKEW_MS,
    LostTime,
    check_caller,
    check_name_free,
    check_recovery,
    first_use,
    online,
    renewed_in_lost_time,
    retired_name,
    with_certificate,
)
from towpath_server.domain.model import Host, HostStatus

NOW = 1_800_000_000_000
HOST = Host("0123456789abcdef", "web-1", "production", "b2", b"key", b"pem", NOW + 1, 0)
REVOKED = replace(HOST, status=HostStatus.REVOKED)


def code(act: Callable[[], object]) -> str:
    with pytest.raises(Refusal, match=r"^cannot ") as caught:
        act()
    return caught.value.code


def call(host: Host | None, serial: str = "b2", not_after: int = NOW + 1) -> Host:
    return check_caller(host, serial=serial, not_after_unix_ms=not_after, now_unix_ms=NOW)


def test_a_caller_is_known_active_current_and_not_expired() -> None:
    """Each reason to turn a certificate away has its own code; expiry counts from the very millisecond."""
    assert call(HOST) == HOST
    assert code(lambda: call(None)) == "unknown-host"
    assert code(lambda: call(REVOKED)) == "revoked"
    assert code(lambda: call(HOST, not_after=NOW)) == "expired"
    assert code(lambda: call(HOST, serial="a1")) == "stale-certificate"
    assert code(lambda: call(HOST, serial="")) == "stale-certificate"


def test_a_certificate_of_the_lost_time_counts_after_a_restore_and_no_other() -> None:
    """Issued between backup and restore, to an active host, later than the newest known: a renewal that was forgotten."""
    backup, restore = NOW, NOW + 3_600_000
    lost = LostTime(backup, restore)

    def renewed(host: Host = HOST, serial: str = "c3", issued: int = NOW + 1_000, lost: LostTime = lost) -> bool:
        return renewed_in_lost_time(host, serial=serial, not_after_unix_ms=issued + CERTIFICATE_LIFE_MS, lost=lost)

    assert renewed()
    assert renewed(issued=backup - 999), "certificates count in seconds"
    assert renewed(issued=restore)
    assert not renewed(issued=backup - 1_000), "it was known, and replaced"
    assert not renewed(issued=restore + 1)
    assert not renewed(host=REVOKED)
    assert not renewed(serial="b2")
    assert not renewed(host=replace(HOST, previous_serial="c3"))
    assert not renewed(host=replace(HOST, not_after_unix_ms=NOW + 1_000 + CERTIFICATE_LIFE_MS)), "a newer one is known"
    assert not renewed(lost=LostTime())


def test_the_previous_certificate_is_good_until_the_newest_is_used() -> None:
    """A lost reply to a renewal locks nobody out, and the first use of the newest ends the one before."""
    renewed = with_certificate(
        HOST, used_serial="b2", serial="c3", key_sha256=b"new", certificate_pem=b"pem3", not_after_unix_ms=NOW + 9
    )
    assert (renewed.key_sha256, renewed.certificate_pem, renewed.not_after_unix_ms) == (b"new", b"pem3", NOW + 9)
    assert call(renewed, "b2") == call(renewed, "c3") == renewed
    assert first_use(renewed, "b2") is None
    used = first_use(renewed, "c3")
    assert used == replace(renewed, previous_serial="")
    assert code(lambda: call(used, "b2")) == "stale-certificate"
    assert first_use(HOST, "b2") is None


def test_recovery_is_for_a_lapsed_certificate_inside_the_grace_and_for_now() -> None:
    """Up to 30 d after expiry, with a request from the last 10 m by either clock, and for known hosts only."""

    def recover(host: Host | None = HOST, lapsed: int = 0, skew: int = 0, serial: str = "b2") -> Host:
        return check_recovery(
            host, serial=serial, not_after_unix_ms=NOW - lapsed, at_unix_ms=NOW + skew, now_unix_ms=NOW
        )

    assert recover(lapsed=RECOVERY_GRACE_MS, skew=-RECOVERY_SKEW_MS) == HOST
    assert recover(skew=RECOVERY_SKEW_MS) == HOST
    assert code(lambda: recover(lapsed=RECOVERY_GRACE_MS + 1)) == "expired"
    assert code(lambda: recover(skew=RECOVERY_SKEW_MS + 1)) == "replay"
    assert code(lambda: recover(skew=-RECOVERY_SKEW_MS - 1)) == "replay"
    assert code(lambda: recover(None)) == "unknown-host"
    assert code(lambda: recover(REVOKED)) == "revoked"
    assert code(lambda: recover(serial="a1")) == "stale-certificate"


def test_the_name_of_a_revoked_host_may_be_taken_and_that_of_an_active_one_not() -> None:
    """Names are unique among active hosts; a revoked host keeps a name of its own that is usable."""
    check_name_free("web-1", None)
    check_name_free("web-1", REVOKED)
    with pytest.raises(InputError, match="another host has that name") as caught:
        check_name_free("web-1", HOST)
    assert caught.value.code == "exists"
    assert retired_name(REVOKED) == "web-1.revoked.01234567"
    assert check_host(retired_name(replace(REVOKED, name="x" * 63)))


def test_online_is_listening_now_or_heard_in_the_last_90_s() -> None:
    """A watch is enough; without one the last call counts."""
    assert online(watching=True, last_seen_unix_ms=0, now_unix_ms=NOW)
    assert online(watching=False, last_seen_unix_ms=NOW - ONLINE_MS + 1, now_unix_ms=NOW)
    assert not online(watching=False, last_seen_unix_ms=NOW - ONLINE_MS, now_unix_ms=NOW)
