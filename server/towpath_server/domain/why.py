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
from towpath_server.domain.announcing import announces
from towpath_server.domain.assignment import matches
from towpath_server.domain.gates import WaveCount
from towpath_server.domain.model import Assignment, Host, HostStatus, RolloutState
from towpath_server.domain.rollout_table import Act, can
from towpath_server.domain.settings import HOST, Origin
from towpath_server.domain.standing import Phase, Standing
from towpath_server.domain.timing import Bar, is_over
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
    """What is known about one app on one host. `assignments`: all of this app, newest first; `wave` counts from 0.

    `nobody_left`: every host of its rollout failed it.
    """

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
    notices: Sequence[Bar] = ()  # what bars everything in its environment
    nobody_left: bool = False
    now_unix_ms: int = 0
    failure: Event | None = None  # the newest transition of the app with evidence


def chain(facts: Facts) -> tuple[Reason, ...]:
    """Return the reasons, first cause first."""
    parts = (_notices, _host, _rules, _taken_back, _rollout, _manifest, _report, _evidence)
    return tuple(reason for part in parts for reason in part(facts))


def _notices(facts: Facts) -> list[Reason]:
    return [Reason(bar.fact, bar.command) for bar in facts.notices]


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels))


def _host(facts: Facts) -> list[Reason]:
    host = facts.host
    labels = _labels(host.labels) or "no labels"
    reasons = [Reason(f"{host.name} is in {host.environment} with {labels}", f"towpath host show {host.name}")]
    if host.status is not HostStatus.ACTIVE:
        reasons.append(Reason("it was revoked: the server answers it no more", "towpath token create"))
    elif not facts.online:
        away = "it is offline: it neither blocks nor counts in a rollout, and catches up later"
        reasons.append(Reason(away, f"towpath-agent doctor  (on {host.name})"))
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


def _given_up(facts: Facts) -> Assignment | None:
    """Return the newest rule that was to follow the one that counts for the host and was given up, or None."""
    if facts.owner is None:
        return None
    newer = [one for one in facts.assignments if one.generation > facts.owner.generation and one.state.leaving]
    return next((one for one in newer if matches(one, facts.host)), None)


def _taken_back(facts: Facts) -> list[Reason]:
    one = _given_up(facts)
    if one is None:
        return []
    said = f"{one.app} {one.version} (generation {one.generation}) came after it and is {one.state}"
    return [Reason(f"{said}: {one.reason}", f"towpath rollout show {one.id}")]


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
    reasons = [Reason(f"its rollout is {one.state}{said}", _would_change(facts, one)), *_wave(facts, one)]
    if not facts.admitted and one.state.active:
        reasons += [Reason(f"nobody is let in now: {bar.fact}", bar.command) for bar in facts.bars]
    reasons += [Reason(_outranked(one, other), f"towpath rollout show {one.id}") for other in _outranked_by(facts, one)]
    admitted = "admitted" if facts.admitted else "not admitted"
    failed = standing.phase in (Phase.FAILED, Phase.INCONCLUSIVE)
    again = failed and can(one.state, Act.RETRY) and not is_over(one, facts.now_unix_ms)
    retry = f"towpath rollout retry {one.id}" if again else ""
    phase = str(standing.phase).replace("_", " ")
    because = standing.reason.removeprefix(f"{phase}; ")
    shows = f"towpath rollout show {one.id}" if "budget" in standing.reason else retry
    reasons.append(Reason(f"{facts.host.name} is {admitted}, {phase}: {because}", shows))
    return reasons + _prefetch(facts, one)


def _prefetch(facts: Facts, one: Assignment) -> list[Reason]:
    """Return how far a host is with a release that it is told to fetch ahead."""
    if not announces(one) or facts.admitted:
        return []
    said = facts.reported.prefetch if facts.reported is not None else None
    if said is None or said.sha256 != one.release_sha256:
        version = f" (its agent is {facts.host.agent_version})" if facts.host.agent_version else ""
        said_nothing = f"it may download {one.version} ahead, and has said nothing of it yet{version}"
        return [Reason(said_nothing, f"towpath host show {facts.host.name}")]
    transfer = facts.reported.transfer if facts.reported is not None else None
    travels = f": {transfer.text}" if transfer is not None and transfer.version == said.version else ""
    return [Reason(f"{said.text}{travels}", f"towpath-agent explain {one.app}  (on {facts.host.name})")]


def _outranked_by(facts: Facts, one: Assignment) -> list[Assignment]:
    """Return the newer rules that cover the host too, and count less for it."""
    newer = (it for it in facts.assignments if it.state.active and it.generation > one.generation)
    return [it for it in newer if it.priority < one.priority and matches(it, facts.host)]


def _outranked(one: Assignment, other: Assignment) -> str:
    rule = f"{other.app} {other.version} to {_labels(other.selector) or _WORD_ANY}"
    return f"{rule} (priority {other.priority}) covers it too; this rule has priority {one.priority}"


def _would_change(facts: Facts, one: Assignment) -> str:
    """Return the command that changes where a rollout stands, one that is not refused."""
    stands = can(one.state, Act.RESUME)
    over = stands and is_over(one, facts.now_unix_ms)
    if stands and not over:
        left = one.state is RolloutState.PAUSED or not facts.nobody_left
        return f"towpath rollout {Act.RESUME if left else Act.RETRY} {one.id}"
    if one.state is RolloutState.DONE:
        return f"towpath undo {one.app} --environment {one.environment}{rule_options(one)}"
    if one.state.leaving or over:
        return f"towpath deploy {one.app} VERSION --environment {one.environment}{rule_options(one)}"
    return f"towpath rollout pause {one.id}"


def rule_options(one: Assignment) -> str:
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
    """Say what the host saw, line by line, where what it reports or was taken back from is a failure of that."""
    state, event, left = facts.reported, facts.failure, _given_up(facts)
    if state is None or event is None:
        return []
    failed = state.verdict in _FAILED and event.version == state.desired_version
    if not failed and (left is None or event.version != left.version):
        return []
    lines = [line for line in event.evidence.splitlines() if line.strip()]
    what = f"when {event.version} went to {event.state} it saw:"
    return [Reason(what, f"towpath host show {facts.host.name} -o json"), *(Reason(f"  {line}") for line in lines)]
