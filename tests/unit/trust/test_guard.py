"""The guard: floors that never sink but fall with their keys, and a time that never goes back. Pure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import Refusal
from towpath_agent.trust.guard import (
    MAX_AHEAD_MS,
    RoleFact,
    check_expiry,
    check_floors,
    earliest_expiry,
    effective_time,
    raise_floors,
    raise_time_floor,
)

A, B = frozenset({"a"}), frozenset({"b"})


def code(function: object, *arguments: object) -> str:
    with pytest.raises(Refusal) as caught:
        function(*arguments)  # type: ignore[operator]
    return caught.value.code


def test_a_version_below_the_floor_is_a_rollback() -> None:
    """A role below what was seen under the same key is refused; at or above it is accepted."""
    floors = raise_floors([RoleFact("targets", 5, A)], {})
    assert code(check_floors, [RoleFact("targets", 4, A)], floors) == "rollback"
    check_floors([RoleFact("targets", 5, A), RoleFact("targets", 6, A)], floors)


def test_a_floor_falls_with_the_last_of_its_keys() -> None:
    """While old and new keys overlap the floor holds; with new keys alone it is gone, and stays gone."""
    floors = raise_floors([RoleFact("snapshot", 2**40, A)], {})
    assert code(check_floors, [RoleFact("snapshot", 1, A | B)], floors) == "rollback"
    check_floors([RoleFact("snapshot", 1, B)], floors)
    assert raise_floors([RoleFact("snapshot", 1, B)], floors) == {"snapshot@b": 1}


def test_roots_floor_is_bound_to_no_key() -> None:
    """A root below the newest seen is refused whatever keys it names."""
    floors = raise_floors([RoleFact("root", 3, A)], {})
    assert code(check_floors, [RoleFact("root", 2, B)], floors) == "rollback"


def test_floors_of_other_roles_stay() -> None:
    """Roles that were not looked at keep their floors, also where one's name begins another's."""
    floors = {"app-a@a": 3, "app-ab@a": 4, "root": 2}
    assert raise_floors([RoleFact("app-a", 5, A)], floors) == {"app-a@a": 5, "app-ab@a": 4, "root": 2}


def test_expiry_is_measured_at_the_hosts_own_time() -> None:
    """A role that lapses at T or before is a freeze; one whose expiry is not known here is not judged."""
    check_expiry([RoleFact("targets", 1, A, 1001), RoleFact("x", 1, A)], 1000)
    assert code(check_expiry, [RoleFact("targets", 1, A, 1000)], 1000) == "freeze"
    assert earliest_expiry([RoleFact("x", 1, A), RoleFact("y", 1, A, 7), RoleFact("z", 1, A, 5)]) == 5
    assert earliest_expiry([]) == 0


@given(st.lists(st.tuples(st.integers(0, 10**13), st.integers(0, 10**15)), max_size=20))
def test_time_never_goes_back_and_never_far_ahead(steps: list[tuple[int, int]]) -> None:
    """Whatever clocks and manifests say, the floor never sinks, and is never a day beyond every clock that was seen."""
    floor, newest = 0, 0
    for clock, issued in steps:
        newest = max(newest, clock)
        raised = raise_time_floor(floor, clock, issued)
        assert raised >= floor
        assert raised <= newest + MAX_AHEAD_MS
        assert effective_time(clock, raised) >= max(clock, floor)
        floor = raised
