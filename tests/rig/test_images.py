"""The images, built by podman on a base of Debian's packages: a server that operators reach, an agent that enrols and runs a release.

Podman keeps all of it in folders of this test. The network is the machine's own (no bridge is to be had everywhere), on
free ports of loopback.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.loopback import Fleet
from examples.processes import wait_for

from rig import built
from towpath import __version__

ROOT = Path(__file__).parents[2]
NEEDS = ("podman", "runc", "mmdebstrap", "dpkg-deb", "strip")
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

    def close(self) -> None:
        self("rm", "--all", "--force", "--time", "5", code=None)
        self("rmi", "--all", "--force", code=None)
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


def test_a_fleet_of_images_takes_a_release(podman: Podman, images: dict[str, str], tmp_path: Path) -> None:
    """As docs/containers.md says: operators reach the server, a host enrols by its variables, and is the same one later."""
    with Fleet(tmp_path / "fleet") as fleet:
        fleet.init()
        fleet.addresses = fleet.fixed_addresses()
        state, host = str(podman.folder / "server"), str(podman.folder / "host")
        Path(host).mkdir()
        shutil.copytree(fleet.server_folder, state)
        podman("run", "--rm", *podman.run_words, "--user=0", "--entrypoint=/bin/chown", f"--volume={state}:/var/lib/towpath-server",
               images["server"], "-R", "towpath:", "/var/lib/towpath-server")  # fmt: skip
        listen = [f"--env=TOWPATH_{kind.upper()}_LISTEN={address}" for kind, address in fleet.addresses.items()]
        serve = (*podman.run_words, *listen, f"--volume={state}:/var/lib/towpath-server", images["server"])
        podman("run", "--detach", "--name=server", *serve)
        wait_for("operators reach it", lambda: fleet.towpath("host", "list", code=None).code == 0, WAIT_S)
        doctor = ("towpath-server", "doctor", "--dir", "/var/lib/towpath-server")
        assert podman("exec", "server", "id", "-un") == "towpath"
        assert podman("exec", "server", *doctor, timeout_s=300).splitlines()[-1] == "nothing fails"

        token = tmp_path / "token"
        token.write_text(fleet.token())
        enrolled = [f"--env=TOWPATH_AGENT_SERVER={fleet.addresses['enroll']}", "--env=TOWPATH_AGENT_NAME=box",
                    "--env=TOWPATH_TOKEN_FILE=/run/token", f"--volume={token}:/run/token:ro"]  # fmt: skip
        volume = f"--volume={host}:/var/lib/towpath"
        podman("run", "--detach", "--name=box", *podman.run_words, *enrolled, volume, images["agent"])
        wait_for("the host is online", lambda: "box" in fleet.online(), WAIT_S, lambda: podman("logs", "box"))

        folder = tmp_path / "sleeper"
        (folder / "app/bin").mkdir(parents=True)
        (folder / "app/bin/run").write_text("#!/bin/sh\nexec sleep 1000000\n")
        (folder / "app/bin/run").chmod(0o755)
        (folder / "towpath.yaml").write_text(APP)
        fleet.publish(folder / "towpath.yaml", "1")
        fleet.deploy("sleeper", "1", timeout_s=WAIT_S)
        assert "Confirmed" in podman("exec", "box", "towpath-agent", "status")

        podman("rm", "--force", "--time", "20", "box")  # another container, no token, the same host and its app
        podman("run", "--detach", "--name=box", *podman.run_words, volume, images["agent"])
        wait_for("it runs again", lambda: "sleep 1000000" in processes(podman), WAIT_S, lambda: podman("logs", "box"))
        podman("restart", "--time", "20", "server", timeout_s=300)
        wait_for("it is back", lambda: fleet.towpath("host", "list", code=None).code == 0, WAIT_S)
        fleet.wait_online(["box"], WAIT_S)
        said = podman("logs", "server")
        assert "Traceback" not in said
        podman("stop", "--time", "30", "server", timeout_s=300)
        assert podman("inspect", "--format={{.State.ExitCode}}", "server") == "0", said


def processes(podman: Podman) -> str:
    """Return the command lines of all processes in the host's container."""
    script = "for one in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $one; echo; done"
    return podman("exec", "box", "sh", "-c", script, code=None)
