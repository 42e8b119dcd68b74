"""A host of a simulated rollout: it obeys as an agent does, one state a step, and ends as was said beforehand."""

from dataclasses import dataclass, replace

from fakes.rows import OLD, OLD_DIGEST, REVERTED, reported
from towpath.reports import AppState
from towpath.status import State, Verdict
from towpath_server.domain.standing import HostView

GOOD = reported()
PLANNED, SWITCHING = (reported(state, current_sha256=OLD_DIGEST) for state in (State.PLANNED, State.SWITCHING))
WATCHING = reported(State.WATCHING)
UNCLEAR = replace(REVERTED, verdict=Verdict.INCONCLUSIVE)
LEAVING, RETURNING = (
    reported(state, current_sha256=OLD_DIGEST, generation=0) for state in (State.SWITCHING, State.WATCHING)
)


@dataclass
class Host:
    """A simulated host. `end`: how its transaction ends, None for one that falls silent half-way."""

    view: HostView
    end: AppState | None

    @property
    def down(self) -> bool:
        """True while the app is between two releases."""
        return self.view.state in (SWITCHING, WATCHING, LEAVING, RETURNING)

    def step(self, now: int) -> None:
        """Move one state on, as an agent would."""
        admitted, state = self.view.admitted_unix_ms is not None, self.view.state
        after = state
        if admitted:
            moves = {id(OLD): PLANNED, id(PLANNED): SWITCHING, id(SWITCHING): WATCHING, id(WATCHING): self.end}
            after = moves.get(id(state), state) or state
        elif state is PLANNED:
            after = OLD
        elif self.view.retreat is not None:
            moves = {id(GOOD): LEAVING, id(WATCHING): LEAVING, id(SWITCHING): LEAVING, id(LEAVING): RETURNING}
            after = moves.get(id(state), OLD)
        if after is not state:
            self.view = replace(self.view, state=after, progress_unix_ms=now)
