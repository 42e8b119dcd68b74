"""A relay whose line is busy: hosts wait their turn there, and none is held for ever by the word that it comes."""

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fakes.authority import Authority
from fakes.evil_relay import EvilRelay
from fakes.live_server import eventually
from fakes.site import Site
from towpath_agent.ports import Want
from towpath_agent.store import Store
from towpath_agent.system.files import Files
from towpath_relay.sources import PAUSE_S

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def site(tmp_path: Path, authority: Authority) -> Iterator[Site]:
    with Site(tmp_path, authority) as site:
        yield site


def test_a_host_waits_its_turn_at_the_relay(site: Site, tmp_path: Path) -> None:
    """What it asks for comes for another host, later than it would bear with a relay that says nothing."""
    patience_s = 2 * PAUSE_S
    first, second = (site.behind.add_object(os.urandom(1_000)) for _ in range(2))
    goes_on = threading.Event()

    def hold(_number: int) -> None:
        if site.behind.sent_bytes:
            assert goes_on.wait(60)

    site.behind.before_chunk = hold
    with ThreadPoolExecutor(1) as pool:
        store = Store(tmp_path / "h1", Files())
        other = pool.submit(store.fetch, {first: 1_000, second: 1_000}, site.host("h1", patience_s=60))
        try:
            eventually(lambda: not store.missing({first: 1_000}), "the first object came", 60)
            pauses, got = 0, b""
            for chunk in site.host("h2", patience_s=patience_s).fetch([Want("object", digest=second)]):
                pauses, got = pauses + chunk.is_pause, got + chunk.data
                if pauses * PAUSE_S > patience_s:
                    goes_on.set()
        finally:
            goes_on.set()
        other.result(60)
    assert hashlib.sha256(got).digest() == hashlib.sha256(site.behind.carried[second]).digest()
    assert goes_on.is_set()
    assert pauses * PAUSE_S > patience_s
    assert site.said == []
    assert set(site.api.peers) == {"relays-host"}


def test_a_relay_that_puts_a_host_off_for_ever_is_left(site: Site, tmp_path: Path, authority: Authority) -> None:
    """It is borne with for so long; then what it says counts as nothing that came, and the server has the object."""
    digest = site.behind.add_object(os.urandom(1_000))
    with EvilRelay(tmp_path / "evil", authority, "puts off", site.behind) as address:
        store, host = Store(tmp_path / "store", Files()), site.host("h1", relay=address, queue_s=1.0)
        store.fetch({digest: 1_000}, host)
    assert not store.missing({digest: 1_000})
    assert f"{address} sent less than" in site.said[0]
    assert not host.distrust(digest), "the relay brought none of it"
