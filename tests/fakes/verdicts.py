"""How a simulated host judged: the attack's name, after checking that nothing of a refused answer was believed."""

import pytest

from fakes.repository import SimulatedHost
from towpath.errors import Refusal
from towpath_agent.trust.model import VerifyResult


def refused(host: SimulatedHost, envelope: bytes | None = None) -> str:
    """Take the envelope, or a fresh one; return the attack's name, and check that nothing of it was believed."""
    before = (host.manifest_floor, dict(host.role_floors), host.time_floor_ms)
    with pytest.raises(Refusal) as caught:
        host.take(envelope)
    assert (host.manifest_floor, dict(host.role_floors), host.time_floor_ms) == before
    assert str(caught.value).startswith("cannot ")
    assert "\n" not in str(caught.value)
    return caught.value.code


def app_code(result: VerifyResult) -> str:
    assert not result.apps
    (refusal,) = result.refused
    return refusal.code
