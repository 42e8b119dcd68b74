"""The agent looks after itself: after each round it asks whether it is to be kept, or to make room for another.

Not handled here: the decision (`engine.selfupdate`), going to another version and back (`runner.actions`, by the
service `agent`), starting one (`towpath_agent.launcher`).
"""

import math
from collections.abc import Callable
from pathlib import Path

from towpath.errors import Broken
from towpath.names import release_id
from towpath.selfupdate import AGENT_APP
from towpath.status import State
from towpath_agent.engine.selfupdate import WORKS_S, Own, Pointer, Step, after_round, apply, deserves_another, dropped
from towpath_agent.errors import DiskError
from towpath_agent.journal import Journal, Transaction
from towpath_agent.probes.agent import AgentProbe
from towpath_agent.runner.agent import Agent
from towpath_agent.runner.site import id_of
from towpath_agent.services.agent import AgentService, forget_copy, read_pointer, write_pointer
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files
from towpath_agent.system.launch import Launch

_TRIED_AGAIN = "agent_tried_again"  # in the journal: the transaction


class Itself:
    """This agent, as a release on its host."""

    def __init__(self, folder: Path, files: Files, launch: Launch, clock: Clock, log: Callable[[str], None]) -> None:
        """Work on launch.json in `folder`. To be made before the journal is opened.

        A copy of the journal is of use as long as something is on trial, or nobody can tell.
        """
        self._folder, self._files, self._launch, self._clock, self._log = folder, files, launch, clock, log
        self._works_s = clock.monotonic() + WORKS_S
        self._in_trouble = False
        pointer = read_pointer(files, folder)
        self._marked = pointer is not None and bool(pointer.failed)
        if pointer is not None and not pointer.trying:
            forget_copy(files, folder)

    def attach(
        self, agent: Agent, journal: Journal, service: AgentService, probe: AgentProbe, leave: Callable[[], None]
    ) -> None:
        """Let the drivers of the agent's own app ask `agent`; `leave` has it end, so that another one can start."""

        def under_way() -> bool:
            return agent.own_state not in (None, State.CONFIRMED)

        def why() -> str:
            tx = agent.transactions.get(AGENT_APP)
            return tx.reason if tx is not None else ""

        service.leave, service.why = leave, why
        # What may take long ends before the trial does, or comes after it: the launcher waits for KEEP.
        agent.on_trial = self._launch.trial
        # A transaction has waited for other apps before it switched; what starts a confirmed release again has not.
        service.not_now = lambda: "" if under_way() else agent.waits(AGENT_APP)
        probe.missing = lambda: agent.unproven if self._launch.trial or under_way() else ""
        agent.works = lambda: self._works(journal, agent.own_state)
        agent.pardon = lambda: service.pardon(self._folder)
        self._try_again(journal, agent.transactions.get(AGENT_APP))

    def _try_again(self, journal: Journal, tx: Transaction | None) -> None:
        """Put on trial once more what was confirmed on its own; what runs, by the journal, is then started as any app.

        Once for each transaction: what then ends before it is kept has something against it.
        """
        pointer = read_pointer(self._files, self._folder)
        if tx is None or pointer is None or journal.meta().get(_TRIED_AGAIN) == tx.id:
            return
        if deserves_another(pointer, release_id(tx.wish.version, tx.wish.sha256), tx.state):
            self._log(f"agent {pointer.trying} had been confirmed when it was given up; it is put on trial once more")
            try:
                write_pointer(self._files, self._folder, dropped(pointer, pointer.trying))
                journal.set_meta(**{_TRIED_AGAIN: tx.id})
            except Broken as error:
                self._log(f"cannot put the agent on trial once more: {error}")

    def after_round(self, journal: Journal, state: State | None) -> bool:
        """Do what is next; return whether this agent has to end, so that the launcher starts what should run.

        `state` is of the transaction of the agent's own app.
        """
        if not self._launch.release and not self._marked:
            return False
        own = self._own(journal, state)
        step = after_round(own)
        if step is Step.STAY:
            return False
        left = apply(step, own.pointer, own.release, _why_not(journal, own.release))
        try:
            write_pointer(self._files, self._folder, left)
            if not left.trying:  # else the one before may need it
                forget_copy(self._files, self._folder)
        except DiskError as error:
            if not self._in_trouble:
                self._log(f"cannot note which agent runs: {error}; it is tried again")
            self._in_trouble = True
            return False
        self._in_trouble = False
        if step is Step.KEEP:
            self._log(f"agent {own.release} is kept")
        elif step is Step.LEAVE:
            self._log(f"agent {own.release} is not wanted here any more; the packaged agent takes over")
        return step in (Step.KEEP, Step.LEAVE)

    def _works(self, journal: Journal, state: State | None) -> None:
        """Settle in the middle of a first round that fetches, once: it may be cut off before its end each time."""
        if self._launch.trial or not self._launch.release or self._clock.monotonic() < self._works_s:
            return
        self._works_s = math.inf
        if after_round(self._own(journal, state)) is Step.SETTLE:
            self.after_round(journal, state)

    def _own(self, journal: Journal, state: State | None) -> Own:
        current = journal.deployed("current").get(AGENT_APP)
        return Own(
            release=self._launch.release,
            trial=self._launch.trial,
            pointer=read_pointer(self._files, self._folder) or Pointer(),
            current=id_of(current) if current is not None else "",
            state=state,
        )


def _why_not(journal: Journal, release: str) -> str:
    """Return why `release` failed as the agent; empty where it did not."""
    failure = journal.failures().get(AGENT_APP)
    if failure is None or release_id(failure.wish.version, failure.wish.sha256) != release:
        return ""
    return failure.reason
