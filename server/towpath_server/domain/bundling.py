"""Whether a bundle may tell a host of a release, and what has to be in it for that host.

A bundle lets a host in as its rollout would let it in now: whatever bars that (a wave that is not open, a pause, a
freeze, a closed window, a missing parameter, a failure) bars the bundle. So a file is no way around a gate. A host that
is online waits for its turn: limits on how many move at once are for those. Once let in, the host is away until it or
its reports are heard (`domain.standing`). Who was let in before gets another file where its rollout still goes on, or
where it runs the release already: telling it again moves nothing then. A bundle takes back in the same way.

Pure. Not handled here: signing, and which hosts are meant (`services.intending`).
"""

from collections.abc import Mapping, Sequence

from towpath.errors import InputError
from towpath.manifest import DesiredApp
from towpath.names import check_app, check_host, check_labels, check_version
from towpath.reports import AppState
from towpath.selfupdate import AGENT_APP
from towpath.waves import effective
from towpath_server.domain.model import RolloutState
from towpath_server.domain.standing import HostView, Phase, RolloutView, ended_badly, standing

MAX_DELTA_WAIT_MS = 1_800_000


def parse_release(text: str) -> tuple[str, str]:
    """Return app and version of `APP@VERSION`; InputError otherwise."""
    app, at, version = text.partition("@")
    if not at:
        raise InputError(f"cannot read {text[:80]!r} as a release: write APP@VERSION, such as hello@1.1.0")
    if app == AGENT_APP:
        raise InputError("cannot carry the agent itself: a new agent is proven by its server, which a bundle is not")
    return check_app(app), check_version(version)


def parse_since(texts: Sequence[str], releases: Sequence[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return app to the versions that hosts may come from; InputError where that is not clear."""
    found: dict[str, list[str]] = {}
    apps = [app for app, _ in releases]
    for text in texts:
        app, at, version = text.partition("@")
        if not at:
            if len(apps) != 1:
                raise InputError(f"cannot tell of which app --since {text[:80]} is: write APP@VERSION")
            app, version = apps[0], text
        if app not in apps:
            raise InputError(f"cannot use --since {text[:80]}: no --release is of {app[:40]}")
        if (app, version) in releases:
            raise InputError(f"cannot use --since {text[:80]}: it is the release itself")
        found.setdefault(app, []).append(check_version(version))
    return {app: tuple(dict.fromkeys(versions)) for app, versions in found.items()}


def parse_target(text: str) -> str | dict[str, str]:
    """Return the host's name that `text` is, or the labels; InputError otherwise."""
    if "=" not in text:
        return check_host(text)
    labels: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or key in labels:
            raise InputError(f"cannot read --for {text[:80]!r}: write HOST, or KEY=VALUE[,KEY=VALUE]")
        labels[key] = value
    return check_labels(labels)


def barred(view: RolloutView, host: HostView, wave: int, now_unix_ms: int) -> str:
    """Return why a bundle may not let `host` (of that wave) in, or an empty text."""
    admitted = host.admitted_unix_ms is not None
    if admitted and host.state is not None and host.state.current_sha256 == view.release_sha256:
        return ""
    if view.state not in (RolloutState.ROLLING, RolloutState.DONE):
        return f"its rollout is {view.state}"
    if view.entry and not admitted:
        return f"its rollout {view.entry}"
    if wave > min(view.wave, len(effective(view.waves)) - 1) and not admitted:
        return f"it is in wave {wave + 1} of its rollout, which is not open yet"
    where = standing(view, host, now_unix_ms)
    bars = "; ".join(bar.fact for bar in (*view.bars, *host.bars))
    if admitted:  # one that was only silent may have lost its line
        return where.reason if host.state is not None and ended_badly(view, host.state) else bars
    if where.phase in (Phase.FAILED, Phase.INCONCLUSIVE, Phase.NEWCOMER):
        return where.reason
    there = "it is online: its rollout lets it in when its turn comes, without a bundle" if host.online else ""
    return host.blocked or bars or there


def barred_back(host: HostView) -> str:
    """Return why a bundle may not take `host` back to what its rollout goes back to, or an empty text."""
    if host.retreat is not None:
        return ""
    there = "it is online: it goes back when its turn comes, without a bundle" if host.online else ""
    return host.back_blocked or there


def check_complete(
    host: str,
    apps: Sequence[DesiredApp],
    carried: Mapping[str, str],
    since: Mapping[str, tuple[str, ...]],
    states: Mapping[str, AppState],
) -> None:
    """Raise InputError where the host would lack bytes for its whole set.

    `carried` is app to version in the bundle; `states` what the host reported, of which it may have none at all.
    """
    for desired in apps:
        state, app = states.get(desired.app), desired.app
        if state is not None and state.current_sha256 == desired.release_sha256:
            continue
        if app not in carried:
            raise InputError(
                f"cannot make a bundle for {host}: it is to run {app} {desired.version} too, and has not reported that "
                f"it does; add --release {app}@{desired.version}",
                code="incomplete",
            )
        from_where = since.get(app, ())
        if not from_where or not states:
            continue
        current = state.current_version if state is not None else ""
        if current not in from_where:
            runs = f"it reported {current}" if current else "it has not reported to run it"
            way_out = f"add --since {app}@{current}, or leave --since out" if current else "leave --since out"
            raise InputError(
                f"cannot make a bundle for {host} since {app} {', '.join(from_where)}: {runs}; {way_out}",
                code="incomplete",
            )
