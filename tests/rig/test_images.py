"""The images, built by podman on a base of Debian's packages, and docs/containers.md typed: a server that operators reach,
backed up and restored, an agent that enrols and runs a release.

Podman keeps all of it in folders of this test. The network is the machine's own (no bridge is to be had everywhere), on
free ports of loopback.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.loopback import Fleet
from examples.processes import wait_for

from rig import built
from rig.guides import blocks
from towpath import __version__

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/containers.md"
NEEDS = ("podman", "runc", "catatonit", "mmdebstrap", "dpkg-deb", "strip")
MISSING = [tool for tool in NEEDS if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.rig,
    pytest.mark.long,
    pytest.mark.network,
    pytest.mark.timeout(3600),
    pytest.mark.xdist_group("packages"),
    pytest.mark.skipif(os.geteuid() != 0, reason="containers are made as root here"),
    pytest.mark.skipif(bool(MISSING), reason=f"images need {' '.join(MISSING)}; run make rig-test"),
]

WAIT_S = 240.0
BASE = "localhost/debian:12"
# What a shell alone can run: the image has no other Python than the agent's.
APP = """\
app: sleeper
artifact: ./app
install: {kind: tree}
run: {kind: process, command: [bin/run]}
probes: [{process: {interval: 200ms}}]
health: {healthy_for: 1s, deadline: 60s, probation: 1s}
"""


class Podman:
    """Podman with storage of its own. This machine's hard limits may be below its defaults, so they are said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        places = [f"--root={folder}/storage", f"--runroot={folder}/run", f"--tmpdir={folder}/tmp"]
        self.words = ["podman", *places, "--cgroup-manager=cgroupfs", "--events-backend=none", "--runtime=runc"]
        self.run_words = ["--network=host", "--ulimit=nofile=1024:4096", "--ulimit=nproc=4096:4096"]

    def __call__(self, *words: str, code: int | None = 0, stdin: Path | None = None, timeout_s: float = 900) -> str:
        with (stdin or Path("/dev/null")).open("rb") as given:
            done = subprocess.run(
                [*self.words, *words],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=timeout_s,
            )
        assert code in (None, done.returncode), f"podman {' '.join(words)}: {done.stdout}"
        return done.stdout.strip()

    def command(self, folder: Path, *more: str) -> Path:
        """Make a command `podman` in `folder` that is this one; `more` are options of its `run`. Return the folder."""
        folder.mkdir()
        real = [shutil.which("podman") or "podman", *self.words[1:]]
        lines = [
            "#!/bin/sh",
            f'[ "$1" != run ] || {{ shift; exec {shlex.join([*real, "run", *self.run_words, *more])} "$@"; }}',
            f'exec {shlex.join(real)} "$@"',
        ]
        (folder / "podman").write_text("\n".join(lines) + "\n")
        (folder / "podman").chmod(0o755)
        return folder

    def close(self) -> None:
        self("rm", "--all", "--force", "--time", "5", code=None)
        self("rmi", "--all", "--force", code=None)
        self("volume", "rm", "--all", "--force", code=None)
        for mounted in Path("/proc/mounts").read_text().splitlines():
            place = mounted.split()[1]
            if place.startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", place], check=False)
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    """Give a podman without any image; its folder has a short name, as podman allows 50 characters."""
    podman = Podman(Path(tempfile.mkdtemp(prefix="towpath-images-", dir="/tmp")))
    yield podman
    podman.close()


