"""A real S3 service: versitygw over a folder, one process for a test session, a bucket for each test."""

import os
import secrets
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fakes.loopback import unused_port

ACCESS, SECRET = "operator", "not-a-secret-of-anybody"
START_S = 60.0


@dataclass
class Service:
    """A running service; `folder` holds a folder for each bucket."""

    endpoint: str
    folder: Path
    command: list[str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run it; return when it answers."""
        env = {**os.environ, "ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET}
        with (self.folder.parent / "versitygw.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, env=env, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while not self._answers():
            assert self.process.poll() is None, (self.folder.parent / "versitygw.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
        self.process = None

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.endpoint, timeout=5)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True


@dataclass(frozen=True)
class Bucket:
    """An empty bucket."""

    url: str
    endpoint: str
    folder: Path
    service: Service


@pytest.fixture(scope="session")
def s3_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Give a running service; skip where the program is not there."""
    program = shutil.which("versitygw")
    if program is None:
        pytest.skip(
            "no S3 service: versitygw is not installed (go install github.com/versity/versitygw/cmd/versitygw@v1)"
        )
    root = tmp_path_factory.mktemp("s3")
    folder = root / "buckets"
    folder.mkdir()
    port = unused_port()
    service = Service(
        f"http://127.0.0.1:{port}", folder, [program, "--port", f"127.0.0.1:{port}", "posix", str(folder)]
    )
    service.start()
    yield service
    service.stop()


@pytest.fixture
def bucket(s3_service: Service, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Give an empty bucket, and its keys in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    name = f"b{secrets.token_hex(8)}"
    (s3_service.folder / name).mkdir()
    return Bucket(f"s3://{name}/fleet", s3_service.endpoint, s3_service.folder / name, s3_service)
