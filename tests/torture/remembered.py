"""What a real tool says is in place, asked once for each state of the disk: thousands of cases pass the same states.

Only `witnesses` and `in_place` of the installer port are remembered: looks, which change nothing. What decides their
answer is the disk: the tool's own machine, the app's folder and the drivers, compared by every byte and mode, and by the
times of what rpm installed, as it looks at those. Left out is what says when or by whom and not what: SQLite's `-shm`,
which each reader makes anew from the database, podman's lock files and its times of creation. The first look at each
state is the real tool's, and so is every other call.
"""

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torture import trees
from torture.samples import MACHINE
from towpath_agent.installers.base import InstallPlan

if TYPE_CHECKING:
    from fakes.host import SimulatedHost

LOOKS = frozenset({"witnesses", "in_place"})
_DECIDING = (f"{MACHINE}/", "host/apps/", "host/drivers/", "outside/")
_DATABASE = f"{MACHINE}/rpm/var/lib/rpm/"
_NOT_ASKED = re.compile(rf"{_DATABASE}.*-shm$|{MACHINE}/oci/.*\.lock$")
_CREATED = re.compile(rb'"created":"[^"]*"')
_PODMANS = re.compile(rf"{MACHINE}/oci/.*/(images|layers)\.json$")


class Remembered:
    """Stands before the installer of one kind; `answers` may be shared by all hosts that lie in the same folder."""

    def __init__(self, kind: str, installer: Any, host: "SimulatedHost", answers: dict[bytes, Any]) -> None:
        self._kind, self._installer, self._host, self._answers = kind, installer, host, answers

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._installer, name)
        return (lambda plan: self._look(name, plan)) if name in LOOKS else method

    def _look(self, name: str, plan: InstallPlan) -> Any:
        key = self._key(name, plan)
        if key not in self._answers:
            told = self._host.changes
            answer = getattr(self._installer, name)(plan)
            if self._host.changes != told:  # it was no mere look: never taken for one
                return answer
            self._answers[key] = answer
        return self._answers[key]

    def _key(self, name: str, plan: InstallPlan) -> bytes:
        seen = _deciding(trees.take(self._host.folder.parent))
        asked = repr((self._kind, name, plan.app_dir, plan.release_id, plan.release, plan.entries, plan.parameters))
        installed = [path for path in seen if path.startswith(f"{MACHINE}/rpm/") and not path.startswith(_DATABASE)]
        times = repr([(path, seen[path].mtime_ns) for path in installed])
        return hashlib.sha256(trees.digest(seen) + f"{asked}{times}".encode()).digest()


def _deciding(tree: trees.Tree) -> trees.Tree:
    seen = {path: node for path, node in tree.items() if path.startswith(_DECIDING) and not _NOT_ASKED.match(path)}
    return seen | {
        path: replace(node, data=_CREATED.sub(b"", node.data)) for path, node in seen.items() if _PODMANS.match(path)
    }
