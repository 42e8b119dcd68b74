"""Words that hosts report and servers show: the states of a transaction, health and verdicts."""

from enum import StrEnum


class State(StrEnum):
    """Facts about one transaction, in the order in which a good one passes them (DESIGN section 5)."""

    PLANNED = "Planned"
    FETCHING = "Fetching"
    STAGED = "Staged"
    PREPARED = "Prepared"
    SWITCHING = "Switching"
    SWITCHED = "Switched"
    WATCHING = "Watching"
    CONFIRMED = "Confirmed"
    REVERTING = "Reverting"
    REVERTED = "Reverted"
    STUCK = "Stuck"

    @property
    def ended(self) -> bool:
        """True where nothing more will happen by itself."""
        return self in (State.CONFIRMED, State.REVERTED)

    @property
    def before_switch(self) -> bool:
        """True where nothing that runs was touched yet: the transaction can still be told to stay."""
        return self in (State.PLANNED, State.FETCHING, State.STAGED, State.PREPARED)


class Health(StrEnum):
    """The verdict over all probes of what runs now."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    STARTING = "starting"
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    """How a transaction ended. INCONCLUSIVE: previous fails its probes too, so the world is broken, not the release."""

    NONE = ""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    SUPERSEDED = "superseded"
    REFUSED = "refused"
