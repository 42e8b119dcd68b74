"""What the journal's transactions say of sets: the engine's questions, asked of what is under way on this host.

Who belongs to a set is read from the transactions each time, so a crash changes nothing. Held only in memory is which
members are proven healthy: after a crash they prove it again.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache

from towpath.claims import claims
from towpath.parameters import Value
from towpath.status import State, Verdict
from towpath.wire import decode_release
from towpath_agent.engine.admission import Objection, Situation, Standing, objections
from towpath_agent.engine.planning import Failure, Open, Wish, blocked
from towpath_agent.engine.sets import Footprint, Member, Move, Pass, gate, may_confirm, may_go_back, may_prove, set_of
from towpath_agent.engine.table import Outcome, action_of, can, next_state
from towpath_agent.journal import Deployed, Journal, Transaction
from towpath_agent.runner.result import DONE, Result

# An app that had to wait for another one is looked at again after this.
RETRY_S = 60.0
META = "objections"


class Sets:
    """Answers for the loop; reads the loop's own transactions."""

    def __init__(
        self, journal: Journal, transactions: Mapping[str, Transaction], gone_back: Callable[[str], bool]
    ) -> None:
        """`gone_back` says whether what ran before a reverting transaction (its id) runs again."""
        self._journal, self._transactions, self._gone_back = journal, transactions, gone_back
        self._proven: set[str] = set()
        self._asked: object = None
        self._objections: dict[str, Objection] = {}

    # -- what may stand on this host

    def object_to(
        self,
        desired: Mapping[str, Deployed],
        current: Mapping[str, Deployed],
        *,
        failures: Mapping[str, Failure],
        refused: Mapping[str, Mapping[str, str | int]],
        now_unix_ms: int,
    ) -> dict[str, dict[str, str | int]]:
        """Return the apps that may not move as desired, in the shape of what verification refused; kept durable."""
        wishes = {app: it.wish for app, it in desired.items()}
        opened = {
            app: Open(tx.wish, tx.state) for app, tx in self._transactions.items() if tx.state is not State.CONFIRMED
        }
        held = {
            app: f"{wishes[app].version or 'its removal'} failed here: {failures[app].reason}"
            for app in blocked(wishes, opened=opened, failures=failures, now_unix_ms=now_unix_ms)
            if app in wishes
        }
        held |= {app: str(no["message"]) for app, no in refused.items()}
        asked = (
            [(it.wish.app, it.wish.sha256, dict(it.wish.parameters)) for it in (*desired.values(), *current.values())],
            len(desired),
            held,
        )
        if asked != self._asked:
            self._asked = asked
            moving = {app for app, wish in wishes.items() if not wish.same_as(_wish(current.get(app)))}
            self._objections = objections(
                Situation(
                    {app: _standing(it) for app, it in desired.items()},
                    {app: _standing(it) for app, it in current.items()},
                    moving,
                    held,
                )
            )
        return {app: _as_refused(wishes.get(app, Wish(app)), it) for app, it in self._objections.items()}

    def known_objections(self) -> dict[str, dict[str, str | int]]:
        """Return the objections that were told last, also before a restart."""
        result: dict[str, dict[str, str | int]] = json.loads(self._journal.meta().get(META, "{}"))
        return result

    def remember_objections(self, told: Mapping[str, Mapping[str, str | int]]) -> None:
        """Keep what is told, so that a restart does not tell it anew."""
        if told != self.known_objections():
            self._journal.set_meta(**{META: json.dumps(told)})

    # -- how a set moves

    def members(self) -> dict[str, Member]:
        """Return every transaction that the journal holds, as the engine sees it."""
        return {
            app: Member(
                state=tx.state,
                move=Move(_footprint_of(tx.old), _footprint_of(Deployed(tx.wish, tx.release))),
                seal=tx.seal,
                touched=tx.touched,
                proven=tx.id in self._proven and tx.state is State.WATCHING,
                gone_back=self._gone_back(tx.id),
            )
            for app, tx in self._transactions.items()
        }

    def mates(self, app: str) -> list[Transaction]:
        """Return the other transactions of the set of `app`, by name."""
        return [self._transactions[mate] for mate in sorted(set_of(app, self.members()) - {app})]

    def await_set(self, tx: Transaction, desired: Mapping[str, Deployed]) -> Result:
        """Return DONE where `tx`, which is prepared, may switch; nothing has been touched for it yet."""
        no = self._objections.get(tx.app)
        if no is not None and tx.wish.same_as(_wish(desired.get(tx.app)) or Wish(tx.app)):
            # No failure to remember: the objection itself keeps it from being tried again.
            return Result(Outcome.FAILED, no.message, no.code, verdict=Verdict.REFUSED)
        answer = gate(tx.app, self.members())
        if answer.verdict is Pass.NEVER:
            reason = f"cannot switch {tx.app} {tx.wish.version}: {answer.reason}"
            return Result(Outcome.FAILED, reason, "order", retry_after_s=RETRY_S)
        return DONE if answer.verdict is Pass.GO else Result(None, answer.reason)

    def sealed(self, tx: Transaction) -> list[Transaction]:
        """Return the set of `tx`, which is the first of it to switch, under a durable name; `tx` first."""
        return [replace(it, seal=tx.id) for it in (tx, *self.mates(tx.app))] if not tx.seal else [tx]

    def may_supersede(self, app: str) -> bool:
        """Return whether the whole set of `app` can be told to stay or go back now."""
        return all(can(tx.state, Outcome.SUPERSEDED) for tx in (self._transactions[app], *self.mates(app)))

    def spread(self, superseded: Mapping[str, str]) -> dict[str, str]:
        """Return `superseded` (app to reason) with the whole set of each."""
        result = dict(superseded)
        for app in superseded:
            for mate in self.mates(app):
                result.setdefault(mate.app, f"it moves together with {app}, and there {superseded[app]}")
        return result

    def proves(self, tx: Transaction, *, healthy: bool) -> bool:
        """Note whether `tx` is healthy; return whether its whole set is, so that it can be confirmed."""
        (self._proven.add if healthy else self._proven.discard)(tx.id)
        return healthy and may_confirm(tx.app, self.members())

    def forget(self, tx_id: str) -> None:
        """Drop what is remembered of a transaction."""
        self._proven.discard(tx_id)

    def may_go_back(self, app: str) -> bool:
        """Return whether `app`, which reverts, is next in its set."""
        return may_go_back(app, self.members())

    def may_prove(self, tx: Transaction) -> bool:
        """Return whether what `tx` went back to can be judged."""
        return may_prove(tx.app, self.members())

    def failing(self, tx: Transaction, cause: Transaction, wishes: Mapping[str, Wish]) -> list[Transaction]:
        """Return the whole set of `tx`, which begins to go back as `cause` says; `cause` first, each with its mates."""
        mates = self.mates(tx.app)
        moving = {it.app: it.wish for it in (tx, *mates)}
        linked = {
            app: wishes.get(app, Wish(app))
            for it in (tx, *mates)
            for app in (_footprint_of(Deployed(it.wish, it.release)) or Footprint()).together
        }
        whole = linked | moving
        return [
            replace(it, mates=tuple(whole[app] for app in sorted(whole) if app != it.app))
            for it in (cause, *(_with(mate, cause) for mate in mates))
        ]

    def may_return(self, tx: Transaction, current: Mapping[str, Deployed]) -> bool:
        """Return whether what ran before `tx` could run again: nobody took its port, path or unit meanwhile."""
        moving = {tx.app, *(mate.app for mate in self.mates(tx.app))}
        taken = {claim for app, it in current.items() if app not in moving for claim in _footprint(it).claims}
        return all(
            taken.isdisjoint(_footprint(it.old).claims) for it in (tx, *self.mates(tx.app)) if it.old is not None
        )


