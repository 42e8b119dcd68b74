"""The resident agent: `python -m towpath_agent.daemon --dir DIR`. Wires the parts and runs the loop; decides nothing.

Kept small in memory on purpose: no click, no X.509, no TUF library here; what only a change needs runs in a child.
Threads: the main one owns all state; one more waits for hints of the server (Watch) and only wakes the main one; a
third hears people on the host and hands what they ask to the main one.
"""

import argparse
import os
import random
import signal
import sys
import threading
import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from towpath import __version__
from towpath.errors import InputError, TowpathError
from towpath.manifest import HostFacts
from towpath.selfupdate import AGENT_KIND
from towpath.weburl import parse_origins
from towpath_agent import identity
from towpath_agent.control import SOCKET
from towpath_agent.control.listener import Listener
from towpath_agent.engine import pacing
from towpath_agent.engine.prefetching import DEFAULT_DAY_BYTES
from towpath_agent.errors import DiskError
from towpath_agent.hooks import HookRunner
from towpath_agent.identity import Identity
from towpath_agent.installers import INSTALLERS
from towpath_agent.instance import APP_DIR_VARIABLE
from towpath_agent.probes import PROBES
from towpath_agent.probes.agent import AgentProbe
from towpath_agent.runner.actions import Actions
from towpath_agent.runner.agent import Agent, Chance
from towpath_agent.runner.desired import Desired
from towpath_agent.runner.floors import FloorsFile
from towpath_agent.runner.recovery import recover
from towpath_agent.runner.selfupdate import Itself
from towpath_agent.runner.site import Drivers, Site
from towpath_agent.runner.steady import Steady
from towpath_agent.services import SERVICES
from towpath_agent.services.agent import AgentService, uncount
from towpath_agent.store import Store
from towpath_agent.system import local_socket
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files, absolute
from towpath_agent.system.host import machine_mark
from towpath_agent.system.launch import Launch, taken
from towpath_agent.system.memory import drop_pages, give_back
from towpath_agent.system.notify import Manager
from towpath_agent.system.process import boot_id, run_hook
from towpath_agent.system.progress import on_progress
from towpath_agent.system.scopes import set_apart_what_stayed
from towpath_agent.transport.channel import Limits
from towpath_agent.transport.dialling import check_relay, server_of
from towpath_agent.trust.client import TrustClient

RENEW_TIMEOUT_S = 60.0
RENEW_RETRY_S = 300.0
# What syncs and probes touch comes back at each of them; what is left over from other work need not stay.
REST_S = 120.0
MAX_ROOT_BYTES = 1 * 2**20
# What a restart cannot mend (EX_CONFIG); the unit does not restart after it.
EXIT_CLONED = 78


