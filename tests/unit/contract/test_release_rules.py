"""check_release: one rule for lint, server and host."""

from dataclasses import replace
from typing import Any

import pytest

from towpath.errors import InputError
from towpath.handover import MAX_DRAIN_MS, Handover
from towpath.parameters import Parameter
from towpath.release import (
    HOOK_POINTS,
    MAX_COMMAND_WORDS,
    MAX_HOOK_TIMEOUT_MS,
    MAX_PROBES,
    Artifact,
    HealthPolicy,
    Hook,
    Install,
    Probe,
    Release,
    Run,
    check_release,
    fill_parameters,
)

PORT, OTHER = Parameter("port", "port", 8080), Parameter("other", "port", 8081)
MINIMAL = Release("hello", "1.0.0", 1, Artifact(bytes(32), 0, 0), Install("tree"), Run("none"))
FULL = Release(
    app="hello",
    version="1.0.0",
    counter=7,
    rollback_floor=7,
    artifact=Artifact(bytes(32), 100, 1000),
    install=Install("tree", {"shared": ("data/",)}),
    run=Run(
        "process",
        command=("bin/serve", "--port", "${port}"),
        env={"PORT": "${port}"},
        handover=Handover(("port", "other"), MAX_DRAIN_MS),
    ),
    hooks=tuple(Hook(point, ("bin/hook", "${port}"), MAX_HOOK_TIMEOUT_MS) for point in HOOK_POINTS),
    probes=(
        Probe("http", {"url": "http://127.0.0.1:${port}/"}),
        Probe("tcp", {"port": "${port}"}),
        Probe("exec", {"command": ("bin/check", "${port}")}, interval_ms=1, timeout_ms=1, successes=1, failures=1),
    ),
    health=HealthPolicy(0, 1),
    parameters=(PORT, OTHER),
    environments=("dev",),
    requires_apps=("db",),
    together=("worker",),
    critical=("tree-index-1", "together-1", "handover-1"),
)


@pytest.mark.parametrize("release", [MINIMAL, FULL])
def test_a_usable_release_comes_back(release: Release) -> None:
    """A release that a host could run is returned as it is, at the limits too."""
    assert check_release(release) is release


def test_hook_finds_the_hook_of_a_point() -> None:
    """`hook` returns the hook of that point, None where there is none."""
    assert FULL.hook("pre_stop") is FULL.hooks[HOOK_POINTS.index("pre_stop")]
    assert MINIMAL.hook("prepare") is None


PROCESS = Run("process", command=("bin/serve",))
HTTP = Probe("http", {"url": "http://x/"})


def _handed(**fields: Any) -> Release:
    return replace(FULL, run=replace(FULL.run, **fields))


