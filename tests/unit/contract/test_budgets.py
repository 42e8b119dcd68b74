"""Budgets, orders and priorities as operators write them: what is read, what is refused, in which words."""

import pytest

from towpath.budgets import (
    MAX_BUDGETS,
    Budget,
    check_budgets,
    check_priority,
    order_text,
    parse_budget,
    parse_budgets,
    parse_order,
)
from towpath.errors import InputError


def test_a_budget_is_a_count_or_a_share_of_the_hosts_with_one_value() -> None:
    """It reads as it was written; several are sorted by their label."""
    assert parse_budget(" rack=1 ") == Budget("rack", 1)
    assert parse_budget("zone=12.5%") == Budget("zone", share=1_250)
    assert [one.text for one in parse_budgets(["zone=12.5%", "rack=1"])] == ["rack=1", "zone=12.5%"]


def test_a_share_is_rounded_down_and_never_none() -> None:
    """10 % of five hosts is one: a budget that lets nobody move would be a halt in disguise."""
    assert [Budget("rack", share=2_000).allows(hosts) for hosts in (1, 4, 9, 10)] == [1, 1, 1, 2]
    assert Budget("rack", 3).allows(1) == 3


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("rack", "write LABEL=1 or LABEL=20%"),
        ("=1", "write LABEL=1 or LABEL=20%"),
        ("rack=", "write LABEL=1 or LABEL=20%"),
        ("rack=one", "write LABEL=1 or LABEL=20%"),
        ("rack=-1", "write LABEL=1 or LABEL=20%"),
        ("rack=0", "nobody could ever move"),
        ("rack=0%", "above 0%"),
        ("rack=101%", "at most 100%"),
        ("rack=2000000", "1 to 1000000 hosts"),
        ("ra ck=1", "as a label"),
    ],
)
def test_a_budget_that_nobody_could_keep_or_read_is_refused(text: str, part: str) -> None:
    """One line, before anything is asked of a server."""
    with pytest.raises(InputError, match=part):
        parse_budget(text)


def test_budgets_that_contradict_each_other_are_refused() -> None:
    """One for each label, and not too many; also where they did not come from text."""
    with pytest.raises(InputError, match="two budgets for rack"):
        parse_budgets(["rack=1", "rack=2"])
    with pytest.raises(InputError, match=f"at most {MAX_BUDGETS}"):
        check_budgets([Budget(f"l{n}", 1) for n in range(MAX_BUDGETS + 1)])
    with pytest.raises(InputError, match="cannot use a budget for rack"):
        check_budgets([Budget("rack", 1, 100)])


def test_an_order_is_by_hash_or_by_a_label() -> None:
    """It reads as it was written."""
    assert [parse_order(text) for text in ("", " hash", "label:rack")] == ["", "", "rack"]
    assert [order_text(label) for label in ("", "rack")] == ["hash", "label:rack"]
    for text in ("rack", "label:", "label"):
        with pytest.raises(InputError, match="write hash, or label:KEY"):
            parse_order(text)
    with pytest.raises(InputError, match="as a label"):
        parse_order("label:a b")


def test_a_priority_is_a_small_number() -> None:
    """0 is the default."""
    assert check_priority(1_000) == 1_000
    for wrong in (-1, 1_001):
        with pytest.raises(InputError, match="0 \\(the default\\) to 1000"):
            check_priority(wrong)