class Daemon:
    """One agent in one folder."""

    def __init__(
        self,
        folder: Path,
        sync_interval_s: float,
        *,
        control_group: str = "",
        max_release_bytes: int = 0,
        max_prefetch_bytes: int = DEFAULT_DAY_BYTES,
        relay: str = "",
        direct_from: Sequence[str] = (),
        max_rate: str = "",
        limits: Limits | None = None,
        launch: Launch | None = None,
    ) -> None:
        """Open everything below `folder`; the folder is locked, so that no second agent works in it.

        Members of `control_group` may control the agent through its socket. `max_release_bytes`: what all releases of
        one app may take on disk, 0: no limit. `max_prefetch_bytes`: what is fetched ahead in a day, 0: nothing.
        `relay` is HOST:PORT of the site's relay, empty: there is none. `direct_from`: origins at which objects may be
        fetched without the server. `max_rate`: see `engine.maxrate`, empty: full speed; `limits`: how long to wait for
        a server. `launch` None: without a launcher this agent cannot be changed.
        """
        self.leaving = self.told_to_stop = False
        self._folder, self._relay, self._limits = folder, relay, limits or Limits()
        self._files, self._clock = Files(), SystemClock()
        self._identity = identity.load(folder, self._files)
        identity.check_machine(folder, self._files, machine_mark())
        self._lock = self._files.lock(folder / identity.LOCK)
        launch = launch or Launch()
        self._itself = Itself(folder, self._files, launch, self._clock, _say)
        site = Site(folder, self._files, self._store(max_rate))
        self._journal, lost, mended = recover(site, self._clock.now_unix_ms(), on_trial=launch.trial)
        floors = FloorsFile(folder / "trust" / "floors.json", self._files)
        if floors.damaged:
            mended.append("trust/floors.json was damaged and set aside; floors begin anew from the cached metadata")
        for line in mended:
            _say(line)
        service, probe = AgentService(self._files, self._clock, launch=launch), AgentProbe(self._files, self._clock)
        services = {kind: make(self._files, self._clock) for kind, make in SERVICES.items()}
        probes = {kind: make(self._files, self._clock) for kind, make in PROBES.items()}
        drivers = Drivers(
            installers={kind: make(self._files) for kind, make in INSTALLERS.items()},
            services={**services, AGENT_KIND: service},
            probes={**probes, AGENT_KIND: probe},
            hooks=HookRunner(self._clock),
        )
        self._dial = partial(
            server_of, relay=relay, direct_from=direct_from, clock=self._clock, log=_say, limits=self._limits
        )
        self._server = self._dial(self._identity)
        self._desired = Desired(
            server=self._server,
            verifier=TrustClient(),
            journal=self._journal,
            floors=floors,
            facts=_facts(self._identity),
            clock=self._clock,
            random_bytes=os.urandom,
            metadata_dir=str(folder / "trust" / "metadata"),
            root=self._files.read(folder / identity.ROOT, MAX_ROOT_BYTES),
            boot_id=boot_id(),
        )
        self.agent = Agent(
            journal=self._journal,
            desired=self._desired,
            floors=floors,
            actions=Actions(
                site=site,
                drivers=drivers,
                journal=self._journal,
                clock=self._clock,
                max_release_bytes=max_release_bytes,
                uniform=random.random,
            ),
            steady=Steady(site, drivers, self._clock, lambda objects: site.store.fetch(objects, self._desired.source)),
            clock=self._clock,
            chance=Chance(random.random, lambda: uuid.uuid4().hex),
            sync_interval_s=sync_interval_s,
            log=_say,
            rest=give_back,
            prefetch_day_bytes=max_prefetch_bytes,
        )
        if lost:
            self.agent.tell("note", "", lost, "journal")
        self._itself.attach(self.agent, self._journal, service, probe, self._leave)
        self._control = self._listen(control_group)
        self._renew_at_s = 0.0
        self._watcher: threading.Thread | None = None

    def _store(self, max_rate: str) -> Store:
        """Open the store; where there is a limit, whatever fills it is held to that."""
        if not max_rate:
            return Store(self._folder / "store", self._files)
        from towpath_agent.engine.maxrate import parse_max_rate  # noqa: PLC0415  (zones: for this setting alone)
        from towpath_agent.transport.throttle import Throttle  # noqa: PLC0415

        throttle = Throttle(parse_max_rate(max_rate), self._clock)
        self._limits = replace(self._limits, fetch_window=throttle.window)
        return Store(self._folder / "store", self._files, throttle.over)

    def _leave(self) -> None:
        """End soon, so that the launcher starts another agent."""
        self.leaving = True
        self.agent.stop()

    def stop(self) -> None:
        """End soon, for good."""
        self.told_to_stop = True
        self.agent.stop()

    def _listen(self, group_name: str) -> Listener | None:
        """Make the socket, after the lock: what lies there belongs to nobody who lives.

        Trouble must not stop an agent that has apps to keep up: a group that is gone leaves root alone, a full disk
        leaves no local control.
        """
        self._files.sweep(self._folder)
        group = None
        try:
            group = local_socket.group_id(group_name) if group_name else None
        except InputError as error:
            _say(f"{error}; root and the agent's user alone may control it")
        try:
            if group is None:
                local_socket.close_folder(self._folder)
            else:
                local_socket.open_folder_to(self._folder, group)
            server = local_socket.listen(self._folder / SOCKET, group=group)
        except DiskError as error:
            _say(f"{error}; the agent cannot be controlled on this host until it is started again")
            return None
        return Listener(server, self.agent.desk, self._clock, group=group, log=_say, contact=lambda: self.agent.contact)

    def run(self, manager: Manager) -> None:
        """Work until stopped. Apps are left running: they do not depend on the agent."""
        line = f"host {self._identity.host.name} in {self._identity.host.environment}: agent {__version__} runs"
        _say(line)
        self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._watcher.start()
        if self._control is not None:
            self._control.start()
        manager.ready(line)
        stayed = set_apart_what_stayed(APP_DIR_VARIABLE)
        if stayed:
            _say(
                f"{stayed} processes of apps stay in the agent's control group: systemd did not take them; no ceilings"
            )
        agent = self.agent
        try:
            rest, rest_at_s = give_back, 0.0  # wholly after the start, and by the agent itself where a change is over
            while not agent.stopping.is_set():
                self._renew_if_due()
                delay = agent.tick()
                if not agent.stopping.is_set() and self._itself.after_round(self._journal, agent.own_state):
                    self._leave()
                if self._clock.monotonic() >= rest_at_s:
                    rest()
                    rest, rest_at_s = drop_pages, self._clock.monotonic() + REST_S
                self._clock.wait(agent.wake, delay)
                agent.wake.clear()
        finally:
            if not self.leaving or self.told_to_stop:
                manager.stopping()
            agent.desk.close()
            if self._control is not None:
                self._control.close()
                self._files.remove(self._folder / SOCKET)
            self._server.close()  # ends the watch at once
            self._watcher.join(timeout=2)
            self._journal.close()
            self._lock.release()

    def _watch(self) -> None:
        """Keep one stream of hints open; losing it only means that changes wait for the next sync."""
        failures = 0

        def on_hint() -> None:
            nonlocal failures
            failures = 0  # the stream was open
            self.agent.hint()

        while not self.agent.stopping.is_set():
            try:
                self._server.watch(on_hint, self.agent.stopping)
            except TowpathError:
                failures += 1
            self._clock.wait(self.agent.stopping, pacing.watch_delay_s(failures, random.random()))

    def _renew_if_due(self) -> None:
        """Renew the certificate in a child process, and go on with a new channel where it did."""
        now_s = self._clock.monotonic()
        if now_s < self._renew_at_s:
            return
        self._renew_at_s = now_s + RENEW_RETRY_S
        record = self._identity.host
        if not identity.renewal_is_due(self._folder, self._files, record, self._clock.now_unix_ms()):
            return
        result = run_hook(
            [sys.executable, "-P", "-s", "-m", "towpath_agent.renew", "--dir", str(self._folder)]
            + (["--relay", self._relay] if self._relay else []),
            cwd=self._folder,
            env=dict(os.environ),
            timeout_s=RENEW_TIMEOUT_S,
            clock=self._clock,
        )
        fresh = identity.load(self._folder, self._files)
        if fresh.pem == self._identity.pem:
            _say(f"certificate not renewed: {result.output.strip()}")
            return
        old, self._identity = self._server, fresh
        self._server = self._dial(fresh)
        self._desired.server, self._desired.facts = self._server, _facts(fresh)
        old.close()
        _say("certificate renewed")
        self.agent.hint()


