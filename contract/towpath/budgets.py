"""Disruption budgets, the order of hosts and the priority of a rollout, as operators write them.

    rack=1        at most 1 host of each rack is unavailable at once
    zone=20%      at most such a share of each zone's hosts, rounded down, and one at least
    label:rack    rack after rack, by the label's value; hash (the default): spread

Hosts without the label are one group of their own: nobody knows that they stand in different racks. Not handled here:
which hosts are unavailable (the server's `domain.budgets`).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from towpath.errors import InputError
from towpath.names import check_labels
from towpath.waves import ALL, format_share, parse_share

MAX_BUDGETS = 8
MAX_HOSTS = 1_000_000
MAX_PRIORITY = 1_000
BY_HASH = "hash"
BY_LABEL = "label:"
_COUNT = re.compile(r"[0-9]{1,7}")


@dataclass(frozen=True, slots=True)
class Budget:
    """How many hosts with the same value of `label` may be unavailable at once: `count`, or a `share` of them.

    `share` is in hundredths of a percent; the other one is 0.
    """

    label: str
    count: int = 0
    share: int = 0

    @property
    def text(self) -> str:
        """Return it as it is written."""
        return f"{self.label}={format_share(self.share) if self.share else self.count}"

    def allows(self, hosts: int) -> int:
        """Return how many of a group of so many hosts may be unavailable at once, one at least."""
        return self.count or max(1, hosts * self.share // ALL)


def parse_budget(text: str) -> Budget:
    """Return the budget that `text` writes; InputError where nobody could say, or nobody could ever move."""
    label, equals, most = text.strip().partition("=")
    if not equals or not label or not most:
        raise InputError(f"cannot read {text[:80]!r} as a budget: write LABEL=1 or LABEL=20%")
    check_labels({label: ""})
    if most.endswith("%"):
        return _checked(Budget(label, share=parse_share(most)))
    if not _COUNT.fullmatch(most):
        raise InputError(f"cannot read {text[:80]!r} as a budget: write LABEL=1 or LABEL=20%")
    return _checked(Budget(label, int(most)))


def _checked(budget: Budget) -> Budget:
    check_labels({budget.label: ""})
    if not budget.count and not budget.share:
        raise InputError(f"cannot use the budget {budget.label}=0: nobody could ever move; the least is 1")
    if not 0 <= budget.count <= MAX_HOSTS or not 0 <= budget.share <= ALL or (budget.count and budget.share):
        raise InputError(f"cannot use a budget for {budget.label}: 1 to {MAX_HOSTS} hosts, or a share up to 100%")
    return budget


def parse_budgets(texts: Iterable[str]) -> tuple[Budget, ...]:
    """Return the budgets that `texts` write, by label; InputError for one that is wrong, and for a label twice."""
    return check_budgets([parse_budget(text) for text in texts])


def check_budgets(budgets: Sequence[Budget]) -> tuple[Budget, ...]:
    """Return `budgets` by label where a rollout could keep them; else InputError."""
    if len(budgets) > MAX_BUDGETS:
        raise InputError(f"cannot use {len(budgets)} budgets: at most {MAX_BUDGETS}")
    labels = [_checked(one).label for one in budgets]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"cannot use two budgets for {label}: say which one is meant")
    return tuple(sorted(budgets, key=lambda one: one.label))


def parse_order(text: str) -> str:
    """Return the label by whose value hosts are ordered, empty for the hash; InputError for anything else."""
    text = text.strip()
    if text in ("", BY_HASH):
        return ""
    if not text.startswith(BY_LABEL) or text == BY_LABEL:
        raise InputError(f"cannot order hosts by {text[:80]!r}: write {BY_HASH}, or {BY_LABEL}KEY such as label:rack")
    label = text.removeprefix(BY_LABEL)
    check_labels({label: ""})
    return label


def order_text(label: str) -> str:
    """Return an order as `parse_order` reads it."""
    return f"{BY_LABEL}{label}" if label else BY_HASH


def check_priority(priority: int) -> int:
    """Return `priority` where it is one, else raise InputError."""
    if not 0 <= priority <= MAX_PRIORITY:
        raise InputError(f"cannot use priority {priority}: 0 (the default) to {MAX_PRIORITY} are allowed")
    return priority
