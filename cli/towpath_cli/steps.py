"""What applying a fleet file consists of: the acts, each of which an operator could do alone by a command."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from towpath_cli.model import DeployOrder, EntryOrder


@dataclass(frozen=True, slots=True)
class SetEnvironment:
    """`towpath environment set`; None leaves a thing as it is, `after` empty: it follows none."""

    name: str
    after: str | None
    healthy_for_ms: int | None


@dataclass(frozen=True, slots=True)
class SetParameters:
    """`towpath parameter set` and `unset`, by `app.name`; `label` empty: of every host of the environment."""

    environment: str
    label: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    unset: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SetHost:
    """`towpath host set`, of parameters by `app.name`."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    unset: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoveEntry:
    """`towpath freeze remove` and `towpath window remove`."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class Undeploy:
    """Take off the assignment of exactly this rule."""

    app: str
    environment: str
    selector: Mapping[str, str]


Step = SetEnvironment | SetParameters | SetHost | EntryOrder | RemoveEntry | DeployOrder | Undeploy


@dataclass(frozen=True, slots=True)
class Applied:
    """What the server says of steps. `step`: the first that cannot be (-1: all can), and why; nothing was done then."""

    step: int = -1
    reason: str = ""
