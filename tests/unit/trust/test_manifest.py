"""Whether a host may act on a manifest, and run a release: every refusal by its name. Pure."""

from dataclasses import replace
from typing import Any

import pytest

from towpath.errors import InputError, Refusal
from towpath.manifest import (
    MAX_APPS,
    MAX_SKEW_MS,
    OFFLINE_FEATURE,
    PREFETCH_FEATURE,
    DesiredApp,
    HostFacts,
    Manifest,
    ManifestFloor,
    accept,
    admit_release,
)
from towpath.parameters import Parameter
from towpath.release import Artifact, Install, Release, Run

NOW = 1_800_000_000_000
HOUR = 3_600_000
NONCE = b"n" * 16
DIGEST = b"d" * 32
KEYS = frozenset({"one", "two"})
FACTS = HostFacts("host", b"k" * 32, "dev", "linux/amd64")
WISH = DesiredApp("hello", "1.0.0", b"r" * 32, 100, 5)
GOOD = Manifest("host", b"k" * 32, 10, NOW - 1000, NOW + HOUR, NONCE, 1, "dev", (WISH,))
RELEASE = Release("hello", "1.0.0", 5, Artifact(b"i" * 32, 1, 1), Install("tree"), Run("none"))


def judge(manifest: Manifest = GOOD, **fields: Any) -> None:
    arguments: dict[str, Any] = {
        "facts": FACTS,
        "nonce": NONCE,
        "floor": ManifestFloor(),
        "director_keys": KEYS,
        "now_unix_ms": NOW,
    }
    accept(manifest, DIGEST, **(arguments | fields))


def code(manifest: Manifest = GOOD, **fields: Any) -> str:
    with pytest.raises(Refusal) as caught:
        judge(manifest, **fields)
    assert str(caught.value).startswith("cannot accept the manifest: ")
    return caught.value.code


def test_a_good_manifest_is_accepted() -> None:
    """The host's own, fresh, newer manifest is accepted; so is the same one again, and one from disk without a nonce."""
    judge()
    judge(floor=ManifestFloor(9, b"x" * 32, KEYS))
    judge(floor=ManifestFloor(10, DIGEST, KEYS))
    judge(nonce=None)


def test_a_bundle_stands_for_no_sync_and_no_sync_for_a_bundle() -> None:
    """Each says what it is; whoever replays the one as the other is refused, even with the right nonce."""
    carried = replace(GOOD, critical=(OFFLINE_FEATURE,))
    judge(carried, offline=True)
    judge(carried, nonce=None)
    assert code(carried) == "replay"
    assert code(GOOD, offline=True) == "replay"
    assert code(replace(carried, nonce=b"o" * 16), offline=True) == "replay"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"host_id": "other"}, "wrong-host"),
        ({"host_key_sha256": b"x" * 32}, "wrong-host"),
        ({"nonce": b"m" * 16}, "replay"),
        ({"nonce": b""}, "replay"),
        ({"critical": ("waves",)}, "unknown-critical"),
        ({"environment": "production"}, "wrong-environment"),
        ({"expires_unix_ms": NOW}, "freeze"),
        ({"issued_unix_ms": NOW + MAX_SKEW_MS + 1, "expires_unix_ms": NOW + 2 * MAX_SKEW_MS}, "fast-forward"),
        ({"issued_unix_ms": NOW + HOUR}, "fast-forward"),
        ({"apps": tuple(replace(WISH, app=f"a{n}") for n in range(MAX_APPS + 1))}, "endless-data"),
        ({"apps": (WISH, WISH)}, "mix-and-match"),
        ({"prefetch": (WISH,)}, "unsaid-critical"),
        ({"prefetch": (WISH,), "critical": ("waves", PREFETCH_FEATURE)}, "unknown-critical"),
        ({"prefetch": (WISH, WISH), "critical": (PREFETCH_FEATURE,)}, "mix-and-match"),
        (
            {
                "prefetch": tuple(replace(WISH, app=f"a{n}") for n in range(MAX_APPS + 1)),
                "critical": (PREFETCH_FEATURE,),
            },
            "endless-data",
        ),
    ],
)
def test_each_refusal_has_its_name(change: dict[str, Any], name: str) -> None:
    """One field that differs from what the host knows refuses the whole manifest, under the attack's name."""
    assert code(replace(GOOD, **change)) == name


