"""The tools that build packages: what goes wrong is one line, and slowness is nothing that goes wrong."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def tools(root: Path) -> ModuleType:
    """Give packaging/make/tools.py, which is no package's module."""
    spec = importlib.util.spec_from_file_location("packaging_tools", root / "packaging/make/tools.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_tool_that_hangs_is_one_line_and_a_slow_one_is_none(tools: ModuleType) -> None:
    """The limit is for what hangs: hours. Where it is over, the build ends as at any other trouble."""
    assert tools.TIMEOUT_S >= 3600
    with pytest.raises(tools.Failed, match=r"^cannot build: .* has not ended within 0.2 s and was killed") as said:
        tools.run(sys.executable, "-c", "import time; time.sleep(600)", timeout_s=0.2)
    assert "\n" not in str(said.value)


def test_a_tool_that_fails_or_is_not_there_is_one_line(tools: ModuleType) -> None:
    """Its last words are in it; and what to install."""
    with pytest.raises(tools.Failed, match="ended with 3: no space left$") as said:
        tools.run(sys.executable, "-c", "import sys; sys.stderr.write('no space left\\n'); sys.exit(3)")
    assert "\n" not in str(said.value)
    with pytest.raises(tools.Failed, match="cannot run no-such-tool: it is not installed; as root: apt-get install"):
        tools.run("no-such-tool")
