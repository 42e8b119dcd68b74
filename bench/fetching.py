"""How fast a host takes a whole release, beside doing it by hand. `python -m bench.fetching`.

The release is real: the Python packages of this environment, thousands of files. By hand it is what people write into a
script: curl from nginx, sha256sum of all that came, tar x, sync. Two archives of the same tree are there: a plain tar,
and one of zstd -3, which is what the objects of a release are carried in. The sides take turns, and end with the
files on the disk: ours at Staged (carried, proven, stored, copied into the release, synced), theirs with a `sync`.

Nothing is removed before the end: for minutes after thousands of files went, ext4 makes new ones in the same place ten
times more slowly, so that a side pays for what the other one, or the run before, removed.

Ends with ONE line of JSON on stdout; MB are 10^6 bytes of files. `ratios` are ours by each of theirs, and the plain
tar's is the one with a goal.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from examples.loopback import Fleet, clean_env
from examples.processes import START_TIMEOUT_S, Daemon, free_ports, wait_for

from bench.deploys import states
from bench.measure import note, span

DEPLOY_TIMEOUT_S = 900.0
RELEASE = """app: packages
version: "1"
artifact: ./tree
install: {kind: tree}
run: {kind: none}
"""
NGINX = """daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
events {{}}
http {{
  access_log off; sendfile on;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
  scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port}; root {folder}; }}
}}
"""
UNPACK = 'set -o pipefail; curl -sSf "$1" | tee >(sha256sum > "$2.sha256") | tar -x {how} -C "$2" && sync -f "$2"'
ARCHIVES = {"tar": "", "tar.zst": "--zstd"}


def _tree(folder: Path) -> tuple[int, int]:
    """Copy the packages of this environment; return how many files and bytes they are."""
    packages = Path(sysconfig.get_path("purelib"))
    shutil.copytree(packages, folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    return len(files), sum(path.stat().st_size for path in files)


@contextmanager
def _nginx(folder: Path) -> Iterator[str]:
    """Serve `folder` on loopback while entered; yields the address."""
    port = free_ports(1)[0]
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port))
    command = ["nginx", "-c", str(folder / "nginx.conf")]
    server = Daemon(command, log=folder / "nginx.log", env=clean_env(), cwd=folder)
    server.start()
    try:
        url = f"http://127.0.0.1:{port}"
        asked = ["curl", "-s", "-o", "/dev/null", url]
        wait_for("nginx to answer", lambda: subprocess.run(asked, check=False).returncode == 0, START_TIMEOUT_S)
        yield url
    finally:
        server.stop()


def _by_hand(url: str, name: str, place: Path) -> float:
    """Return seconds until the archive is fetched, proven and unpacked."""
    place.mkdir()
    script = UNPACK.format(how=ARCHIVES[name])
    with span() as seconds:
        subprocess.run(["bash", "-c", script, "bash", f"{url}/all.{name}", str(place)], check=True)
    return seconds.seconds


def _ours(fleet: Fleet, host: str) -> float:
    """Return seconds of one host from Fetching to Staged."""
    fleet.add_hosts([host], label=f"name={host}")
    words = (
        "deploy",
        "packages",
        "1",
        "--environment",
        "dev",
        "--select",
        f"name={host}",
        "--wait",
        "--timeout",
        "15m",
    )
    fleet.towpath(*words, timeout_s=DEPLOY_TIMEOUT_S)
    reached = states(fleet, host, "1")
    return (reached["Staged"] - reached["Fetching"]) / 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.fetching", description="A whole release, beside curl, sha256 and tar.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work: a disk with 5 GB free")
    options = parser.parse_args()
    missing = [tool for tool in ("nginx", "curl", "zstd") if shutil.which(tool) is None]
    if missing:
        sys.exit(f"bench.fetching: cannot compare without {', '.join(missing)}: apt-get install nginx-light curl zstd")
    with tempfile.TemporaryDirectory(dir=options.folder) as name, Fleet(Path(name) / "fleet") as fleet:
        folder = Path(name)
        files, size = _tree(folder / "tree")
        note(f"{files} files, {size} bytes")
        subprocess.run(["tar", "-C", folder / "tree", "-cf", folder / "all.tar", "."], check=True)
        subprocess.run(["zstd", "-q", "-3", folder / "all.tar", "-o", folder / "all.tar.zst"], check=True)
        (folder / "towpath.yaml").write_text(RELEASE)
        fleet.init()
        fleet.start_server()
        fleet.towpath("release", "publish", str(folder / "towpath.yaml"), timeout_s=DEPLOY_TIMEOUT_S)
        seconds: dict[str, list[float]] = {"ours": [], **{archive: [] for archive in ARCHIVES}}
        with _nginx(folder) as url:
            for number in range(1, options.rounds + 1):
                seconds["ours"].append(_ours(fleet, f"h{number}"))
                for archive in ARCHIVES:
                    seconds[archive].append(_by_hand(url, archive, folder / f"{archive}.{number}"))
                note(f"{ {key: round(values[-1], 2) for key, values in seconds.items()} }")
    rates = {key: size / 1e6 / statistics.median(values) for key, values in seconds.items()}
    mb_s = {key: round(rate, 1) for key, rate in rates.items()}
    ratios = {archive: round(rates["ours"] / rates[archive], 3) for archive in ARCHIVES}
    print(json.dumps({"files": files, "bytes": size, "mb_s": mb_s, "ratios": ratios}))


if __name__ == "__main__":
    main()
