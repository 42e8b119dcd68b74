"""What each action of the table does. Every one may be cut off anywhere and done again.

An action returns a Result: an outcome for the table, or None while it is not finished. Deciding stands in `engine`;
journalling stands in `runner.agent`, which commits the state before it calls the action here.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from towpath.errors import Broken, Refusal, TowpathError, Unavailable
from towpath.index import MAX_INDEX_BYTES, objects
from towpath.release import HealthPolicy, Hook, Release
from towpath.status import Health, State, Verdict
from towpath.wire import decode_release
from towpath_agent.engine import pacing
from towpath_agent.engine.planning import disk_needed, may_switch
from towpath_agent.engine.table import Action, Outcome
from towpath_agent.errors import DiskFull, is_full
from towpath_agent.installers.base import Installer
from towpath_agent.journal import Deployed, Journal, Transaction
from towpath_agent.ports import Server
from towpath_agent.runner import cleanup
from towpath_agent.runner.health import HealthWatch, is_ill
from towpath_agent.runner.site import Drivers, Site, id_of
from towpath_agent.services.base import Service
from towpath_agent.system.clock import Clock

MAX_ATTEMPTS = 3
MAX_FETCH_TRIES = 8
DISK_MARGIN = 32 * 2**20
DISK_RETRY_S = 60.0
FETCH_GIVE_UP_RETRY_S = 60.0
LOG_TAIL_BYTES = 2048


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


DONE = Result(Outcome.DONE)


class Actions:
    """Performs the actions of transactions. Holds only what may be lost in a crash: watches and counts of tries."""

    def __init__(self, *, site: Site, drivers: Drivers, journal: Journal, clock: Clock) -> None:
        """Take what actions act on; `server` is handed to each call because a renewed identity replaces it."""
        self._site, self._drivers, self._journal, self._clock = site, drivers, journal, clock
        self._watches: dict[str, HealthWatch] = {}
        self._fetch_tries: dict[str, int] = {}
        self._fetch_again: dict[str, float] = {}
        self._undone: set[str] = set()
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
        server: Server,
        others: Collection[Transaction],
        interrupted: Callable[[], bool],
    ) -> Result:
        """Do `action` for `tx`; `others` are all under way, `interrupted` asks whether to stop fetching."""
        try:
            match action:
                case Action.RESERVE:
                    return self._reserve(tx, others)
                case Action.STAGE:
                    return self._stage(tx, server, interrupted)
                case Action.AWAIT_SET:
                    return DONE if may_switch([other.state for other in others]) else Result(None)
                case _:
                    return self._do[action](tx)
        except (TowpathError, OSError) as error:
            if is_full(error):  # says nothing about the release: it is tried again, once there may be space
                return Result(Outcome.FAILED, f"{action}: {error}", DiskFull.code, retry_after_s=DISK_RETRY_S)
            code = error.code if isinstance(error, TowpathError) else "os-error"
            return Result(Outcome.FAILED, f"{action}: {error}", code)
        except Exception as error:  # noqa: BLE001 - a bug in a driver must end in a revert, never in a dead agent
            return Result(Outcome.FAILED, f"{action}: {type(error).__name__}: {error}", "driver-bug")

    def clear_staging(self, tx_id: str) -> None:
        """Remove what a transaction that ended left in staging."""
        self._site.files.remove_tree(self._site.staging(tx_id))

    def take_watch(self, tx_id: str) -> HealthWatch | None:
        """Hand over the watch of a transaction that ended, so that what was proven need not be proven again."""
        return self._watches.pop(tx_id, None)

    def forget(self, tx_id: str) -> None:
        """Drop what is remembered of a transaction that ended."""
        self._watches.pop(tx_id, None)
        self._fetch_tries.pop(tx_id, None)
        self._fetch_again.pop(tx_id, None)
        self._undone.discard(tx_id)

    # -- before the switch: nothing that runs is touched

    def _reserve(self, tx: Transaction, others: Collection[Transaction]) -> Result:
        waiting = [decode_release(o.release) for o in others if o.wish.sha256 and o.state in _NOT_STAGED]
        if not tx.wish.sha256:
            return DONE
        needed = disk_needed(
            [release.artifact.tree_size for release in waiting],
            sum(release.requires_disk_bytes for release in waiting),
            DISK_MARGIN,
        )
        free = self._site.files.disk_free(self._site.root)
        if free < needed:
            reason = f"not enough disk: the set needs {needed} bytes, {free} are free at {self._site.root}"
            return Result(Outcome.FAILED, reason, "disk-full", retry_after_s=DISK_RETRY_S)
        return DONE

    def _stage(self, tx: Transaction, server: Server, interrupted: Callable[[], bool]) -> Result:
        if not tx.wish.sha256:
            return DONE
        again = self._fetch_again.get(tx.id)
        if again is not None and self._clock.monotonic() < again:
            return Result(None, again_s=again)
        new = _new(tx)
        release = decode_release(tx.release)
        self._require_kinds(release)
        store = self._site.store
        try:
            index = {release.artifact.index_sha256: release.artifact.index_size}
            if release.artifact.index_size > MAX_INDEX_BYTES:
                return Result(Outcome.FAILED, f"an index of {release.artifact.index_size} bytes", "endless-data")
            if store.fetch(index, server, interrupted=interrupted).interrupted:
                return Result(None)
            entries = self._site.entries(new)
            if store.fetch(objects(entries), server, interrupted=interrupted).interrupted:
                return Result(None)
            plan = self._site.plan(new, entries, tx.id)
            self._site.record(new, self._site.index(new))
            self._installer(release).stage(plan, store.materialise)
        except Unavailable as error:
            tries = self._fetch_tries[tx.id] = self._fetch_tries.get(tx.id, 0) + 1
            if tries >= MAX_FETCH_TRIES:
                reason = f"could not be fetched after {tries} tries: {error}"
                return Result(Outcome.FAILED, reason, error.code, retry_after_s=FETCH_GIVE_UP_RETRY_S)
            again = self._clock.monotonic() + pacing.backoff_s(tries, 0.5, 30.0)
            self._fetch_again[tx.id] = again
            return Result(None, reason=str(error), again_s=again)
        return DONE

    def _prepare(self, tx: Transaction) -> Result:
        if not tx.wish.sha256:
            return DONE
        return self._run_hook("prepare", _new(tx)) or DONE

    # -- the switch and what follows

    def _switch(self, tx: Transaction) -> Result:
        if tx.old is not None:
            self._stop(tx, tx.old)
        if not tx.wish.sha256:
            if tx.old is not None:
                old = decode_release(tx.old.release)
                self._installer(old).unswitch(self._site.plan(tx.old, ()))
            return DONE
        new = _new(tx)
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
        new = _new(tx)
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
            service.start(instance)
        self._watches.pop(tx.id, None)
        return replace(self._run_hook("post_start", new) or DONE, attempts=attempts)

    def _watch(self, tx: Transaction) -> Result:
        if not tx.wish.sha256:
            return DONE
        new = _new(tx)
        watch = self._watches.get(tx.id)
        if watch is None:
            watch = self._watches[tx.id] = HealthWatch(new, self._site, self._drivers, self._clock)
        state = watch.service_state()
        if not state.running:
            self._watches.pop(tx.id, None)
            return Result(Outcome.LOST, "the app stopped by itself", "app-stopped", evidence=self._log_tail(new))
        verdict = watch.check(state)
        if verdict.health is Health.HEALTHY:
            return DONE
        if is_ill(verdict):
            evidence = f"{verdict.evidence}\n{self._log_tail(new)}".strip()
            return Result(Outcome.FAILED, verdict.reason, "unhealthy", evidence=evidence)
        return Result(None, again_s=watch.next_due_s())

    def settle(self, tx: Transaction) -> None:
        """Tidy up after Confirmed: hook, then old trees. Trouble here is said, never decisive."""
        if not tx.wish.sha256:
            return
        new = _new(tx)
        failed = self._run_hook("post_confirm", new)
        if failed is not None:
            self.notes.append((tx, failed.code, failed.reason, failed.evidence))
        cleanup.prune_releases(self._site, tx.app, decode_release(tx.release).install.keep)

    def prune_store(self) -> None:
        """Drop objects that no release on this host names; called only while nothing is being fetched."""
        cleanup.prune_store(self._site)

    # -- going back: the same path with the arguments swapped; tolerates a half-finished do

    def _undo(self, tx: Transaction) -> Result:
        if not tx.touched:
            self._site.files.remove_tree(self._site.staging(tx.id))
            return Result(Outcome.DONE, verdict=_verdict(tx, Verdict.FAILED))
        if tx.id not in self._undone:
            self._go_back(tx)
            self._undone.add(tx.id)
        if tx.old is None or tx.verdict is Verdict.SUPERSEDED:
            return Result(Outcome.DONE, verdict=_verdict(tx, Verdict.FAILED))
        return self._prove_old(tx, tx.old)

    def _go_back(self, tx: Transaction) -> None:
        new_release = decode_release(tx.release) if tx.wish.sha256 else None
        old_release = decode_release(tx.old.release) if tx.old is not None else None
        if new_release is not None:
            self._stop(tx, _new(tx))
            if old_release is None or old_release.install.kind != new_release.install.kind:
                self._installer(new_release).unswitch(self._site.plan(_new(tx), ()))
        if tx.old is not None and old_release is not None:
            entries = self._site.entries(tx.old)
            kept = self._journal.deployed("previous").get(tx.app)
            previous = id_of(kept) if kept is not None and kept.wish.sha256 != tx.old.wish.sha256 else None
            self._installer(old_release).switch(self._site.plan(tx.old, entries), previous)
            self._service(old_release).start(self._site.instance(tx.old))
        if new_release is not None:
            failed = self._run_hook("post_revert", _new(tx))
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
            self._service(release).start(self._site.instance(old))
        verdict = watch.check(state)
        if verdict.health is Health.HEALTHY and state.running:
            return Result(Outcome.DONE, verdict=_verdict(tx, Verdict.FAILED))
        if is_ill(verdict):
            reason = f"{tx.reason}; the previous release {old.wish.version} fails its probes too: {verdict.reason}"
            return Result(Outcome.DONE, reason, "inconclusive", verdict.evidence, _verdict(tx, Verdict.INCONCLUSIVE))
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
        """Run the hook of `point` where the release has one; return a Result only where it failed."""
        release = decode_release(deployed.release)
        hook: Hook | None = release.hook(point)
        if hook is None:
            return None
        try:
            result = self._drivers.hooks.run(hook, self._site.instance(deployed), deployed.wish.parameters)
        except (TowpathError, OSError) as error:
            return Result(Outcome.FAILED, f"hook {point}: {error}", "hook-failed")
        except Exception as error:  # noqa: BLE001 - most hooks only say that they failed; a bug must not do more
            return Result(Outcome.FAILED, f"hook {point}: {type(error).__name__}: {error}", "driver-bug")
        if result.timed_out:
            reason = f"hook {point} did not end within {hook.timeout_ms / 1000:g}s"
            return Result(Outcome.FAILED, reason, "hook-timeout", evidence=result.output)
        if result.status != 0:
            return Result(Outcome.FAILED, f"hook {point} exited {result.status}", "hook-failed", evidence=result.output)
        return None

    def _previous_id(self, tx: Transaction) -> str | None:
        """Return what the link `previous` should name once `tx` is live."""
        if tx.old is None:
            return None
        if tx.old.wish.sha256 != tx.wish.sha256:
            return id_of(tx.old)
        kept = self._journal.deployed("previous").get(tx.app)
        return id_of(kept) if kept is not None else None

    def _log_tail(self, deployed: Deployed) -> str:
        return self._site.tail(self._site.log(deployed), LOG_TAIL_BYTES)

    def _installer(self, release: Release) -> Installer:
        return self._drivers.installers[release.install.kind]

    def _service(self, release: Release) -> Service:
        return self._drivers.services[release.run.kind]

    def _require_kinds(self, release: Release) -> None:
        """Refuse kinds that this agent has no driver for, before anything changes."""
        unknown = [kind for kind in (release.install.kind,) if kind not in self._drivers.installers]
        unknown += [kind for kind in (release.run.kind,) if kind not in self._drivers.services]
        unknown += [probe.kind for probe in release.probes if probe.kind not in self._drivers.probes]
        if unknown:
            raise Refusal(f"cannot run kind {unknown[0]!r} here: this agent does not know it", code="unknown-kind")


_NOT_STAGED = (State.PLANNED, State.FETCHING)


def _verdict(tx: Transaction, otherwise: Verdict) -> Verdict:
    return tx.verdict if tx.verdict is Verdict.SUPERSEDED else otherwise


def _new(tx: Transaction) -> Deployed:
    if not tx.wish.sha256:
        raise Broken("cannot treat a removal as a release")
    return Deployed(tx.wish, tx.release)
