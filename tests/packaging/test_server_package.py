"""The server's .deb and .rpm: the same bytes twice, whole in itself, careful with a fleet's keys.

What it does on a machine that boots is in tests/rig/test_server_host.py.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PREFIX = "usr/lib/towpath-server"
MISSING = [tool for tool in ("/usr/bin/python3.11", "dpkg-deb", "strip", "rpmbuild") if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.network,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("packages"),
    pytest.mark.skipif(bool(MISSING), reason=f"building packages needs {' '.join(MISSING)}"),
]


def build(root: Path, out: Path) -> tuple[Path, Path]:
    """Build as `make server-deb server-rpm` does, but for the time that compression takes."""
    command = [sys.executable, str(root / "packaging/make"), "server-deb", "server-rpm", "--fast", "--out", str(out)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 0, done.stderr
    (deb,), (rpm,) = out.glob("towpath-server_*.deb"), out.glob("towpath-server-*.rpm")
    line = r"{}: [\d.]+ MiB, installed [\d.]+ MiB, sha256 [0-9a-f]{{64}}\n"
    assert re.fullmatch("".join(line.format(re.escape(str(made))) for made in (deb, rpm)), done.stdout)
    return deb, rpm


@pytest.fixture(scope="module")
def packages(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(root, tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def server_deb(packages: tuple[Path, Path]) -> Path:
    return packages[0]


@pytest.fixture(scope="module")
def inside(server_deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked-server")
    subprocess.run(["dpkg-deb", "--raw-extract", str(server_deb), str(folder)], check=True, timeout=120)
    return folder


def typed(inside: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a packaged command by the packaged interpreter, from wherever it was unpacked."""
    return subprocess.run(
        [inside / PREFIX / "bin/python3.11", "-I", inside / "usr/bin" / words[0], *words[1:]],
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/root"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_same_commit_gives_the_same_server(root: Path, packages: tuple[Path, Path], tmp_path: Path) -> None:
    """Built twice, in two folders: the same bytes."""
    for first, second in zip(packages, build(root, tmp_path), strict=True):
        assert second.read_bytes() == first.read_bytes(), second.name


def test_the_rpm_holds_what_the_deb_holds(packages: tuple[Path, Path], inside: Path, tmp_path: Path) -> None:
    """Unpacked by rpm: the same files but for zsh's folder, commands that run, settings that an upgrade keeps."""
    to = tmp_path / "root"
    to.mkdir()
    install = ["rpm", "-i", "--root", str(to), "--dbpath", "/rpmdb", "--nodeps", "--noscripts", str(packages[1])]
    done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert typed(to, "towpath-server", "--help").stdout.startswith("Usage: towpath-server")

    def files(top: Path) -> set[str]:
        names = {str(path.relative_to(top)) for path in top.rglob("*") if path.is_symlink() or path.is_file()}
        return {name.replace("vendor-completions", "site-functions") for name in names}

    assert {name for name in files(to) if not name.startswith("rpmdb/")} == {
        name for name in files(inside) if not name.startswith("DEBIAN/")
    }

    def asked(what: str) -> list[str]:
        query = ["rpm", "-qp", what, str(packages[1])]
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()

    assert asked("--configfiles") == ["/etc/towpath/server.toml"]
    assert {line.split()[0] for line in asked("--requires") if not line.startswith("rpmlib")} >= {
        "glibc", "shadow-utils", "tzdata",
    }  # fmt: skip
    assert any(line.startswith("postinstall scriptlet") for line in asked("--scripts"))


def test_a_server_runs_in_its_own_python(inside: Path, tmp_path: Path) -> None:
    """A fleet is made, and every module of a server's and an operator's day is below the package's folder."""
    done = typed(inside, "towpath", "init", str(tmp_path / "fleet"))
    assert done.returncode == 0, done.stderr
    code = (
        "import sys, os, towpath_server.cli, towpath_cli.main, towpath_server.upkeep.doctor, towpath_server.api.listeners\n"
        "import numpy, bsdiff4, towpath_server.domain.windows, towpath_server.storage.database as d, zoneinfo\n"
        "import towpath_server.upkeep.restore, towpath_server.deltas.encoder, towpath_server.storage.s3\n"
        "[towpath_cli.main.cli.get_command(None, name) for name in towpath_cli.main.COMMANDS]\n"
        "assert numpy.ones((64, 64)).dot(numpy.ones(64))[0] == 64\n"
        "zoneinfo.ZoneInfo('Europe/Berlin')\n"
        "from pathlib import Path; d.SqlStorage(Path(sys.argv[1]) / 'towpath.db').close()\n"
        "print(*sys.path, *(m.__file__ for m in sys.modules.values() if getattr(m, '__file__', 0)))"
    )
    python = inside / PREFIX / "bin/python3.11"
    ran = subprocess.run(
        [python, "-I", "-c", code, str(tmp_path)], env={"HOME": "/root"}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert [place for place in ran.stdout.split() if not place.startswith(str(inside))] == []


def test_what_the_server_carries_is_its_lock(root: Path, inside: Path) -> None:
    """The distributions inside are Towpath and the lock; what the agent carries too has the agent's version."""

    def pins(name: str) -> dict[str, str]:
        text = (root / f"packaging/{name}/requirements.lock").read_text()
        return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))

    infos = (inside / PREFIX / "lib/python3.11/dist-packages").glob("*.dist-info")
    names = {re.sub(r"[._]", "-", info.name.split("-")[0].lower()) for info in infos}
    assert names == {*pins("server"), "towpath"}
    assert {name: pins("server")[name] for name in pins("agent")} == pins("agent")
    for path in inside.rglob("*"):
        if path.is_file():
            assert b"/towpath-package-" not in path.read_bytes(), path


