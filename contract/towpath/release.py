"""A release: what a publisher signs. Immutable, complete, and the only source of anything executable.

The dataclasses mirror `towpath.v1.Release`; `towpath.wire` converts. Durations are milliseconds, sizes bytes.
`check_release` is run by lint, by the server at publish and by the host before it stages: three parties, one rule.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from towpath.errors import InputError
from towpath.handover import FEATURE, HOOK_POINT, Handover, check_handover, check_ports
from towpath.kinds import INSTALLERS, PROBES, SERVICES, OptionSpec, check_driver, check_options
from towpath.names import check_app, check_environment, check_version
from towpath.parameters import Parameter, Value, check_declarations, fill, placeholders
from towpath.probes import clock_fault, probe_faults
from towpath.selfupdate import check_agent

HOOK_POINTS = ("prepare", "post_start", "post_confirm", "pre_stop", "post_revert", HOOK_POINT)
MAX_HOOK_TIMEOUT_MS = 3_600_000
MAX_PROBES = 32
MAX_COMMAND_WORDS = 256
MAX_REQUIRED_APPS = 64
# Features that a release may call critical and that this version knows how to honour.
TOGETHER_FEATURE = "together-1"
KNOWN_FEATURES: frozenset[str] = frozenset({"tree-index-1", TOGETHER_FEATURE, FEATURE})


@dataclass(frozen=True, slots=True)
class Artifact:
    """The tree of a release, named by the digest of its serialized index."""

    index_sha256: bytes
    index_size: int
    tree_size: int


@dataclass(frozen=True, slots=True)
class Install:
    """Which installer puts the bits in place, and its options.

    `keep` releases stay on the host in all, and no more than fit in `keep_bytes` (0: no limit); current and previous
    always stay.
    """

    kind: str
    options: Mapping[str, Value] = field(default_factory=dict)
    keep: int = 3
    keep_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """Which service runs the bits. `command` words may hold `${parameter}`; it runs in the release's folder."""

    kind: str
    options: Mapping[str, Value] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    stop_timeout_ms: int = 10_000
    handover: Handover | None = None


@dataclass(frozen=True, slots=True)
class Hook:
    """A publisher-signed script at a fixed point of a transaction."""

    point: str
    command: tuple[str, ...]
    timeout_ms: int = 120_000


@dataclass(frozen=True, slots=True)
class Probe:
    """One check; `successes` and `failures` count results in a row."""

    kind: str
    options: Mapping[str, Value] = field(default_factory=dict)
    interval_ms: int = 1_000
    timeout_ms: int = 5_000
    successes: int = 1
    failures: int = 3


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """Nomad's clocks: healthy without a break for `healthy_for`, before `deadline`; watched on during `probation`."""

    healthy_for_ms: int = 10_000
    deadline_ms: int = 300_000
    probation_ms: int = 600_000


@dataclass(frozen=True, slots=True)
class Release:
    """An immutable (app, version, counter) with everything that a host may execute for it."""

    app: str
    version: str
    counter: int
    artifact: Artifact
    install: Install
    run: Run
    rollback_floor: int = 0
    hooks: tuple[Hook, ...] = ()
    probes: tuple[Probe, ...] = ()
    health: HealthPolicy = HealthPolicy()
    parameters: tuple[Parameter, ...] = ()
    requires_disk_bytes: int = 0
    requires_apps: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    critical: tuple[str, ...] = ()

    def hook(self, point: str) -> Hook | None:
        """Return the hook of `point`, or None."""
        return next((hook for hook in self.hooks if hook.point == point), None)