def _facts(who: Identity) -> HostFacts:
    return HostFacts(
        host_id=who.host.host_id,
        host_key_sha256=bytes.fromhex(who.host.key_sha256),
        environment=who.host.environment,
        platform=identity.local_platform(),
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Run the agent; return the process's exit code."""
    parser = argparse.ArgumentParser(prog="towpath_agent.daemon", description="Run the agent of one host.")
    parser.add_argument("--dir", type=Path, required=True, help="the agent's folder")
    parser.add_argument("--sync-interval-ms", type=int, default=round(pacing.SYNC_INTERVAL_S * 1000))
    parser.add_argument("--control-group", default="", help="a group whose members may control the agent")
    parser.add_argument(
        "--max-release-bytes", type=int, default=0, help="what one app's releases may take; 0: no limit"
    )
    parser.add_argument(
        "--max-prefetch-bytes", type=int, default=DEFAULT_DAY_BYTES, help="what is fetched ahead a day; 0: nothing"
    )
    parser.add_argument("--relay", default="", help="the relay of this site, HOST:PORT or auto")
    parser.add_argument("--direct-from", default="", help="origins at which objects may be fetched, spaces between")
    parser.add_argument("--max-rate", default="", help="what is fetched in a second at most, by the time of the week")
    parser.add_argument(
        "--min-rate", type=int, default=Limits().min_rate, help="what a server must send, bytes a second"
    )
    options = parser.parse_args(arguments)
    launch, manager = taken(os.environ), Manager()
    on_progress(manager.progress)
    try:
        daemon = Daemon(
            absolute(options.dir),
            options.sync_interval_ms / 1000,
            control_group=options.control_group,
            max_release_bytes=options.max_release_bytes,
            max_prefetch_bytes=options.max_prefetch_bytes,
            relay=check_relay(options.relay) if options.relay else "",
            direct_from=parse_origins(options.direct_from),
            max_rate=options.max_rate,
            limits=Limits(min_rate=options.min_rate),
            launch=launch,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            # In a thread: setting an Event from inside a handler can deadlock with the wait that it interrupts.
            signal.signal(number, lambda _number, _frame: threading.Thread(target=daemon.stop).start())
        daemon.run(manager)
        if daemon.told_to_stop:
            uncount(Files(), launch)
    except TowpathError as error:
        sys.stderr.write(f"towpath-agent: {error}\n")
        if isinstance(error, InputError):
            uncount(Files(), launch)
        return EXIT_CLONED if error.code == "cloned" else 1
    if daemon.leaving and not daemon.told_to_stop:
        return launch.again({**os.environ, **manager.environment})
    return 0


if __name__ == "__main__":
    sys.exit(main())
