"""What the agent's postrm does at a purge, run in a folder of the test's; on hosts: tests/rig/test_package_host.py."""

import os
import re
import subprocess
from collections.abc import Callable
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


def script(root: Path, folder: Path) -> str:
    """Return the script with its folders below `folder`."""
    functions, case, rest = (root / "packaging/deb/postrm").read_text().partition("\ncase $1 in\n")
    return functions + INSTEAD.format(folder) + case + rest


def purge(root: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it."""
    return subprocess.run(
        ["sh", "-c", script(root, folder), "postrm", "purge"], capture_output=True, text=True, check=False
    )


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


def server_script(root: Path, folder: Path) -> str:
    """Return the server's script, with its folders below `folder` too."""
    text = (root / "packaging/server/deb/postrm").read_text()
    for place, instead in (("/var/lib/towpath-server", "state"), ("/etc/", "etc/"), ("/run/systemd/system", "none")):
        text = text.replace(place, f"{folder}/{instead}")
    return f"userdel() {{ :; }}\n{text}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
@pytest.mark.parametrize("script", [script, server_script])
@pytest.mark.parametrize("place", ["state", "state/below"])
def test_a_purge_empties_nothing_that_is_mounted_in_the_state(
    root: Path, tmp_path: Path, script: Callable[[Path, Path], str], place: str
) -> None:
    """It ends well: dpkg would leave the package half purged otherwise. A state on a disk of its own is emptied."""
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted/file").write_text("content")
    within = f'mount --bind {tmp_path}/mounted {tmp_path}/{place} && exec sh -c "$0" postrm purge'
    words = ["unshare", "--mount", "sh", "-c", within, script(root, tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    if place == "state":
        assert not list((tmp_path / "mounted").iterdir())
    else:
        assert "unmount that, then: rm -r" in done.stdout
        assert (tmp_path / "mounted/file").read_text() == "content"
