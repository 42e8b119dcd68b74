"""What the two wheels contain, and that they run without the source tree."""

import configparser
import email
import email.message
import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

IMPORT_ROOTS = {
    "towpath": "contract/towpath",
    "towpath_agent": "agent/towpath_agent",
    "towpath_server": "server/towpath_server",
    "towpath_cli": "cli/towpath_cli",
    "towpath_relay": "relay/towpath_relay",
}
AGENT_ROOTS = ("towpath", "towpath_agent")


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def top_level(wheel: Path) -> set[str]:
    return {name.split("/")[0] for name in names(wheel) if ".dist-info/" not in name}


def dist_info(wheel: Path, file: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(f".dist-info/{file}"))
        return archive.read(name).decode()


def metadata(wheel: Path) -> email.message.Message:
    return email.message_from_string(dist_info(wheel, "METADATA"))


def scripts(wheel: Path) -> dict[str, str]:
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read_string(dist_info(wheel, "entry_points.txt"))
    return dict(parser["console_scripts"])


def sources(root: Path, import_root: str) -> set[str]:
    folder = root / IMPORT_ROOTS[import_root]
    return {
        f"{import_root}/{path.relative_to(folder).as_posix()}"
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def run_unpacked(unpacked: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run with the wheel's files and the dependencies alone: -S keeps the editable install's .pth file out."""
    path = os.pathsep.join([str(unpacked), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    environment = {"PYTHONPATH": path, "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=unpacked,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_wheel_has_exactly_the_four_import_roots(wheel: Path) -> None:
    """Nothing but the four import roots gets into site-packages: no tests, no examples."""
    assert top_level(wheel) == set(IMPORT_ROOTS)


@pytest.mark.parametrize("import_root", IMPORT_ROOTS)
def test_the_wheel_carries_every_source_and_data_file(wheel: Path, root: Path, import_root: str) -> None:
    """Each file of an import root, data such as database migrations too, is in the wheel, and no other."""
    assert {name for name in names(wheel) if name.startswith(f"{import_root}/")} == sources(root, import_root)


def test_the_wheel_has_migrations_where_the_server_has_them(wheel: Path, root: Path) -> None:
    """A server that is installed from the wheel finds its database migrations."""
    folders = list((root / IMPORT_ROOTS["towpath_server"]).rglob("migrations"))
    assert folders, "the server has no folder of migrations"
    assert any("/migrations/" in name and name.endswith(".py") for name in names(wheel))


def test_the_wheel_carries_its_licence(wheel: Path, agent_wheel: Path) -> None:
    """Both wheels carry the licence's full text."""
    for each in (wheel, agent_wheel):
        assert "END OF TERMS AND CONDITIONS" in dist_info(each, "licenses/LICENSE")


def test_the_agent_wheel_holds_neither_server_nor_cli(agent_wheel: Path) -> None:
    """A host gets the agent and the contract and nothing else."""
    assert top_level(agent_wheel) == set(AGENT_ROOTS)


@pytest.mark.parametrize("import_root", AGENT_ROOTS)
def test_the_agent_wheel_carries_the_same_files(agent_wheel: Path, root: Path, import_root: str) -> None:
    """What the agent wheel has of an import root is the whole of it."""
    assert {name for name in names(agent_wheel) if name.startswith(f"{import_root}/")} == sources(root, import_root)


def test_the_agent_wheel_has_the_agents_command_only(wheel: Path, agent_wheel: Path) -> None:
    """The lean wheel's one command is the full wheel's command of that name."""
    every = scripts(wheel)
    assert set(every) == {"towpath", "towpath-agent", "towpath-relay", "towpath-server"}
    assert scripts(agent_wheel) == {"towpath-agent": every["towpath-agent"]}


def test_both_wheels_want_the_same_of_a_host(wheel: Path, agent_wheel: Path) -> None:
    """Base dependencies, version and Python are written twice, and are the same."""
    full, lean = metadata(wheel), metadata(agent_wheel)
    base = [line for line in full.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert base == lean.get_all("Requires-Dist")
    assert full["Version"] == lean["Version"]
    assert full["Requires-Python"] == lean["Requires-Python"]


def test_the_version_is_the_packages_own(root: Path) -> None:
    """`towpath.__version__` and the distribution's version are one number."""
    import towpath

    assert tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"] == towpath.__version__


@pytest.mark.parametrize("command", ["towpath", "towpath-agent", "towpath-server"])
def test_each_command_runs_from_the_wheel(wheel: Path, unpacked_wheel: Path, command: str) -> None:
    """Each console script starts from the built wheel, where the sources are not importable."""
    module, function = scripts(wheel)[command].split(":")
    code = (
        f"import sys; sys.argv = [{command!r}, '--help']; import {module} as m;"
        f"assert m.__file__.startswith({str(unpacked_wheel)!r}), m.__file__; sys.exit(m.{function}())"
    )
    done = run_unpacked(unpacked_wheel, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage:")


def test_the_agent_runs_from_its_lean_wheel(unpacked_agent_wheel: Path, root: Path) -> None:
    """Every module of the agent imports without server and CLI, and takes nothing outside the golden list."""
    code = """
import importlib, importlib.metadata, importlib.util, json, pkgutil, sys
import towpath, towpath_agent
for package in (towpath, towpath_agent):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
owners = importlib.metadata.packages_distributions()
loaded = {name.partition(".")[0] for name in sys.modules}
print(json.dumps({
    "strangers": [n for n in ("towpath_server", "towpath_cli") if importlib.util.find_spec(n)],
    "owners": [sorted({d.lower().replace("_", "-") for d in owners[n]}) for n in sorted(loaded) if n in owners
               and not n.startswith("grpc_")],
}))
"""
    done = run_unpacked(unpacked_agent_wheel, code)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    golden = (root / "tests/golden/agent-dependencies.txt").read_text().split()
    assert seen["strangers"] == []
    # grpcio imports its companions (grpc_health ...) by itself where they are installed: here, not on a host.
    # One top-level name may be shared by several distributions, as `grpc` is by grpcio's extras.
    for owners in seen["owners"]:
        assert set(owners) & {*golden, "towpath", "towpath-agent"}, owners
