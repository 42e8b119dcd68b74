"""Fixtures that tests of several kinds use."""

from fakes.s3 import bucket, s3_service  # noqa: F401

LONGEST_ID = 30


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name long values by their argument: keys and noise are made anew in each worker, and names have to agree."""
    return argname if isinstance(val, str | bytes) and len(val) > LONGEST_ID else None
