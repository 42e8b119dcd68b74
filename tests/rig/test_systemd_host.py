"""The service `systemd` on a real systemd: `inside/systemd_cases.py` runs in a host that is booted for it."""

import re
import sys
from pathlib import Path

import pytest

from rig.nspawn import NspawnHost, why_not

pytestmark = [pytest.mark.rig, pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can be booted")]

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(600)
def test_the_systemd_service_keeps_its_promises_on_a_real_systemd(tmp_path: Path) -> None:
    """The conformance suite and every case of start limits, Type=notify, masks and evidence passes, none is skipped."""
    with NspawnHost(tmp_path, shared=[ROOT]) as host:
        done = host.run(
            sys.executable,
            "-m",
            "pytest",
            "--quiet",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
            f"--rootdir={ROOT}",
            f"--config-file={ROOT / 'pyproject.toml'}",
            str(ROOT / "tests" / "rig" / "inside" / "systemd_cases.py"),
            timeout_s=560,
        )
    print(done.stdout)
    summary = re.search(r"^(\d+) passed in ", done.stdout, re.MULTILINE)
    assert done.returncode == 0, done.stdout
    assert summary is not None, done.stdout
    assert int(summary[1]) >= 18, done.stdout
