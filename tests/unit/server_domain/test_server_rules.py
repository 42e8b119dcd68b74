"""Assignments, hosts, manifests, tokens and rates: the server's small decisions."""

from dataclasses import replace

import pytest

from fakes.rows import DIGEST, NOW, OLD_DIGEST, assignment, host
from towpath.errors import Broken, InputError, Refusal
from towpath.parameters import Parameter
from towpath.release import Artifact, Install, Release, Run
from towpath_server.domain import assignment as rules
from towpath_server.domain import hosts, manifests, tokens
from towpath_server.domain.limits import Rate, take
from towpath_server.domain.manifests import KnownRelease
from towpath_server.domain.model import HostStatus, RolloutState

PORT = Parameter("port", "port", 8080)


def release(version: str = "1.0.0", *parameters: Parameter, **fields: object) -> Release:
    artifact = Artifact(b"i" * 32, 1, 1)
    made = Release("hello", version, 1, artifact, Install("tree"), Run("none"), parameters=parameters or (PORT,))
    return replace(made, **fields)  # type: ignore[arg-type]


def known(made: Release | None = None) -> KnownRelease:
    return KnownRelease(made or release(), DIGEST, 100)


# -- assignments


def test_a_rule_covers_active_hosts_of_its_environment_with_all_its_labels() -> None:
    """Environment, every label and an active host: all three."""
    assert rules.matches(assignment(), host())
    assert not rules.matches(assignment(), host(environment="production"))
    assert not rules.matches(assignment(), host(labels={"role": "db"}))
    assert not rules.matches(assignment(), host(status=HostStatus.REVOKED))


def test_the_newest_active_rule_owns_a_host_and_the_newest_admitted_one_runs() -> None:
    """A halted newer rollout leaves the host on what it was admitted to before, even if that is superseded."""
    old = assignment(1, state=RolloutState.SUPERSEDED)
    new = assignment(2, state=RolloutState.HALTED)
    assert rules.owner([old, new], host()) == new
    assert rules.resolve([old, new], {"a1"}, host()) == {"hello": old}
    assert rules.resolve([new, old], {"a1", "a2"}, host()) == {"hello": new}
    assert rules.resolve([old, new], {"a1", "a2"}, host()) == {"hello": new}
    assert rules.owner([old], host()) is None


def test_what_was_removed_runs_nowhere() -> None:
    """Undeploy takes the app off the hosts, whatever they were admitted to."""
    assert rules.resolve([assignment(1, state=RolloutState.REMOVED)], {"a1"}, host()) == {}


def test_only_the_very_same_rule_is_superseded() -> None:
    """Another selector is another rule."""
    assert rules.same_rule(assignment(), "hello", "dev", {"role": "web"})
    assert not rules.same_rule(assignment(), "hello", "dev", {})
    assert not rules.same_rule(assignment(state=RolloutState.SUPERSEDED), "hello", "dev", {"role": "web"})


def test_an_empty_selector_must_be_meant_and_deadlines_have_bounds() -> None:
    """A forgotten --select does not reach a whole environment."""
    good = {"environment": "dev", "selector": {}, "whole_environment": True, "progress_deadline_ms": 0}
    assert rules.check_request(**good) == 600_000  # type: ignore[arg-type]
    for bad in ({"whole_environment": False}, {"progress_deadline_ms": 5}, {"progress_deadline_ms": 10**12}):
        with pytest.raises(InputError, match="cannot deploy"):
            rules.check_request(**{**good, **bad})  # type: ignore[arg-type]


def test_deploying_the_same_again_changes_nothing_unless_something_failed() -> None:
    """Same release, same limits, no failure: a no-op; otherwise hosts are told to try again."""
    now = assignment()
    limits = (0, 0, 60_000)
    assert rules.unchanged(now, release_sha256=DIGEST, limits=limits, failed=0)
    assert not rules.unchanged(now, release_sha256=DIGEST, limits=limits, failed=1)
    assert not rules.unchanged(now, release_sha256=OLD_DIGEST, limits=limits, failed=0)
    halted = replace(now, state=RolloutState.HALTED)
    assert not rules.unchanged(halted, release_sha256=DIGEST, limits=limits, failed=0)


# -- hosts


