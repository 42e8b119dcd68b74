"""What a fleet file asks for, as plain values, each with where in the file it stands."""

from dataclasses import dataclass

from towpath.errors import InputError
from towpath_cli.model import DeployOrder, EntryOrder
from towpath_cli.yamlfile import Document

Where = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file a thing stands; `policy`: where the policy that it uses does."""

    document: Document
    path: Where
    policy: Where = ()

    def error(self, reason: str, key: str = "") -> InputError:
        """Return the error that names file, line and key; `key`: which of its own, or of its policy, is meant."""
        path = self.path
        if key:
            own, shared = (*self.path, key), (*self.policy, key)
            path = next((one for one in (own, shared) if one in self.document.lines), self.path)
        return InputError(self.document.error(path, f"{words(path)}: {reason}"))


def words(path: Where) -> str:
    """Return a path as people write it: `assignments[0].version`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


@dataclass(frozen=True, slots=True)
class EnvironmentWish:
    """An environment. None: nothing is said of it; `after` empty: it follows none."""

    name: str
    after: str | None
    healthy_for_ms: int | None
    windows: tuple[str, ...] | None
    place: Place


@dataclass(frozen=True, slots=True)
class ParameterWish:
    """A parameter's text for an environment, or for a label in it; `name` is `app.name`."""

    environment: str
    label: str
    name: str
    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class HostWish:
    """A parameter's text for one host; `name` is `app.name`."""

    host: str
    name: str
    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class FreezeWish:
    """A freeze."""

    order: EntryOrder
    place: Place


@dataclass(frozen=True, slots=True)
class FleetFile:
    """What a file asks for, in its order; `places` are those of `orders`. `freezes` None: nothing is said of any."""

    environments: tuple[EnvironmentWish, ...]
    parameters: tuple[ParameterWish, ...]
    hosts: tuple[HostWish, ...]
    freezes: tuple[FreezeWish, ...] | None
    orders: tuple[DeployOrder, ...]
    places: tuple[Place, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of its environments."""
        return tuple(one.name for one in self.environments)
