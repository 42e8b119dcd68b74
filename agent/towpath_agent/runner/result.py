"""How an action of a transaction went: what `runner.actions` tells `runner.agent`."""

from dataclasses import dataclass

from towpath.status import Verdict
from towpath_agent.engine.table import Outcome

# A full disk says nothing about a release: it is tried again, once there may be space.
DISK_RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class Result:
    """How an action went. `outcome` None: not finished; call again at `again_s` (monotonic)."""

    outcome: Outcome | None
    reason: str = ""
    code: str = ""
    evidence: str = ""
    verdict: Verdict = Verdict.NONE
    retry_after_s: float | None = None
    again_s: float | None = None
    attempts: int | None = None
    handed: bool = False  # the hook `handover` may have run; journalled already


DONE = Result(Outcome.DONE)
