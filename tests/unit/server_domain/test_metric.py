"""Metrics: what an answer means, how a trail goes on, and what a rollout does about it."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.rows import NOW, OLD, reported, seen, view
from towpath.metrics import Metric, parse_metric
from towpath.waves import parse_waves
from towpath_server.domain.gates import counts
from towpath_server.domain.metric import STALE_MS, Answer, Finding, Trail, follow, judge, look, read_answer
from towpath_server.domain.model import OnBreach, RolloutState
from towpath_server.domain.rolling import decide
from towpath_server.domain.standing import RolloutView, standing

ERRORS = parse_metric("errors=rate(errors[1m]) < 0.01..0.05")
UPTIME = parse_metric("uptime=avg(up) > 0.99..0.9")
GOOD, BAD, UNCLEAR = Finding.GOOD, Finding.BAD, Finding.INCONCLUSIVE
NAN = float("nan")


@pytest.mark.parametrize(
    ("metric", "values", "finding", "said"),
    [
        (ERRORS, (0.0,), GOOD, "it is 0"),
        (ERRORS, (0.01,), GOOD, "it is 0.01"),
        (ERRORS, (0.02,), UNCLEAR, "it is 0.02"),
        (ERRORS, (0.05,), UNCLEAR, "it is 0.05"),
        (ERRORS, (0.06,), BAD, "it is 0.06"),
        (ERRORS, (float("inf"),), BAD, "it is inf"),
        (ERRORS, (NAN,), UNCLEAR, "it is not a number"),
        (ERRORS, (), UNCLEAR, "it has no sample"),
        (UPTIME, (1.0,), GOOD, "it is 1"),
        (UPTIME, (0.95,), UNCLEAR, "it is 0.95"),
        (UPTIME, (0.5,), BAD, "it is 0.5"),
        (ERRORS, (0.0, 0.02, 0.2, 0.1), BAD, "it is 0.2"),
        (UPTIME, (1.0, 0.2, 0.1), BAD, "it is 0.1"),
        (ERRORS, (0.0, NAN, 0.02), UNCLEAR, "it is 0.02"),
        (parse_metric("e=up < 1"), (1.0,), GOOD, "it is 1"),
        (parse_metric("e=up < 1"), (1.1,), BAD, "it is 1.1"),
    ],
)
def test_a_value_is_good_bad_or_between(metric: Metric, values: tuple[float, ...], finding: Finding, said: str) -> None:
    """The limits themselves are not bad, of several samples the worst counts, and what is no number says nothing."""
    assert judge(metric, Answer(values)) == (finding, said)


def test_no_answer_is_inconclusive_and_says_why() -> None:
    """Prometheus being away is nobody's fault."""
    assert judge(ERRORS, Answer(trouble="connection refused")) == (UNCLEAR, "connection refused")


def trail(*answers: tuple[int, float], metric: Metric = ERRORS) -> Trail:
    """Return the trail of these values at milliseconds after NOW, when the wave had finished."""
    found: Trail | None = None
    for at, value in answers:
        found = follow(found, metric, Answer((value,)), since_unix_ms=NOW, at_unix_ms=NOW + at)
    assert found is not None
    return found


def test_one_bad_answer_is_bad_whatever_comes_after_it() -> None:
    """A good one later does not take it back."""
    assert trail((1, 0.0), (2, 0.2), (3, 0.0)).finding is BAD
    assert trail((1, 0.0), (2, 0.2), (3, 0.0)).said == "it is 0.2"


def test_being_unclear_begins_with_the_first_unclear_answer_and_ends_with_a_good_one() -> None:
    """So a metric that flickers starts its patience anew."""
    assert trail((1, 0.02), (5, 0.03)).unclear_since_unix_ms == NOW + 1
    assert trail((1, 0.02), (5, 0.0)).unclear_since_unix_ms == 0
    assert trail((1, 0.02), (5, 0.0), (9, 0.02)).unclear_since_unix_ms == NOW + 9


