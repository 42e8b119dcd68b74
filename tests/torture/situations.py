"""What a host is in the middle of when a fault strikes: a settled base, and one wish that is new to it.

Situations are generated: each installer of the agent's registry that has a sample (`samples`) times each story, a
handover, pairs of kinds, sets, and each older journal in tests/golden. A kind that cannot be played is not passed over
in silence: `unplayed` names it and says why, and the table of `make torture` shows it as skipped.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from fakes.host import SimulatedHost
from torture.samples import HANDOVER, HEALTH, HOOKS, SAMPLES, sample_of
from towpath.release import Release
from towpath_agent.installers import INSTALLERS
from towpath_agent.journal import SCHEMA_VERSION

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@dataclass(frozen=True, slots=True)
class Goal:
    """One app's wish: from version `old` to `new` ("": nothing). `ill`: the new one's probes never pass."""

    old: str
    new: str
    ill: bool = False


@dataclass(frozen=True)
class Situation:
    """`base` brings a new host to rest, `act` lets the server want something else; `samples` are what it installs."""

    name: str
    goals: Mapping[str, Goal]
    base: Callable[[SimulatedHost], None]
    act: Callable[[SimulatedHost], None]
    samples: tuple[str, ...]

    @property
    def slow(self) -> bool:
        """Return whether real tools are at work, so that of its cases only a part can be played."""
        return any(sample_of(kind).slow for kind in self.samples)


def unplayed() -> dict[str, str]:
    """Return the installers of the registry that cannot be played here, and why."""
    missing = {kind: sample.missing() for kind, sample in SAMPLES.items()}
    nobody = dict.fromkeys(sorted(set(INSTALLERS) - set(SAMPLES)), "has no sample in tests/torture/samples.py")
    return {kind: why for kind, why in missing.items() if why} | nobody


def situations() -> dict[str, Situation]:
    """Return every situation by name."""
    return {it.name: it for it in _all()}


def _all() -> Iterator[Situation]:
    absent = unplayed()
    kinds = [kind for kind in INSTALLERS if kind not in absent]
    for kind in [*kinds, HANDOVER]:
        yield from _stories(kind)
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

    def base(host: SimulatedHost) -> None:
        _equip(host, (kind,))
        _rest(host, {"hello": Goal("1.0.0", "")}, kind)

    yield Situation(
        f"new parameter of a {kind}",
        {"hello": Goal("1.0.0", "1.0.0")},
        base,
        lambda host: host.assign(host.wishes[0][0], generation=2, parameters={"port": 9001}),
        (kind,),
    )


def _story(name: str, goals: Mapping[str, Goal], old: str, new: str) -> Situation:
    samples = (old,) if old == new else (old, new)

    def base(host: SimulatedHost) -> None:
        _equip(host, samples)
        _rest(host, goals, old)

    def act(host: SimulatedHost) -> None:
        releases = [publish(host, app, goal.new, new) for app, goal in goals.items() if goal.new]
        host.ill |= {goal.new for goal in goals.values() if goal.ill}
        host.assign(*releases, generation=2)

    return Situation(name, goals, base, act, samples)


def _equip(host: SimulatedHost, samples: tuple[str, ...]) -> None:
    for name in samples:
        sample_of(name).equip(host)


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


def publish(host: SimulatedHost, app: str, version: str, sample: str) -> Release:
    """Publish a release of that sample, with a hook at every point."""
    fields = {"hooks": HOOKS, "health": HEALTH, **sample_of(sample).fields(host, app, version)}
    return host.publish(version, app=app, **fields)


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
    return Situation(f"upgrade on a journal {age}, {version}", goals, base, plain.act, plain.samples)


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
