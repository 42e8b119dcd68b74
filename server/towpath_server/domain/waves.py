"""Which host is in which wave. Pure: labels and an order in, a number per host out.

Waves take hosts one after the other, each from those that are left, in the rollout's own order (`standing.order`): by
labels all that fit, by count or share until that many are taken in all. So a newcomer gets the wave that its place in
the order gives it, and the answer is the same in every tick while the same hosts match. Counts and shares are of ALL
matching hosts, offline and held ones too: a wave does not grow because somebody went away.

Not handled here: how waves are written (`towpath.waves`), and when one opens (`domain.gates`).
"""

from collections.abc import Mapping, Sequence

from towpath.waves import ALL, LARGE, Wave, effective, parse_target

LARGE_RULE = 20


def membership(waves: Sequence[Wave], hosts: Sequence[tuple[str, Mapping[str, str]]]) -> dict[str, int]:
    """Return host id to number of its wave; `hosts` are (id, labels) in the rollout's order."""
    left = list(hosts)
    result: dict[str, int] = {}
    for number, wave in enumerate(effective(waves)):
        target = parse_target(wave.what)
        if target.labels:
            taken = [one for one in left if fits(target.labels, one[1])]
        else:
            goal = target.count or -(-target.share * len(hosts) // ALL)
            taken = left[: max(0, goal - len(result))]
        result.update((host_id, number) for host_id, _ in taken)
        left = [one for one in left if one[0] not in result]
    return result


def fits(wanted: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Return True where `labels` hold all that is wanted."""
    return all(labels.get(key) == value for key, value in wanted.items())


def default_waves(hosts: int) -> tuple[Wave, ...]:
    """Return the waves of a rule that was given none: a large one begins with a single host."""
    return LARGE if hosts >= LARGE_RULE else ()


def nobody(waves: Sequence[Wave], hosts: Sequence[Mapping[str, str]]) -> str:
    """Return the first wave by labels that none of `hosts` (their labels) has, or an empty text."""
    for wave in waves:
        labels = parse_target(wave.what).labels
        if labels and not any(fits(labels, one) for one in hosts):
            return wave.what
    return ""