def test_what_was_said_before_counts_no_more() -> None:
    """A person resumed, the server restarted, or the wave is another one: a bad answer of before is forgotten."""
    before = trail((1, 0.2))
    after = follow(before, ERRORS, Answer((0.0,)), since_unix_ms=NOW + 5, at_unix_ms=NOW + 6)
    assert after.finding is GOOD
    assert look(ERRORS, before, NOW + 5, NOW + 6).said == "it was not asked yet"
    assert look(ERRORS, before, NOW + 5, NOW + 6).finding is UNCLEAR


def test_a_good_answer_that_is_old_says_nothing() -> None:
    """Where nobody asks any more nothing passes; that alone halts nothing, as after a jump of the clock."""
    good = trail((0, 0.0))
    assert look(ERRORS, good, NOW, NOW + STALE_MS).finding is GOOD
    late = look(ERRORS, good, NOW, NOW + STALE_MS + 1)
    assert (late.finding, late.said) == (UNCLEAR, "its newest answer is 60s old")
    assert not look(ERRORS, good, NOW, NOW + 100 * ERRORS.patience_ms).over


@given(st.lists(st.floats(allow_nan=True), min_size=1, max_size=20))
def test_a_trail_is_bad_if_and_only_if_one_answer_was(values: list[float]) -> None:
    """For any series of answers."""
    found = trail(*((n, value) for n, value in enumerate(values)))
    assert (found.finding is BAD) == any(value > ERRORS.bad for value in values)


def body(kind: str, result: Any) -> bytes:
    return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode()


@pytest.mark.parametrize(
    ("status", "data", "answer"),
    [
        (200, body("scalar", [1, "0.5"]), Answer((0.5,))),
        (200, body("vector", [{"metric": {}, "value": [1, "2"]}, {"value": [1, "+Inf"]}]), Answer((2.0, float("inf")))),
        (200, body("vector", []), Answer()),
        (
            200,
            body("matrix", []),
            Answer(trouble="the query gives a matrix; ask for a number or an instant vector", wrong=True),
        ),
        (
            200,
            body("vector", [{"value": [1, "x"]}]),
            Answer(trouble="Prometheus answered with a value that is no number"),
        ),
        (200, body("vector", [{"value": 7}]), Answer(trouble="Prometheus answered with a value that is no number")),
        (200, body("vector", [7]), Answer(trouble="Prometheus answered with a value that is no number")),
        (200, body("vector", [{}] * 1001), Answer(trouble="it has 1001 samples, at most 1000 are judged")),
        (200, b"<html>", Answer(trouble="Prometheus answered 200, not in JSON")),
        (200, b"[" * 100_000, Answer(trouble="Prometheus answered 200, not in JSON")),
        (200, b"[]", Answer(trouble="Prometheus answered 200: no reason was given")),
        (
            200,
            b'{"status": "success"}',
            Answer(trouble="the query gives a None; ask for a number or an instant vector", wrong=True),
        ),
        (503, b'{"status": "error", "error": "too\\nbusy"}', Answer(trouble="Prometheus answered 503: too busy")),
        (
            400,
            b'{"status": "error", "error": "parse error"}',
            Answer(trouble="Prometheus answered 400: parse error", wrong=True),
        ),
    ],
)
def test_an_answer_is_read_or_is_trouble(status: int, data: bytes, answer: Answer) -> None:
    """Whatever stands at that address, there is no error but a reason; a query that is wrong is told apart."""
    assert read_answer(status, data) == answer


def finished(*answers: tuple[int, float], waves: str = "canary:metric=errors,100%", **fields: Any) -> RolloutView:
    """Return a rollout whose canary had finished at NOW, and whose metric said `answers` since."""
    hosts = (
        seen("h0", reported(), labels={"wave": "canary"}),
        seen("h1", OLD, admitted=False),
    )
    trails = {"errors": trail(*answers)} if answers else {}
    row = {"wave_done_unix_ms": NOW, "waves": parse_waves(waves), "metrics": (ERRORS,), "trails": trails}
    return view(*hosts, **{"max_unavailable": 2, **row, **fields})


