"""Gates of a wave, metrics and approvers as operators write them: what is read, what is refused, in which words."""

import pytest

from towpath.errors import InputError
from towpath.metrics import MAX_METRICS, MAX_QUERY, Metric, check_metric, check_metrics, parse_metric
from towpath.operators import MAX_APPROVERS, check_approvals, check_approvers, parse_approvers
from towpath.waves import Wave, check_waves, parse_waves, words

ERRORS = Metric("errors", "up", below=True, good=1, bad=2)


def test_gates_of_a_wave_are_joined_and_come_back_as_they_were_written() -> None:
    """A soak, an approval and metrics in any order; what has no soak of its own takes the common one, manual does not."""
    read = parse_waves(
        "canary:approve=2+10m+metric=errors+metric=latency,5:approve,10%:metric=errors,50%:manual", 5_000
    )
    assert read == (
        Wave("canary", 600_000, approve=2, metrics=("errors", "latency")),
        Wave("5", 5_000, approve=1),
        Wave("10%", 5_000, metrics=("errors",)),
        Wave("50%", manual=True),
        Wave("100%", 5_000),
    )
    assert words(read[:2]) == "canary:10m+metric=errors+metric=latency+approve=2,5:5s+approve=1"
    assert parse_waves(words(read)) == read


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("canary:approve=0", "cannot ask '0' operators to approve wave canary: 1 to 20"),
        ("canary:approve=21", "1 to 20"),
        ("canary:approve=", "1 to 20"),
        ("canary:approve=two", "1 to 20"),
        ("canary:approve+approve=2", "cannot use gate 'approve=2' of wave canary"),
        ("canary:10m+20m", "cannot use gate '20m'"),
        ("canary:metric=a+metric=a", "cannot use gate 'metric=a'"),
        ("canary:manual+approve", "manual stands alone"),
        ("canary:10m+manual", "manual stands alone"),
        ("canary:metric=", "as the name of a metric"),
        ("canary:metric=Errors", "as the name of a metric"),
        ("canary:approval=2", "as a duration"),
    ],
)
def test_a_gate_that_cannot_be_is_one_line(text: str, part: str) -> None:
    """It names the gate and the wave."""
    with pytest.raises(InputError) as caught:
        parse_waves(text)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    "wave",
    [
        Wave("100%", 5, manual=True),
        Wave("100%", manual=True, approve=1),
        Wave("100%", manual=True, metrics=("a",)),
        Wave("100%", approve=-1),
        Wave("100%", approve=21),
        Wave("100%", metrics=("a", "a")),
        Wave("100%", metrics=("A",)),
    ],
)
def test_a_gate_that_no_client_of_ours_would_send_is_refused_too(wave: Wave) -> None:
    """The server reads what came over the wire by the same rules."""
    with pytest.raises(InputError):
        check_waves([wave])


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        ("errors=sum(rate(e[1m])) < 0.01..0.05", Metric("errors", "sum(rate(e[1m]))", below=True, good=0.01, bad=0.05)),
        ('up=min(up{job="a"}) > .99..9e-1', Metric("up", 'min(up{job="a"})', below=False, good=0.99, bad=0.9)),
        ("e=a < bool 3<4", Metric("e", "a < bool 3", below=True, good=4, bad=4)),
        (" e = up>-1 ", Metric("e", "up", below=False, good=-1, bad=-1)),
    ],
)
def test_a_metric_is_a_query_and_the_last_comparison_is_ours(text: str, metric: Metric) -> None:
    """What stands before it is Prometheus' own language, comparisons too; one limit is good and bad at once."""
    assert parse_metric(text.replace(" = ", "=")) == metric


def test_limits_are_said_as_they_are_written() -> None:
    """A band, or the one limit."""
    assert [parse_metric(f"e=up {text}").limits for text in ("< 0.01..0.05", "> 3")] == ["< 0.01..0.05", "> 3"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("errors", "as a metric: write NAME=QUERY"),
        ("errors=up", "as a metric"),
        ("errors= < 1", "as a metric"),
        ("errors=up < one", "as a metric"),
        ("Errors=up < 1", "as the name of a metric"),
        ("e=up < 2..1", "the bad one, is not above the first; write < GOOD..BAD, BAD above GOOD"),
        ("e=up > 1..2", "the bad one, is not below the first; write > GOOD..BAD, BAD below GOOD"),
        ("e=up < 1e999", "its limits are finite numbers"),
        (f"e={'u' * (MAX_QUERY + 1)} < 1", "printable characters, in one line"),
        ("e=up\nor down < 1", "printable characters, in one line"),
    ],
)
def test_a_metric_that_cannot_be_is_one_line(text: str, part: str) -> None:
    """It says what is wrong and how it is written."""
    with pytest.raises(InputError) as caught:
        parse_metric(text)
    assert part in str(caught.value)


@pytest.mark.parametrize("patience", [0, 999, 8 * 86_400_000])
def test_patience_has_limits(patience: int) -> None:
    """A metric that may be unknown for ever would be no gate."""
    with pytest.raises(InputError, match="cannot wait that long for metric e"):
        parse_metric("e=up < 1", patience)


def test_metrics_and_the_waves_that_ask_for_them_belong_together() -> None:
    """None missing, none idle, none twice, not too many, and none without a query."""
    assert check_metrics([ERRORS], ["errors", "errors"]) == (ERRORS,)
    latency = Metric("latency", "up", below=True, good=1, bad=2)
    many = [Metric(f"m{n}", "up", below=True, good=1, bad=2) for n in range(MAX_METRICS + 1)]
    for metrics, asked, part in (
        ([], ["errors"], "cannot ask for metric errors: nothing says what it is"),
        ([ERRORS, latency], ["errors"], "cannot use metric latency: no wave asks for it"),
        ([ERRORS, ERRORS], ["errors"], "cannot use metric errors twice"),
        (many, [one.name for one in many], "at most 8"),
    ):
        with pytest.raises(InputError, match=part):
            check_metrics(metrics, asked)
    with pytest.raises(InputError, match="printable"):
        check_metric(Metric("e", " ", below=True, good=1, bad=2))


def test_approvers_are_names_each_once() -> None:
    """Sorted; nothing means nobody in particular."""
    assert parse_approvers(" carol,bob ") == ("bob", "carol")
    assert parse_approvers(" ") == ()
    for text, part in (("bob,,carol", "write NAMES"), ("Bob", "write NAMES"), ("bob,bob", "bob as an approver twice")):
        with pytest.raises(InputError, match=part):
            parse_approvers(text)
    with pytest.raises(InputError, match="at most 50"):
        check_approvers([f"n{number}" for number in range(MAX_APPROVERS + 1)])


def test_approvals_that_could_never_be_given_are_refused_up_front() -> None:
    """More than are named, the author not counted; names that no wave asks for are a mistake too."""
    waves = parse_waves("canary:approve=2,100%")
    check_approvals(waves, ("bob", "carol"), "ann")
    check_approvals(waves, (), "ann")
    check_approvals(parse_waves("canary"), (), "ann")
    check_approvals((), (), "ann")
    for names, author, part in (
        (("bob",), "ann", r"2 operators to approve wave canary: 1 may \(bob\)"),
        (("ann", "bob"), "ann", r"1 may \(ann, bob, its author not among them\)"),
    ):
        with pytest.raises(InputError, match=part):
            check_approvals(waves, names, author)
    with pytest.raises(InputError, match="no wave asks for them"):
        check_approvals(parse_waves("canary"), ("bob",), "ann")
