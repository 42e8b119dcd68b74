"""One option of a rollout's policy, declared once: for the command line, the fleet file, its schema, the comparison.

A row of these is all that the tool knows of an option, so that a new one is a new row and nothing else here: the table
of limits and gates is `towpath_cli.policy`, that of times and attendance `towpath_cli.timing`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from towpath_cli.model import DeployOrder, Rollout

ABSENT = "-"
CHOICE = "choice"
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """An option as people read it: of what a file asks for, and of what the server has. Equal words are no difference.

    `usual`: what is not worth a word where a rule is new; `same`: where equal words are not what decides.
    """

    order: Callable[[DeployOrder], str]
    rollout: Callable[[Rollout], str]
    usual: tuple[str, ...] = (ABSENT,)
    same: Callable[[DeployOrder, Rollout], bool] | None = None

    def equal(self, order: DeployOrder, rollout: Rollout) -> bool:
        """Return whether a rollout has what an order asks for."""
        if self.same is not None:
            return self.same(order, rollout)
        return self.order(order) == self.rollout(rollout)


@dataclass(frozen=True, slots=True)
class PolicyOption:
    """An option. `name`: its keyword in `policy` and its key in a fleet file; `flag`: on the command line.

    `yaml`: the type of its key in a fleet file, by its name in `towpath_cli.fleetfields` (pydantic is loaded only where
    a file is read); CHOICE: one of those of its `click.Choice`. `default`: where nobody says it.
    `fields`: from the values of all options, each by its name, to fields of a `DeployOrder`; InputError where they
    contradict one another; empty where another option's row reads this one. `said`: None where another row says it.
    `click`: what `click.option` takes beside.
    """

    name: str
    flag: str
    yaml: str
    default: Any
    fields: Callable[[Values], dict[str, Any]] = field(default=lambda _: {})
    said: Said | None = None
    click: Mapping[str, Any] = field(default_factory=dict)

    def option(self) -> Callable[[Any], Any]:
        """Return the decorator that gives a command this option."""
        return click.option(self.flag, self.name, **{"default": self.default, **self.click})


def or_absent(text: str) -> str:
    """Return a word for a text that may be empty."""
    return text or ABSENT
