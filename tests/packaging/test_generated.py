"""The committed generated code is what the .proto files give."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

STAMP = ".venv/.towpath-installed"


def protos_check(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Run `make protos-check` with this Python; `-o` keeps make from installing anything."""
    binaries = Path(sys.executable).parent
    command = ["make", "-o", STAMP, "protos-check", f"BIN={binaries}", f"PROTOS_OUT={out}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_generated_code_is_current(root: Path, tmp_path: Path) -> None:
    """Generating again changes nothing."""
    done = protos_check(root, tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_check_notices_a_changed_proto(root: Path, tmp_path: Path) -> None:
    """A field that was added to a .proto file without `make protos` fails the check and says what to do."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(root / name, copy / name)
    for folder in ("protos", "contract/towpath/v1"):
        shutil.copytree(root / folder, copy / folder)
    proto = copy / "protos/towpath/v1/types.proto"
    proto.write_text(proto.read_text() + "\nmessage NobodyGeneratedThis { bool flag = 1; }\n")
    done = protos_check(copy, tmp_path / "out")
    assert done.returncode != 0
    assert "run make protos" in done.stderr
