"""What must be true of a host after any fault, FAULTS section 1. Each check returns what is wrong, one line each.

previous-and-healthy or new-and-healthy; `current` names a complete tree whose digest is the release's; the server's view
is the host's; the chain of states and the verdict are the model's; recovery run twice equals once; nothing outside the
app's own folders changed; a first install that failed leaves nothing running.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from fakes.host import SimulatedHost
from torture import trees
from torture.model import Expected
from torture.rewind import Moment
from torture.samples import MACHINE, sample_of
from torture.situations import Situation
from towpath.status import Health, State, Verdict
from towpath.wire import decode_release
from towpath_agent.runner.site import Site, id_of
from towpath_agent.store import Store
from towpath_agent.system.files import TEMP_PREFIX, Files

_VERDICT = {State.CONFIRMED: (Verdict.SUCCEEDED,), State.REVERTED: (Verdict.FAILED, Verdict.INCONCLUSIVE)}


def check(host: SimulatedHost, moment: Moment, situation: Situation, expected: Mapping[str, Expected]) -> list[str]:
    """Return everything that is wrong with a host that came to rest."""
    wrong: list[str] = []
    for app, wanted in expected.items():
        wrong += _chain(host, moment, app, wanted)
        wrong += _runs(host, app, wanted.version)
        wrong += _in_place(host, situation, app, wanted.version)
    wrong += _agree(host)
    wrong += _clean(host, moment, expected)
    return wrong


def _chain(host: SimulatedHost, moment: Moment, app: str, wanted: Expected) -> list[str]:
    told: dict[str, list[Any]] = {}
    for event in host.server.events.values():
        if event.kind == "transition" and event.app == app and event.id not in moment.server["events"]:
            told.setdefault(event.transaction, []).append(event)
    chains = tuple(tuple(State(event.state) for event in events) for events in told.values())
    wrong = []
    if chains != wanted.chains:
        wrong.append(f"{app}: reported {_show(chains)}, must be {_show(wanted.chains)}")
    for events in told.values():
        last = events[-1]
        state = State(last.state)
        if state in _VERDICT and last.verdict not in _VERDICT[state]:
            wrong.append(f"{app}: {state} was reported with the verdict {last.verdict!r}")
        if state is State.REVERTED and not any(event.reason for event in events):
            wrong.append(f"{app}: reverted without a reason")
    return wrong


def _show(chains: tuple[tuple[State, ...], ...]) -> str:
    return " then ".join(">".join(state.value for state in chain) for chain in chains) or "nothing"


def _runs(host: SimulatedHost, app: str, version: str) -> list[str]:
    wrong = []
    if (host.live(app), host.serving(app)) != (version, version):
        wrong.append(f"{app}: {host.live(app)!r} is linked and {host.serving(app)!r} runs, must be {version!r}")
    current = host.journal.deployed("current").get(app)
    if not version:
        return wrong + ([f"{app}: the journal says that {current.wish.version} runs"] if current is not None else [])
    if current is None:
        return [*wrong, f"{app}: the journal does not know what runs"]
    files = Files()
    site = Site(host.folder, files, Store(host.folder / "store", files))
    if host.live(app) and site.files.read_link(site.app_dir(app) / "current") != f"releases/{id_of(current)}":
        wrong.append(f"{app}: current names another release than the journal")
    plan = site.plan(current, site.entries(current))
    if not host.installers[plan.release.install.kind](files).verify(plan):
        wrong.append(f"{app}: {version} is not in place as it was signed")
    served = host.world.proxy.get(app)
    if served is not None and version not in {it.rpartition("-")[0] for it in host.world.behind(app)}:
        wrong.append(f"{app}: requests go to {served}, where {version} does not run")
    return wrong


def _in_place(host: SimulatedHost, situation: Situation, app: str, version: str) -> list[str]:
    """Return where a tool has something else in place than what the host runs by it."""
    current = host.journal.deployed("current").get(app)
    live = decode_release(current.release).install.kind if current is not None and version else ""
    wrong = []
    for kind in situation.samples:
        there = sample_of(kind).there
        if there is None:
            continue
        found, wanted = there(host, app), version if kind == live else ""
        if found != wanted:
            wrong.append(f"{app}: {kind} has {found!r} in place, must have {wanted!r}")
    return wrong


def _agree(host: SimulatedHost) -> list[str]:
    wrong = []
    own = {state.app: state for state in host.journal.app_states()}
    if own != host.server.apps:
        wrong.append(
            f"the server believes {sorted(host.server.apps)} where the host says {sorted(own)}, or differently"
        )
    for app, state in own.items():
        if host.live(app) and state.health is not Health.HEALTHY:
            wrong.append(f"{app}: {state.current_version} runs but is {state.health}: {state.reason}")
        if state.current_version != host.live(app):
            wrong.append(f"{app}: told {state.current_version!r}, linked is {host.live(app)!r}")
    if host.journal.outbox(1):
        wrong.append("reports were not sent")
    wrong += [f"{tx.app}: left in {tx.state}" for tx in host.journal.transactions() if not tx.state.ended]
    return wrong


def _clean(host: SimulatedHost, moment: Moment, expected: Mapping[str, Expected]) -> list[str]:
    here = trees.take(host.folder.parent)
    wrong = [f"left over: {path}" for path in here if path.startswith("host/staging/")]
    wrong += [f"it was damaged: {path}" for path in here if ".damaged" in path.rpartition("/")[2]]
    own = {f"outside/{app}.conf" for app in expected} | {"host"}
    before, after = trees.facts(moment.tree), trees.facts(here)
    strange = [
        path
        for path in before.keys() | after.keys()
        if not path.startswith(("host/", MACHINE)) and path not in own and before.get(path) != after.get(path)
    ]
    return wrong + [f"changed outside of the app's own: {path}" for path in sorted(strange)]


def twice(host: SimulatedHost, situation: Situation) -> list[str]:
    """Return what a second recovery changed on a host that came to rest."""
    before, journal, log = _rest(host, situation), _rows(host), list(host.world.log)
    host.boot()
    host.agent.hint()
    host.settle()
    after = _rest(host, situation)
    changed = [path for path in _changes(before, after) if f"/{TEMP_PREFIX}" not in path]
    wrong = [f"recovering twice changed {path}" for path in changed]
    if _rows(host) != journal:
        wrong.append("recovering twice changed the journal")
    if host.world.log != log:
        wrong.append(f"recovering twice touched what runs: {host.world.log[len(log) :]}")
    temporary = [path for path in after if f"/{TEMP_PREFIX}" in path]
    return wrong + [f"left over after two starts: {path}" for path in temporary]


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]


def _rest(host: SimulatedHost, situation: Situation) -> dict[str, Any]:
    """Return every file but those that each start, sync or look of a tool may write: SQLite's bytes, floors, locks."""
    tools = [f"{MACHINE}/{path}" for kind in situation.samples for path in sample_of(kind).restless]
    own = ("host/state.db", "host/trust/floors.json", "host/trust/metadata", *tools)
    return {path: it for path, it in trees.facts(trees.take(host.folder.parent)).items() if not path.startswith(own)}


def _rows(host: SimulatedHost) -> dict[str, list[Any]]:
    """Return what the journal holds, without the events and times that a further start may add."""
    with closing(sqlite3.connect(f"file:{host.folder / 'state.db'}?mode=ro", uri=True)) as db:
        return {
            name: sorted(db.execute(f"SELECT * FROM {name}"), key=repr)
            for name in ("deployed", "txn", "failure", "desired")
        }
