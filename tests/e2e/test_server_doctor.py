"""`towpath server doctor` as monitoring calls it: by its exit code."""

import subprocess
from pathlib import Path

import pytest
from examples.loopback import Fleet, clean_env, command

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


def init(folder: Path, env: dict[str, str]) -> Path:
    """Make a fleet whose server listens where nobody else does; return the server's folder."""
    subprocess.run([command("towpath"), "init", str(folder)], env=env, check=True, timeout=120)
    lines = [f'{kind}_listen = "{address}"\n' for kind, address in Fleet.fixed_addresses().items()]
    (folder / "server/server.toml").write_text("".join(lines))
    return folder / "server"


def doctor(program: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    words = [command(program[0]), *program[1:], "doctor", "--dir", str(folder)]
    return subprocess.run(words, env=clean_env(), capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("program", [["towpath", "server"], ["towpath-server"]])
def test_the_exit_code_says_whether_something_fails(program: list[str], tmp_path: Path) -> None:
    """1 where a check fails, by both names of the command; 0 where none does."""
    missing = doctor(program, tmp_path / "none")
    assert "1 check fails" in missing.stdout
    assert missing.returncode == 1
    fresh = doctor(program, init(tmp_path / "fleet", clean_env()))
    assert (fresh.stdout.splitlines()[-1], fresh.returncode) == ("nothing fails", 0), fresh.stdout


def test_doctor_says_that_a_ca_has_lapsed_and_what_to_do(tmp_path: Path) -> None:
    """A fleet that was made eleven years ago: the line fails, names the CA, and the way out is this guide's."""
    if FAKETIME is None:
        pytest.skip("there is no libfaketime here: apt-get install faketime")
    then = clean_env(LD_PRELOAD=str(FAKETIME), FAKETIME="-4015d", FAKETIME_DONT_FAKE_MONOTONIC="1")
    said = doctor(["towpath", "server"], init(tmp_path / "fleet", then))
    print(said.stdout)
    assert said.returncode == 1
    (line,) = [line for line in said.stdout.splitlines() if line.startswith("fail ")]
    assert "the CA lapsed" in line
    assert "see docs/server.md, 'The CA lapses'" in line
    assert "## The CA lapses" in (ROOT / "docs/server.md").read_text()
    assert "Traceback" not in said.stderr