def test_each_call_is_checked_for_host_status_serial_and_expiry() -> None:
    """The connection may be old; the certificate, the host and the serial are looked at now."""
    row = host()
    assert hosts.check_caller(row, serial="1", not_after_unix_ms=NOW + 1, now_unix_ms=NOW) == row
    cases = [
        (None, "1", NOW + 1, "unknown-host"),
        (host(status=HostStatus.REVOKED), "1", NOW + 1, "revoked"),
        (row, "2", NOW + 1, "stale-certificate"),
        (row, "", NOW + 1, "stale-certificate"),
        (row, "1", NOW, "expired"),
    ]
    for it, serial, not_after, code in cases:
        with pytest.raises(Refusal) as caught:
            hosts.check_caller(it, serial=serial, not_after_unix_ms=not_after, now_unix_ms=NOW)
        assert caught.value.code == code


def test_the_old_certificate_is_good_until_the_new_one_is_used() -> None:
    """A lost reply to a renewal strands nobody."""
    renewed = hosts.with_certificate(
        host(), used_serial="1", serial="2", key_sha256=b"n" * 32, certificate_pem=b"pem", not_after_unix_ms=NOW + 5
    )
    assert hosts.check_known(renewed, "1") == hosts.check_known(renewed, "2") == renewed
    assert hosts.first_use(renewed, "1") is None
    used = hosts.first_use(renewed, "2")
    assert used is not None
    with pytest.raises(Refusal):
        hosts.check_known(used, "1")
    assert hosts.first_use(used, "2") is None


def test_a_lapsed_certificate_recovers_in_its_grace_with_a_fresh_request() -> None:
    """Thirty days of grace, ten minutes of skew, and not a moment more."""
    row = host()

    def recover(now: int, at: int) -> None:
        hosts.check_recovery(row, serial="1", not_after_unix_ms=NOW, at_unix_ms=at, now_unix_ms=now)

    recover(NOW + 1000, NOW + 1000)
    late = NOW + hosts.RECOVERY_GRACE_MS + 1
    for now, at, code in ((late, late, "expired"), (NOW, NOW - hosts.RECOVERY_SKEW_MS - 1, "replay")):
        with pytest.raises(Refusal) as caught:
            recover(now, at)
        assert caught.value.code == code


def test_a_name_is_free_when_nobody_or_a_revoked_host_has_it() -> None:
    """An active host keeps its name; a revoked one gives it up under a name that says so."""
    hosts.check_name_free("h1", None)
    hosts.check_name_free("h1", host(status=HostStatus.REVOKED))
    with pytest.raises(InputError, match="another host has that name"):
        hosts.check_name_free("h1", host())
    assert hosts.retired_name(host()) == "h1.revoked.id-h1"


def test_a_host_is_online_while_it_listens_or_spoke_lately() -> None:
    """Ninety seconds without a word and without a stream is offline."""
    assert hosts.online(watching=True, last_seen_unix_ms=0, now_unix_ms=NOW)
    assert hosts.online(watching=False, last_seen_unix_ms=NOW - 89_999, now_unix_ms=NOW)
    assert not hosts.online(watching=False, last_seen_unix_ms=NOW - 90_000, now_unix_ms=NOW)


# -- manifests


def test_parameters_are_named_app_dot_parameter() -> None:
    """What is not of that form is said with an example."""
    assert manifests.split_parameter("hello.port") == ("hello", "port")
    for bad in ("port", ".port", "hello."):
        with pytest.raises(InputError, match="write APP.PARAMETER=VALUE"):
            manifests.split_parameter(bad)


def test_texts_of_a_host_become_typed_values_of_what_the_release_declares() -> None:
    """Other apps' parameters and those of other versions are left out."""
    row = host(parameters={"hello.port": "9001", "hello.other": "x", "redis.port": "1"})
    assert manifests.texts_of(row, "hello") == {"port": "9001", "other": "x"}
    assert manifests.typed(release(), manifests.texts_of(row, "hello")) == {"port": 9001}


def test_a_parameter_that_no_release_declares_is_a_typing_mistake() -> None:
    """Declared by this or another release of the app: fine; by none: said with what there is."""
    manifests.check_parameters(release(), {"port": "1"})
    manifests.check_parameters(release(), {"old": "x"}, [release("0.9", Parameter("old", "string", ""))])
    with pytest.raises(InputError, match="hello declares port"):
        manifests.check_parameters(release(), {"prot": "1"})
    with pytest.raises(InputError, match="declares none"):
        manifests.check_parameters(replace(release(), parameters=()), {"x": "1"})
    with pytest.raises(InputError):
        manifests.check_parameters(release(), {"port": "many"})


