"""The errors that parties share: codes are stable, retryable is a property of the type."""

import pytest

from towpath.errors import Broken, InputError, Refusal, TowpathError, Unavailable


@pytest.mark.parametrize(
    ("kind", "code", "retryable"),
    [
        (TowpathError, "error", False),
        (InputError, "bad-input", False),
        (Refusal, "refused", False),
        (Unavailable, "unavailable", True),
        (Broken, "broken", False),
    ],
)
def test_every_type_has_its_code_and_says_whether_to_try_again(
    kind: type[TowpathError], code: str, retryable: bool
) -> None:
    """A type's code and retryability are fixed: reports, tests and scripts rely on them."""
    error = kind("cannot do it: reason")
    assert (error.code, error.retryable, str(error)) == (code, retryable, "cannot do it: reason")
    assert isinstance(error, TowpathError)


def test_an_error_may_carry_its_own_code_without_changing_its_type() -> None:
    """The code of one refusal is the attack's name; the next one without a code has the type's again."""
    assert Refusal("cannot accept", code="rollback").code == "rollback"
    assert Refusal("cannot accept").code == "refused"


def test_the_four_groups_are_told_apart_by_who_must_act() -> None:
    """Catching one group never catches another."""
    groups = (InputError, Refusal, Unavailable, Broken)
    assert all(not issubclass(one, other) for one in groups for other in groups if one is not other)