BAD: dict[str, tuple[Release, str]] = {
    "app": (replace(MINIMAL, app="Hello"), "an app name"),
    "version": (replace(MINIMAL, version=".."), "a version"),
    "counter zero": (replace(MINIMAL, counter=0), "counter 0"),
    "floor above counter": (replace(MINIMAL, counter=3, rollback_floor=4), "floor 4"),
    "floor below zero": (replace(MINIMAL, rollback_floor=-1), "floor -1"),
    "digest": (replace(MINIMAL, artifact=Artifact(bytes(31), 0, 0)), "no SHA-256 digest"),
    "critical": (replace(MINIMAL, critical=("zz", "warp")), "it needs warp, zz, which this version does not know"),
    "requires itself": (replace(MINIMAL, requires_apps=(MINIMAL.app,)), "it requires itself"),
    "requires twice": (replace(MINIMAL, requires_apps=("db", "db")), "it requires an app twice"),
    "requires many": (replace(MINIMAL, requires_apps=tuple(f"a{n}" for n in range(65))), "or more than 64"),
    "requires no app": (replace(MINIMAL, requires_apps=("No!",)), "an app name"),
    "together with itself": (replace(FULL, together=(FULL.app,)), "it moves together with itself"),
    "together unsaid": (replace(MINIMAL, together=("db",)), "'together' needs the critical feature 'together-1'"),
    "environment": (replace(MINIMAL, environments=("dev", "Dev!")), "an environment"),
    "parameter": (replace(MINIMAL, parameters=(PORT, PORT)), "declared twice"),
    "install kind": (
        replace(MINIMAL, install=Install("snap")),
        "install kind 'snap' is unknown; known are deb, exec, file",
    ),
    "install option": (replace(MINIMAL, install=Install("file")), "install file: option 'path' is missing"),
    "driver": (
        replace(MINIMAL, install=Install("exec", {"driver": "/bin/sh"})),
        "release hello 1.0.0: driver '/bin/sh' must be",
    ),
    **{
        f"driver timeout {value}": (
            replace(MINIMAL, install=Install("exec", {"driver": "d", "timeout": value})),
            "install kind 'exec' needs a timeout above zero, up to 1h",
        )
        for value in (0, MAX_HOOK_TIMEOUT_MS + 1)
    },
    "run kind": (replace(MINIMAL, run=Run("docker")), "run kind 'docker' is unknown"),
    "run option": (replace(MINIMAL, run=Run("none", {"a": 1})), "run none: unknown option 'a'"),
    "process without command": (replace(MINIMAL, run=Run("process")), "run kind 'process' needs a command"),
    "command without process": (replace(MINIMAL, run=Run("none", command=("a",))), "run kind 'none' takes no command"),
    "hook point": (replace(MINIMAL, hooks=(Hook("pre_start", ("a",)),)), "hook 'pre_start' is unknown"),
    "hook twice": (replace(MINIMAL, hooks=(Hook("prepare", ("a",)), Hook("prepare", ("b",)))), "there twice"),
    "hook without command": (replace(MINIMAL, hooks=(Hook("prepare", ()),)), "needs a command and a timeout"),
    "hook timeout 0": (replace(MINIMAL, hooks=(Hook("prepare", ("a",), 0),)), "a timeout up to 1h"),
    "hook timeout long": (
        replace(MINIMAL, hooks=(Hook("prepare", ("a",), MAX_HOOK_TIMEOUT_MS + 1),)),
        "a timeout up to 1h",
    ),
    "probes": (replace(MINIMAL, probes=(HTTP,) * (MAX_PROBES + 1)), "33 probes, at most 32"),
    "probe kind": (replace(MINIMAL, probes=(Probe("ping"),)), "probes kind 'ping' is unknown"),
    "probe option": (replace(MINIMAL, probes=(Probe("http"),)), "probes http: option 'url' is missing"),
    "probe interval": (replace(MINIMAL, probes=(replace(HTTP, interval_ms=0),)), "above zero"),
    "probe timeout": (replace(MINIMAL, probes=(replace(HTTP, timeout_ms=0),)), "above zero"),
    "probe successes": (replace(MINIMAL, probes=(replace(HTTP, successes=0),)), "above zero"),
    "probe failures": (replace(MINIMAL, probes=(replace(HTTP, failures=0),)), "above zero"),
    "health clocks": (replace(MINIMAL, health=HealthPolicy(5, 5)), "healthy_for must be shorter"),
    "hole in command": (replace(FULL, run=Run("process", command=("a", "${x}"))), "is no declared parameter"),
    "hole in environment": (replace(MINIMAL, run=replace(PROCESS, env={"A": "${x}"})), "is no declared parameter"),
    "hole in hook": (replace(MINIMAL, hooks=(Hook("prepare", ("a", "${x}")),)), "is no declared parameter"),
    "hole in probe text": (replace(MINIMAL, probes=(Probe("http", {"url": "${x}"}),)), "is no declared parameter"),
    "hole in probe texts": (replace(MINIMAL, probes=(Probe("exec", {"command": ("a", "${x}")}),)), "is no declared"),
    "hole in install": (replace(MINIMAL, install=Install("file", {"path": "/etc/${x}"})), "is no declared parameter"),
    "hole in run": (replace(MINIMAL, run=Run("systemd", {"unit": "${x}.service"})), "is no declared parameter"),
    "words of the command": (replace(MINIMAL, run=Run("process", command=("a",) * 257)), "257 words, at most 256"),
    "words of a hook": (replace(MINIMAL, hooks=(Hook("prepare", ("a",) * 257),)), "257 words, at most 256"),
    "program by parameter": (replace(FULL, run=Run("process", command=("${port}",))), "may not be a parameter"),
    "handover of another kind": (_handed(kind="none", command=()), "needs run kind 'process' and install kind 'tree'"),
    "handover of a file": (replace(FULL, install=Install("file", {"path": "/x"})), "and install kind 'tree'"),
    "handover with one port": (_handed(handover=Handover(("port",))), "two different parameters of type port"),
    "handover with one port twice": (_handed(handover=Handover(("port", "port"))), "two different parameters"),
    "handover with three ports": (_handed(handover=Handover(("port", "other", "x"))), "two different parameters"),
    "handover with no port": (
        replace(FULL, parameters=(PORT, Parameter("other", "int", 1))),
        "two different parameters of type port",
    ),
    "handover that drains for ever": (_handed(handover=Handover(("port", "other"), MAX_DRAIN_MS + 1)), "1h at most"),
    "handover that drains back": (_handed(handover=Handover(("port", "other"), -1)), "1h at most"),
    "handover without hook": (replace(FULL, hooks=()), "needs a hook 'handover'"),
    "handover without its port": (
        _handed(command=("bin/serve", "${other}"), env={}),
        "neither its command nor its env has ${port}",
    ),
    "handover that is not critical": (replace(FULL, critical=("together-1",)), "needs the critical feature handover-1"),
    "handover with one default": (
        replace(FULL, parameters=(PORT, replace(OTHER, default=8080))),
        "port and other have the same default",
    ),
    "hook without handover": (_handed(handover=None), "hook 'handover' never runs without run: {handover: ...}"),
    "hook by parameter": (replace(FULL, hooks=(Hook("prepare", ("bin/${port}",)),)), "may not be a parameter"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_no_host_could_run_is_refused_by_reason(what: str) -> None:
    """Each thing that is wrong is an InputError that names it."""
    release, why = BAD[what]
    with pytest.raises(InputError, match="^cannot use") as caught:
        check_release(release)
    assert why in str(caught.value)


def test_most_errors_name_the_release() -> None:
    """The message says which release it is about."""
    with pytest.raises(InputError, match="^cannot use release hello 1.0.0: "):
        check_release(replace(MINIMAL, probes=(Probe("ping"),)))


def test_limits_are_inclusive() -> None:
    """As many probes and words as the limits say are fine."""
    check_release(replace(MINIMAL, probes=(HTTP,) * MAX_PROBES))
    check_release(replace(MINIMAL, run=Run("process", command=("a",) * MAX_COMMAND_WORDS)))
    check_release(replace(MINIMAL, hooks=(Hook("prepare", ("a",), 1),)))
    assert MAX_HOOK_TIMEOUT_MS == 3_600_000


def test_what_a_publisher_does_not_say_has_these_values() -> None:
    """Defaults that publishers rely on: three releases kept, ten seconds to stop, the clocks, the intervals."""
    assert (Install("tree").keep, Run("none").stop_timeout_ms, Hook("prepare", ()).timeout_ms) == (3, 10_000, 120_000)
    assert HealthPolicy() == HealthPolicy(healthy_for_ms=10_000, deadline_ms=300_000, probation_ms=600_000)
    assert Probe("tcp") == Probe("tcp", {}, interval_ms=1_000, timeout_ms=5_000, successes=1, failures=3)
    assert (MINIMAL.rollback_floor, MINIMAL.requires_disk_bytes) == (0, 0)


def test_an_install_path_may_hold_a_declared_parameter() -> None:
    """Options of the installer are filled like those of probes."""
    check_release(replace(MINIMAL, install=Install("file", {"path": "/etc/hello-${port}"}), parameters=(PORT,)))
    driver = Install("exec", {"driver": "./d", "options": ("port=${port}",), "timeout": MAX_HOOK_TIMEOUT_MS})
    check_release(replace(MINIMAL, install=driver, parameters=(PORT,)))


def test_a_handover_finds_its_port_in_the_environment_too() -> None:
    """Where a program reads its port from a variable, the command need not hold it; ports without default are fine."""
    free = (Parameter("port", "port"), Parameter("other", "port"))
    check_release(replace(_handed(command=("bin/serve",)), parameters=free))
    assert Handover(("port", "other")).drain_ms == 5_000


def test_parameters_that_make_both_slots_one_port_are_refused() -> None:
    """What an operator sets is checked with what the release declares, by server and host alike."""
    assert fill_parameters(FULL, {"other": 9}) == {"port": 8080, "other": 9}
    with pytest.raises(InputError, match="cannot hand over between port and other: both are 8080; set one of them"):
        fill_parameters(FULL, {"other": 8080})
    alone = replace(_handed(handover=None), hooks=())
    assert fill_parameters(alone, {"other": 8080}) == {"port": 8080, "other": 8080}