def _with(mate: Transaction, cause: Transaction) -> Transaction:
    """Return `mate` on its way back because of `cause`; it is not blamed."""
    if cause.verdict is Verdict.SUPERSEDED:
        reason = f"it moves together with {cause.app}: {cause.reason}"
        state = next_state(mate.state, action_of(mate.state), Outcome.SUPERSEDED)
        return replace(mate, state=state, reason=reason, code=cause.code, verdict=Verdict.SUPERSEDED)
    reason = (
        f"it moves together with {cause.app} {cause.wish.version or '(removal)'}, which failed: {cause.reason}; "
        f"nothing was found against {mate.app} {mate.wish.version or '(removal)'} itself"
    )
    return replace(
        mate,
        state=next_state(mate.state, action_of(mate.state), Outcome.SET_FAILED),
        reason=reason,
        code="set-failed",
        verdict=cause.verdict if cause.verdict is Verdict.REFUSED else Verdict.INCONCLUSIVE,
        retry_after_s=cause.retry_after_s,
    )


def _wish(deployed: Deployed | None) -> Wish | None:
    return None if deployed is None else deployed.wish


def _standing(deployed: Deployed) -> Standing:
    return Standing(deployed.wish.version, _footprint(deployed))


def _footprint_of(deployed: Deployed | None) -> Footprint | None:
    return None if deployed is None or not deployed.wish.sha256 else _footprint(deployed)


def _footprint(deployed: Deployed) -> Footprint:
    return _cached(deployed.release, tuple(sorted(deployed.wish.parameters.items())))


@lru_cache(maxsize=256)
def _cached(data: bytes, parameters: Iterable[tuple[str, Value]]) -> Footprint:
    release = decode_release(data)
    taken = claims(release, dict(parameters))
    return Footprint(frozenset(release.requires_apps), frozenset(release.together), taken)


def _as_refused(wish: Wish, objection: Objection) -> dict[str, str | int]:
    return {
        "version": wish.version,
        "sha256": wish.sha256.hex(),
        "generation": wish.generation,
        "code": objection.code,
        "message": objection.message,
    }
