"""`towpath-agent setup`: from an installed package to an enrolled, enabled, running agent that its server has answered.

Parties: the person (or cloud-init, or Ansible) at the host, its systemd, the server.
Rules: safe to repeat at any point: what is done already is left as it is, and a host that is enrolled needs no token.
It ends only when the agent has synced, or with one line that says what is in the way; the agent then goes on trying.
Not handled here: hosts without systemd and other folders than the unit's (`enroll` and `run` are for these).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from towpath.errors import Broken, InputError, TowpathError, Unavailable
from towpath_agent import identity
from towpath_agent.control.client import ask
from towpath_agent.control.protocol import SYNC, Request
from towpath_agent.enroll import Request as Enrolment
from towpath_agent.enroll import enroll
from towpath_agent.identity import HostRecord
from towpath_agent.options import DEFAULT_DIR
from towpath_agent.system.clock import Deadline, SystemClock
from towpath_agent.system.files import Files
from towpath_agent.system.host import machine_mark
from towpath_agent.system.systemctl import RUNNING, Systemctl, properties

UNIT = "towpath-agent.service"
BOOTED = Path("/run/systemd/system")
WAIT_S = 60.0
_LOOK_S = 0.2
_CALL_S = 30.0
# A start waits for READY=1, which a journal that has to be mended delays.
_START_S = 310.0
_SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the person gave: all of it may be missing on a host that is enrolled."""

    server: str
    token: Callable[[], str]  # asked only where it is needed: a file that held it may be gone by then
    name: str
    new_identity: bool = False


class Setup:
    """One run of the command."""

    def __init__(self, folder: Path, say: Callable[[str], None], *, wait_s: float = WAIT_S) -> None:
        """Set up the agent in `folder`; `say` tells a person how far it is."""
        self._folder, self._say, self._wait_s = folder, say, wait_s
        self._files, self._clock = Files(), SystemClock()
        self._systemctl = Systemctl(self._clock, search_path=_SEARCH_PATH)
        self._journalctl = Systemctl(self._clock, search_path=_SEARCH_PATH, program=("journalctl",))

    def run(self, wish: Wish) -> HostRecord:
        """Enrol, enable, start, wait for the first sync."""
        self._check_host()
        record = self._enrolled(wish)
        self._must("enable", UNIT)
        self._must("start", UNIT, timeout_s=_START_S)
        self._say(f"the agent runs; waiting for its first answer of {record.agent_address}")
        self._await_sync(record)
        return record

    def _check_host(self) -> None:
        if self._folder != Path(DEFAULT_DIR):
            raise InputError(
                f"cannot set up {self._folder}: the unit {UNIT} works in {DEFAULT_DIR}; for another folder use: "
                f"towpath-agent enroll --dir {self._folder}, then: towpath-agent run --dir {self._folder}"
            )
        if not self._files.exists(BOOTED):
            raise InputError(
                "cannot set up: this host was not booted by systemd; use: towpath-agent enroll, and have its own "
                f"manager start: towpath-agent run --dir {self._folder}"
            )
        if not self._systemctl.call("cat", UNIT, timeout_s=_CALL_S).ok:
            raise InputError(f"cannot set up: there is no unit {UNIT}; install the package towpath-agent")

    def _enrolled(self, wish: Wish) -> HostRecord:
        """Return who this host is, enrolled now where it was not."""
        if identity.is_enrolled(self._folder, self._files) and not wish.new_identity:
            identity.check_machine(self._folder, self._files, machine_mark())
            record = identity.read_record(self._folder, self._files)
            if wish.server and wish.server != record.enroll_address:
                raise InputError(
                    f"cannot set up for {wish.server}: this host is {record.name} of {record.enroll_address}; to move "
                    f"it, revoke it there, then: systemctl stop {UNIT}, and empty {self._folder}",
                    code="enrolled",
                )
            self._say(f"enrolled already: {record.name} in {record.environment}")
            return record
        token = wish.token()
        for value, option in ((wish.server, "--server HOST:PORT"), (token, "--token TOKEN")):
            if not value:
                raise InputError(f"cannot set up: this host is not enrolled yet and {option} is missing")
        if wish.new_identity:
            self._must("stop", UNIT)
        record = enroll(
            self._folder,
            self._files,
            Enrolment(wish.server, token, wish.name),
            new_identity=wish.new_identity,
        )
        self._say(f"enrolled {record.name} in {record.environment}")
        return record

    def _must(self, *words: str, timeout_s: float = _CALL_S) -> None:
        done = self._systemctl.call(*words, timeout_s=timeout_s)
        if not done.ok:
            reason = self._last_words() if words[0] == "start" else ""
            said = " ".join((reason or done.output).split())
            raise Broken(f"cannot {words[0]} {UNIT}: {said or 'systemctl says no more'}; see: journalctl -u {UNIT}")

    def _await_sync(self, record: HostRecord) -> None:
        deadline = Deadline(self._clock, self._wait_s)
        trouble = ""
        while not deadline.expired:
            try:
                data = ask(self._folder, Request(SYNC), timeout_s=max(1.0, deadline.remaining())).data
            except TowpathError as error:
                trouble = self._why_not() or str(error)
            else:
                if data.get("synced") is True:
                    return
                trouble = str(data.get("trouble") or "") or trouble
            self._clock.wait(None, _LOOK_S)
        raise Unavailable(
            f"cannot reach {record.agent_address} within {self._wait_s:g}s: {trouble or 'no answer yet'}; the agent is "
            "enrolled and goes on trying; look at the way there: towpath-agent doctor"
        )

    def _why_not(self) -> str:
        """Return the agent's last words where it does not run any more."""
        facts = properties(self._systemctl.call("show", "--property=ActiveState", UNIT, timeout_s=_CALL_S).output)
        return "" if facts.get("ActiveState") in RUNNING else self._last_words()

    def _last_words(self) -> str:
        words = ("--unit", UNIT, "--output=cat", "--lines=20", "--quiet", "--boot")
        lines = self._journalctl.call(*words, timeout_s=_CALL_S).output.splitlines()
        ours = [line for line in lines if line.startswith("towpath-agent: ")]
        return ours[-1].removeprefix("towpath-agent: ") if ours else ""
