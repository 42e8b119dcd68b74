"""Who can have a delta made: hosts by what they are to run or to fetch ahead, a start by what is under way."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from fakes.deciding import SetClock, deciding
from fakes.rows import assignment, host
from towpath.errors import Broken, InputError
from towpath.manifest import DesiredApp
from towpath.release import Artifact, Install, Release, Run
from towpath.wire import encode_release
from towpath_server.domain.deltas import Pair
from towpath_server.domain.model import PublishedRelease, RolloutState
from towpath_server.ports import Transaction
from towpath_server.services import applying, encoding
from towpath_server.services.applying import Refused, Step
from towpath_server.services.context import Act, Context, HostEntry, Need
from towpath_server.storage import SqlStorage


class Asked:
    """`context.Needs` that remembers."""

    def __init__(self) -> None:
        self.needs: list[Need] = []

    def ask(self, need: Need) -> None:
        self.needs.append(need)


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    """Four releases of hello are published, one of other."""
    storage = SqlStorage(tmp_path / "towpath.db")
    context = deciding(storage, SetClock())
    context.needs = Asked()
    with storage.transaction() as tx:
        for number in range(1, 5):
            tx.add_release(published("hello", number))
        tx.add_release(published("other", 1))
    yield context
    storage.close()


def index(app: str, number: int) -> bytes:
    return f"{app}{number}".encode().ljust(32, b"-")


def published(app: str, number: int) -> PublishedRelease:
    artifact = Artifact(index(app, number), 1, 1)
    release = Release(app, f"{number}.0.0", number, artifact, Install("tree"), Run("process", command=("bin/serve",)))
    return PublishedRelease(app, release.version, number, index(app, number), encode_release(release), 0, "ann")


def asked(context: Context) -> list[Need]:
    assert isinstance(context.needs, Asked)
    return context.needs.needs


def wants(number: int) -> DesiredApp:
    return DesiredApp("hello", f"{number}.0.0", b"d" * 32, 1, number)


def test_a_start_asks_for_what_is_under_way_and_not_for_history(context: Context) -> None:
    """What was replaced or taken back is nobody's way any more, and would push out deltas that are."""
    states = (RolloutState.SUPERSEDED, RolloutState.REVERTED, RolloutState.ROLLING, RolloutState.CANCELLED)
    with context.storage.transaction() as tx:
        for number, state in enumerate(states, 1):
            tx.add_assignment(assignment(number, state=state))
    encoding.at_start(context)
    assert asked(context) == [Need("hello", "3.0.0")]


def test_a_host_has_deltas_made_only_from_releases_and_to_what_it_is_told(context: Context) -> None:
    """Names that it invents, and another app's, are no needs; what it may fetch ahead is one."""
    with context.storage.transaction() as tx:
        tx.add_assignment(assignment(3))
    encoding.at_start(context)
    asked(context).clear()
    entry = HostEntry(host(), (wants(3),), (wants(4),))
    for old in (b"x" * 32, index("other", 1)):
        encoding.wanted_by(context, entry, Pair(old, index("hello", 3)))
    encoding.wanted_by(context, entry, Pair(index("hello", 1), index("hello", 2)))
    assert asked(context) == []
    encoding.wanted_by(context, entry, Pair(index("hello", 1), index("hello", 3)))
    encoding.wanted_by(context, entry, Pair(index("hello", 2), index("hello", 4)))
    assert asked(context) == [
        Need("hello", "3.0.0", index("hello", 1)),
        Need("hello", "4.0.0", index("hello", 2)),
    ]


def test_steps_that_are_done_together_need_what_each_alone_would(context: Context) -> None:
    """Nothing of it where one cannot be, which is told by its number, or where it was only tried."""

    def need(act: Act) -> None:
        act.needs.append(Need("hello", "1.0.0"))

    def refuse(_act: Act) -> None:
        raise InputError("cannot do that")

    good, bad = Step("deploy", "app/hello", need), Step("deploy", "app/other", refuse)
    assert applying.apply(context, "ann", [good, good], dry_run=True) is None
    assert applying.apply(context, "ann", [good, bad], dry_run=False) == Refused(1, "cannot do that")
    assert asked(context) == []
    assert applying.apply(context, "ann", [good, good], dry_run=False) is None
    assert asked(context) == [Need("hello", "1.0.0")] * 2


def test_what_is_applied_announces_releases_as_a_deploy_does(context: Context) -> None:
    """A host that is only to fetch ahead is in no rollout yet: nothing else would forget what it was told."""
    context.cache.entries["id-h1"] = HostEntry(host(), ())
    steps = [Step("deploy", "app/hello", lambda act: act.tx.add_assignment(assignment(3, prefetch=True)))]
    assert applying.apply(context, "ann", steps, dry_run=True) is None
    assert set(context.cache.entries) == {"id-h1"}
    assert applying.apply(context, "ann", steps, dry_run=False) is None
    assert context.cache.entries == {}
    assert context.cache.announced == {("dev", "a3", 3)}


def test_a_database_that_is_away_is_no_steps_fault(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator reads why, and no step is said to be refused."""
    begin, first = context.storage.transaction, iter([True])

    def away() -> AbstractContextManager[Transaction]:
        if next(first, False):
            raise Broken("cannot open the database: it is locked")
        return begin()

    step = Step("deploy", "app/hello", lambda _act: None)
    monkeypatch.setattr(context.storage, "transaction", away)
    with pytest.raises(Broken, match="it is locked"):
        applying.apply(context, "ann", [step], dry_run=False)
