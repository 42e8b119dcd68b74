"""Trouble that is no attack: a server that is away, files that are missing, a full disk, a killed verification."""

from pathlib import Path

import pytest

from fakes.repository import RepositorySimulator, SimulatedHost, unreachable
from towpath.errors import Refusal, Unavailable
from towpath_agent.errors import DiskError, DiskFull
from towpath_agent.system.files import Files
from towpath_agent.trust.verifier import verify


def test_an_unreachable_server_is_unavailable(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """Trouble on the way comes out as it was, retryable, and never as a refusal."""
    envelope = sim.sign(sim.manifest(host.facts))
    with pytest.raises(Unavailable, match="connection refused") as caught:
        verify(host.request(envelope), unreachable)
    assert caught.value.retryable


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.targets.json", "1.app-hello.json"])
def test_a_missing_metadata_file_is_unavailable(sim: RepositorySimulator, host: SimulatedHost, name: str) -> None:
    """A file that the server lacks, perhaps for this moment of a publish, is waited for."""
    release = sim.publish("hello", "1.0.0", 1)
    kept = sim.served.pop(name)
    with pytest.raises(Unavailable, match="lacks"):
        host.take(None, release)
    sim.served[name] = kept
    assert host.take(None, release).apps


def test_a_missing_release_is_unavailable(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A release file that the server lacks is waited for; the signed entry alone is no release."""
    release = sim.publish("hello", "1.0.0", 1)
    del sim.releases["hello/1.0.0.release"]
    with pytest.raises(Unavailable, match="lacks"):
        host.take(None, release)


def test_trouble_while_an_app_is_resolved(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """A connection that breaks in the middle fails the whole verification: half an answer is none."""
    release = sim.publish("hello", "1.0.0", 1)
    envelope = sim.sign(sim.manifest(host.facts, [sim.desire(release)]))

    def breaks(kind: str, name: str) -> bytes | None:
        return unreachable(kind, name) if "app-hello" in name else sim.fetch(kind, name)

    with pytest.raises(Unavailable, match="connection refused"):
        verify(host.request(envelope), breaks)


def test_a_refusal_while_fetching_keeps_its_name(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """What the agent's own fetch refuses, such as a stream without end, keeps its code."""

    def endless(_kind: str, name: str) -> bytes | None:
        raise Refusal(f"cannot accept {name}: it does not end", code="endless-data")

    with pytest.raises(Refusal) as caught:
        verify(host.request(sim.sign(sim.manifest(host.facts))), endless)
    assert caught.value.code == "endless-data"


def test_metadata_is_synced_before_floors_are_returned(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """Every file that the library renamed into place, and its folder, is on disk when the result is there."""
    release = sim.publish("hello", "1.0.0", 1)
    done: list[tuple[str, str]] = []
    files = Files(before=lambda verb, path: done.append((verb, path.name)))
    envelope = sim.sign(sim.manifest(host.facts, [sim.desire(release)]))
    verify(host.request(envelope), sim.fetch, files)
    synced = [name for verb, name in done if verb == "sync"]
    roles = {"root.json", "timestamp.json", "snapshot.json", "targets.json", "app-hello.json", "1.root.json"}
    assert roles | {"metadata", "root_history"} <= set(synced)
    assert synced.index("app-hello.json") < max(place for place, name in enumerate(synced) if name == "metadata")


def test_a_failed_sync_returns_no_floors(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """Where the disk cannot promise the metadata, nothing is admitted."""

    def fails(verb: str, path: Path) -> None:
        if verb == "sync" and path.name == "timestamp.json":
            raise OSError(5, "Input/output error")

    with pytest.raises(DiskError):
        verify(host.request(sim.sign(sim.manifest(host.facts))), sim.fetch, Files(before=fails))


def test_a_full_disk_is_said_so(sim: RepositorySimulator, host: SimulatedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC in the library's own writes comes out as a full disk, retryable."""
    from tuf.ngclient import Updater

    def full(self: Updater, filename: str, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Updater, "_persist_file", full)
    with pytest.raises(DiskFull) as caught:
        host.take()
    assert caught.value.retryable


def test_a_full_disk_while_an_app_is_resolved(
    sim: RepositorySimulator, host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does ENOSPC when only an app's role no longer fits."""
    from tuf.ngclient import Updater

    release = sim.publish("hello", "1.0.0", 1)
    honest = Updater._persist_file

    def full(self: Updater, filename: str, data: bytes) -> None:
        if "app-" in filename:
            raise OSError(28, "No space left on device")
        honest(self, filename, data)

    monkeypatch.setattr(Updater, "_persist_file", full)
    with pytest.raises(DiskFull):
        host.take(None, release)


def test_leftovers_of_a_killed_verification_are_swept(sim: RepositorySimulator, host: SimulatedHost) -> None:
    """Temporary files that the library left behind when its process was killed do not pile up."""
    host.take()
    (host.folder / "tmpabc123").write_bytes(b"half")
    host.take()
    assert not [path for path in host.folder.iterdir() if path.name.startswith("tmp")]


@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json", "targets.json", "root.json", "app-hello.json"])
def test_a_cached_file_cut_at_any_place_heals(sim: RepositorySimulator, host: SimulatedHost, name: str) -> None:
    """Whatever byte a cached file was cut at, the next verification succeeds and the file is whole again."""
    release = sim.publish("hello", "1.0.0", 1)
    host.take(None, release)
    path = host.folder / name
    whole = path.read_bytes()
    for end in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        assert host.take(None, release).apps
        assert path.read_bytes() == whole
