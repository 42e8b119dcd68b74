"""Installer `exec`: an executable outside this code puts the release in place, by the protocol of docs/drivers.md.

Rules: the tree is staged, checked, linked and pruned by us, as kind `tree` does it; the driver is asked to `check` at
stage, and at the switch to bring the tree to where it is to be. Who may have put something in place is on record
(`exec.json`: driver and request), written ahead, so that another driver's work is taken away by that driver, with what
it was told, before a new one begins; without a record nothing was put in place. A driver keeps what it must know in
its folder `driver/`, which goes when nothing of it is in place any more.
Options: `driver`, `options` (its own, may hold `${parameter}`), `timeout` (of each call), `shared` (as of `tree`).
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from towpath.errors import Broken, TowpathError
from towpath.parameters import Value, render
from towpath_agent.installers.base import RELEASES, InstallPlan, Materialise
from towpath_agent.installers.driver import Driver, Request, Verb
from towpath_agent.installers.found import SYSTEM_DRIVERS, find_driver, in_release
from towpath_agent.installers.tree import TreeInstaller
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files

RECORD = "exec.json"
STATE = "driver"
DEFAULT_TIMEOUT_MS = 60_000
_MAX_RECORD_BYTES = 2**20


class ExecInstaller:
    """See the module."""

    def __init__(self, files: Files, clock: Clock, system_drivers: Path = SYSTEM_DRIVERS) -> None:
        """Work on `files`; count deadlines on `clock`."""
        self._files, self._clock, self._system = files, clock, system_drivers
        self._tree = TreeInstaller(files)

    def stage(self, plan: InstallPlan, materialise: Materialise) -> None:
        """Stage the tree, then ask the driver whether it could put it in place; a missing driver is said before."""
        if not in_release(_driver_of(plan)):
            self._program(plan)
        self._tree.stage(plan, materialise)
        self._ask(Verb.CHECK, plan, _driver_of(plan), _request(plan, None))

    def switch(self, plan: InstallPlan, previous_id: str | None) -> None:
        """Take away what another driver put in place, make the release live, and let its driver follow."""
        files, driver = self._files, _driver_of(plan)
        if not files.is_dir(plan.folder):
            raise Broken(f"cannot switch {plan.app} to {plan.release_id}: its tree is not there; stage it again")
        self._program(plan)
        request = _request(plan, previous_id)
        before = self._recorded(plan)
        self._record(plan, {**before, driver: request})
        for name in sorted(set(before) - {driver}):
            self._ask(Verb.UNSWITCH, plan, name, before[name])
        self._tree.switch(plan, previous_id)
        self._ask(Verb.SWITCH, plan, driver, request)
        self._record(plan, {driver: request})

    def unswitch(self, plan: InstallPlan) -> None:
        """Let whoever put something in place take it away, then remove the links."""
        files = self._files
        for name, request in sorted(self._recorded(plan).items()):
            self._ask(Verb.UNSWITCH, plan, name, request)
        self._tree.unswitch(plan)
        files.remove_tree(plan.app_dir / STATE)
        if files.exists(plan.app_dir / RECORD):
            files.remove(plan.app_dir / RECORD)
            files.sync_dir(plan.app_dir)

    def verify(self, plan: InstallPlan) -> bool:
        """Compare the staged tree with the index, and let the driver look, where this very release was put in place."""
        if not self._tree.verify(plan):
            return False
        return self._is_in_place(plan)

    def witnesses(self, _plan: InstallPlan) -> None:
        """Return None: only the driver knows what it put in place."""

    def in_place(self, plan: InstallPlan) -> bool | None:
        """Ask the driver; one that fails, or asks to try again later, tells nothing."""
        try:
            return self._is_in_place(plan)
        except TowpathError:
            return None

    def _is_in_place(self, plan: InstallPlan) -> bool:
        driver = _driver_of(plan)
        known = self._recorded(plan).get(driver)
        if known is None or replace(known, previous=None) != _request(plan, None):
            return True
        return self._ask(Verb.VERIFY, plan, driver, known) is True

    def prune(self, app_dir: Path, keep: int, keep_bytes: int = 0) -> list[str]:
        """Delete the oldest releases beyond `keep` and `keep_bytes`, never current or previous."""
        return self._tree.prune(app_dir, keep, keep_bytes)

    def _program(self, plan: InstallPlan, driver: str | None = None) -> Path:
        return find_driver(plan, driver or _driver_of(plan), self._files, self._system)

    def _ask(self, verb: Verb, plan: InstallPlan, driver: str, request: Request) -> bool | None:
        """Ask the driver that is recorded as `driver`; one of a tree is that of the release it was asked for."""
        program = self._program(replace(plan, release_id=request.release), driver)
        self._files.make_dirs(request.state, 0o700)
        timeout_ms = plan.release.install.options.get("timeout", DEFAULT_TIMEOUT_MS)
        assert isinstance(timeout_ms, int)  # noqa: S101 - check_release saw to it
        return Driver(program, self._clock, timeout_ms / 1000).ask(verb, request).ok

    # -- the record

    def _recorded(self, plan: InstallPlan) -> dict[str, Request]:
        """Return driver to request; a garbled record means that the plan's own driver may have put something there."""
        try:
            raw = json.loads(self._files.read(plan.app_dir / RECORD, _MAX_RECORD_BYTES))
            return {str(driver): _from_record(plan, fields) for driver, fields in raw.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError, TowpathError):
            return {_driver_of(plan): _request(plan, None)}

    def _record(self, plan: InstallPlan, requests: Mapping[str, Request]) -> None:
        raw = {driver: _to_record(requests[driver]) for driver in sorted(requests)}
        data = json.dumps(raw).encode()
        path = plan.app_dir / RECORD
        if not self._files.exists(path) or self._files.read(path, _MAX_RECORD_BYTES) != data:
            self._files.write_atomic(path, data)


