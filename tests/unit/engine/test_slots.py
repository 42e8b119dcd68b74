"""Which of two ports a release runs on, and what may run side by side."""

from dataclasses import replace

import pytest

from towpath.handover import Handover
from towpath.parameters import Value
from towpath.release import Artifact, Install, Release, Run
from towpath_agent.engine.planning import Wish
from towpath_agent.engine.slots import beside, choose, values

HANDOVER = Handover(("port", "spare"))
PLAIN = Release("hello", "1", 1, Artifact(bytes(32), 1, 1), Install("tree"), Run("process", command=("bin/serve",)))
HANDED = replace(PLAIN, run=replace(PLAIN.run, handover=HANDOVER))


def wish(port: int, spare: int, slot: int = 0, **more: Value) -> Wish:
    return Wish("hello", b"1" * 32, "1", {"port": port, "spare": spare, **more}, slot=slot)


def test_in_the_second_slot_the_two_ports_change_places() -> None:
    """The first parameter is always the port of the copy itself; everything else stays as the operator set it."""
    assert values(wish(1, 2, name="x"), HANDOVER) == {"port": 1, "spare": 2, "name": "x"}
    assert values(wish(1, 2, slot=1, name="x"), HANDOVER) == {"port": 2, "spare": 1, "name": "x"}


def test_without_a_handover_a_slot_means_nothing() -> None:
    """A release that has no handover any more keeps its parameters as they are."""
    assert values(wish(1, 2, slot=1), None) == {"port": 1, "spare": 2}


@pytest.mark.parametrize(
    ("old", "new", "slot"),
    [
        (wish(1, 2), wish(1, 2), 1),
        (wish(1, 2, slot=1), wish(1, 2), 0),
        (wish(1, 2), wish(2, 1), 0),  # the operator exchanged the ports: the old one serves on 1
        (wish(1, 2, slot=1), wish(2, 1), 1),
        (wish(1, 2), wish(3, 4), 0),
        (wish(1, 2, slot=1), wish(3, 2), 0),
    ],
)
def test_a_new_release_gets_the_port_that_the_old_one_does_not_use(old: Wish, new: Wish, slot: int) -> None:
    """Whatever slot and ports the old one has, the new one can be started beside it."""
    assert choose(new, HANDED, old, HANDED) == slot
    chosen = replace(new, slot=slot)
    assert values(chosen, HANDOVER)["port"] != values(old, HANDOVER)["port"]
    assert beside(chosen, HANDED, old, HANDED)


def test_a_first_install_and_a_release_without_handover_have_the_first_slot() -> None:
    """There is nothing to stand beside, or only one place to stand."""
    assert choose(wish(1, 2), HANDED, None, None) == 0
    assert choose(wish(1, 2), PLAIN, wish(1, 2), HANDED) == 0
    assert choose(wish(1, 2), HANDED, wish(1, 2), PLAIN) == 0


def test_only_two_releases_with_a_handover_run_side_by_side() -> None:
    """One that was not made for it is stopped before another starts; so is one that has the same port."""
    old, new = wish(1, 2), wish(1, 2, slot=1)
    assert beside(new, HANDED, old, HANDED)
    assert not beside(new, HANDED, None, None)
    assert not beside(new, HANDED, old, PLAIN)
    assert not beside(old, PLAIN, old, HANDED)
    assert not beside(old, HANDED, old, HANDED)
