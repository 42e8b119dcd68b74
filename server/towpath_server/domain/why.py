"""Why a host runs what it runs: the chain of facts from rule to report, each with the command that would change it.

Pure: the caller collects the facts. The order is that of the decision: the host, the rules, the rollout, the
manifest, and what the host itself said.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from towpath.holds import Hold
from towpath.reports import AppState, Event
from towpath.status import Verdict
from towpath_server.domain.assignment import matches
from towpath_server.domain.gates import WaveCount
from towpath_server.domain.model import Assignment, Host, HostStatus, RolloutState
from towpath_server.domain.rollout_table import Act, can
from towpath_server.domain.settings import HOST, Origin
from towpath_server.domain.standing import Phase, Standing
from towpath_server.domain.timing import Bar
from towpath_server.domain.windows import moment

_WORD_ANY = "every host"
_APPROVALS = "approvals"
_FAILED = frozenset({Verdict.FAILED, Verdict.INCONCLUSIVE})


@dataclass(frozen=True, slots=True)
class Reason:
    """One fact, and the command that would change it (or show more)."""

    fact: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about one app on one host. `assignments`: all of this app, newest first; `wave` counts from 0."""

    host: Host
    app: str
    online: bool
    assignments: Sequence[Assignment]
    owner: Assignment | None = None
    standing: Standing | None = None
    wave: int = 0
    waves: Sequence[WaveCount] = ()
    bars: Sequence[Bar] = ()
    admitted: bool = False
    runs: Assignment | None = None
    parameters: Mapping[str, Origin] | None = None
    held: Hold | None = None
    reported: AppState | None = None
    failure: Event | None = None  # the newest transition of the app with evidence


def chain(facts: Facts) -> tuple[Reason, ...]:
    """Return the reasons, first cause first."""
    parts = (_host, _rules, _rollout, _manifest, _report, _evidence)
    return tuple(reason for part in parts for reason in part(facts))


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels))


def _host(facts: Facts) -> list[Reason]:
    host = facts.host
    labels = _labels(host.labels) or "no labels"
    reasons = [Reason(f"{host.name} is in {host.environment} with {labels}", f"towpath host show {host.name}")]
    if host.status is not HostStatus.ACTIVE:
        reasons.append(Reason("it was revoked: the server answers it no more", "towpath token create"))
    elif not facts.online:
        reasons.append(Reason("it is offline: it neither blocks nor counts in a rollout, and catches up later"))
    if facts.held is not None:
        release = f"towpath-agent release {facts.held.app}".rstrip()
        reasons.append(Reason(f"{facts.held.text}; it neither blocks nor counts", f"{release}  (on {host.name})"))
    return reasons


def _rules(facts: Facts) -> list[Reason]:
    host = facts.host
    if facts.owner is not None:
        one = facts.owner
        return [
            Reason(
                f"{one.created_by} deployed {one.app} {one.version} to {_labels(one.selector) or _WORD_ANY} in "
                f"{one.environment} (generation {one.generation}): it covers {host.name}",
                f"towpath status {one.app}",
            )
        ]
    active = [one for one in facts.assignments if one.state.active]
    if not active:
        deploy = f"towpath deploy {facts.app} VERSION --environment {host.environment} --select KEY=VALUE"
        return [Reason(f"nobody has deployed {facts.app}", deploy)]
    return [_miss(one, host) for one in active if not matches(one, host)]


def _miss(one: Assignment, host: Host) -> Reason:
    rule = f"{one.app} {one.version} is deployed to {_labels(one.selector) or _WORD_ANY} in {one.environment}"
    if one.environment != host.environment:
        return Reason(f"{rule}: {host.name} is pinned to {host.environment}", "towpath token create")
    lacking = {key: value for key, value in one.selector.items() if host.labels.get(key) != value}
    if not lacking:
        return Reason(f"{rule}: {host.name} is revoked", f"towpath host show {host.name}")
    words = " ".join(f"--label {shlex.quote(f'{key}={value}')}" for key, value in sorted(lacking.items()))
    return Reason(f"{rule}: {host.name} lacks {_labels(lacking)}", f"towpath host set {host.name} {words}")


