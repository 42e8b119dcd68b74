"""Fixtures that tests of several kinds use."""

from hypothesis import HealthCheck, settings

from fakes.s3 import bucket, s3_service  # noqa: F401

LONGEST_ID = 30
# A machine that is busy with other tests is no fault of what is tested.
settings.register_profile("towpath", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("towpath")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name long values by their argument: keys and noise are made anew in each worker, and names have to agree."""
    return argname if isinstance(val, str | bytes) and len(val) > LONGEST_ID else None
