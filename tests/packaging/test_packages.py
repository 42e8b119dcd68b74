"""The .deb and the .rpm: the same bytes twice, small enough, whole in themselves, and harmless until told.

What they do on a host that boots is in tests/rig/test_package_host.py.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MIB = 2**20
PREFIX = "usr/lib/towpath-agent"
MISSING = [tool for tool in ("/usr/bin/python3.11", "dpkg-deb", "strip", "rpmbuild") if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.network,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("packages"),
    pytest.mark.skipif(bool(MISSING), reason=f"building packages needs {' '.join(MISSING)}"),
]


def build(root: Path, out: Path) -> tuple[Path, Path]:
    """Build both as `make deb rpm` does, but for the time that compression takes."""
    command = [sys.executable, str(root / "packaging/make"), "deb", "rpm", "--fast", "--out", str(out)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 0, done.stderr
    deb, rpm = (next(out.glob(f"towpath-agent*.{kind}")) for kind in ("deb", "rpm"))
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == [str(deb), str(rpm)]
    return deb, rpm


@pytest.fixture(scope="session")
def packages(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(root, tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="session")
def deb(packages: tuple[Path, Path]) -> Path:
    return packages[0]


@pytest.fixture(scope="session")
def unpacked(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked-deb")
    subprocess.run(["dpkg-deb", "--raw-extract", str(deb), str(folder)], check=True, timeout=120)
    return folder


def agent(unpacked: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the packaged agent's command from wherever it was unpacked."""
    return subprocess.run(
        [unpacked / PREFIX / "bin/towpath-agent", *words],
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/root"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_same_commit_gives_the_same_bytes(root: Path, packages: tuple[Path, Path], tmp_path: Path) -> None:
    """Built twice, in two folders, both packages have the same bytes."""
    for first, second in zip(packages, build(root, tmp_path), strict=True):
        assert second.read_bytes() == first.read_bytes(), second.name


def test_the_rpm_holds_what_the_deb_holds(packages: tuple[Path, Path], tmp_path: Path) -> None:
    """Unpacked by rpm, the agent of the RPM runs; its settings file is one that an upgrade keeps."""
    to = tmp_path / "root"
    to.mkdir()
    install = ["rpm", "-i", "--root", str(to), "--dbpath", "/rpmdb", "--nodeps", "--noscripts", str(packages[1])]
    done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert agent(to, "version").stdout.startswith("towpath-agent ")
    query = ["rpm", "-qp", "--configfiles", str(packages[1])]
    listed = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    assert listed.split() == ["/etc/towpath/agent.toml"]


def test_it_is_no_larger_than_promised(unpacked: Path) -> None:
    """Installed it takes less than 80 MB."""
    files = [path for path in unpacked.rglob("*") if path.is_file() and "DEBIAN" not in path.parts]
    assert sum(path.lstat().st_size for path in files) < 80_000_000


def test_the_agent_runs_in_its_own_python(unpacked: Path) -> None:
    """The packaged command runs, every module of it is below the package's folder, and it writes nothing there."""
    before = sorted(unpacked.rglob("*"))
    shown = agent(unpacked, "--help")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("Usage: towpath-agent")
    code = (
        "import sys, towpath_agent.daemon, towpath_agent.trust.child, towpath_agent.doctor, ssl, sqlite3\n"
        "print(*sys.path, *(m.__file__ for m in sys.modules.values() if getattr(m, '__file__', 0)))"
    )
    python = unpacked / PREFIX / "bin/python3.11"
    done = subprocess.run(
        [python, "-P", "-s", "-c", code], env={"HOME": "/root"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [place for place in done.stdout.split() if not place.startswith(str(unpacked))] == []
    assert sorted(unpacked.rglob("*")) == before


def test_what_it_links_is_its_own_or_the_c_library(unpacked: Path) -> None:
    """No library of the host but the C library is used, so an upgrade of OpenSSL or Python there breaks nothing."""
    code = (
        "import ssl, sqlite3, bz2, lzma, ctypes, uuid, hashlib, zlib, grpc._cython.cygrpc, cryptography.x509, psutil\n"
        "print(*{l.split()[-1] for l in open('/proc/self/maps') if '.so' in l})"
    )
    python = unpacked / PREFIX / "bin/python3.11"
    done = subprocess.run([python, "-c", code], env={}, capture_output=True, text=True, check=True)
    others = [path for path in done.stdout.split() if not path.startswith(str(unpacked))]
    c_library = re.compile(r"/(ld-linux.*|lib(c|m|dl|pthread|rt|util|resolv|nss_\w+))(-[\d.]+)?\.so[\d.]*$")
    assert [path for path in others if not c_library.search(path)] == []


def test_what_it_carries_is_the_golden_list(root: Path, unpacked: Path) -> None:
    """The distributions inside are the agent and the golden list, and nothing names the machine that built it."""
    infos = (unpacked / PREFIX / "lib/python3.11/dist-packages").glob("*.dist-info")
    names = {info.name.split("-")[0].lower().replace("_", "-") for info in infos}
    golden = (root / "tests/golden/agent-dependencies.txt").read_text().split()
    assert names == {*golden, "towpath-agent"}
    for path in unpacked.rglob("*"):
        if path.is_file():
            assert b"/towpath-package-" not in path.read_bytes(), path


def test_no_script_starts_or_enables_an_agent(root: Path, unpacked: Path) -> None:
    """Only `towpath-agent setup` starts an agent: the maintainer scripts restart one that runs, no more."""
    scripts = [*(root / "packaging/deb").iterdir(), *(root / "packaging/rpm").iterdir()]
    assert len(scripts) == 6
    for script in scripts:
        calls = re.findall(r"systemctl (?:--\S+ )*(\S+)", script.read_text())
        assert calls, script
        assert set(calls) <= {"daemon-reload", "try-restart", "disable", "stop"}, script
        subprocess.run(["sh", "-n", script], check=True)
    assert (unpacked / "DEBIAN/conffiles").read_text() == "/etc/towpath/agent.toml\n"


def test_the_settings_file_says_nothing_until_it_is_changed(root: Path, unpacked: Path) -> None:
    """Every setting that the agent knows stands in the conffile, commented out."""
    from towpath_agent.options import KNOWN_SETTINGS

    lines = (unpacked / "etc/towpath/agent.toml").read_text().splitlines()
    assert all(line.startswith("#") for line in lines if line)
    assert sorted(re.findall(r"^# (\w+) = ", "\n".join(lines), re.MULTILINE)) == sorted(KNOWN_SETTINGS)


def test_the_man_page_has_every_command(unpacked: Path) -> None:
    """The page is made of the commands, and man takes it without a warning."""
    from towpath_agent.cli import group

    page = unpacked / "usr/share/man/man1/towpath-agent.1.gz"
    if shutil.which("man") is None:
        pytest.skip("reading a man page needs the Debian package man-db")
    shown = subprocess.run(
        ["man", "--warnings", "-l", str(page)],
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "MANWIDTH": "100", "MAN_KEEP_FORMATTING": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stderr == ""
    for name in group.commands:
        assert re.search(rf"^   {name}\b", shown.stdout, re.MULTILINE), name


def test_bash_completes_commands(unpacked: Path) -> None:
    """The script that bash loads completes a command's name by asking the agent's own command."""
    command = unpacked / PREFIX / "bin/towpath-agent"
    script = (
        f"source {unpacked}/usr/share/bash-completion/completions/towpath-agent\n"
        f"COMP_WORDS=(towpath-agent hist); COMP_CWORD=1; _towpath_agent_completion {command} hist towpath-agent\n"
        'echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split() == ["history"], done.stderr


def test_the_command_is_the_launcher_and_the_tree_beside_it_a_release_of_the_agent(
    unpacked: Path, tmp_path: Path
) -> None:
    """The command of the package starts what launch.json names; a copy of the packaged tree is such a release as it is."""
    command = (unpacked / "usr/bin/towpath-agent").read_text().replace("/usr/lib", f"{unpacked}/usr/lib")
    launcher = tmp_path / "towpath-agent"
    launcher.write_text(command)
    launcher.chmod(0o755)
    release = tmp_path / "h1/apps/towpath-agent/releases/9.9.9-abc"
    shutil.copytree(unpacked / PREFIX, release, symlinks=True)
    version = release / "lib/python3.11/dist-packages/towpath/__init__.py"
    version.write_text('__version__ = "9.9.9"\n')
    shutil.rmtree(version.parent / "__pycache__")

    def shown() -> str:
        words = [launcher, "version"]
        env = {"PATH": "/usr/bin:/bin", "TOWPATH_AGENT_DIR": str(tmp_path / "h1")}
        return subprocess.run(words, env=env, capture_output=True, text=True, check=True, timeout=120).stdout

    packaged = shown()
    assert packaged.startswith("towpath-agent ")
    facts = {"current": "9.9.9-abc", "trying": "", "deadline_s": 0, "starts": 0, "failed": "", "output": ""}
    (tmp_path / "h1/launch.json").write_text(json.dumps(facts))
    assert shown() == "towpath-agent 9.9.9\n"
    (release / "bin/towpath-agent").chmod(0o644)
    assert shown() == packaged
