"""What a host is in the middle of when a fault strikes: a settled base, and one wish that is new to it.

Situations are generated: each installer of the agent's registry that has a sample here times each story, and each older
journal in tests/golden. A kind without a sample is not passed over in silence: `unsampled` names it, and the table of
`make torture` shows it as skipped.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from fakes.host import SimulatedHost
from towpath import handover
from towpath.release import HOOK_POINTS, Hook, Install, Release
from towpath_agent.installers import INSTALLERS
from towpath_agent.journal import SCHEMA_VERSION

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
# Handovers have scenarios of their own (tests/scenarios/test_handover.py): two copies run, which the oracle here forbids.
POINTS = tuple(point for point in HOOK_POINTS if point != handover.HOOK_POINT)
HOOKS = tuple(Hook(point, ("bin/serve", point), timeout_ms=5_000) for point in POINTS)

# How a release of one file is installed by each kind, with so few kept that each confirm has something to clean up;
# `outside` is a folder beside the agent's own.
SAMPLES: Mapping[str, Callable[[Path, str], Install]] = {
    "tree": lambda _outside, _app: Install("tree", {"shared": ("data/", "bin/serve.conf")}, keep=2),
    "file": lambda outside, app: Install("file", {"path": str(outside / f"{app}.conf")}, keep=2),
}


@dataclass(frozen=True, slots=True)
class Goal:
    """One app's wish: from version `old` to `new` ("": nothing). `ill`: the new one's probes never pass."""

    old: str
    new: str
    ill: bool = False


@dataclass(frozen=True)
class Situation:
    """`base` brings a new host to rest, `act` lets the server want something else."""

    name: str
    goals: Mapping[str, Goal]
    base: Callable[[SimulatedHost], None]
    act: Callable[[SimulatedHost], None]


def unsampled() -> list[str]:
    """Return the installers of the registry for which nobody wrote a sample."""
    return sorted(set(INSTALLERS) - set(SAMPLES))


def situations() -> dict[str, Situation]:
    """Return every situation by name."""
    return {it.name: it for it in _all()}


def _all() -> Iterator[Situation]:
    for kind in INSTALLERS:
        if kind in SAMPLES:
            yield from _stories(kind)
    kinds = [kind for kind in INSTALLERS if kind in SAMPLES]
    for old, new in pairwise(kinds):
        yield _story(f"from {old} to {new}", {"hello": Goal("1.0.0", "2.0.0")}, old, new)
        yield _story(f"from {new} to {old}, bad", {"hello": Goal("1.0.0", "2.0.0", ill=True)}, new, old)
    two = {"hello": Goal("1.0.0", "2.0.0"), "world": Goal("", "1.0.0")}
    yield _story("set of two", two, kinds[0], kinds[0])
    half = {"hello": Goal("1.0.0", "2.0.0", ill=True), "world": Goal("1.0.0", "2.1.0")}
    yield _story("set of two, one bad", half, kinds[0], kinds[0])
    for path in sorted(GOLDEN.glob("journal-v*.db")):
        yield _old_journal(path)


def _stories(kind: str) -> Iterator[Situation]:
    for name, goal in {
        "first install": Goal("", "1.0.0"),
        "bad first install": Goal("", "1.0.0", ill=True),
        "upgrade": Goal("1.0.0", "2.0.0"),
        "bad upgrade": Goal("1.0.0", "2.0.0", ill=True),
        "removal": Goal("1.0.0", ""),
    }.items():
        yield _story(f"{name} of a {kind}", {"hello": goal}, kind, kind)
    yield Situation(
        f"new parameter of a {kind}",
        {"hello": Goal("1.0.0", "1.0.0")},
        lambda host: _rest(host, {"hello": Goal("1.0.0", "")}, kind),
        lambda host: host.assign(host.wishes[0][0], generation=2, parameters={"port": 9001}),
    )


def _story(name: str, goals: Mapping[str, Goal], old: str, new: str) -> Situation:
    def act(host: SimulatedHost) -> None:
        releases = [publish(host, app, goal.new, new) for app, goal in goals.items() if goal.new]
        host.ill |= {goal.new for goal in goals.values() if goal.ill}
        host.assign(*releases, generation=2)

    return Situation(name, goals, lambda host: _rest(host, goals, old), act)


def _rest(host: SimulatedHost, goals: Mapping[str, Goal], kind: str) -> None:
    """Let the host run what is old, past probation; also the release before it, so that there is a previous."""
    host.boot()
    old = {app: goal.old for app, goal in goals.items() if goal.old}
    if old:
        for generation, version in enumerate(("0.9.0", "")):
            host.assign(*[publish(host, app, version or it, kind) for app, it in old.items()], generation=generation)
            host.settle()
            host.run(120)
    else:
        host.settle()


def publish(host: SimulatedHost, app: str, version: str, kind: str) -> Release:
    """Publish a release of that kind, with a hook at every point."""
    outside = host.folder.parent / "outside"
    return host.publish(version, app=app, install=SAMPLES[kind](outside, app), hooks=HOOKS)


def _old_journal(golden: Path) -> Situation:
    goals = {"hello": Goal("1.0.0", "2.0.0")}
    plain = _story("", goals, "tree", "tree")

    def base(host: SimulatedHost) -> None:
        plain.base(host)
        host.journal.close()
        rewrite_journal(host.folder / "state.db", golden)
        host.boot()

    version = _schema_version(golden)
    age = "of today's schema" if version == SCHEMA_VERSION else "of an older schema"
    return Situation(f"upgrade on a journal {age}, {version}", goals, base, plain.act)


def _schema_version(path: Path) -> int:
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return int(db.execute("PRAGMA user_version").fetchone()[0])
    finally:
        db.close()


def rewrite_journal(path: Path, golden: Path) -> None:
    """Write the journal at `path` anew in the schema of `golden`: what both know of is kept, as that version had it."""
    old = path.with_name("old.db")
    source = sqlite3.connect(golden)
    tables = dict(
        source.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE '%sqlite_%'")
    )
    tables.pop("sqlite_sequence", None)
    version = source.execute("PRAGMA user_version").fetchone()[0]
    source.close()
    db = sqlite3.connect(old)
    db.execute("ATTACH ? AS now", (str(path),))
    for name, sql in tables.items():
        db.execute(sql)
        then = [row[1] for row in db.execute(f"PRAGMA main.table_info({name})")]
        now = {row[1] for row in db.execute(f"PRAGMA now.table_info({name})")}
        both = ", ".join(column for column in then if column in now)
        if both:
            db.execute(f"INSERT INTO main.{name} ({both}) SELECT {both} FROM now.{name}")
    db.commit()
    db.execute("DETACH now")
    db.execute(f"PRAGMA user_version={version}")
    db.close()
    old.rename(path)