def test_no_script_starts_a_server_or_loses_keys(root: Path, inside: Path) -> None:
    """A running server is restarted, none is started; a purge removes the state only where no CA's key is in it."""
    scripts = sorted([*(root / "packaging/server/deb").iterdir(), *(root / "packaging/server/rpm").iterdir()])
    assert [script.name for script in scripts] == ["postinst", "postrm", "prerm", "post", "postun", "preun"]
    for script in scripts:
        text = script.read_text()
        assert set(re.findall(r"systemctl (?:--\S+ )*(\S+)", text)) <= {"daemon-reload", "try-restart", "disable"}, (
            script
        )
        subprocess.run(["sh", "-n", script], check=True)
    for script in (root / "packaging/server/rpm").iterdir():  # an RPM has no purge: nothing is ever removed
        assert not re.search(r"\b(rm|userdel)\b", script.read_text()), script
    guard = (root / "packaging/server/deb/postrm").read_text().partition('if [ -e "$STATE/ca.key" ]; then')
    assert not re.search(r'rm .*"\$STATE"', guard[0])
    assert 'rm -rf "$STATE"' not in guard[2].partition("else")[0]
    assert (inside / "DEBIAN/conffiles").read_text() == "/etc/towpath/server.toml\n"


def test_the_packaged_settings_are_ones_that_the_server_knows(inside: Path) -> None:
    """Hosts reach it, operators only from its own machine until somebody says otherwise; every setting stands there."""
    from towpath_server.options import SETTINGS, read_settings

    path = inside / "etc/towpath/server.toml"
    assert read_settings([path]) == {"agent_listen": "0.0.0.0:7443", "enroll_listen": "0.0.0.0:7444"}
    assert sorted(re.findall(r"^(?:# )?(\w+) = ", path.read_text(), re.MULTILINE)) == sorted(SETTINGS)


@pytest.mark.skipif(shutil.which("man") is None, reason="reading a man page needs the Debian package man-db")
@pytest.mark.parametrize(
    ("name", "words"),
    [("towpath-server", "run backup restore migrate doctor"), ("towpath", "init deploy server status")],
)
def test_the_man_pages_have_the_commands(inside: Path, name: str, words: str) -> None:
    """Made of the commands, and man takes them without a warning."""
    page = inside / f"usr/share/man/man1/{name}.1.gz"
    env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "MANWIDTH": "100"}
    shown = subprocess.run(["man", "--warnings", "-l", page], env=env, capture_output=True, text=True, check=True)
    assert shown.stderr == ""
    for word in words.split():
        assert re.search(rf"^   {word}\b", shown.stdout, re.MULTILINE), word


def test_bash_completes_both_commands(inside: Path) -> None:
    """Their scripts are those of the commands."""
    for name in ("towpath-server", "towpath"):
        text = (inside / f"usr/share/bash-completion/completions/{name}").read_text()
        assert f"_{name.upper().replace('-', '_')}_COMPLETE=bash_complete" in text
