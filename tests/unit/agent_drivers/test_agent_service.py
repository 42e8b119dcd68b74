"""The service `agent`: this process as an app, and how another version of it takes its place."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.services import make_instance
from towpath.release import Run
from towpath_agent.engine.selfupdate import JOURNAL_BEFORE, Pointer, to_bytes
from towpath_agent.errors import ServiceError, StartError
from towpath_agent.instance import Instance
from towpath_agent.services.agent import AgentService, forget_copy, read_pointer, write_pointer
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files
from towpath_agent.system.launch import EXIT_AGAIN, Launch, is_launched, taken

FILES = Files()
LAUNCHED = ("/usr/bin/python3", "launcher.py")


@pytest.fixture
def new(tmp_path: Path) -> Instance:
    (tmp_path / "state.db").write_bytes(b"journal")
    return make_release(tmp_path, "2")


def make_release(folder: Path, version: str) -> Instance:
    instance = make_instance(folder, version, run=Run("agent"))
    program = instance.folder / "bin/towpath-agent"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return replace(instance, health_deadline_ms=10_000)


def service(release: str = "", *, trial: bool = False) -> AgentService:
    return AgentService(FILES, SystemClock(), launch=Launch(LAUNCHED, release, trial))


def test_a_start_puts_the_release_on_trial_and_ends_this_agent(tmp_path: Path, new: Instance) -> None:
    """The journal is copied, the pointer is durable, and then this agent is told to leave."""
    write_pointer(FILES, tmp_path, Pointer(current="1.0.0-a", starts=3))
    agent, left = service("1.0.0-a"), []
    agent.leave = lambda: left.append(read_pointer(FILES, tmp_path))
    assert agent.start(new)
    assert left == [Pointer(current="1.0.0-a", trying=new.release_id, deadline_s=20.0)]
    assert (tmp_path / JOURNAL_BEFORE).read_bytes() == b"journal"
    assert not agent.state(new).running


def test_what_goes_back_on_its_trial_leaves_the_journals_copy_alone(tmp_path: Path, new: Instance) -> None:
    """The one before may be unable to read what is there now: it gets the copy, and a mark that says what to do with it."""
    (tmp_path / JOURNAL_BEFORE).write_bytes(b"from before")
    old = make_release(tmp_path, "1")
    write_pointer(FILES, tmp_path, Pointer(old.release_id, new.release_id, 20.0, 1))
    agent, left = service(new.release_id, trial=True), []
    agent.leave, agent.why = lambda: left.append(read_pointer(FILES, tmp_path)), lambda: "it cannot speak"
    assert agent.start(old)
    assert left == [Pointer(old.release_id, new.release_id, 20.0, 0, "it cannot speak")]
    assert (tmp_path / JOURNAL_BEFORE).read_bytes() == b"from before"


def test_what_runs_is_adopted_and_never_stopped(tmp_path: Path, new: Instance) -> None:
    """This process is the release that its launcher named: it runs, has memory, and a stop leaves it to end by itself."""
    agent = service(new.release_id, trial=True)
    write_pointer(FILES, tmp_path, Pointer(trying=new.release_id, starts=1))
    agent.leave = lambda: pytest.fail("nothing has to leave")
    assert not agent.start(new)
    agent.stop(new)
    assert read_pointer(FILES, tmp_path) == Pointer(trying=new.release_id, starts=1)
    state = agent.state(new)
    assert (state.running, state.pid) == (True, os.getpid())
    assert state.rss_bytes > 2**20
    assert (agent.drift(new), agent.evidence(new)) == ("", "")


def test_one_that_was_given_up_is_not_started_and_says_why(tmp_path: Path, new: Instance) -> None:
    """Its state, its start and its evidence have what the launcher noted; a stop forgets it, so it may be told again."""
    failed = Pointer("1.0.0-a", new.release_id, 9.0, 3, "it ended 3 times", "Traceback: boom")
    write_pointer(FILES, tmp_path, failed)
    agent = service("1.0.0-a")
    assert (agent.state(new).running, agent.state(new).why) == (False, "it ended 3 times")
    with pytest.raises(StartError, match="it ended 3 times") as caught:
        agent.start(new)
    assert (caught.value.evidence, agent.evidence(new)) == ("Traceback: boom", "Traceback: boom")
    other = make_release(tmp_path, "3")
    agent.stop(other)
    assert (agent.state(other).why, agent.evidence(other)) == ("", "")
    assert read_pointer(FILES, tmp_path) == failed
    agent.stop(new)
    assert read_pointer(FILES, tmp_path) == Pointer(current="1.0.0-a", starts=3)
    assert agent.start(new)


def test_a_person_may_pardon_what_was_given_up(tmp_path: Path, new: Instance) -> None:
    """Told so, the release may be put on trial again; where nothing was given up, nothing is said or written."""
    agent = service()
    assert agent.pardon(tmp_path) == ""
    write_pointer(FILES, tmp_path, Pointer(trying=new.release_id, failed="it ended 3 times"))
    assert agent.pardon(tmp_path) == new.release_id
    assert agent.pardon(tmp_path) == ""
    assert agent.start(new)


def unlaunched(agent: AgentService, _new: Instance) -> AgentService:
    del agent
    return AgentService(FILES, SystemClock())


def without_program(agent: AgentService, new: Instance) -> AgentService:
    (new.folder / "bin/towpath-agent").unlink()
    return agent


def busy(agent: AgentService, _new: Instance) -> AgentService:
    agent.not_now = lambda: "the agent is not changed while others are: hello"
    return agent


@pytest.mark.parametrize(
    ("spoil", "kind", "said"),
    [
        (unlaunched, StartError, "its launcher did not start it; use: towpath-agent run"),
        (without_program, StartError, "cannot start bin/towpath-agent: there is no file"),
        (busy, ServiceError, "cannot change the agent now: the agent is not changed while others are: hello"),
    ],
)
def test_where_no_other_agent_may_start_nothing_changes(
    tmp_path: Path,
    new: Instance,
    spoil: Callable[[AgentService, Instance], AgentService],
    kind: type[Exception],
    said: str,
) -> None:
    """One line says why, nothing is written, and this agent stays."""
    agent = spoil(service(), new)
    agent.leave = lambda: pytest.fail("it must stay")
    with pytest.raises(kind, match=said):
        agent.start(new)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["apps", "state.db"]


def test_a_garbled_pointer_is_none(tmp_path: Path, new: Instance) -> None:
    """It is as if nothing was ever changed: stop and evidence do nothing, a start writes it anew."""
    (tmp_path / "launch.json").write_bytes(to_bytes(Pointer())[:-3])
    agent = service()
    assert read_pointer(FILES, tmp_path) is None
    agent.stop(new)
    assert (agent.evidence(new), agent.state(new).why) == ("", "")
    assert agent.start(new)
    assert read_pointer(FILES, tmp_path) == Pointer(trying=new.release_id, deadline_s=20.0)


def test_the_copy_of_the_journal_goes_when_it_is_of_no_use(tmp_path: Path, new: Instance) -> None:
    """Forgotten twice is forgotten once."""
    service().start(new)
    forget_copy(FILES, tmp_path)
    forget_copy(FILES, tmp_path)
    assert not (tmp_path / JOURNAL_BEFORE).exists()


def test_what_the_launcher_said_is_taken_out_of_the_environment() -> None:
    """Apps and hooks see nothing of it; without it, or garbled, nobody launched this agent."""
    said = {"TOWPATH_LAUNCH": '{"argv": ["a", "b"], "release": "1.0.0-a", "trial": true}', "PATH": "/bin"}
    assert is_launched(said)
    assert taken(said) == Launch(("a", "b"), "1.0.0-a", trial=True)
    assert said == {"PATH": "/bin"}
    for text in ("", "{", "[]", "{}", '{"argv": 1, "release": "", "trial": false}'):
        assert taken({"TOWPATH_LAUNCH": text}) == Launch()
    assert not is_launched({})


@pytest.mark.parametrize("launch", [Launch(), Launch(LAUNCHED, "2", trial=True)])
def test_on_trial_an_agent_ends_for_its_launcher_to_go_on(launch: Launch) -> None:
    """Its parent waits for that code; one that nobody launched can only end too."""
    assert launch.again({}) == EXIT_AGAIN