def test_releases_are_announced_beside_the_set_and_under_their_critical_feature() -> None:
    """Of an app that runs another release, or of one that the host does not have; the feature alone says nothing."""
    ahead = (replace(WISH, version="2.0.0", counter=6), replace(WISH, app="new"))
    judge(replace(GOOD, prefetch=ahead, critical=(PREFETCH_FEATURE,)))
    judge(replace(GOOD, critical=(PREFETCH_FEATURE,)))


@pytest.mark.parametrize("change", [{"app": "../x"}, {"version": "a/b"}, {"version": "1..2"}])
def test_names_that_could_be_paths_are_refused(change: dict[str, str]) -> None:
    """App and version become folder names on the host: anything but a plain name is refused."""
    with pytest.raises(InputError):
        judge(replace(GOOD, apps=(replace(WISH, **change),)))
    with pytest.raises(InputError):
        judge(replace(GOOD, prefetch=(replace(WISH, **change),), critical=(PREFETCH_FEATURE,)))


def test_the_sequence_never_sinks() -> None:
    """An older sequence is a rollback; the same with other content is an equivocation."""
    assert code(floor=ManifestFloor(11, DIGEST, KEYS)) == "rollback"
    assert code(floor=ManifestFloor(10, b"x" * 32, KEYS)) == "equivocation"
    assert code(floor=ManifestFloor(11)) == "rollback"


def test_a_floor_is_bound_to_its_director() -> None:
    """While one key of the floor is trusted the floor holds; when none is, a fast-forwarded sequence no longer counts."""
    far = ManifestFloor(2**60, b"x" * 32, frozenset({"stolen"}))
    assert code(floor=far, director_keys=frozenset({"stolen", "new"})) == "rollback"
    judge(floor=far, director_keys=frozenset({"new"}))


def test_a_clock_may_be_a_day_behind() -> None:
    """A manifest that seems to be from within the next day is accepted: clocks differ."""
    judge(replace(GOOD, issued_unix_ms=NOW + MAX_SKEW_MS, expires_unix_ms=NOW + 2 * MAX_SKEW_MS))


# Releases


def release_code(release: Release, wish: DesiredApp = WISH, floor: int = 0) -> str:
    with pytest.raises(Refusal) as caught:
        admit_release(release, wish, facts=FACTS, floor=floor)
    return caught.value.code


def test_a_good_release_is_admitted() -> None:
    """A release for this platform and environment, at or above the floor, gives its filled parameters."""
    release = replace(
        RELEASE,
        parameters=(Parameter("port", "port", 80),),
        platforms=("linux/arm64", "linux/amd64"),
        environments=("dev",),
    )
    assert admit_release(release, replace(WISH, parameters={"port": 81}), facts=FACTS, floor=5) == {"port": 81}
    assert admit_release(RELEASE, WISH, facts=FACTS, floor=0) == {}


@pytest.mark.parametrize(
    ("change", "floor", "name"),
    [
        ({"app": "other"}, 0, "mix-and-match"),
        ({"version": "2"}, 0, "mix-and-match"),
        ({"counter": 6}, 0, "mix-and-match"),
        ({"platforms": ("linux/arm64",)}, 0, "wrong-platform"),
        ({"environments": ("production",)}, 0, "wrong-environment"),
        ({}, 6, "rollback"),
    ],
)
def test_each_refused_release_has_a_name(change: dict[str, Any], floor: int, name: str) -> None:
    """A release that is not the one named, not for this host, or below the floor is refused by name."""
    assert release_code(replace(RELEASE, **change), floor=floor) == name


def test_only_declared_parameters_are_filled() -> None:
    """A parameter that the release does not declare, or that lacks a value, refuses the release."""
    with pytest.raises(InputError):
        admit_release(RELEASE, replace(WISH, parameters={"x": 1}), facts=FACTS, floor=0)
    with pytest.raises(InputError):
        admit_release(replace(RELEASE, parameters=(Parameter("p", "int"),)), WISH, facts=FACTS, floor=0)


def test_a_desired_app_names_its_target() -> None:
    """The target path follows from app and version alone."""
    assert WISH.target_path == "hello/1.0.0.release"
