"""What the agent's postrm does at a purge, run in a folder of the test's; on hosts: tests/rig/test_package_host.py."""

import re
import subprocess
from pathlib import Path

import pytest

from towpath_agent.installers.placed import Placed, Record
from towpath_agent.system.files import Files

# Nothing of this machine is looked at or ended.
INSTEAD = """
STATE={0}/state UNITS={0}/units BACKUPS={0}/backups
reload() {{ :; }}
end_processes() {{ :; }}
rmdir() {{ :; }}
"""


def purge(root: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the script with its folders below `folder`."""
    functions, case, rest = (root / "packaging/deb/postrm").read_text().partition("\ncase $1 in\n")
    script = functions + INSTEAD.format(folder) + case + rest
    return subprocess.run(["sh", "-c", script, "postrm", "purge"], capture_output=True, text=True, check=False)


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    """Give the folder of an app whose release took the place of a file; the state's other content is there too."""
    app_dir, path = tmp_path / "state/apps/conf", tmp_path / "etc.conf"
    app_dir.mkdir(parents=True)
    (tmp_path / "state/state.db").write_text("journal")
    path.write_text("the host's own")
    placed = Placed(Files(), app_dir, "conf")
    placed.write(Record().placing(str(path), placed.save(path)))
    return app_dir


def test_a_purge_keeps_what_releases_took_the_place_of(root: Path, app_dir: Path, tmp_path: Path) -> None:
    """The saved files, lost ones too, and the record of them are in a folder of root's that the purge names."""
    for name in ("replaced.lost", ".tmp-0123.lost"):
        (app_dir / name).mkdir()
        (app_dir / name / "older").write_text(name)
    record = (app_dir / "file.json").read_bytes()

    done = purge(root, tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    (kept,) = (tmp_path / "backups").iterdir()
    assert done.stdout.endswith(f" is in {kept}\n")
    assert kept.stat().st_mode & 0o777 == 0o700
    assert (kept / "conf/file.json").read_bytes() == record
    assert [path.read_text() for path in (kept / "conf/replaced").iterdir()] == ["the host's own"]
    assert {path.parent.name for path in kept.glob("conf/*/older")} == {"replaced.lost", ".tmp-0123.lost"}
    assert not (tmp_path / "state").exists()

    guide = (root / "docs/install.md").read_text()
    (place,) = re.findall(r"^replaced/\$\(.*PATH.*$", guide, re.MULTILINE)
    shown = subprocess.run(
        ["sh", "-c", f"cat {kept}/conf/{place.replace('PATH', str(tmp_path / 'etc.conf'))}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "the host's own"


def test_a_purge_of_an_agent_that_replaced_nothing_leaves_nothing(root: Path, tmp_path: Path) -> None:
    """No folder is made, and nothing said."""
    (tmp_path / "state/apps/hello/releases").mkdir(parents=True)
    done = purge(root, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_a_purge_that_cannot_keep_them_removes_nothing(root: Path, app_dir: Path, tmp_path: Path) -> None:
    """It fails, as when the disk is full, and may be repeated."""
    (tmp_path / "backups").write_text("in the way")
    assert purge(root, tmp_path).returncode != 0
    assert list((app_dir / "replaced").iterdir())
    (tmp_path / "backups").unlink()
    assert purge(root, tmp_path).returncode == 0
    assert not app_dir.exists()
