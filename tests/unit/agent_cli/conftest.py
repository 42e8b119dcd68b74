"""The command line in this process, and the folder of an enrolled host."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.enrolled import enrolled_folder
from towpath_agent.cli import main

Run = Callable[..., tuple[int, str, str]]
VARIABLES = "TOKEN TOKEN_FILE AGENT_DIR AGENT_SERVER AGENT_NAME".split()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command line and returns exit code, stdout, stderr."""
    for name in VARIABLES:
        monkeypatch.delenv(f"TOWPATH_{name}", raising=False)

    def call(*words: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of an enrolled host."""
    return enrolled_folder(tmp_path / "h1")
