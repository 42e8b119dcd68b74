"""One difference between a fleet file and the server: what it is, and the step that does away with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from towpath_cli.steps import Step
from towpath_cli.wishes import Place


class Kind(StrEnum):
    """What there is to do about one thing."""

    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"
    LEFT = "left alone"
    STOPPED = "stopped"
    SAME = "same"

    @property
    def differs(self) -> bool:
        """Return True where applying the file does something."""
        return self in (Kind.ADD, Kind.CHANGE, Kind.REMOVE)


@dataclass(frozen=True, slots=True)
class Change:
    """One thing: its section and its name in it. `was` and `will` hold what differs, by name; `note` is for people."""

    kind: Kind
    section: str
    name: str
    was: Mapping[str, str]
    will: Mapping[str, str]
    note: str = ""

    def line(self) -> str:
        """Return it in one line, empty where nobody wants to know."""
        name = f"{self.section} {self.name}"
        match self.kind:
            case Kind.ADD:
                return f"+ {name}: {_facts(self.will)}"
            case Kind.CHANGE:
                steps = ", ".join(f"{key} {self.was[key]} -> {self.will[key]}" for key in self.will)
                return f"~ {name}: {steps}"
            case Kind.REMOVE:
                return f"- {name}: {_facts(self.was)}, not in the file"
            case Kind.LEFT:
                return f"  {name}: {_facts(self.was)}, not in the file, left alone; --prune would remove it"
            case Kind.STOPPED:
                return f"! {name}: {self.note}"
            case Kind.SAME:
                return ""


def _facts(facts: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {text}" for key, text in facts.items())


@dataclass(frozen=True, slots=True)
class Act:
    """A change, the step that does it (None: nothing is to be done), and where in the file it stands."""

    change: Change
    step: Step | None = None
    place: Place | None = None
