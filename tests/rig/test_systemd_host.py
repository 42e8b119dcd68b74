"""The service `systemd` on a real systemd: `inside/systemd_cases.py` runs in a host that is booted for it."""

import re
import sys
from pathlib import Path

import pytest

from rig.nspawn import NspawnHost, why_not

# Long for `make rig-test SHORT=1`, whose CI has had these in `make test` already.
pytestmark = [
    pytest.mark.rig,
    pytest.mark.long,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can be booted"),
]

ROOT = Path(__file__).parents[2]


def inside(host: NspawnHost, cases: str) -> str:
    """Run a file of cases in the host; return what pytest said, where all passed."""
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
        str(ROOT / "tests" / "rig" / "inside" / cases),
        timeout_s=860,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.timeout(1200)
def test_the_agent_updates_itself_under_its_own_unit(tmp_path: Path) -> None:
    """Booted with a real systemd: one main process, no restart, a fed watchdog, kills in mid-trial, apps untouched."""
    with NspawnHost(tmp_path, shared=[ROOT]) as host:
        assert re.search(r"^1 passed in ", inside(host, "selfupdate_cases.py"), re.MULTILINE)


@pytest.mark.timeout(1200)
def test_the_systemd_service_keeps_its_promises_on_a_real_systemd(tmp_path: Path) -> None:
    """The conformance suite and every case of start limits, Type=notify, masks and evidence passes, none is skipped."""
    with NspawnHost(tmp_path, shared=[ROOT]) as host:
        said = inside(host, "systemd_cases.py")
    summary = re.search(r"^(\d+) passed in ", said, re.MULTILINE)
    assert summary is not None, said
    assert int(summary[1]) >= 18, said
