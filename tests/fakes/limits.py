"""What must hold of a rollout on real processes, whatever happened to its servers; asked of two witnesses.

One is the rows as a bystander read them at every moment, the other what each host was told and did by its own clock. A
host's own time in flight is within the server's, so more than the limit there is more than the limit anywhere.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

from fakes.crowd import Seen
from fakes.live_server import LiveServer
from fakes.watched_rows import Row


def most_at_once(seen: Iterable[Seen], version: str) -> int:
    """Return how many hosts were on their way to `version` at the same moment, by their own word."""
    spans = [span for one in seen if (span := one.in_flight(version)) is not None]
    turns = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    return max(accumulate((step for _, step in turns), initial=0))


def check_limits(moments: Sequence[Row], seen: dict[str, Seen], limit: int, version: str = "1.0.0") -> None:
    """Check that never more than `limit` hosts were in flight, that as many were, and that nothing went backwards."""
    going = [row for row in moments if row.state == "rolling"]
    most, told = max(row.in_flight for row in going), most_at_once(seen.values(), version)
    assert most == limit, f"{most} hosts were in flight at once by the rows, {limit} may be"
    assert told <= limit, f"{told} hosts were in flight at once by their own word, {limit} may be"
    for before, after in pairwise(going):
        assert before.admitted <= after.admitted, "a host was let in and taken out again"
        assert before.wave <= after.wave


def own_acts(server: LiveServer, rollout: str) -> list[str]:
    """Return what the audit log says that servers did with a rollout by themselves; of a wave its number, from 1."""
    rows = [entry for entry in server.audit() if (entry.actor, entry.subject) == ("server", f"rollout/{rollout}")]
    return [
        entry.detail.partition(": ")[2].partition(" of ")[0] if entry.act == "rollout.wave" else entry.act
        for entry in rows
    ]


def by_wave(server: LiveServer, rollout: str, seen: dict[str, Seen]) -> list[list[Seen]]:
    """Return what the hosts of each wave saw."""
    number_of = {host.host: host.wave for host in server.progress(rollout).hosts}
    return [
        [one for one in seen.values() if number_of[one.name] == wave] for wave in range(max(number_of.values()) + 1)
    ]


def check_waves(server: LiveServer, rollout: str, seen: dict[str, Seen], waves: int, soak_s: float = 0.0) -> None:
    """Check that each wave opened once, in order, and nobody was told before the one before had proven it and soaked."""
    assert own_acts(server, rollout) == [*(f"wave {number}" for number in range(2, waves + 1)), "rollout.done"]
    found = by_wave(server, rollout, seen)
    assert len(found) == waves
    assert all(found)
    for number, (before, after) in enumerate(pairwise(found)):
        proven = max(one.end_of("1.0.0") for one in before)
        assert min(one.told[0][0] for one in after) >= proven + (soak_s if number == 0 else 0)


def check_everybody(seen: dict[str, Seen], hosts: int) -> None:
    """Check that every host was told once, never told back, and proved it."""
    assert len(seen) == hosts
    for one in seen.values():
        assert [version for _, version in one.told] == ["1.0.0"], one
        assert [version for _, version in one.ended] == ["1.0.0"], one
