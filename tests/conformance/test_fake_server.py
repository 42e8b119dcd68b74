"""The in-memory server keeps every promise of the port."""

import pytest

from conformance.server_port import ServerPortSuite, Subject
from fakes.server import FakeServer


class TestFakeServer(ServerPortSuite):
    """The suite, on the fake itself."""

    @pytest.fixture
    def subject(self) -> Subject:
        """Return the fake as its own back."""
        fake = FakeServer()
        return Subject(fake, fake)
