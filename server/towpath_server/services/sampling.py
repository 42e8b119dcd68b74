"""Metrics of finished waves: which are asked now, and what is kept of the answers.

Both halves run on the storage thread; asking itself does not, so a slow Prometheus keeps no host waiting. Of several
servers on one database the one that decides asks. What was said is its memory alone: after a restart a wave soaks anew,
and its metrics are asked anew, as they are by a server that takes over.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from towpath.metrics import Metric
from towpath.waves import effective
from towpath_server.domain import metric
from towpath_server.domain.metric import Answer
from towpath_server.domain.model import Assignment, RolloutState
from towpath_server.services.context import Context


@dataclass(frozen=True, slots=True)
class Question:
    """A metric to be asked for a rollout's wave, and since when answers count for it."""

    assignment: str
    environment: str
    wave: int
    metric: Metric
    since_unix_ms: int


def due(context: Context) -> list[Question]:
    """Return what is to be asked now, nothing where another server decides; forget what nobody will ask for again."""
    if not context.claim.epoch:
        context.trails.clear()
        return []
    with context.storage.transaction() as tx:
        found = [one for one in tx.assignments() if one.metrics and one.state is RolloutState.ROLLING]
    kept = {(one.id, one.wave) for one in found}
    for key in set(context.trails) - kept:
        del context.trails[key]
    return [question for one in found if one.wave_done_unix_ms for question in _questions(context, one)]


def _questions(context: Context, one: Assignment) -> list[Question]:
    waves = effective(one.waves)
    number = min(one.wave, len(waves) - 1)
    since = max(one.wave_done_unix_ms, context.started_unix_ms, one.resumed_unix_ms, context.asking_since_unix_ms)
    asked = waves[number].metrics
    return [Question(one.id, one.environment, number, each, since) for each in one.metrics if each.name in asked]


def keep(context: Context, answers: Sequence[tuple[Question, Answer]]) -> None:
    """Follow the trails, and have the rollouts decided again."""
    now = context.clock.now_unix_ms()
    for question, answer in answers:
        trails = context.trails.setdefault((question.assignment, question.wave), {})
        name = question.metric.name
        trails[name] = metric.follow(
            trails.get(name), question.metric, answer, since_unix_ms=question.since_unix_ms, at_unix_ms=now
        )
    for environment in sorted({question.environment for question, _ in answers}):
        context.hints.due(environment)