def _driver_of(plan: InstallPlan) -> str:
    return str(plan.release.install.options["driver"])


def _request(plan: InstallPlan, previous_id: str | None) -> Request:
    before = previous_id if previous_id != plan.release_id else None
    return Request(
        app=plan.app,
        version=plan.release.version,
        release=plan.release_id,
        folder=plan.folder,
        previous=_place(plan, before) if before is not None else None,
        state=plan.app_dir / STATE,
        parameters=plan.parameters,
        options=_options(plan),
    )


def _options(plan: InstallPlan) -> dict[str, str]:
    pairs = plan.release.install.options.get("options", ())
    assert isinstance(pairs, tuple)  # noqa: S101 - check_release saw to it
    result = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        result[name] = _filled(plan, name, value)
    return result


def _filled(plan: InstallPlan, name: str, value: str) -> str:
    try:
        return render(value, plan.parameters)
    except KeyError as error:
        raise Broken(f"cannot install {plan.app}: option {name!r} names {error}, which is no parameter") from error


def _place(plan: InstallPlan, release_id: str) -> tuple[str, Path]:
    return release_id, plan.app_dir / RELEASES / release_id


def _to_record(request: Request) -> dict[str, object]:
    """Return what must be known to ask again; no folders, so that the agent's folder can be moved."""
    return {
        "version": request.version,
        "release": request.release,
        "previous": request.previous[0] if request.previous is not None else None,
        "parameters": dict(request.parameters),
        "options": dict(request.options),
    }


def _from_record(plan: InstallPlan, fields: Mapping[str, object]) -> Request:
    """Return what `_to_record` kept; KeyError or TypeError where it is garbled."""
    parameters, options, previous = fields["parameters"], fields["options"], fields["previous"]
    release, folder = _place(plan, str(fields["release"]))
    if not isinstance(parameters, dict) or not isinstance(options, dict):
        raise TypeError("no mappings")
    return Request(
        app=plan.app,
        version=str(fields["version"]),
        release=release,
        folder=folder,
        previous=_place(plan, previous) if isinstance(previous, str) else None,
        state=plan.app_dir / STATE,
        parameters={str(name): _value(value) for name, value in parameters.items()},
        options={str(name): str(value) for name, value in options.items()},
    )


def _value(value: object) -> Value:
    if isinstance(value, list):
        return tuple(str(item) for item in value)
    if isinstance(value, str | int):
        return value
    raise TypeError("no value of a parameter")
