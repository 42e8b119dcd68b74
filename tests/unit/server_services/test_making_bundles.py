"""Making a bundle, with rows in a storage and nothing signed: what is refused before anything is done, or at the last moment."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.deciding import SetClock, deciding, deploy, enrol, remember
from fakes.rows import NOW, assignment, host
from towpath.bundle import statement
from towpath.bundle.statement import Statement
from towpath.errors import InputError
from towpath_server.domain.model import Ahead, HostStatus
from towpath_server.services import bundles
from towpath_server.services.bundles import Goods
from towpath_server.services.context import Context
from towpath_server.services.intending import Order, intend
from towpath_server.storage import SqlStorage

ORDER = Order(("h0",), ("hello@1.0.0",))
MOST = statement.MAX_RELEASES


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    storage = SqlStorage(tmp_path / "towpath.db")
    context = deciding(storage, SetClock())
    enrol(context, 2)
    deploy(context)
    yield context
    storage.close()


@pytest.mark.parametrize("admitted", [False, True])
def test_none_is_made_where_hosts_know_more_than_the_database(context: Context, admitted: bool) -> None:
    """Whether the host itself was let in or not: the set that would be signed may lack an app whose deploy was lost."""
    with context.storage.transaction() as tx:
        tx.admit("a1", ["id-h0"] if admitted else [], NOW)
    intend(context, ORDER)
    with context.storage.transaction() as tx:
        tx.put_ahead(Ahead("id-h1", "h1", "dev", 7, NOW))
    with pytest.raises(InputError, match=r"knows nothing of \(h1\).*; see: towpath restored show") as caught:
        intend(context, ORDER)
    assert caught.value.code == "not-let-in"
    with context.storage.transaction() as tx:
        tx.clear_ahead()
    intend(context, ORDER)


def test_hosts_may_come_from_as_many_versions_as_a_reader_takes(context: Context) -> None:
    """One more would be sealed, and refused by every host; the same one twice is one."""
    versions = [f"0.{number}" for number in range(MOST + 1)]
    for version in versions:
        remember(context, assignment(1, version=version))
    intent = intend(context, replace(ORDER, since=(*versions[:MOST], versions[0])))
    carried = Statement("ab" * 16, 1, 2, "ann", (), intent.carried, (), 0, 0)
    assert statement.decode(statement.encode(carried)).releases == intent.carried
    with pytest.raises(InputError, match=f"since {MOST + 1} of hello: at most {MOST}"):
        intend(context, replace(ORDER, since=tuple(versions)))


def test_a_host_that_is_revoked_while_deltas_are_waited_for_is_named(context: Context) -> None:
    """Nobody is let in, and the refusal is in the audit."""
    intent = intend(context, replace(ORDER, hosts=("h0", "h1")))
    with context.storage.transaction() as tx:
        tx.put_host(replace(host("h1"), status=HostStatus.REVOKED))
    with pytest.raises(InputError, match="cannot make a bundle for h1: it was revoked"):
        bundles.seal(context, "operator/ann", intent, Goods({}, {}, {}), [1, 2])
    with context.storage.transaction() as tx:
        assert tx.admissions("a1") == {}
        (entry,) = tx.audit(9)
    assert (entry.act, entry.outcome) == ("bundle.create", "refused")


def test_between_two_versions_of_one_tree_nothing_is_waited_for(context: Context) -> None:
    """Such a delta is never made; a host that has the old one has every byte."""
    remember(context, assignment(1, version="0.9.0"))
    intent = intend(context, replace(ORDER, since=("0.9.0",)))
    assert intent.carried[0].since == ("0.9.0",)
    assert intent.pairs() == []
