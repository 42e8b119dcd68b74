"""The desired state of one host: which releases, with which parameters, under which sequence number.

Rules:
- The set is COMPLETE: an app that is missing from a manifest is removed from the host. So whatever cannot be computed
  raises; it is never left out.
- A parameter that the host's release does not declare is not sent: another version of the app may declare it.
- Sequence = max(previous + 1, Unix ms): a server restored from an old backup cannot fall back behind what hosts
  accepted.

Not handled here: signing (`domain.metadata.OnlineKeys`), who runs what (`domain.assignment`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from towpath.errors import Broken, InputError
from towpath.manifest import MAX_APPS, PREFETCH_FEATURE, DesiredApp, Manifest
from towpath.parameters import Value, parse_value
from towpath.release import Release, fill_parameters
from towpath_server.domain.model import Assignment, Host, Setting
from towpath_server.domain.settings import origins

MANIFEST_LIFE_MS = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class KnownRelease:
    """A published release, decoded once, with the digest and length of the bytes that its publisher signed."""

    release: Release
    sha256: bytes
    size: int


def split_parameter(name: str) -> tuple[str, str]:
    """Return app and parameter of a host's `app.name`; InputError where it is not of that form."""
    app, dot, parameter = name.partition(".")
    if not dot or not app or not parameter:
        raise InputError(f"cannot set {name[:80]!r}: write APP.PARAMETER=VALUE, such as hello.port=9001")
    return app, parameter


def texts_of(host: Host, app: str, settings: Iterable[Setting] = ()) -> dict[str, str]:
    """Return the texts that are set for `app` on `host`, its labels and its environment; InputError: they disagree."""
    return {name: one.text for name, one in origins(host, app, settings).items()}


def typed(release: Release, texts: Mapping[str, str]) -> dict[str, Value]:
    """Return the values of those `texts` that `release` declares; InputError for one of the wrong type."""
    return {
        parameter.name: parse_value(parameter, texts[parameter.name])
        for parameter in release.parameters
        if parameter.name in texts
    }


def check_parameters(release: Release, texts: Mapping[str, str], others: Iterable[Release] = ()) -> None:
    """Raise InputError where `release` could not run with `texts`.

    A text that neither `release` nor one of the `others` (releases of the same app) declares is a typing mistake.
    """
    declared = {parameter.name for one in (release, *others) for parameter in one.parameters}
    strangers = sorted(set(texts) - declared)
    if strangers:
        known = ", ".join(sorted(declared)) or "none"
        raise InputError(f"cannot set {release.app}.{strangers[0]}: {release.app} declares {known}")
    fill_parameters(release, typed(release, texts))


def blocked(known: KnownRelease, host: Host, apps: Collection[str], settings: Iterable[Setting] = ()) -> str:
    """Return why `host`, which runs `apps`, cannot be given the release, or an empty text."""
    release = known.release
    if release.platforms and host.platform and host.platform not in release.platforms:
        return f"the release is for {', '.join(release.platforms)}, the host is {host.platform}"
    missing = sorted(set(release.requires_apps) - set(apps))
    if missing:
        return f"the release needs the app {missing[0]}, which is not assigned to the host"
    try:
        fill_parameters(release, typed(release, texts_of(host, release.app, settings)))
    except InputError as error:
        return str(error)
    return ""


def desired(
    host: Host,
    resolved: Mapping[str, Assignment],
    releases: Mapping[tuple[str, str], KnownRelease],
    settings: Sequence[Setting] = (),
) -> tuple[DesiredApp, ...]:
    """Return the complete desired set of `host`, sorted by app; Broken where it cannot be computed."""
    if len(resolved) > MAX_APPS:
        raise Broken(f"cannot sign a manifest for {host.name}: {len(resolved)} apps, at most {MAX_APPS}")
    return tuple(_desired_app(host, resolved[app], releases, settings) for app in sorted(resolved))


def _desired_app(
    host: Host,
    assignment: Assignment,
    releases: Mapping[tuple[str, str], KnownRelease],
    settings: Sequence[Setting],
) -> DesiredApp:
    known = releases.get((assignment.app, assignment.version))
    if known is None or known.sha256 != assignment.release_sha256:
        raise Broken(f"cannot sign a manifest for {host.name}: {assignment.app} {assignment.version} is not stored")
    try:
        parameters = typed(known.release, texts_of(host, assignment.app, settings))
        fill_parameters(known.release, parameters)
    except InputError as error:
        raise Broken(f"cannot sign a manifest for {host.name}: {error}") from error
    return DesiredApp(
        app=assignment.app,
        version=assignment.version,
        release_sha256=known.sha256,
        release_size=known.size,
        counter=known.release.counter,
        parameters=parameters,
        generation=assignment.generation,
        assignment=assignment.id,
    )


def next_sequence(previous: int, now_unix_ms: int) -> int:
    """Return the sequence number after `previous`."""
    return max(previous + 1, now_unix_ms)


def manifest(
    *,
    host_id: str,
    environment: str,
    key_sha256: bytes,
    apps: tuple[DesiredApp, ...],
    prefetch: tuple[DesiredApp, ...] = (),
    nonce: bytes,
    sequence: int,
    snapshot_version: int,
    now_unix_ms: int,
) -> Manifest:
    """Return the manifest that answers one sync; `prefetch` only for an agent that knows PREFETCH_FEATURE."""
    return Manifest(
        host_id=host_id,
        host_key_sha256=key_sha256,
        sequence=sequence,
        issued_unix_ms=now_unix_ms,
        expires_unix_ms=now_unix_ms + MANIFEST_LIFE_MS,
        nonce=nonce,
        min_snapshot_version=snapshot_version,
        environment=environment,
        apps=apps,
        critical=(PREFETCH_FEATURE,) if prefetch else (),
        prefetch=prefetch,
    )
