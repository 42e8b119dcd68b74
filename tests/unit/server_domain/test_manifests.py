"""The desired set of one host: complete or not at all, typed, and never behind what hosts accepted."""

from dataclasses import replace
from typing import Any

import pytest

from fakes.repository import make_release
from towpath.errors import Broken, InputError
from towpath.manifest import MAX_APPS, PREFETCH_FEATURE, Manifest
from towpath.parameters import Parameter
from towpath.release import Release
from towpath_server.domain.manifests import (
    MANIFEST_LIFE_MS,
    KnownRelease,
    blocked,
    check_parameters,
    desired,
    manifest,
    next_sequence,
    split_parameter,
    texts_of,
    typed,
)
from towpath_server.domain.model import Assignment, Host

PORT, MOTTO = Parameter("port", "port"), Parameter("motto", "string", default="hi")
RELEASE = make_release("hello", "1.0", 3, parameters=(PORT, MOTTO))
OTHER = make_release("other", "2.0", 1)
HOST = Host("id1", "web-1", "production", "a1", b"k", b"pem", 0, 0, platform="linux-x86_64")
SET = replace(HOST, parameters={"hello.port": "9001", "hello.colour": "red", "hello-2.port": "1", "other.x": "y"})


def known(release: Release) -> KnownRelease:
    return KnownRelease(release, f"{release.app} {release.version}".encode(), 77)


STORED = {(one.app, one.version): known(one) for one in (RELEASE, OTHER)}


def rule(release: Release, **fields: Any) -> Assignment:
    ours = {"id": f"as-{release.app}", "release_sha256": known(release).sha256, "generation": 4}
    limits = {"max_unavailable": 1, "max_failures": 0, "progress_deadline_ms": 1, "created_unix_ms": 0}
    place = {"environment": "production", "selector": {}, "created_by": "ann"}
    return Assignment(app=release.app, version=release.version, **ours | limits | place | fields)


@pytest.mark.parametrize("name", ["port", "hello.", ".port", ""])
def test_a_parameter_is_named_with_its_app(name: str) -> None:
    """`app.name` is split at the first dot; anything else is refused with an example."""
    assert split_parameter("hello.port") == ("hello", "port")
    with pytest.raises(InputError, match="such as hello.port=9001"):
        split_parameter(name)


def test_texts_of_an_app_are_its_own_and_typed_by_its_release() -> None:
    """Texts of apps with a similar name are left out; what the release does not declare is not sent."""
    assert texts_of(SET, "hello") == {"port": "9001", "colour": "red"}
    assert typed(RELEASE, texts_of(SET, "hello")) == {"port": 9001}
    with pytest.raises(InputError, match="port"):
        typed(RELEASE, {"port": "many"})


def test_parameters_are_checked_against_every_release_that_may_declare_them() -> None:
    """A name that no release declares is a typing mistake; one of another version is kept; missing ones are told."""
    newer = make_release("hello", "1.1", 4, parameters=(Parameter("colour", "string"),))
    check_parameters(RELEASE, {"port": "9001", "colour": "red"}, [newer])
    with pytest.raises(InputError, match="cannot set hello.colour: hello declares motto, port"):
        check_parameters(RELEASE, {"port": "9001", "colour": "red"})
    with pytest.raises(InputError, match="other declares none"):
        check_parameters(OTHER, {"x": "y"})
    with pytest.raises(InputError, match="port"):
        check_parameters(RELEASE, {})


def test_a_host_that_cannot_take_a_release_is_told_why() -> None:
    """Platform, apps it needs, parameters: the first that does not fit, or nothing."""
    release = replace(RELEASE, platforms=("linux-x86_64", "linux-arm64"), requires_apps=("base",))
    assert blocked(known(release), SET, {"base", "hello"}) == ""
    assert blocked(known(release), replace(SET, platform=""), {"base"}) == "", "not known yet is no reason"
    assert blocked(known(RELEASE), SET, ()) == ""
    wrong = blocked(known(release), replace(SET, platform="linux-riscv64"), {"base"})
    assert wrong == "the release is for linux-x86_64, linux-arm64, the host is linux-riscv64"
    assert "needs the app base" in blocked(known(release), SET, {"hello"})
    assert "parameter port" in blocked(known(release), HOST, {"base"})


def test_the_desired_set_is_complete_and_sorted() -> None:
    """Every app that the host runs is in it, with release, typed parameters, generation and assignment."""
    apps = desired(SET, {"other": rule(OTHER), "hello": rule(RELEASE)}, STORED)
    assert [one.app for one in apps] == ["hello", "other"]
    hello = apps[0]
    assert (hello.version, hello.release_sha256, hello.release_size, hello.counter) == ("1.0", b"hello 1.0", 77, 3)
    assert (dict(hello.parameters), hello.generation, hello.assignment) == ({"port": 9001}, 4, "as-hello")
    assert desired(HOST, {}, STORED) == ()


def test_what_cannot_be_computed_raises_and_is_never_left_out() -> None:
    """An app missing from a manifest is removed from the host: so no release, no parameter, too many apps are errors."""
    with pytest.raises(Broken, match="hello 9.9 is not stored"):
        desired(SET, {"other": rule(OTHER), "hello": rule(replace(RELEASE, version="9.9"))}, STORED)
    with pytest.raises(Broken, match="hello 1.0 is not stored"):
        desired(SET, {"hello": rule(RELEASE, release_sha256=b"other bytes")}, STORED)
    with pytest.raises(Broken, match="manifest for web-1: .*port"):
        desired(HOST, {"hello": rule(RELEASE)}, STORED)
    with pytest.raises(Broken, match="port"):
        desired(replace(HOST, parameters={"hello.port": "many"}), {"hello": rule(RELEASE)}, STORED)
    with pytest.raises(Broken, match="257 apps, at most 256"):
        desired(SET, {f"app{n}": rule(OTHER) for n in range(MAX_APPS + 1)}, STORED)


def test_the_sequence_never_falls_back() -> None:
    """It follows the clock, and goes on by one where the clock stands or an older backup came back."""
    assert next_sequence(0, 5_000) == 5_000
    assert next_sequence(5_000, 5_000) == 5_001
    assert next_sequence(9_000, 5_000) == 9_001


def test_a_manifest_is_for_one_key_one_question_and_one_day() -> None:
    """Every field that a host checks is what the caller gave; it expires 24 hours after it was issued."""
    apps = desired(SET, {"hello": rule(RELEASE)}, STORED)
    made = manifest(
        host_id="id1",
        environment="production",
        key_sha256=b"k",
        apps=apps,
        nonce=b"n",
        sequence=8,
        snapshot_version=5,
        now_unix_ms=1_000,
    )
    assert made == Manifest("id1", b"k", 8, 1_000, 1_000 + MANIFEST_LIFE_MS, b"n", 5, "production", apps)


def test_what_is_announced_needs_its_critical_feature_and_nothing_else_does() -> None:
    """An agent that does not know it would have to refuse; without an announcement every agent can read it."""
    apps = desired(SET, {"hello": rule(RELEASE)}, STORED)
    fields: dict[str, Any] = {"host_id": "id1", "environment": "dev", "key_sha256": b"k", "nonce": b"n" * 16}
    numbers = {"sequence": 1, "snapshot_version": 2, "now_unix_ms": 3}
    plain = manifest(apps=apps, **fields, **numbers)
    assert (plain.critical, plain.prefetch) == ((), ())
    ahead = manifest(apps=(), prefetch=apps, **fields, **numbers)
    assert (ahead.critical, ahead.prefetch, ahead.apps) == ((PREFETCH_FEATURE,), apps, ())
