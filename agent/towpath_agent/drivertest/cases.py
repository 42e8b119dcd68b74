"""The cases of `driver test`: each is a function on a fresh place, and its docstring is the sentence of the table."""

import json
from collections.abc import Callable

from towpath_agent.drivertest.place import ONE, STRANGER, TWO, CaseFailed, Place
from towpath_agent.installers.driver import PROTOCOL, Verb
from towpath_agent.system.files import Files

MAX_DAMAGED = 20
Case = Callable[[Place], None]


class NotHere(Exception):
    """The case says nothing about this driver; the message says why."""


def first_install(place: Place) -> None:
    """A first install puts the release in place, and verify agrees."""
    place.switch(ONE)
    if place.seen() == place.untouched:
        raise CaseFailed("nothing changed in the folder of the test; let an option lead there: --option NAME={outside}")
    if not place.verified(ONE):
        raise CaseFailed("verify says no to what switch has just put in place")


def check(place: Place) -> None:
    """A check says yes and changes nothing, before a first install and before an upgrade."""
    place.ask(Verb.CHECK, ONE)
    place.require_same(place.untouched, "check put something in place")
    place.switch(ONE)
    before = place.seen()
    place.ask(Verb.CHECK, TWO)
    place.require_same(before, "check changed what is in place")


def nothing_there(place: Place) -> None:
    """Verify says no where nothing, or another release, is in place."""
    if place.verified(ONE):
        raise CaseFailed("verify says yes though nothing is in place")
    place.switch(ONE)
    if place.verified(TWO):
        raise CaseFailed(f"verify says yes to {TWO} though {ONE} is in place")


def again(place: Place) -> None:
    """A switch that is repeated changes nothing."""
    place.switch(ONE)
    before = place.seen()
    place.switch(ONE)
    place.require_same(before, "the second switch did something else")


def upgrade(place: Place) -> None:
    """An upgrade replaces the release, and is the same when it is repeated."""
    place.switch(ONE)
    first = place.seen()
    place.switch(TWO, ONE)
    second = place.seen()
    if second == first:
        raise CaseFailed("nothing changed though the two releases differ")
    if not place.verified(TWO):
        raise CaseFailed("verify says no to what the upgrade has just put in place")
    place.switch(TWO, ONE)
    place.require_same(second, "the second switch did something else")


def revert(place: Place) -> None:
    """A revert brings back exactly what was in place before the upgrade."""
    place.switch(ONE)
    before = place.seen()
    place.switch(TWO, ONE)
    place.switch(ONE)
    place.require_same(before, "the way back ended elsewhere")
    if not place.verified(ONE):
        raise CaseFailed("verify says no to what the revert brought back")


def removal(place: Place) -> None:
    """A removal leaves exactly what was there before the first install, also when it is repeated."""
    place.switch(ONE)
    for _ in range(2):
        place.unswitch(ONE)
        place.require_same(place.untouched, "something is left, or somebody else's is gone")


def removal_after_upgrade(place: Place) -> None:
    """A removal after an upgrade leaves nothing of either release."""
    place.switch(ONE)
    place.switch(TWO, ONE)
    place.unswitch(TWO)
    place.require_same(place.untouched, "something is left, or somebody else's is gone")


def removal_of_nothing(place: Place) -> None:
    """A removal where nothing was put in place is done at once and changes nothing."""
    place.unswitch(ONE)
    place.require_same(place.untouched, "something changed")


def install_after_removal(place: Place) -> None:
    """What was removed can be installed again."""
    place.switch(ONE)
    before = place.seen()
    place.unswitch(ONE)
    place.switch(ONE)
    place.require_same(before, "the second install ended elsewhere")


def moved(place: Place) -> None:
    """With other options the release moves: nothing is left at the old place, and back again."""
    if place.request(ONE) == place.request(ONE, outside=place.elsewhere):
        raise NotHere("no option holds {outside}")
    place.switch(ONE)
    before = place.seen()
    place.switch(ONE, outside=place.elsewhere)
    for path, fact in place.seen().items():
        if path.startswith(f"{place.outside.name}/") and place.untouched.get(path) != fact:
            raise CaseFailed(f"{path} is still at the old place")
    place.switch(ONE)
    place.require_same(before, "the way back ended elsewhere")


def damage(place: Place) -> None:
    """Verify notices each file or link that was changed or lost, and a switch mends it."""
    place.switch(ONE)
    whole = place.seen()
    files = Files()
    names = [path for path, fact in whole.items() if path not in place.untouched and not fact.startswith("folder")]
    if not names:
        raise NotHere("it puts no files or links in place")
    for name in names[:MAX_DAMAGED]:
        path = place.outside.parent / name
        is_link = files.read_link(path) is not None
        for harm in ("lost", "changed"):
            files.remove(path)
            if harm == "changed" and is_link:
                files.make_link(path, STRANGER)
            elif harm == "changed":
                files.write_atomic(path, b"something else\n", 0o644)
            if place.verified(ONE):
                raise CaseFailed(f"verify says yes though {name} was {harm}")
            place.switch(ONE)
            place.require_same(whole, f"a switch did not mend {name}, which was {harm}")


def garbage(place: Place) -> None:
    """Garbage on stdin is refused, with a reason, and changes nothing."""
    place.switch(ONE)
    whole = place.request(TWO, ONE).encode(Verb.SWITCH)
    for what, data in {
        "an empty request": b"",
        "bytes that are no text": bytes(range(256)),
        "half a request": whole[: len(whole) // 2],
        "a list": b"[]\n",
        "a number": b"1\n",
        "a request without its fields": json.dumps({"protocol": PROTOCOL, "verb": "switch"}).encode(),
    }.items():
        for verb in (Verb.SWITCH, Verb.UNSWITCH):
            place.refuse(verb, data, what)


def unknown_verb(place: Place) -> None:
    """A verb that the protocol does not have is refused, with a reason, and changes nothing."""
    place.switch(ONE)
    for verb in ("explode", ""):
        place.refuse(verb, place.request(TWO, ONE).encode(verb), f"verb {verb!r}")


def unknown_protocol(place: Place) -> None:
    """A request of another version of the protocol is refused, with a reason, and changes nothing."""
    place.switch(ONE)
    for verb in Verb:
        for number in (0, PROTOCOL + 1):
            place.refuse(verb, place.request(TWO, ONE).encode(verb, number), f"{verb} of protocol {number}")


def unknown_fields(place: Place) -> None:
    """Fields that it does not know are ignored: the protocol may grow."""
    place.switch(ONE)
    request = place.request(ONE)
    fields = {**json.loads(request.encode(Verb.VERIFY)), "towpath_may_add_this": {"later": [1]}}
    result = place.driver.run(Verb.VERIFY, json.dumps(fields).encode(), request, 60.0)
    if result.status != 0:
        raise CaseFailed(f"it exited {result.status} on a request with one more field")


# The first must pass for the others to mean anything.
CASES: tuple[Case, ...] = (
    first_install,
    check,
    nothing_there,
    again,
    upgrade,
    revert,
    removal,
    removal_after_upgrade,
    removal_of_nothing,
    install_after_removal,
    moved,
    damage,
    garbage,
    unknown_verb,
    unknown_protocol,
    unknown_fields,
)
