"""Layer "syscalls": a real agent disturbed at each of its file-changing system calls, with strace.

A dry run lists the calls of the agent's main thread that name something below its folder, as (name, n) pairs, for
strace's `when=` counts by call. Then, per call, a run that is killed on entering it, or in which it fails with ENOSPC or
EIO, and as many undisturbed agents as it takes to come to rest. Children (the verifier, apps) are not traced.
"""

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torture import trees
from torture.real import RealHost

CALLS = (
    "openat,write,pwrite64,writev,copy_file_range,fsync,fdatasync,syncfs,rename,renameat,renameat2,link,linkat,symlink,"
    "symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,truncate,ftruncate,fallocate,chmod,fchmod,fchmodat,utimensat"
)
FAULTS = {"killed": "signal=KILL", "ENOSPC": "error=ENOSPC", "EIO": "error=EIO"}
# What a release is to become, and which versions may run after a fault that may be reported, and after a kill.
STORIES = ("first install", "upgrade", "bad upgrade", "removal")


@dataclass(frozen=True, slots=True)
class Call:
    """The n-th call of that name in the main thread."""

    name: str
    number: int
    text: str


@dataclass(frozen=True)
class Story:
    """A host at rest with a new wish. `killed`: what must run in the end; `failed`: what may, where a call failed."""

    name: str
    host: RealHost
    tree: trees.Tree
    killed: frozenset[str]
    failed: frozenset[str]

    def again(self) -> None:
        """Take the host back to the beginning."""
        self.host.end_apps()
        self.host.forget()
        trees.put(self.host.folder, self.tree)


def story(name: str, host: RealHost) -> Story:
    """Bring `host` to rest and let the server want what the story is about."""
    host.end_apps()
    trees.wipe(host.folder)
    host.forget()
    host.enrol()
    old = "" if name == "first install" else "1.0.0"
    new = "" if name == "removal" else "2.0.0"
    if old:
        host.assign(host.publish(old), generation=1)
        assert host.recover(), "the base does not come to rest"
        assert not host.wrong({old})
    host.assign(*([host.publish(new, good=not name.startswith("bad"))] if new else []), generation=2)
    end = old if name.startswith("bad") else new
    return Story(
        name, host, trees.take(host.folder), frozenset({end}), frozenset({old, new} - ({new} if end != new else set()))
    )


def missing() -> str:
    """Return why this layer cannot be run here; empty where it can."""
    return "" if shutil.which("strace") else "strace is not installed (apt-get install strace)"


def calls(host: RealHost, log: Path) -> list[Call]:
    """Return the calls of an undisturbed run."""
    assert host.run(["strace", "-y", "-qq", "-e", "signal=none", "-e", f"trace={CALLS}", "-o", str(log)]) == 0
    count: Counter[str] = Counter()
    found = []
    for line in log.read_text(errors="replace").splitlines():
        match = re.match(r"(\w+)\((.*)", line)
        if match is None:
            continue
        name, rest = match.groups()
        count[name] += 1
        changes = name != "openat" or "O_CREAT" in rest or "O_TRUNC" in rest
        if changes and str(host.folder) in rest:
            found.append(Call(name, count[name], rest.replace(str(host.folder), "")[:90]))
    return found


def inject(call: Call, what: str) -> list[str]:
    """Return the command that disturbs a run at `call`."""
    point = f"inject={call.name}:{what}:when={call.number}"
    return ["strace", "-qq", "-e", "signal=none", "-e", f"trace={call.name}", "-o", "/dev/null", "-e", point]


def cases(found: list[Call]) -> Iterator[tuple[Call, str]]:
    """Give every (call, fault)."""
    for call in found:
        yield from ((call, fault) for fault in FAULTS)


def play(it: Story, call: Call, fault: str) -> list[str]:
    """Run one case; return what is wrong in the end."""
    it.again()
    code = it.host.run(inject(call, FAULTS[fault]))
    # Where nothing but the call failed, the agent may well have come to rest in that very run.
    if code != 0 and not it.host.recover():
        return [f"the agent does not come to rest: {it.host.last_words}"]
    wrong = it.host.wrong(set(it.killed if fault == "killed" else it.killed | it.failed))
    if not wrong and it.host.run() == 0:
        wrong = [f"after a second recovery: {line}" for line in it.host.wrong(set(it.killed | it.failed))]
    return wrong
