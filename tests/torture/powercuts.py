"""Layer "power": the power is cut at each file-changing system call of a real agent, on a real filesystem.

The agent is killed on entering the call, its apps with it, and the filesystem is cut in the same moment (`images`): what
was not synced is lost. Then it is mounted as after a reboot, and agents are started until one comes to rest.
"""

from dataclasses import dataclass
from pathlib import Path

from torture import syscalls
from torture.images import Image
from torture.real import RealHost
from torture.syscalls import Call, Story


@dataclass(frozen=True)
class Cut:
    """A story on an image."""

    image: Image
    it: Story

    def play(self, call: Call) -> list[str]:
        """Run one case; return what is wrong in the end."""
        host = self.it.host
        host.end_apps()
        host.forget()
        self.image.back()
        host.run(syscalls.inject(call, syscalls.FAULTS["killed"]))
        host.end_apps()
        self.image.cut()
        if not host.recover():
            return [f"the agent does not come to rest: {host.last_words}"]
        return host.wrong(set(self.it.killed))


def begin(name: str, image: Image, host: RealHost) -> Cut:
    """Bring a story to its beginning on an image, and keep that."""
    it = syscalls.story(name, host)
    host.end_apps()
    image.keep()
    return Cut(image, it)


def place(image: Image) -> Path:
    """Return where on an image the agent's folder is."""
    return image.at / "host"
