"""A rollout's policy: the one table of its options, for `deploy`, `plan`, `promote`, `rehearse` and fleet files.

Rows of `towpath_cli.policyoption`; those that say when are in `towpath_cli.timing`. `policy` makes the fields of an
order out of their values, whoever gave them.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from towpath.budgets import check_priority, order_text, parse_budgets, parse_order
from towpath.errors import InputError
from towpath.metrics import DEFAULT_PATIENCE_MS, Metric, check_metrics, parse_metric
from towpath.operators import parse_approvers
from towpath.quantity import format_duration
from towpath.waves import ALL, LARGE, WHOLE, Wave, effective, format_share, parse_share, parse_waves, words
from towpath_cli.model import DeployOrder, Rollout
from towpath_cli.options import DURATION
from towpath_cli.policyoption import ABSENT, CHOICE, PolicyOption, Said, Values, or_absent
from towpath_cli.timing import TIMING_OPTIONS

F = TypeVar("F", bound=Callable[..., Any])

# What the server takes where nothing was asked for; tests/wire/test_server_apply.py sees that it is so.
DEFAULT_PROGRESS_DEADLINE_MS = 600_000
_BY_DEFAULT = "by default"


def _steps(values: Values) -> tuple[Wave, ...]:
    text, soak_ms = values["waves"], values["soak"] or 0
    if text:
        return parse_waves(text, soak_ms)
    return parse_waves(WHOLE.what, soak_ms) if soak_ms else ()


def _share(values: Values) -> dict[str, Any]:
    text = values["max_failure_share"]
    share = parse_share(text) if text else 0
    if share >= ALL:
        raise InputError("cannot use --max-failure-share 100%: it could never be exceeded; leave it away")
    if share and values["max_failures"] == 0:
        raise InputError(
            "cannot use --max-failures 0 together with --max-failure-share: the first failure would halt; choose one"
        )
    return {"max_failure_share": share}


def _metrics(values: Values) -> dict[str, Any]:
    asked = [name for wave in _steps(values) for name in wave.metrics]
    given = [parse_metric(text, values["metric_patience"]) for text in values["metrics"]]
    return {"metrics": check_metrics(given, asked)}


def _asked_waves(order: DeployOrder) -> str:
    return words(order.waves) or _BY_DEFAULT


def _metric(one: Metric) -> str:
    return f"{one.name}={one.query} {one.limits} for {format_duration(one.patience_ms)}"


def same_waves(order: DeployOrder, rollout: Rollout) -> bool:
    """Return whether a rollout has the waves that are asked for: those of any size of fleet where none are."""
    has = ",".join(wave.text for wave in rollout.waves)
    return has in (words(effective(())), words(LARGE)) if not order.waves else has == words(order.waves)


LIMIT_OPTIONS = (
    PolicyOption(
        "waves",
        "--waves",
        yaml="Waves",
        default="",
        fields=lambda values: {"waves": _steps(values)},
        said=Said(
            order=_asked_waves,
            rollout=lambda rollout: ",".join(wave.text for wave in rollout.waves),
            usual=(_BY_DEFAULT,),
            same=same_waves,
        ),
        click={"metavar": "LIST", "help": "Steps, such as canary:10m,10%,50%,100%."},
    ),
    PolicyOption(
        "soak",
        "--soak",
        yaml="Duration",
        default=None,
        click={"type": DURATION, "help": "How long each wave without a soak of its own soaks [0s]."},
    ),
    PolicyOption(
        "max_unavailable",
        "--max-unavailable",
        yaml="AtLeastOne",
        default=None,
        fields=lambda values: {"max_unavailable": values["max_unavailable"] or 0},
        said=Said(
            order=lambda order: str(order.max_unavailable or ABSENT),
            rollout=lambda rollout: str(rollout.max_unavailable or ABSENT),
        ),
        click={"type": click.IntRange(1), "help": "Hosts in flight at once [a quarter of them]."},
    ),
    PolicyOption(
        "max_failures",
        "--max-failures",
        yaml="AtLeastZero",
        default=None,
        fields=lambda values: {"max_failures": values["max_failures"] or 0},
        said=Said(
            order=lambda order: str(order.max_failures),
            rollout=lambda rollout: str(rollout.max_failures),
            usual=("0",),
        ),
        click={"type": click.IntRange(0), "help": "A breach: more hosts than this failed [0]."},
    ),
    PolicyOption(
        "max_failure_share",
        "--max-failure-share",
        yaml="Share",
        default="",
        fields=_share,
        said=Said(
            order=lambda order: format_share(order.max_failure_share) if order.max_failure_share else ABSENT,
            rollout=lambda rollout: format_share(rollout.max_failure_share) if rollout.max_failure_share else ABSENT,
        ),
        click={"metavar": "P%", "help": "A breach: a larger share of the finished hosts failed."},
    ),
    PolicyOption(
        "on_breach",
        "--on-breach",
        yaml=CHOICE,
        default="halt",
        fields=lambda values: {"on_breach": values["on_breach"]},
        said=Said(order=lambda order: order.on_breach, rollout=lambda rollout: rollout.on_breach),
        click={
            "type": click.Choice(["halt", "revert"]),
            "show_default": True,
            "help": "Stop there, or take every host back to what it had.",
        },
    ),
    PolicyOption(
        "progress_deadline",
        "--progress-deadline",
        yaml="Duration",
        default=None,
        fields=lambda values: {"progress_deadline_ms": values["progress_deadline"] or 0},
        said=Said(
            order=lambda order: format_duration(order.progress_deadline_ms or DEFAULT_PROGRESS_DEADLINE_MS),
            rollout=lambda rollout: format_duration(rollout.progress_deadline_ms),
        ),
        click={"type": DURATION, "help": "Silence of a host in flight that is a failure."},
    ),
    PolicyOption(
        "approvers",
        "--approvers",
        yaml="Approvers",
        default="",
        fields=lambda values: {"approvers": parse_approvers(values["approvers"])},
        said=Said(
            order=lambda order: or_absent(",".join(order.approvers)),
            rollout=lambda rollout: or_absent(",".join(rollout.approvers)),
        ),
        click={"metavar": "NAMES", "help": "Who may approve: ann,bob [any operator but the author]."},
    ),
    PolicyOption(
        "metrics",
        "--metric",
        yaml="Metrics",
        default=(),
        fields=_metrics,
        said=Said(
            order=lambda order: or_absent("; ".join(_metric(one) for one in order.metrics)),
            rollout=lambda rollout: or_absent("; ".join(_metric(one) for one in rollout.metrics)),
        ),
        click={
            "multiple": True,
            "metavar": "M",
            "help": "What a wave's metric=NAME asks: 'NAME=QUERY < GOOD..BAD', for Prometheus. May be repeated.",
        },
    ),
    PolicyOption(
        "metric_patience",
        "--metric-patience",
        yaml="Duration",
        default=DEFAULT_PATIENCE_MS,
        click={"type": DURATION, "show_default": "10m", "help": "Halt where a metric is inconclusive for longer."},
    ),
    PolicyOption(
        "budgets",
        "--budget",
        yaml="Budgets",
        default=(),
        fields=lambda values: {"budgets": parse_budgets(values["budgets"])},
        said=Said(
            order=lambda order: or_absent(",".join(one.text for one in order.budgets)),
            rollout=lambda rollout: or_absent(",".join(one.text for one in rollout.budgets)),
        ),
        click={
            "multiple": True,
            "metavar": "LABEL=N",
            "help": "Of the hosts with one value of LABEL at most N (or P%) unavailable at once. May be repeated.",
        },
    ),
    PolicyOption(
        "order",
        "--order",
        yaml="Order",
        default="",
        fields=lambda values: {"order_label": parse_order(values["order"])},
        said=Said(
            order=lambda order: order_text(order.order_label) if order.order_label else ABSENT,
            rollout=lambda rollout: order_text(rollout.order_label) if rollout.order_label else ABSENT,
        ),
        click={"metavar": "O", "help": "Who goes first: hash (spread), or label:KEY, one value after another."},
    ),
    PolicyOption(
        "priority",
        "--priority",
        yaml="Priority",
        default=0,
        fields=lambda values: {"priority": check_priority(values["priority"])},
        said=Said(
            order=lambda order: str(order.priority),
            rollout=lambda rollout: str(rollout.priority),
            usual=("0",),
        ),
        click={"type": int, "show_default": True, "help": "Of several rules for a host the highest counts."},
    ),
    PolicyOption(
        "allow_empty",
        "--allow-empty",
        yaml="Flag",
        default=False,
        fields=lambda values: {"allow_empty": values["allow_empty"]},
        click={"is_flag": True, "help": "Also where no host fits yet: they are to come."},
    ),
)
POLICY_OPTIONS = (*LIMIT_OPTIONS, *TIMING_OPTIONS)


def rule_options(function: F) -> F:
    """Give a command the options that say which hosts of an environment: `selector` and `all_hosts`."""
    function = click.option("--all-hosts", is_flag=True, help="Every host of the environment.")(function)
    return click.option(
        "--select", "selector", multiple=True, metavar="K=V", help="Hosts with this label; all of them must fit."
    )(function)


def policy_options(function: F) -> F:
    """Give a command the options of a policy; they arrive as the keywords of `policy`."""
    for one in reversed(POLICY_OPTIONS):
        function = one.option()(function)
    return function


def limit_options(function: F) -> F:
    """Give a command the options of a policy but those that say when; they arrive as keywords of `policy`."""
    for one in reversed(LIMIT_OPTIONS):
        function = one.option()(function)
    return function


def policy(**given: Any) -> dict[str, Any]:
    """Return the policy as fields of a `DeployOrder`, with defaults; InputError where `given` contradicts itself."""
    values = {one.name: one.default for one in POLICY_OPTIONS} | given
    return {name: value for one in POLICY_OPTIONS for name, value in one.fields(values).items()}


def reach(one: DeployOrder | Rollout) -> list[str]:
    """Return the budgets, the order and the priority of a rollout for people, where any was asked for."""
    parts = [f"budget {budget.text}" for budget in one.budgets]
    parts += [f"order {order_text(one.order_label)}"] if one.order_label else []
    parts += [f"priority {one.priority}"] if one.priority else []
    return ["; ".join(parts)] if parts else []