def test_a_host_that_cannot_take_a_release_is_blocked_with_the_reason() -> None:
    """Platform, missing app, missing parameter: each named; otherwise nothing."""
    row = host(platform="linux/amd64")
    assert manifests.blocked(known(), row, ()) == ""
    assert "linux/s390x" in manifests.blocked(known(release(platforms=("linux/s390x",))), row, ())
    assert manifests.blocked(known(release(platforms=("linux/s390x",))), host(), ()) == ""
    assert "needs the app redis" in manifests.blocked(known(release(requires_apps=("redis",))), row, ("hello",))
    needed = known(release("1.0.0", Parameter("port", "port")))
    assert "port" in manifests.blocked(needed, row, ())


def test_the_desired_set_is_complete_or_not_signed_at_all() -> None:
    """An app that cannot be computed raises: leaving it out would remove it from the host."""
    row = host(parameters={"hello.port": "9001"})
    one = assignment()
    (app,) = manifests.desired(row, {"hello": one}, {("hello", "1.0.0"): known()})
    assert (app.parameters, app.generation, app.assignment, app.release_size) == ({"port": 9001}, 1, "a1", 100)
    for bad in ({}, {("hello", "1.0.0"): replace(known(), sha256=OLD_DIGEST)}):
        with pytest.raises(Broken, match="is not stored"):
            manifests.desired(row, {"hello": one}, bad)
    with pytest.raises(Broken, match="cannot sign a manifest for h1"):
        manifests.desired(host(parameters={"hello.port": "x"}), {"hello": one}, {("hello", "1.0.0"): known()})
    with pytest.raises(Broken, match="at most"):
        manifests.desired(row, {f"app{n}": one for n in range(257)}, {})


def test_sequences_never_fall_back_even_after_a_restored_backup() -> None:
    """Time carries a restored server past what hosts have seen; a clock set back does not repeat a number."""
    assert manifests.next_sequence(5, NOW) == NOW
    assert manifests.next_sequence(NOW + 10, NOW) == NOW + 11


def test_a_manifest_answers_one_sync_of_one_host() -> None:
    """Identity, nonce, window and snapshot are in it."""
    made = manifests.manifest(
        host_id="id",
        environment="dev",
        key_sha256=b"k",
        apps=(),
        nonce=b"n",
        sequence=7,
        snapshot_version=3,
        now_unix_ms=NOW,
    )
    assert (made.host_id, made.nonce, made.sequence, made.min_snapshot_version) == ("id", b"n", 7, 3)
    assert made.expires_unix_ms - made.issued_unix_ms == 24 * 3_600_000


# -- tokens


def make_token(**fields: object) -> object:
    asked = {"environment": "dev", "labels": {}, "uses": 0, "ttl_ms": 0, **fields}
    return tokens.new_token(
        token_id="t",
        secret=b"s" * 32,
        now_unix_ms=NOW,
        created_by="operator/ann",
        **asked,  # type: ignore[arg-type]
    )


def test_a_token_has_modest_defaults_and_bounds() -> None:
    """One use, one hour; too many uses or too long a life are refused."""
    row = make_token()
    assert (row.uses_left, row.expires_unix_ms) == (1, NOW + 3_600_000)  # type: ignore[attr-defined]
    for bad in ({"uses": 10_001}, {"ttl_ms": 31 * 86_400_000}, {"environment": "No Such"}):
        with pytest.raises(InputError):
            make_token(**bad)


def test_a_presented_token_must_exist_fit_and_be_alive() -> None:
    """Unknown and wrong look the same; expired and used up are said."""
    row = make_token()
    assert tokens.check_presented(row, b"s" * 32, NOW) is row  # type: ignore[arg-type]
    for it, secret, now, code in (
        (None, b"s" * 32, NOW, "token-unknown"),
        (row, b"x" * 32, NOW, "token-unknown"),
        (row, b"s" * 32, NOW + 3_600_000, "token-expired"),
    ):
        with pytest.raises(Refusal) as caught:
            tokens.check_presented(it, secret, now)  # type: ignore[arg-type]
        assert caught.value.code == code
    assert tokens.used_up().code == "token-used"


# -- rates


def test_a_caller_has_a_burst_and_then_a_pace() -> None:
    """Three at once, the fourth waits, a pause earns calls again."""
    rate, due = Rate(interval_ms=100, burst=3), 0.0
    for _ in range(3):
        taken = take(rate, due, 1000)
        assert taken is not None
        due = taken
    assert take(rate, due, 1000) is None
    assert take(rate, due, 1100) is not None
