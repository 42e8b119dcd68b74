"""The waves of a rule that was given none."""

from towpath.waves import LARGE, effective, words
from towpath_server.domain.waves import LARGE_RULE, default_waves, membership


def test_a_large_rule_begins_with_one_host_and_a_small_one_is_one_wave() -> None:
    """A release that fails everywhere takes down one of a thousand hosts by default, not a quarter of them."""
    assert words(LARGE) == "1,1%,10%,100%"
    for count in (LARGE_RULE, 1_000):
        numbers = membership(default_waves(count), [(f"h{n}", {}) for n in range(count)])
        assert list(numbers.values()).count(0) == 1
    assert len(effective(default_waves(LARGE_RULE - 1))) == 1