def check_release(release: Release) -> Release:
    """Return `release` where a host could run it; InputError names the first thing that is wrong."""
    check_app(release.app)
    check_version(release.version)
    where = f"release {release.app} {release.version}"
    if release.counter < 1 or not 0 <= release.rollback_floor <= release.counter:
        raise InputError(f"cannot use {where}: counter {release.counter} with floor {release.rollback_floor}")
    if len(release.artifact.index_sha256) != 32:
        raise InputError(f"cannot use {where}: its artifact has no SHA-256 digest")
    unknown = sorted(set(release.critical) - KNOWN_FEATURES)
    if unknown:
        raise InputError(f"cannot use {where}: it needs {', '.join(unknown)}, which this version does not know")
    _check_requires(where, release)
    for environment in release.environments:
        check_environment(environment)
    check_declarations(release.parameters)
    _check_kind(where, "install", release.install.kind, INSTALLERS, release.install.options)
    _check_exec(where, release.install)
    _check_kind(where, "run", release.run.kind, SERVICES, release.run.options)
    if release.run.kind == "process" and not release.run.command:
        raise InputError(f"cannot use {where}: run kind 'process' needs a command")
    if release.run.kind != "process" and release.run.command:
        raise InputError(f"cannot use {where}: run kind {release.run.kind!r} takes no command")
    points = [hook.point for hook in release.hooks]
    for hook in release.hooks:
        if hook.point not in HOOK_POINTS or points.count(hook.point) > 1:
            raise InputError(f"cannot use {where}: hook {hook.point!r} is unknown or there twice")
        if not hook.command or not 1 <= hook.timeout_ms <= MAX_HOOK_TIMEOUT_MS:
            raise InputError(f"cannot use {where}: hook {hook.point!r} needs a command and a timeout up to 1h")
    if release.health.healthy_for_ms >= release.health.deadline_ms:
        raise InputError(f"cannot use {where}: healthy_for must be shorter than the health deadline")
    if len(release.probes) > MAX_PROBES:
        raise InputError(f"cannot use {where}: {len(release.probes)} probes, at most {MAX_PROBES} are allowed")
    for probe in release.probes:
        _check_kind(where, "probes", probe.kind, PROBES, probe.options)
        if min(probe.interval_ms, probe.timeout_ms, probe.successes, probe.failures) < 1:
            raise InputError(f"cannot use {where}: probe {probe.kind!r} needs interval, timeout and counts above zero")
        for _option, reason in _faults(release, probe):
            raise InputError(f"cannot use {where}: probes {probe.kind}: {reason}")
    _check_placeholders(where, release)
    check_handover(where, release)
    check_agent(where, release)
    return release


def _faults(release: Release, probe: Probe) -> Iterator[tuple[str, str]]:
    yield from probe_faults(probe.kind, probe.options, release.parameters, release.run.kind)
    clocks = clock_fault(
        interval_ms=probe.interval_ms,
        successes=probe.successes,
        healthy_for_ms=release.health.healthy_for_ms,
        deadline_ms=release.health.deadline_ms,
    )
    if clocks:
        yield "successes", clocks


def fill_parameters(release: Release, given: Mapping[str, Value]) -> dict[str, Value]:
    """Return the value of every parameter of `release`; InputError where it could not run with what is `given`."""
    values = fill(release.parameters, given)
    check_ports(release.run.handover, values)
    return values


def _check_requires(where: str, release: Release) -> None:
    for section, names in (("requires", release.requires_apps), ("moves together with", release.together)):
        if len(names) > MAX_REQUIRED_APPS or len(set(names)) < len(names):
            raise InputError(f"cannot use {where}: it {section} an app twice, or more than {MAX_REQUIRED_APPS}")
        for name in names:
            check_app(name)
        if release.app in names:
            raise InputError(f"cannot use {where}: it {section} itself")
    # An agent that does not know sets would move this one alone, so it must refuse.
    if release.together and TOGETHER_FEATURE not in release.critical:
        raise InputError(f"cannot use {where}: 'together' needs the critical feature {TOGETHER_FEATURE!r}")


def _check_kind(
    where: str, section: str, kind: str, known: Mapping[str, Mapping[str, OptionSpec]], options: Mapping[str, Value]
) -> None:
    if kind not in known:
        raise InputError(
            f"cannot use {where}: {section} kind {kind!r} is unknown; known are {', '.join(sorted(known))}"
        )
    check_options(f"{where}: {section} {kind}", known[kind], options)


def _check_exec(where: str, install: Install) -> None:
    if install.kind != "exec":
        return
    check_driver(where, str(install.options["driver"]))
    timeout_ms = install.options.get("timeout", 1)
    if not isinstance(timeout_ms, int) or not 1 <= timeout_ms <= MAX_HOOK_TIMEOUT_MS:
        raise InputError(f"cannot use {where}: install kind 'exec' needs a timeout above zero, up to 1h")


def _check_placeholders(where: str, release: Release) -> None:
    declared = {parameter.name for parameter in release.parameters}
    texts = list(release.run.command) + list(release.run.env.values())
    commands = [release.run.command, *(hook.command for hook in release.hooks)]
    for hook in release.hooks:
        texts.extend(hook.command)
    for options in (release.install.options, release.run.options, *(probe.options for probe in release.probes)):
        for value in options.values():
            texts.extend(value if isinstance(value, tuple) else [str(value)])
    for text in texts:
        missing = sorted(placeholders(text) - declared)
        if missing:
            raise InputError(f"cannot use {where}: ${{{missing[0]}}} is no declared parameter")
    for command in commands:
        if len(command) > MAX_COMMAND_WORDS:
            raise InputError(f"cannot use {where}: a command of {len(command)} words, at most {MAX_COMMAND_WORDS}")
        if command and placeholders(command[0]):
            raise InputError(f"cannot use {where}: the program {command[0]!r} of a command may not be a parameter")