def _rollout(facts: Facts) -> list[Reason]:
    one, standing = facts.owner, facts.standing
    if one is None or standing is None:
        return []
    said = f": {one.reason}" if one.reason else ""
    reasons = [Reason(f"its rollout is {one.state}{said}", _would_change(one)), *_wave(facts, one)]
    if not facts.admitted and one.state.active:
        reasons += [Reason(f"nobody is let in now: {bar.fact}", bar.command) for bar in facts.bars]
    admitted = "admitted" if facts.admitted else "not admitted"
    failed = standing.phase in (Phase.FAILED, Phase.INCONCLUSIVE)
    retry = f"towpath rollout retry {one.id}" if failed and can(one.state, Act.RETRY) else ""
    reasons.append(Reason(f"{facts.host.name} is {admitted}, {standing.phase}: {standing.reason}", retry))
    return reasons


def _would_change(one: Assignment) -> str:
    """Return the command that changes where a rollout stands."""
    if can(one.state, Act.RESUME):
        return f"towpath rollout resume {one.id}"
    if one.state is RolloutState.DONE:
        return f"towpath undo {one.app} --environment {one.environment}{_rule(one)}"
    if one.state.leaving:
        return f"towpath deploy {one.app} VERSION --environment {one.environment}{_rule(one)}"
    return f"towpath rollout pause {one.id}"


def _rule(one: Assignment) -> str:
    """Return the options that name an assignment's rule."""
    words = "".join(f" --select {shlex.quote(f'{key}={value}')}" for key, value in sorted(one.selector.items()))
    return words or " --all-hosts"


def _wave(facts: Facts, one: Assignment) -> list[Reason]:
    """Return in which wave the host is, whether it is open, and what the open one waits for."""
    if one.state.leaving or not facts.waves or (len(facts.waves) < 2 and facts.waves[0].state != "closed"):
        return []
    mine, now = facts.waves[facts.wave], facts.waves[min(one.wave, len(facts.waves) - 1)]
    place = f"{facts.host.name} is in wave {mine.number + 1} of {len(facts.waves)} ({mine.text})"
    if mine.state != "closed":
        soak = f" until {moment(mine.soak_until_unix_ms)}" if mine.soak_until_unix_ms else ""
        return [Reason(f"{place}, which is {mine.state}{soak}", f"towpath rollout show {one.id}")]
    waits = f"{now.waits}" if now.waits else f"the rollout is {one.state}"
    # Nobody but those who are asked can give an approval: `advance` would be refused.
    verb = Act.APPROVE if _APPROVALS in now.waits else Act.ADVANCE
    opens = f"towpath rollout {verb} {one.id}" if can(one.state, verb) else ""
    return [Reason(f"{place}, which is closed: wave {now.number + 1} ({now.text}): {waits}", opens)]


def _manifest(facts: Facts) -> list[Reason]:
    one = facts.runs
    if one is None:
        return [Reason(f"so its manifest holds no {facts.app}")]
    given = facts.parameters or {}
    filled = ", ".join(_parameter(name, given[name]) for name in sorted(given)) or "defaults only"
    older = facts.owner is not None and facts.owner.id != one.id
    kept = ", which it was admitted to before" if older else ""
    return [
        Reason(
            f"so its manifest says {one.app} {one.version} (generation {one.generation}){kept}, with {filled}",
            f"towpath host set {facts.host.name} {one.app}.NAME=VALUE",
        )
    ]


def _parameter(name: str, origin: Origin) -> str:
    """Return a parameter as it is filled, and what sets it where the host does not."""
    return f"{name}={origin.text}" + ("" if origin.where == HOST else f" (from {origin.where})")


def _report(facts: Facts) -> list[Reason]:
    state = facts.reported
    if state is None:
        return [Reason(f"it has reported nothing about {facts.app}", f"towpath host show {facts.host.name}")]
    runs = f"runs {state.current_version}" if state.current_version else "runs nothing of it"
    verdict = f", {state.verdict}" if state.verdict else ""
    because = f": {state.reason}" if state.reason else ""
    return [
        Reason(
            f"it reports that it {runs}, {state.health}; {state.desired_version or 'nothing'} is {state.state}"
            f"{verdict}{because}",
            f"towpath host show {facts.host.name}",
        )
    ]


def _evidence(facts: Facts) -> list[Reason]:
    """Say what the host saw, line by line, where what it reports is a failure that this explains."""
    state, event = facts.reported, facts.failure
    if state is None or event is None or state.verdict not in _FAILED or event.version != state.desired_version:
        return []
    lines = [line for line in event.evidence.splitlines() if line.strip()]
    what = f"when {event.version} went to {event.state} it saw:"
    return [Reason(what, f"towpath host show {facts.host.name} -o json"), *(Reason(f"  {line}") for line in lines)]