@pytest.fixture(scope="module")
def images(podman: Podman, deb: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give the images as `make images` builds them, on a base of the day, from packages that were built already."""

    def make(folder: Path) -> None:
        words = ["mmdebstrap", "--quiet", "--variant=minbase", "--include=tzdata", "bookworm", str(folder / "base.tar")]
        subprocess.run(words, check=True, timeout=900)

    podman("import", "--quiet", str(built.kept("image-bookworm", make) / "base.tar"), BASE)
    dist = tmp_path_factory.mktemp("dist")
    for package in (deb, built.package("server-deb")):
        shutil.copy(package, dist)
    context = tmp_path_factory.mktemp("context")
    settings = {
        "DIST": str(dist),
        "IMAGE_CONTEXT": str(context),
        "IMAGE_BASE": BASE,
        "IMAGE_BUILDER": " ".join(podman.words),
        # Neither networks nor limits are this machine's to give.
        "IMAGE_FLAGS": "--network=host --ulimit=nofile=1024:4096 --ulimit=nproc=4096:4096 --pull=never",
    }
    words = ["make", "image-build", *(f"{name}={value}" for name, value in settings.items())]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    names = {name: f"localhost/towpath-{name}:{__version__}" for name in ("agent", "server")}
    print(podman("images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}"))
    return names


class Typist:
    """Types what stands in the guide, with the test's own addresses; `podman` is the test's too."""

    def __init__(self, podman: Podman, fleet: Fleet, folder: Path) -> None:
        listen = (f"--env=TOWPATH_{kind.upper()}_LISTEN={address}" for kind, address in fleet.addresses.items())
        commands = podman.command(folder, *listen)
        self._env = {**fleet.env(), "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
        self._folder = fleet.root
        self._given = {
            "towpath.example.com:7444": fleet.addresses["enroll"],
            "--environment production": "--environment dev",
        }

    def __call__(self, lines: list[str]) -> None:
        """Type lines, and see each command end well."""
        script = "\n".join(lines)
        for name, value in self._given.items():
            script = script.replace(name, value)
        words = ["bash", "-e", "-o", "pipefail", "-c", script]
        done = subprocess.run(
            words, cwd=self._folder, env=self._env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False, timeout=900,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}: {done.stdout}"


def test_a_fleet_of_images_takes_a_release(podman: Podman, images: dict[str, str], tmp_path: Path) -> None:
    """docs/containers.md as typed: operators reach the server, it is restored from a backup into a new volume, a host enrols
    although the server is away at first, is up again after a crash of its agent, and is the same one in another container.
    """
    (_, serve), (_, back_up), (_, restore), (_, agent) = blocks(GUIDE)
    with Fleet(tmp_path / "fleet") as fleet:
        fleet.addresses = fleet.fixed_addresses()
        typed = Typist(podman, fleet, tmp_path / "commands")
        answers = lambda: fleet.towpath("host", "list", code=None).code == 0  # noqa: E731
        said = lambda: podman("logs", "towpath-server", code=None)  # noqa: E731
        doctor = ("towpath-server", "doctor", "--dir", "/var/lib/towpath-server")

        typed(serve)
        wait_for("operators reach it", answers, WAIT_S, said)
        assert podman("exec", "towpath-server", "id", "-un") == "towpath"
        assert podman("exec", "towpath-server", *doctor, timeout_s=300).splitlines()[-1] == "nothing fails"
        typed(back_up)
        typed(restore)
        wait_for("the restored one is reached", answers, WAIT_S, said)
        assert podman("exec", "towpath-server", *doctor, timeout_s=300).splitlines()[-1] == "nothing fails"
        (entry,) = [one for one in fleet.towpath("audit", "-o", "json").json() if one["act"] == "server.restore"]
        assert entry["actor"] == "local/towpath"

        typed(agent[:1])
        podman("stop", "--time", "30", "towpath-server", timeout_s=300)
        typed(agent[1:])
        wait_for("it tried again", lambda: restarts(podman) > 0, WAIT_S, lambda: podman("logs", "web-1"))
        podman("start", "towpath-server")
        wait_for("the server is back", answers, WAIT_S, said)
        wait_for("the host is online", lambda: "web-1" in fleet.online(), WAIT_S, lambda: podman("logs", "web-1"))

        folder = tmp_path / "sleeper"
        (folder / "app/bin").mkdir(parents=True)
        (folder / "app/bin/run").write_text("#!/bin/sh\nexec sleep 1000000\n")
        (folder / "app/bin/run").chmod(0o755)
        (folder / "towpath.yaml").write_text(APP)
        fleet.publish(folder / "towpath.yaml", "1")
        fleet.deploy("sleeper", "1", timeout_s=WAIT_S)
        assert "Confirmed" in podman("exec", "web-1", "towpath-agent", "status")

        before = restarts(podman)
        init = podman("inspect", "--format={{.State.Pid}}", "web-1")
        (killed,) = Path(f"/proc/{init}/task/{init}/children").read_text().split()
        os.kill(int(killed), signal.SIGKILL)
        wait_for("it was started again", lambda: restarts(podman) > before, WAIT_S, lambda: podman("logs", "web-1"))
        wait_for("its app runs", lambda: "sleep 1000000" in processes(podman), WAIT_S, lambda: podman("logs", "web-1"))

        podman("rm", "--force", "--time", "20", "web-1")  # another container, no token, the same host and its app
        podman("run", "--detach", "--name=web-1", *podman.run_words, "--volume=web-1:/var/lib/towpath", images["agent"])
        wait_for("it runs again", lambda: "sleep 1000000" in processes(podman), WAIT_S, lambda: podman("logs", "web-1"))
        podman("restart", "--time", "20", "towpath-server", timeout_s=300)
        wait_for("it is back", answers, WAIT_S, said)
        fleet.wait_online(["web-1"], WAIT_S)
        assert "Traceback" not in said()
        podman("stop", "--time", "30", "towpath-server", timeout_s=300)
        assert podman("inspect", "--format={{.State.ExitCode}}", "towpath-server") == "0", said()


def restarts(podman: Podman) -> int:
    """Return how often podman started the host's container again by itself."""
    return int(podman("inspect", "--format={{.RestartCount}}", "web-1"))


def processes(podman: Podman) -> str:
    """Return the command lines of all processes in the host's container."""
    script = "for one in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $one; echo; done"
    return podman("exec", "web-1", "sh", "-c", script, code=None)
