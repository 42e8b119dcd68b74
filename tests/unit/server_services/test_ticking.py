"""A tick follows what changed: whatever happens between two ticks, it decides as one that reads everything anew."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from fakes.deciding import SetClock, deciding, deploy, enrol, remember
from fakes.rows import DIGEST, OLD, OLD_DIGEST, REVERTED, assignment, host, reported
from towpath.budgets import parse_budgets
from towpath.errors import Broken, InputError
from towpath.holds import Hold
from towpath.status import State, Verdict
from towpath.waves import parse_waves
from towpath_server.domain import rolling
from towpath_server.domain.model import Host, HostStatus, OnBreach, RolloutState
from towpath_server.domain.rollout_table import Act, can
from towpath_server.services import rollouts, steering, syncing, ticking
from towpath_server.services.context import Context
from towpath_server.storage import SqlStorage

STEPS = 40
STATES = [
    OLD,
    reported(),
    reported(State.FETCHING, current_sha256=OLD_DIGEST),
    reported(State.WATCHING),
    REVERTED,
    replace(REVERTED, verdict=Verdict.INCONCLUSIVE),
]


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    storage = SqlStorage(tmp_path / "towpath.db")
    yield deciding(storage, SetClock())
    storage.close()


def look(context: Context) -> None:
    """Decide by what was followed and by everything read anew; they must agree about every rollout."""
    ticking.hear(context)
    rosters = context.cache.rosters
    with context.storage.transaction() as tx:
        kept = rosters["dev"] = ticking.follow(context, tx, rosters.get("dev"), "dev")
        place = rollouts.load(context, tx, "dev")
        assert kept.place.assignments == place.assignments
        assert list(kept.rows.values()) == list(place.hosts)
        for one in place.assignments:
            if one.state.active or one.state.returning:
                whole = rollouts.view(context, tx, place, one)
                assert kept.decide(context, tx, one) == rolling.decide(whole, place.now_unix_ms)


def tick(context: Context, *, before: bool = True) -> None:
    """Tick and look at what it left; `before`: look first too, so that the tick itself has nothing to follow."""
    if before:
        look(context)
    ticking.tick(context, {"dev"})
    look(context)


class History:
    """Random things that happen to a server: hosts speak, come, go and are changed; operators act; time passes."""

    def __init__(self, context: Context, rng: Random) -> None:
        self.context = context
        self.rng = rng
        self.revision = 0
        self.clock: SetClock = context.clock  # type: ignore[assignment]

    def host(self) -> Host:
        with self.context.storage.transaction() as tx:
            return self.rng.choice(tx.hosts("dev"))

    def report(self) -> None:
        self.revision += 1
        state = self.rng.choice(STATES)
        with self.context.storage.transaction() as tx:
            newest = max(one.generation for one in tx.assignments())
        generation = 0 if state is OLD else self.rng.choice([newest, newest, 1])
        digest = state.current_sha256 if state.current_sha256 == OLD_DIGEST else self.rng.choice([DIGEST, b"e" * 32])
        syncing.report(
            self.context,
            self.host().id,
            [],
            [replace(state, generation=generation, current_sha256=digest)],
            self.revision,
        )

    def presence(self) -> None:
        host_id, presence = self.host().id, self.context.presence
        self.rng.choice(
            [
                lambda: presence.seen(host_id, self.clock.now),
                lambda: presence.watch(host_id),
                lambda: presence.unwatch(host_id, self.clock.now),
            ]
        )()

    def hold(self) -> None:
        row = self.host()
        until = self.clock.now + self.rng.choice([1_000, 200_000])
        holds = self.rng.choice(
            [(), (Hold(app="hello", by="ana", reason="the till", since_unix_ms=self.clock.now, until_unix_ms=until),)]
        )
        syncing.learn(self.context, row.id, syncing.SyncQuestion(b"", row.state_revision, "1", "", "boot", holds))

    def change(self) -> None:
        row = self.host()
        after = self.rng.choice(
            [
                replace(row, labels={"role": "web", "wave": "canary", "rack": self.rng.choice("ab")}),
                replace(row, labels={"role": self.rng.choice(["web", "web", "db"])}),
                replace(row, status=self.rng.choice([HostStatus.ACTIVE, HostStatus.ACTIVE, HostStatus.REVOKED])),
                replace(row, platform=self.rng.choice(["", "linux/arm64"])),
            ]
        )
        with self.context.storage.transaction() as tx:
            tx.put_host(after)

    def newcomer(self) -> None:
        with self.context.storage.transaction() as tx:
            tx.add_host(host(f"n{len(tx.hosts())}", labels={"role": "web"}))

    def release(self) -> None:
        """Deploy something newer for the same rule, or for every host."""
        with self.context.storage.transaction() as tx:
            generation = tx.next_generation()
            selector = self.rng.choice([{"role": "web"}, {"role": "web"}, {}])
            digest = self.rng.choice([DIGEST, b"e" * 32])
            newer = assignment(
                generation,
                selector=selector,
                release_sha256=digest,
                on_breach=self.rng.choice(list(OnBreach)),
                max_unavailable=2,
                waves=parse_waves("canary,50%"),
                budgets=self.rng.choice([(), parse_budgets(["rack=1"]), parse_budgets(["rack=50%", "wave=1"])]),
                order_label=self.rng.choice(["", "rack"]),
                priority=self.rng.choice([0, 0, 5]),
            )
            for one in tx.assignments():
                if dict(one.selector) == selector and can(one.state, Act.SUPERSEDE):
                    tx.put_assignment(replace(one, state=RolloutState.SUPERSEDED))
            tx.add_assignment(newer)
        remember(self.context, newer)

    def order(self) -> None:
        with self.context.storage.transaction() as tx:
            one = self.rng.choice(tx.assignments())
        verb = self.rng.choice(["pause", "resume", "halt", "advance", "retry", "cancel"])
        with suppress(InputError):
            steering.steer(self.context, "operator/ann", verb, one.id)

    def step(self) -> None:
        acts = [self.report] * 8 + [self.presence] * 6 + [self.hold] * 2
        acts += [self.change, self.newcomer, self.release, self.order]
        self.rng.choice(acts)()
        self.clock.now += self.rng.choice([0, 1_000, 1_000, 30_000, 95_000, -5_000])


@pytest.mark.parametrize("seed", range(8))
def test_a_tick_that_follows_decides_as_one_that_reads_everything(context: Context, seed: int) -> None:
    """After every step of a random history, for each rollout, to the last word of its reason."""
    history = History(context, Random(seed))
    context.heard_unix_ms = seed % 2  # who was never heard is expected, or not
    enrol(context, 8)
    policy = {"max_unavailable": 2, "max_failures": 2, "waves": parse_waves("canary,50%")}
    deploy(context, **policy, on_breach=OnBreach.REVERT, budgets=parse_budgets(["rack=1"]))
    for _ in range(STEPS):
        history.step()
        act = history.rng.choice(["tick", "tick at once", "look"])
        look(context) if act == "look" else tick(context, before=act == "tick")


@pytest.mark.parametrize("turns", [("id-h0", "id-h1"), ("id-h1", "id-h0")])
def test_the_limit_holds_where_hosts_come_back_one_after_the_other(context: Context, turns: tuple[str, str]) -> None:
    """That a host is there again is written down by the tick that lets it in; the next one has to know of both."""
    enrol(context, 2)
    deploy(context, max_unavailable=1)
    clock: SetClock = context.clock  # type: ignore[assignment]
    ticking.tick(context, {"dev"})
    clock.now += 1_000_000
    for host_id in turns:
        context.presence.seen(host_id, clock.now)
        ticking.tick(context, {"dev"})
        with context.storage.transaction() as tx:
            assert set(tx.admissions("a1")) == {turns[0]}
    look(context)


def test_the_limit_holds_in_every_environment_that_one_tick_decides(context: Context) -> None:
    """Each admits and writes its rollout down in the same transaction, one after the other."""
    places = ("dev", "production", "staging")
    with context.storage.transaction() as tx:
        for place in places:
            for number in range(3):
                tx.add_host(host(f"{place}{number}", environment=place))
    for generation, place in enumerate(places, 1):
        deploy(context, generation, environment=place, max_unavailable=1)
        for number in range(3):
            context.presence.watch(f"id-{place}{number}")
    for _ in range(3):
        ticking.tick(context, set(places))
        with context.storage.transaction() as tx:
            assert [len(tx.admissions(f"a{generation}")) for generation in (1, 2, 3)] == [1, 1, 1]
            for place in places:
                kept = ticking.follow(context, tx, context.cache.rosters[place], place)
                assert kept.place.assignments == tuple(tx.assignments(environment=place))


def test_a_clock_that_is_set_back_and_runs_on_finds_the_same_hosts_silent_again(context: Context) -> None:
    """What time ended once ends once more: nothing is remembered of a time that has not been yet."""
    enrol(context, 2)
    deploy(context, state=RolloutState.PAUSED)
    clock: SetClock = context.clock  # type: ignore[assignment]
    began = clock.now
    tick(context)
    context.presence.seen("id-h0", began)
    for ahead in (1, 95_000, 2, 95_000):
        clock.now = began + ahead
        tick(context)


def test_a_tick_of_idle_hosts_reads_no_host(context: Context) -> None:
    """What did not change is not read again, however large the fleet."""
    enrol(context, 50)
    deploy(context, max_unavailable=5)
    for row in range(50):
        context.presence.watch(f"id-h{row}")
    ticking.tick(context, {"dev"})
    ticking.tick(context, {"dev"})
    kept = context.cache.rosters["dev"]
    before, tally = dict(kept.rows), kept.tallies["a1"]
    ticking.tick(context, {"dev"})
    syncing.report(context, "id-h1", [], [reported(State.WATCHING)], 1)
    ticking.tick(context, {"dev"})
    after = context.cache.rosters["dev"]
    assert after.tallies["a1"] is tally, "the tally was made anew"
    assert {host_id for host_id, row in after.rows.items() if row is not before[host_id]} == {"id-h1"}


def own_acts(context: Context) -> list[tuple[str, str, str]]:
    with context.storage.transaction() as tx:
        return [(row.act, row.subject, row.detail) for row in tx.audit(100) if row.actor == "server"]


@pytest.mark.parametrize("on_breach", OnBreach)
def test_what_a_server_decides_by_itself_is_in_the_audit_log_once(context: Context, on_breach: OnBreach) -> None:
    """A wave that opens, and each state with its reason; a tick that changes neither writes nothing."""
    enrol(context, 3)
    deploy(context, max_unavailable=3, waves=parse_waves("1,2"), on_breach=on_breach)
    for row in range(3):
        context.presence.watch(f"id-h{row}")
    tick(context)
    assert own_acts(context) == []
    with context.storage.transaction() as tx:
        (first,) = [host_id for host_id, them in tx.admissions_of(["id-h0", "id-h1", "id-h2"]).items() if them]
    syncing.report(context, first, [], [reported()], 1)
    tick(context)
    tick(context)
    opened = ("rollout.wave", "rollout/a1", "hello 1.0.0 in dev: wave 2 of 3 (2) is open")
    assert own_acts(context) == [opened]
    with context.storage.transaction() as tx:
        admitted = {host_id for host_id, them in tx.admissions_of(["id-h0", "id-h1", "id-h2"]).items() if them}
    (second,) = admitted - {first}
    syncing.report(context, second, [], [REVERTED], 1)
    tick(context)
    tick(context)
    why = f"1 of 2 finished hosts failed, 0 allowed: {second.removeprefix('id-')}: probe http failed"
    state = "reverting" if on_breach is OnBreach.REVERT else "halted"
    expected = [opened, (f"rollout.{state}", "rollout/a1", f"hello 1.0.0 in dev: rolling to {state}, {why}")]
    assert own_acts(context) == expected
    syncing.report(context, first, [], [], 2)
    tick(context)
    if on_breach is OnBreach.REVERT:
        said = f"hello 1.0.0 in dev: reverting to reverted, {why}"
        assert own_acts(context) == [*expected, ("rollout.reverted", "rollout/a1", said)]


def test_who_takes_part_in_a_decision_is_written_down_with_it(context: Context) -> None:
    """A server that is killed right after it let a wave pass is followed by one that expects the same hosts."""
    enrol(context, 2)
    deploy(context)
    now = context.clock.now_unix_ms()
    context.presence.seen("id-h1", now)
    ticking.tick(context, {"dev"})
    with context.storage.transaction() as tx:
        assert {row.name: row.last_seen_unix_ms for row in tx.hosts()} == {"h0": 0, "h1": now}
    assert context.presence.unwritten() == {}


def test_a_tick_that_could_not_commit_is_forgotten(context: Context) -> None:
    """What it had in memory was of rows that never were: the next tick reads everything."""
    enrol(context, 4)
    deploy(context)
    ticking.tick(context, {"dev"})

    storage = context.storage

    class Wrapped:
        """A transaction on a full disk."""

        def __init__(self, inner: object) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> object:
            if name == "put_assignment":
                raise Broken("cannot use towpath.db: database or disk is full")
            return getattr(self._inner, name)

    class Failing:
        """A storage whose disk is full."""

        @contextmanager
        def transaction(self) -> Iterator[object]:
            with storage.transaction() as tx:
                yield Wrapped(tx)

    for row in range(4):
        context.presence.watch(f"id-h{row}")
    context.storage = Failing()  # type: ignore[assignment]
    with pytest.raises(Broken):
        ticking.tick(context, {"dev"})
    context.storage = storage
    with storage.transaction() as tx:
        assert tx.admissions("a1") == {}
    tick(context)
    with storage.transaction() as tx:
        assert len(tx.admissions("a1")) == 1
