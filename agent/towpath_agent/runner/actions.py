"""What each action of the table does. Every one may be cut off anywhere and done again.

An action returns a Result: an outcome for the table, or None while it is not finished. Deciding stands in `engine`;
journalling stands in `runner.agent`, which commits the state before it calls the action here.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from towpath.errors import TowpathError
from towpath.release import HealthPolicy, Release
from towpath.status import Health, Verdict
from towpath.wire import decode_release
from towpath_agent.engine.health import HealthVerdict
from towpath_agent.engine.table import Action, Outcome
from towpath_agent.errors import DiskFull, is_full
from towpath_agent.installers.base import Installer
from towpath_agent.journal import Deployed, Journal, Transaction
from towpath_agent.ports import Source
from towpath_agent.runner import cleanup, logmarks
from towpath_agent.runner.handover import Handovers, Steps
from towpath_agent.runner.health import HealthWatch, is_ill
from towpath_agent.runner.hooks import run_hook
from towpath_agent.runner.result import DISK_RETRY_S, DONE, Result
from towpath_agent.runner.site import Drivers, Site, id_of, keeps_tree, release_of
from towpath_agent.runner.staging import Staging
from towpath_agent.services.base import Service
from towpath_agent.system.clock import Clock

MAX_ATTEMPTS = 3
PASSING_RETRY_S = 60.0
LOG_TAIL_BYTES = 2048


class Actions:
    """Performs the actions of transactions. Holds only what may be lost in a crash: watches and counts of tries."""

    def __init__(
        self,
        *,
        site: Site,
        drivers: Drivers,
        journal: Journal,
        clock: Clock,
        max_release_bytes: int = 0,
        uniform: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """Take what actions act on; `server` is handed to each call because a renewed identity replaces it.

        `max_release_bytes` is the host's own limit on what the releases of one app may take; 0: none. `uniform` gives
        the jitter of what is tried again.
        """
        self._max_release_bytes = max_release_bytes
        self._site, self._drivers, self._journal, self._clock = site, drivers, journal, clock
        self._watches: dict[str, HealthWatch] = {}
        self._undone: set[str] = set()
        self.staging = Staging(
            site=site,
            drivers=drivers,
            journal=journal,
            clock=clock,
            uniform=uniform,
            wrong_delta=lambda tx, wrong: self.notes.append((tx, wrong.code, str(wrong), "")),
        )
        steps = Steps(run_hook=self._run_hook, stop=self._stop)
        self._handovers = Handovers(site=site, drivers=drivers, journal=journal, clock=clock, steps=steps)
        # Which releases, fetched ahead, clean-up leaves in the store.
        self.keeps: Callable[[], Iterable[Deployed]] = tuple
        # A member of a set that goes back is judged when all of it have gone back.
        self.may_prove: Callable[[Transaction], bool] = lambda _tx: True
        self.notes: list[tuple[Transaction, str, str, str]] = []  # said, but not decisive: (tx, code, reason, evidence)
        self._do: dict[Action, Callable[[Transaction], Result]] = {
            Action.PREPARE: self._prepare,
            Action.SWITCH: self._switch,
            Action.START: self._start,
            Action.WATCH: self._watch,
            Action.UNDO: self._undo,
        }

    def perform(
        self,
        action: Action,
        tx: Transaction,
        *,
        server: Source,
        others: Collection[Transaction],
        interrupted: Callable[[], bool],
    ) -> Result:
        """Do `action` for `tx`; `others` are all under way, `interrupted` asks whether to stop fetching."""
        try:
            match action:
                case Action.RESERVE:
                    return self.staging.reserve(tx, others)
                case Action.STAGE:
                    return self.staging.stage(tx, server, interrupted)
                case _:
                    return self._do[action](tx)
        except (TowpathError, OSError) as error:
            if is_full(error):  # says nothing about the release: it is tried again, once there may be space
                return Result(Outcome.FAILED, f"{action}: {error}", DiskFull.code, retry_after_s=DISK_RETRY_S)
            if not isinstance(error, TowpathError):
                return Result(Outcome.FAILED, f"{action}: {error}", "os-error")
            evidence = getattr(error, "evidence", "")
            # What passes by itself (a package database that is in use) is no fault of the release.
            retry_after_s = PASSING_RETRY_S if error.retryable else None
            return Result(Outcome.FAILED, f"{action}: {error}", error.code, evidence, retry_after_s=retry_after_s)
        except Exception as error:  # noqa: BLE001 - a bug in a driver must end in a revert, never in a dead agent
            return Result(Outcome.FAILED, f"{action}: {type(error).__name__}: {error}", "driver-bug")

    def clear_staging(self, tx_id: str) -> None:
        """Remove what a transaction that ended left in staging."""
        self._site.files.remove_tree(self._site.staging(tx_id))

    def gone_back(self, tx_id: str) -> bool:
        """Return whether what ran before a reverting transaction was put back and started, since the agent began."""
        return tx_id in self._undone

    def take_watch(self, tx_id: str) -> HealthWatch | None:
        """Hand over the watch of a transaction that ended, so that what was proven need not be proven again."""
        return self._watches.pop(tx_id, None)

    def is_whole(self, deployed: Deployed) -> bool:
        """Return whether the tree of a release on this host is as it was signed, so that it can be gone back to."""
        release = decode_release(deployed.release)
        return self._installer(release).verify(self._site.plan(deployed, self._site.entries(deployed)))

    def forget(self, tx: Transaction) -> None:
        """Drop what is remembered of a transaction that ended."""
        self._watches.pop(tx.id, None)
        self._undone.discard(tx.id)
        self._handovers.forget(tx.id)
        self.staging.forget(tx)

    @property
    def site(self) -> Site:
        """Return where things lie on this host."""
        return self._site

    # -- before the switch: the rest of it is `runner.staging`

    def _prepare(self, tx: Transaction) -> Result:
        if not tx.wish.sha256:
            return DONE
        return self._run_hook("prepare", release_of(tx)) or DONE

    # -- the switch and what follows

    def _switch(self, tx: Transaction) -> Result:
        if tx.old is not None and not self._handovers.beside(tx):
            self._stop(tx, tx.old)
        if not tx.wish.sha256:
            if tx.old is not None:
                old = decode_release(tx.old.release)
                self._installer(old).unswitch(self._site.plan(tx.old, ()))
            return DONE
        new = release_of(tx)
        release = decode_release(tx.release)
        if tx.old is not None:
            old = decode_release(tx.old.release)
            if old.install.kind != release.install.kind:
                self._installer(old).unswitch(self._site.plan(tx.old, ()))
        previous = self._previous_id(tx)
        self._installer(release).switch(self._site.plan(new, self._site.entries(new), tx.id), previous)
        return DONE

    def _start(self, tx: Transaction) -> Result:
        if not tx.wish.sha256:
            return DONE
        new = release_of(tx)
        release = decode_release(tx.release)
        service, instance = self._service(release), self._site.instance(new)
        attempts = tx.attempts
        if not service.state(instance).running:
            if attempts >= MAX_ATTEMPTS:
                reason = f"it was started {attempts} times and stopped by itself each time"
                return Result(Outcome.FAILED, reason, "crash-loop", evidence=self._log_tail(new))
            # Durable before the app starts: an app that takes the host down with it is not started for ever.
            attempts += 1
            self._journal.put_transaction(replace(tx, attempts=attempts))
            logmarks.start(self._site, service, new)
        self._watches.pop(tx.id, None)
        return replace(self._run_hook("post_start", new) or DONE, attempts=attempts)

    def _watch(self, tx: Transaction) -> Result:
        if not tx.wish.sha256:
            return DONE
        new = release_of(tx)
        watch = self._watches.get(tx.id)
        if watch is None:
            watch = self._watches[tx.id] = HealthWatch(new, self._site, self._drivers, self._clock)
        self._handovers.keep_old(tx)
        state = watch.service_state()
        if not state.running:
            self._watches.pop(tx.id, None)
            lost = Outcome.FAILED if self._handovers.old_serves(tx) else Outcome.LOST
            reason = f"the app stopped by itself: {state.why}" if state.why else "the app stopped by itself"
            return Result(lost, reason, "app-stopped", evidence=self._log_tail(new))
        verdict = watch.check(state)
        if verdict.health is Health.HEALTHY:
            result = self._handovers.complete(tx)
            if result.again_s is None:
                return result
            return replace(
                result, again_s=min(result.again_s, watch.next_due_s())
            )  # judged on while the old one drains
        if is_ill(verdict):
            return Result(Outcome.FAILED, verdict.reason, "unhealthy", evidence=self.evidence(new, verdict))
        return Result(None, again_s=watch.next_due_s())

    def evidence(self, deployed: Deployed, verdict: HealthVerdict) -> str:
        """Return what a person needs to see why `deployed` is ill: what its probes saw, and the end of its log."""
        tail = self._log_tail(deployed)
        return "\n".join(part for part in (verdict.evidence, "its log ends:" if tail else "", tail) if part)

    def settle(self, tx: Transaction) -> None:
        """Tidy up after Confirmed: hook, then old trees. Trouble here is said, never decisive."""
        if not tx.wish.sha256:
            return
        new = release_of(tx)
        if keeps_tree(tx):
            self._site.record(new)
        failed = self._run_hook("post_confirm", new)
        if failed is not None:
            self.notes.append((tx, failed.code, failed.reason, failed.evidence))
        self._prune(tx.app, decode_release(tx.release))

    def settle_reverted(self, tx: Transaction) -> None:
        """Tidy up after Reverted: failing releases must not fill the disk. Trouble here is said, never decisive."""
        try:
            if tx.wish.sha256 and tx.verdict is not Verdict.SUPERSEDED:
                cleanup.remember_failed(self._site, tx.app, id_of(release_of(tx)))
            if tx.old is not None:  # without it nothing is live, so nothing may be deleted
                self._prune(tx.app, decode_release(tx.old.release))
        except Exception as error:  # noqa: BLE001 - a bug in a driver must not end the agent, at every start anew
            self.notes.append((tx, "cleanup", f"cannot clean up: {error}", ""))

    def _prune(self, app: str, release: Release) -> None:
        limits = [limit for limit in (release.install.keep_bytes, self._max_release_bytes) if limit]
        cleanup.prune_releases(
            self._site, self._installer(release), app, keep=release.install.keep, keep_bytes=min(limits, default=0)
        )

    def prune_store(self) -> None:
        """Drop objects that no release on this host names; called only while no change is fetching."""
        cleanup.prune_store(self._site, self.keeps())

    # -- going back: the same path with the arguments swapped; tolerates a half-finished do

    def _undo(self, tx: Transaction) -> Result:
        if not tx.touched:
            self._site.files.remove_tree(self._site.staging(tx.id))
            return Result(Outcome.DONE, verdict=_verdict(tx, Verdict.FAILED))
        if tx.id not in self._undone:
            self._go_back(tx)
            self._undone.add(tx.id)
        returning = self._handovers.returning(tx)
        if tx.old is None or (tx.verdict is Verdict.SUPERSEDED and not returning):
            return Result(Outcome.DONE, verdict=_verdict(tx, Verdict.FAILED))
        if not self.may_prove(tx):
            return Result(None)
        result = self._prove_old(tx, tx.old)
        if result.outcome is None or not returning:
            return result
        result = self._handovers.give_back(tx, result)
        if result.outcome is Outcome.DONE:
            self._after_revert(tx)
        return result

    def _go_back(self, tx: Transaction) -> None:
        new_release = decode_release(tx.release) if tx.wish.sha256 else None
        old_release = decode_release(tx.old.release) if tx.old is not None else None
        returning = self._handovers.returning(tx)
        if new_release is not None:
            if not returning:  # else it serves until the old one does
                self._stop(tx, release_of(tx))
            if old_release is None or old_release.install.kind != new_release.install.kind:
                self._installer(new_release).unswitch(self._site.plan(release_of(tx), ()))
        if tx.old is not None and old_release is not None:
            entries = self._site.entries(tx.old)
            kept = self._journal.deployed("previous").get(tx.app)
            previous = id_of(kept) if kept is not None and kept.wish.sha256 != tx.old.wish.sha256 else None
            self._installer(old_release).switch(self._site.plan(tx.old, entries), previous)
            logmarks.start(self._site, self._service(old_release), tx.old)
        if not returning:
            self._after_revert(tx)

    def _after_revert(self, tx: Transaction) -> None:
        failed = self._run_hook("post_revert", release_of(tx)) if tx.wish.sha256 else None
        if failed is not None:
            self.notes.append((tx, failed.code, failed.reason, failed.evidence))

    def _prove_old(self, tx: Transaction, old: Deployed) -> Result:
        """Probe what was reverted to. Where it is ill as well, the world is broken, not the release."""
        release = decode_release(old.release)
        watch = self._watches.get(tx.id)
        if watch is None or watch.deployed != old:
            policy = HealthPolicy(0, release.health.deadline_ms, 0)
            watch = self._watches[tx.id] = HealthWatch(old, self._site, self._drivers, self._clock, policy)
        state = watch.service_state()
        if not state.running:
            logmarks.start(self._site, self._service(release), old)
        verdict = watch.check(state)
        if verdict.health is Health.HEALTHY and state.running:
            return Result(Outcome.DONE, verdict=_verdict(tx, Verdict.FAILED))
        if is_ill(verdict):
            reason = f"{tx.reason}; the previous release {old.wish.version} fails its probes too: {verdict.reason}"
            evidence = self.evidence(old, verdict)
            return Result(Outcome.DONE, reason, "inconclusive", evidence, _verdict(tx, Verdict.INCONCLUSIVE))
        return Result(None, again_s=watch.next_due_s())

    # -- shared

    def _stop(self, tx: Transaction, deployed: Deployed) -> None:
        """Stop `deployed` with its own stop hook; a broken hook is said, but cannot keep a release on the host."""
        release = decode_release(deployed.release)
        instance = self._site.instance(deployed)
        service = self._service(release)
        if service.state(instance).running:
            failed = self._run_hook("pre_stop", deployed)
            if failed is not None:
                self.notes.append((tx, failed.code, failed.reason, failed.evidence))
        service.stop(instance)

    def _run_hook(self, point: str, deployed: Deployed) -> Result | None:
        return run_hook(self._drivers, self._site, point, deployed)

    def _previous_id(self, tx: Transaction) -> str | None:
        """Return what the link `previous` should name once `tx` is live."""
        if tx.old is None:
            return None
        if tx.old.wish.sha256 != tx.wish.sha256:
            return id_of(tx.old)
        kept = self._journal.deployed("previous").get(tx.app)
        return id_of(kept) if kept is not None else None

    def _log_tail(self, deployed: Deployed) -> str:
        service = self._service(decode_release(deployed.release))
        said = service.evidence(self._site.instance(deployed))
        return f"{said}\n{self._site.tail(self._site.log(deployed), LOG_TAIL_BYTES)}".strip()

    def _installer(self, release: Release) -> Installer:
        return self._drivers.installers[release.install.kind]

    def _service(self, release: Release) -> Service:
        return self._drivers.services[release.run.kind]


def _verdict(tx: Transaction, otherwise: Verdict) -> Verdict:
    """Return the verdict that was given when `tx` began to go back, where one was: not its fault, or not wanted now."""
    return otherwise if tx.verdict is Verdict.NONE else tx.verdict
