"""Files on a mount that hangs."""

import os
import threading
from pathlib import Path

from towpath_agent.system.files import Files


class BlockingFiles(Files):
    """Looks that come back only when `release` is set; `looks` counts those that began."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()
        self.looks = 0

    def _hang(self) -> None:
        self.looks += 1
        self.release.wait(60)

    def stat(self, path: Path) -> os.stat_result:
        """Hang, then answer."""
        self._hang()
        return super().stat(path)

    def disk_free(self, path: Path) -> int:
        """Hang, then answer."""
        self._hang()
        return super().disk_free(path)
