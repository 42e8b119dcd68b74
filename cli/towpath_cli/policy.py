"""The options of a rollout's policy, shared by `deploy` and `promote`: limits, waves, what a breach does, when."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from towpath.errors import InputError
from towpath.metrics import DEFAULT_PATIENCE_MS, check_metrics, parse_metric
from towpath.operators import parse_approvers
from towpath.waves import ALL, WHOLE, Wave, parse_share, parse_waves
from towpath_cli.options import DURATION
from towpath_cli.timing import TIMING_OPTIONS, timing

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--waves", "waves", metavar="LIST", default="", help="Steps, such as canary:10m,10%,50%,100%."),
    click.option(
        "--soak", type=DURATION, default=None, help="How long each wave without a soak of its own soaks [0s]."
    ),
    click.option(
        "--max-unavailable", type=click.IntRange(1), default=None, help="Hosts in flight at once [a quarter of them]."
    ),
    click.option(
        "--max-failures", type=click.IntRange(0), default=None, help="A breach: more hosts than this failed [0]."
    ),
    click.option(
        "--max-failure-share", metavar="P%", default="", help="A breach: a larger share of the finished hosts failed."
    ),
    click.option(
        "--on-breach",
        type=click.Choice(["halt", "revert"]),
        default="halt",
        show_default=True,
        help="Stop there, or take every host back to what it had.",
    ),
    click.option(
        "--progress-deadline", type=DURATION, default=None, help="Silence of a host in flight that is a failure."
    ),
    click.option(
        "--approvers", metavar="NAMES", default="", help="Who may approve: ann,bob [any operator but the author]."
    ),
    click.option(
        "--metric",
        "metrics",
        multiple=True,
        metavar="M",
        help="What a wave's metric=NAME asks: 'NAME=QUERY < GOOD..BAD', in Prometheus' language. May be repeated.",
    ),
    click.option(
        "--metric-patience",
        type=DURATION,
        default=DEFAULT_PATIENCE_MS,
        show_default="10m",
        help="Halt where a metric is inconclusive for longer.",
    ),
    click.option("--allow-empty", is_flag=True, help="Also where no host fits yet: they are to come."),
)


def rule_options(function: F) -> F:
    """Give a command the options that say which hosts of an environment: `selector` and `all_hosts`."""
    function = click.option("--all-hosts", is_flag=True, help="Every host of the environment.")(function)
    return click.option(
        "--select", "selector", multiple=True, metavar="K=V", help="Hosts with this label; all of them must fit."
    )(function)


def policy_options(function: F) -> F:
    """Give a command the options of a policy; they arrive as the keywords of `policy`."""
    for option in reversed(TIMING_OPTIONS):
        function = option(function)
    return limit_options(function)


def limit_options(function: F) -> F:
    """Give a command the options of a policy but those that say when; they arrive as keywords of `policy`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def policy(
    *,
    waves: str,
    soak: int | None,
    max_unavailable: int | None,
    max_failures: int | None,
    max_failure_share: str,
    on_breach: str,
    progress_deadline: int | None,
    approvers: str,
    metrics: tuple[str, ...],
    metric_patience: int,
    allow_empty: bool,
    **times: Any,
) -> dict[str, Any]:
    """Return the policy as fields of a `DeployOrder`; InputError where it contradicts itself."""
    share = parse_share(max_failure_share) if max_failure_share else 0
    if share >= ALL:
        raise InputError("cannot use --max-failure-share 100%: it could never be exceeded; leave it away")
    if share and max_failures == 0:
        raise InputError(
            "cannot use --max-failures 0 together with --max-failure-share: the first failure would halt; choose one"
        )
    steps = _waves(waves, soak or 0)
    asked = [name for wave in steps for name in wave.metrics]
    return {
        "waves": steps,
        "approvers": parse_approvers(approvers),
        "metrics": check_metrics([parse_metric(text, metric_patience) for text in metrics], asked),
        "max_unavailable": max_unavailable or 0,
        "max_failures": max_failures or 0,
        "max_failure_share": share,
        "on_breach": on_breach,
        "progress_deadline_ms": progress_deadline or 0,
        "allow_empty": allow_empty,
        **timing(**times),
    }


def _waves(text: str, soak_ms: int) -> tuple[Wave, ...]:
    if text:
        return parse_waves(text, soak_ms)
    return parse_waves(WHOLE.what, soak_ms) if soak_ms else ()
