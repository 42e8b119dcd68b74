"""The systemd units agree with the commands that they start."""

import configparser
import shlex
import subprocess
import sys
from pathlib import Path

import pytest


class Unit(configparser.RawConfigParser):
    """A unit file: keys keep their case and may repeat (the last one counts here)."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, interpolation=None)
        self.read_string(path.read_text())

    def optionxform(self, optionstr: str) -> str:
        return optionstr


@pytest.mark.parametrize("program", ["towpath-agent", "towpath-server"])
def test_the_unit_starts_a_command_that_exists(root: Path, program: str) -> None:
    """Program, subcommand and every option of ExecStart are known to the command."""
    unit = Unit(root / f"packaging/systemd/{program}.service")
    path, subcommand, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert Path(path).name == program
    module = f"{program.replace('-', '_')}.cli"
    code = f"import sys; from {module} import main; sys.argv = {[program, subcommand, '--help']!r}; main()"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert shown.returncode == 0, shown.stderr
    for option in (each for each in arguments if each.startswith("--")):
        assert option in shown.stdout


def test_a_restart_of_the_agent_leaves_its_apps_alone(root: Path) -> None:
    """Apps live in the agent's control group; the unit ends the agent and nothing else."""
    assert Unit(root / "packaging/systemd/towpath-agent.service")["Service"]["KillMode"] == "process"


def test_the_server_is_no_root_and_writes_its_own_folder_only(root: Path) -> None:
    """The server's unit has a user of its own and a read-only system."""
    service = Unit(root / "packaging/systemd/towpath-server.service")["Service"]
    assert service["User"] == "towpath"
    assert service["ProtectSystem"] == "strict"
    assert service["NoNewPrivileges"] == "yes"
    assert f"/var/lib/{service['StateDirectory']}" in shlex.split(service["ExecStart"])
