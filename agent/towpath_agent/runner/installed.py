"""Looks whether what a release put on the host beyond its tree is in place: package, image, file, a driver's work.

Cheap first: the installer names witnesses, files whose stat changes when what is in place does, and only where one has
changed is it asked, which mostly runs a program. What has no witnesses is asked now and then. An installer that cannot
tell, or fails, says nothing about the host: that is no drift, and it is asked again later.
Not handled here: putting it back (`runner.drift` does, by the installer's switch), when to ask (`engine.drift`).
"""

from array import array
from pathlib import Path

from towpath_agent.engine.drift import Look, question_is_due, share
from towpath_agent.installers.base import Installer, InstallPlan
from towpath_agent.system.clock import Clock
from towpath_agent.system.files import Files

UNSEEN = "is not as the release installs it"


class Installed:
    """Looks after what one live release put in place."""

    def __init__(self, plan: InstallPlan, installer: Installer, files: Files, clock: Clock) -> None:
        """Begin with nothing known, so that the first look asks."""
        self._plan, self._installer, self._files, self._clock = plan, installer, files, clock
        self.renew()
        self._asked_s = clock.monotonic()
        self._looked_s = clock.monotonic()
        self._cost_s = 0.0

    def renew(self) -> None:
        """Take nothing of what was seen for granted any more: it was just put back, or never looked at."""
        self._witnesses: list[str] | None = None
        self._marks = array("q")
        self._suspect = True  # something may be wrong
        self._listed = False
        self._mute = False  # the last answer told nothing
        self._position = 0

    def look(self) -> dict[str, str]:
        """Return what is no longer in place, name to flaw; nothing where all is, or where that cannot be told."""
        now = self._clock.monotonic()
        self._suspect = self._suspect or self._stirred(now)
        self._looked_s = now
        shows = (self._witnesses is not None or not self._listed) and not self._mute
        changed = self._suspect and not self._mute
        if not question_is_due(now - self._asked_s, self._cost_s, shows=shows, changed=changed):
            return {}
        try:
            answer = self._ask()
        except Exception:  # noqa: BLE001 - what cannot be told is no drift, whatever keeps it from being told
            answer = None
        self._asked_s = self._clock.monotonic()
        self._cost_s = self._asked_s - now
        self._mute = answer is None
        if answer is not False:
            return {}
        return self._changed() or {self._plan.release.install.kind: UNSEEN}

    def _stirred(self, now: float) -> bool:
        """Look at the next share of the witnesses; return whether one is not as it was at the last good answer."""
        if not self._witnesses:
            return False
        count = len(self._witnesses)
        numbers = [(self._position + step) % count for step in range(share(count, now - self._looked_s))]
        self._position = (self._position + len(numbers)) % count
        marks = self._files.marks(Path("/"), [self._witnesses[number] for number in numbers])
        return any(mark != self._marks[number] for number, mark in zip(numbers, marks, strict=True))

    def _ask(self) -> bool | None:
        """Ask the installer; a good answer proves the witnesses as they were before it."""
        paths = self._witnesses
        if paths is None:
            found = self._installer.witnesses(self._plan)
            paths = None if found is None else sorted({str(path).lstrip("/") for path in found})
        marks = array("q", self._files.marks(Path("/"), paths or ()))
        answer = self._installer.in_place(self._plan)
        if answer:
            self._witnesses, self._marks, self._listed, self._suspect = paths, marks, True, False
        return answer

    def _changed(self) -> dict[str, str]:
        """Return the witnesses that are not as they were: most of what a person asks for."""
        if self._witnesses is None:
            return {}
        marks = self._files.marks(Path("/"), self._witnesses)
        return {
            f"/{path}": (Look.CHANGED if mark else Look.MISSING).value
            for path, mark, before in zip(self._witnesses, marks, self._marks, strict=True)
            if mark != before
        }
