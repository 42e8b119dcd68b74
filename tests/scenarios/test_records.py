"""What is kept beside a tree: its index is taken from the record or from the store, whichever is as signed."""

from pathlib import Path

import pytest

from fakes.host import SimulatedHost
from towpath_agent.journal import Deployed
from towpath_agent.runner.site import Site
from towpath_agent.store import ObjectMissing


@pytest.fixture
def confirmed(tmp_path: Path) -> tuple[Site, Deployed, Path, Path]:
    """Return the folder of a host, what runs there, and where its index is: in its record and in the store."""
    host = SimulatedHost(tmp_path)
    release = host.publish("1.0.0", content="what it runs")
    host.assign(release)
    host.boot()
    host.settle()
    (record,) = (tmp_path / "apps/hello/records").glob("*.index")
    kept = host.site.store.path(release.artifact.index_sha256)
    return host.site, host.journal.deployed("current")["hello"], record, kept


def test_a_record_that_is_as_signed_is_not_written_again(confirmed: tuple[Site, Deployed, Path, Path]) -> None:
    """And needs no store: going back works on a host whose store was lost."""
    site, it, record, kept = confirmed
    before = record.stat()
    kept.unlink()
    entries = site.entries(it)
    assert [entry.path for entry in entries]
    site.record(it)
    assert record.stat() == before


@pytest.mark.parametrize("damage", [b"", b"another index", None])
def test_a_record_that_is_damaged_comes_from_the_store(
    confirmed: tuple[Site, Deployed, Path, Path], damage: bytes | None
) -> None:
    """Empty, of another content, or gone."""
    site, it, record, kept = confirmed
    entries = site.entries(it)
    record.unlink() if damage is None else record.write_bytes(damage)
    assert site.entries(it) == entries
    site.record(it)
    assert record.read_bytes() == kept.read_bytes()
    assert record.stat().st_mode & 0o777 == 0o600
    assert {path.suffix for path in record.parent.iterdir()} <= {".index", ".json", ".marks"}


def test_where_neither_is_as_signed_it_has_to_be_fetched(confirmed: tuple[Site, Deployed, Path, Path]) -> None:
    """Nothing is left of the try, and what is damaged in the store is dropped."""
    site, it, record, kept = confirmed
    record.write_bytes(b"another index")
    kept.chmod(0o600)
    kept.write_bytes(bytes(kept.stat().st_size))
    with pytest.raises(ObjectMissing):
        site.entries(it)
    with pytest.raises(ObjectMissing):
        site.record(it)
    assert not kept.exists()
    assert record.read_bytes() == b"another index"
    assert {path.suffix for path in record.parent.iterdir()} <= {".index", ".json", ".marks"}
