"""What an upload leaves where it does not come to its end."""

import hashlib
from pathlib import Path

import pytest
import zstandard

from towpath.errors import InputError
from towpath_server.services.uploading import BATCH_MS, Intake
from towpath_server.storage.folder import FolderBlobs


def bring(intake: Intake, content: bytes, *, last: bool = True) -> bytes:
    """Send one object in one message; return its digest."""
    digest = hashlib.sha256(content).digest()
    intake.take(digest, len(content), zstandard.compress(content), last=last)
    return digest


def test_a_long_stream_keeps_what_it_brought_while_it_goes_on(tmp_path: Path) -> None:
    """A server that is killed then has lost what a few seconds brought."""
    blobs, now = FolderBlobs(tmp_path), 0.0
    intake = Intake(blobs, lambda: now)
    first = bring(intake, b"first")
    assert blobs.carried_size(first) is None
    now = float(BATCH_MS)
    second = bring(intake, b"second")
    assert None not in (blobs.carried_size(first), blobs.carried_size(second))
    third = bring(intake, b"third")
    assert blobs.carried_size(third) is None
    assert intake.end() == 3


def test_what_is_whole_outlives_a_stream_that_breaks(tmp_path: Path) -> None:
    """What is not is forgotten, and nothing more is taken."""
    blobs = FolderBlobs(tmp_path)
    intake = Intake(blobs, lambda: 0.0)
    whole, half = bring(intake, b"whole"), bring(intake, b"half", last=False)
    intake.abort()
    assert blobs.carried_size(whole) is not None
    assert blobs.carried_size(half) is None
    with pytest.raises(InputError, match="given up"):
        bring(intake, b"more")