def test_the_next_wave_opens_only_on_a_good_answer() -> None:
    """Not before one was asked for, not on an unclear one; the reason says what it is."""
    unasked, unclear, good = (
        decide(finished(), NOW),
        decide(finished((1, 0.02)), NOW + 1),
        decide(finished((1, 0.0)), NOW + 1),
    )
    assert [one.wave for one in (unasked, unclear, good)] == [0, 0, 1]
    assert "metric errors is inconclusive: it was not asked yet, asked for < 0.01..0.05" in unasked.reason
    assert "metric errors is inconclusive: it is 0.02" in unclear.reason
    assert good.admit == ("h1",)


def test_a_good_answer_shortens_no_soak() -> None:
    """It has to be good when the soak ends."""
    soaking = finished((1, 0.0), waves="canary:10m+metric=errors,100%")
    assert decide(soaking, NOW + 1).wave == 0
    assert decide(replace(soaking, trails={"errors": trail((600_000, 0.0))}), NOW + 600_000).wave == 1


def test_a_bad_metric_is_a_breach_at_once_also_in_the_soak() -> None:
    """It halts, or takes back where the policy says so: the release is to blame."""
    soaking = finished((1, 0.2), waves="canary:10m+metric=errors,100%")
    halted = decide(soaking, NOW + 2)
    assert (halted.state, halted.admit) == (RolloutState.HALTED, ())
    assert halted.reason == "wave 1: metric errors is bad: it is 0.2, asked for < 0.01..0.05"
    back = decide(replace(soaking, on_breach=OnBreach.REVERT), NOW + 2)
    assert (back.state, back.reason) == (RolloutState.REVERTING, halted.reason)


def test_inconclusive_for_longer_than_it_may_be_halts_and_blames_nobody() -> None:
    """Also where nothing was ever answered, and also where a breach would take back."""
    policy = {"on_breach": OnBreach.REVERT}
    for picture, begun in ((finished((5, 0.02), **policy), NOW + 5), (finished(**policy), NOW)):
        patient = decide(picture, begun + ERRORS.patience_ms)
        assert patient.state is RolloutState.ROLLING
        halted = decide(picture, begun + ERRORS.patience_ms + 1)
        assert halted.state is RolloutState.HALTED
        assert halted.reason.endswith("for longer than 10m")


def test_a_bad_metric_comes_before_one_that_took_too_long() -> None:
    """Whatever their order: the one that blames decides."""
    latency = replace(ERRORS, name="latency")
    picture = finished(
        waves="canary:metric=latency+metric=errors,100%",
        metrics=(latency, ERRORS),
        trails={"errors": trail((1, 0.2))},
        on_breach=OnBreach.REVERT,
    )
    assert decide(picture, NOW + ERRORS.patience_ms + 5).state is RolloutState.REVERTING


def test_after_a_resume_it_is_asked_anew() -> None:
    """What was bad before a person said "go on" stops nothing, and opens nothing either."""
    resumed = finished((1, 0.2), resumed_unix_ms=NOW + 5)
    assert (decide(resumed, NOW + 6).state, decide(resumed, NOW + 6).wave) == (RolloutState.ROLLING, 0)


def test_metrics_are_asked_of_a_finished_wave_that_rolls_and_of_no_other() -> None:
    """Not while it is paused, not before its hosts have finished, not for a wave that asks for none."""
    for fields in (
        {"state": RolloutState.PAUSED},
        {"wave_done_unix_ms": 0},
        {"waves": "canary,100%:metric=errors"},
    ):
        assert decide(finished((1, 0.2), **fields), NOW + 2).state is not RolloutState.HALTED


def test_the_picture_says_what_a_metric_said() -> None:
    """Good ones too, of the newest open wave."""
    picture = finished((1, 0.0), waves="canary:10m+metric=errors,100%")
    standings = [(host, standing(picture, host, NOW)) for host in picture.hosts]
    waves, _ = counts(picture, standings, NOW + 1)
    assert [wave.checks for wave in waves] == [("metric errors is good: it is 0, asked for < 0.01..0.05",), ()]
    assert waves[0].waits.startswith("soaks until")
