"""The chain of reasons: every fact that decided, each with the command that would change it."""

from dataclasses import replace

from fakes.rows import DIGEST, NOW, OLD, OLD_DIGEST, REVERTED, assignment, host, reported
from towpath.holds import Hold
from towpath.reports import Event, Prefetch, PrefetchState, Transfer
from towpath.status import Health, State, Verdict
from towpath.waves import parse_waves
from towpath_server.domain.gates import WaveCount
from towpath_server.domain.model import HostStatus, RolloutState, Timing
from towpath_server.domain.settings import Origin
from towpath_server.domain.standing import Phase, Standing
from towpath_server.domain.timing import Bar
from towpath_server.domain.why import Facts, chain

PLAIN = Facts(host=host(), app="hello", online=True, assignments=())


def text(facts: Facts) -> str:
    return "\n".join(f"{reason.fact} [{reason.command}]" for reason in chain(facts))


def test_a_host_that_nothing_was_deployed_to_says_how_to_deploy() -> None:
    """Nobody deployed it, so the manifest holds none of it, and nothing was reported."""
    said = text(PLAIN)
    assert "nobody has deployed hello [towpath deploy hello VERSION --environment dev" in said
    assert "so its manifest holds no hello" in said
    assert "it has reported nothing about hello" in said


def test_the_whole_chain_of_a_healthy_host() -> None:
    """Rule, rollout, admission, manifest with parameters, and the host's own word."""
    one = assignment(state=RolloutState.DONE, reason="1 of 1 host healthy")
    said = text(
        replace(
            PLAIN,
            assignments=(one,),
            owner=one,
            standing=Standing(Phase.HEALTHY, "runs it and is healthy"),
            admitted=True,
            runs=one,
            parameters={"port": Origin("9001", "host"), "colour": Origin("red", "label rack=7")},
            reported=reported(),
        )
    )
    assert "operator/ann deployed hello 1.0.0 to role=web in dev (generation 1): it covers h1" in said
    assert "its rollout is done: 1 of 1 host healthy" in said
    assert "h1 is admitted, healthy" in said
    assert "with colour=red (from label rack=7), port=9001" in said
    assert "it reports that it runs 1.0.0, healthy" in said


def test_a_failed_host_is_told_how_to_try_again_and_what_it_kept() -> None:
    """The command repeats the rule; the manifest says what was admitted before."""
    old, new = assignment(1), assignment(2, state=RolloutState.HALTED, selector={})
    said = text(
        replace(
            PLAIN,
            assignments=(new, old),
            owner=new,
            standing=Standing(Phase.FAILED, "probe http failed"),
            runs=old,
            reported=replace(REVERTED, current_version="", desired_version="2.0.0"),
        )
    )
    assert "to every host in dev" in said
    assert "[towpath rollout resume a2]" in said
    assert "[towpath rollout retry a2]" in said
    assert "h1 is not admitted, failed: probe http failed" in said
    assert "which it was admitted to before, with defaults only" in said
    assert "runs nothing of it" in said
    assert "2.0.0 is Reverted, failed: probe http failed" in said


def test_a_host_that_a_rule_misses_says_what_it_lacks() -> None:
    """Environment, label or revocation: each with the command that would change it."""
    rule = assignment()
    prod = text(replace(PLAIN, host=host(environment="production"), assignments=(rule,)))
    assert "h1 is pinned to production" in prod
    label = text(replace(PLAIN, host=host(labels={}), assignments=(rule,)))
    assert "h1 lacks role=web [towpath host set h1 --label role=web]" in label
    assert "with no labels" in label
    gone = text(replace(PLAIN, host=host(status=HostStatus.REVOKED), assignments=(rule,)))
    assert "it was revoked" in gone
    assert "h1 is revoked" in gone


def test_an_offline_host_is_said_to_catch_up_and_a_silent_one_to_wait() -> None:
    """Offline is a fact of its own; a waiting host's retry has no command."""
    one = assignment()
    facts = replace(PLAIN, online=False, owner=one, assignments=(one,), standing=Standing(Phase.OFFLINE, "offline"))
    assert "it is offline" in text(facts)
    state = reported(
        State.FETCHING, current_sha256=OLD_DIGEST, health=Health.UNKNOWN, verdict=Verdict.NONE, current_version="0.9"
    )
    assert "it reports that it runs 0.9, unknown; nothing is Fetching [" in text(replace(facts, reported=state))


def test_a_held_host_says_who_holds_it_and_how_to_release_it() -> None:
    """The hold is the host's own, so the command is one to type there; a hold on one app names the app."""
    every = Hold("", "ana", "audit week", 0, 1_700_000_000_000)
    said = text(replace(PLAIN, held=every))
    assert "held by ana until 2023-11-14 22:13:20Z: audit week; it neither blocks nor counts" in said
    assert "[towpath-agent release  (on h1)]" in said
    assert "[towpath-agent release hello  (on h1)]" in text(replace(PLAIN, held=replace(every, app="hello")))


def test_reasons_come_in_the_order_of_the_decision() -> None:
    """Host, rule, rollout, standing, manifest, report: whoever reads from the top finds the first cause first."""
    one = assignment()
    facts = replace(PLAIN, assignments=(one,), owner=one, standing=Standing(Phase.HEALTHY, "runs it"), runs=one)
    starts = ["h1 is in dev", "operator/ann deployed", "its rollout", "h1 is not admitted", "so its manifest", "it rep"]
    facts_said = [reason.fact for reason in chain(replace(facts, reported=reported()))]
    assert [said.startswith(start) for said, start in zip(facts_said, starts, strict=True)] == [True] * 6


def test_commands_survive_a_shell() -> None:
    """A selector or label with a space is quoted where a person copies it from."""
    one = assignment(selector={"rack": "a b"})
    assert "host set h1 --label 'rack=a b']" in text(replace(PLAIN, assignments=(one,)))
    done = replace(one, state=RolloutState.DONE)
    again = text(replace(PLAIN, assignments=(done,), owner=done, standing=Standing(Phase.FAILED, "x")))
    assert "--select 'rack=a b']" in again
    assert "--all-hosts" not in again


def test_a_failure_is_shown_with_what_the_host_saw() -> None:
    """The evidence of the release that failed, line by line; none of another release, and none where all is well."""
    event = Event(
        "e",
        NOW,
        "transition",
        "hello",
        state="Reverting",
        version="2.0.0",
        evidence="http failed: 503\n\nits log ends:",
    )
    failed = replace(REVERTED, desired_version="2.0.0")
    said = text(replace(PLAIN, reported=failed, failure=event))
    assert (
        "when 2.0.0 went to Reverting it saw: [towpath host show h1 -o json]\n  http failed: 503 []\n  its log" in said
    )
    for reported_, failure in ((failed, None), (failed, replace(event, version="1.9.0")), (reported(), event)):
        assert "it saw" not in text(replace(PLAIN, reported=reported_, failure=failure))
    assert "it saw" not in text(replace(PLAIN, failure=event))


def wave(number: int, text_of: str, state: str, waits: str = "", soak_until: int = 0) -> WaveCount:
    return WaveCount(number, text_of, state, waits, soak_until, {})


def test_a_host_is_told_its_wave_what_keeps_it_closed_and_how_to_open_it() -> None:
    """The wave, what the open one waits for, and the command that would not wait."""
    one = assignment(waves=parse_waves("canary:10m,100%"))
    waves = (wave(0, "canary:10m", "soaking", "soaks until X", 1_700_000_000_000), wave(1, "100%", "closed"))
    facts = replace(PLAIN, assignments=(one,), owner=one, standing=Standing(Phase.WAITING, "waits"), waves=waves)
    assert "h1 is in wave 1 of 2 (canary:10m), which is soaking until 2023-11-14 22:13:20Z" in text(facts)
    said = text(replace(facts, wave=1))
    assert "h1 is in wave 2 of 2 (100%), which is closed: wave 1 (canary:10m): soaks until X" in said
    assert "[towpath rollout advance a1]" in said
    halted = replace(one, state=RolloutState.HALTED)
    stopped = (wave(0, "canary:10m", "open"), waves[1])
    said = text(replace(facts, owner=halted, wave=1, waves=stopped))
    assert "wave 1 (canary:10m): the rollout is halted []" in said
    assert "which is open [" in text(replace(facts, owner=halted, waves=stopped))


def test_a_host_that_the_calendar_bars_is_told_what_and_how_to_change_it() -> None:
    """Each bar with its command; one that is in already, or whose rollout is over, is not told."""
    one = assignment()
    bars = (Bar("frozen", 0, "towpath freeze remove f1"), Bar("outside", 0, "towpath window remove w1"))
    facts = replace(PLAIN, assignments=(one,), owner=one, standing=Standing(Phase.WAITING, "frozen"), bars=bars)
    assert "nobody is let in now: frozen [towpath freeze remove f1]" in text(facts)
    assert "nobody is let in now: outside [towpath window remove w1]" in text(facts)
    assert "nobody is let in now" not in text(replace(facts, admitted=True))
    assert "nobody is let in now" not in text(replace(facts, owner=replace(one, state=RolloutState.REVERTED)))


def test_a_host_whose_rule_outranks_a_newer_one_and_one_that_waits_for_a_budget_say_so() -> None:
    """Who wonders why the newest deploy passed a host by is told by which priority; a budget names where to look."""
    one, newer = assignment(1, priority=5), assignment(2, selector={})
    elsewhere = assignment(3, selector={"role": "db"})
    where = Standing(Phase.WAITING, "waits for the budget rack=1: 1 of rack=a unavailable, 1 allowed")
    said = text(replace(PLAIN, assignments=(elsewhere, newer, one), owner=one, standing=where))
    assert "hello 2.0.0 to every host (priority 0) covers it too; this rule has priority 5" in said
    assert "hello 3.0.0" not in said
    assert "waits for the budget rack=1: 1 of rack=a unavailable, 1 allowed [towpath rollout show a1]" in said


def test_a_wave_that_waits_for_approvals_or_another_environment_says_what_opens_it() -> None:
    """Nobody can advance past other people; a rollout of one wave that may not begin yet says so too."""
    one = assignment(waves=parse_waves("canary:approve=2,100%"))
    waves = (wave(0, "canary:approve=2", "open", "needs 1 of 2 approvals (bob did)"), wave(1, "100%", "closed"))
    facts = replace(
        PLAIN, assignments=(one,), owner=one, standing=Standing(Phase.WAITING, "waits"), waves=waves, wave=1
    )
    assert "wave 1 (canary:approve=2): needs 1 of 2 approvals (bob did) [towpath rollout approve a1]" in text(facts)
    alone = replace(facts, wave=0, waves=(wave(0, "100%", "closed", "it has to be healthy in staging first"),))
    said = "h1 is in wave 1 of 1 (100%), which is closed: wave 1 (100%): it has to be healthy in staging first"
    assert f"{said} [towpath rollout advance a1]" in text(alone)
    assert "wave 1 of 1" not in text(replace(alone, waves=(wave(0, "100%", "open"),)))


def test_each_state_of_a_rollout_has_the_command_that_would_change_it() -> None:
    """Pause what goes, resume what stands, undo what is done, deploy where it is over."""
    for state, command in (
        (RolloutState.ROLLING, "towpath rollout pause a1"),
        (RolloutState.PAUSED, "towpath rollout resume a1"),
        (RolloutState.HALTED, "towpath rollout resume a1"),
        (RolloutState.DONE, "towpath undo hello --environment dev --select role=web"),
        (RolloutState.REVERTING, "towpath deploy hello VERSION --environment dev --select role=web"),
        (RolloutState.CANCELLED, "towpath deploy hello VERSION --environment dev --select role=web"),
    ):
        one = assignment(state=state)
        facts = replace(PLAIN, assignments=(one,), owner=one, standing=Standing(Phase.FAILED, "x"))
        assert f"its rollout is {state} [{command}]" in text(facts)
    assert "retry" not in text(facts), "what cannot be retried offers no retry"
    whole = assignment(state=RolloutState.DONE, selector={})
    assert "undo hello --environment dev --all-hosts]" in text(replace(facts, owner=whole))


def test_what_would_be_refused_is_not_advised() -> None:
    """Where every host failed nobody is left to resume for, but a pause ends; after its time neither is of use."""
    for state, left, now, commands in (
        (RolloutState.HALTED, False, NOW, ["towpath rollout resume a1", "towpath rollout retry a1"]),
        (RolloutState.HALTED, True, NOW, ["towpath rollout retry a1", "towpath rollout retry a1"]),
        (RolloutState.PAUSED, True, NOW, ["towpath rollout resume a1", ""]),
        (RolloutState.ROLLING, False, NOW + 1, ["towpath rollout pause a1", ""]),
        (RolloutState.HALTED, False, NOW + 1, ["towpath deploy hello VERSION --environment dev --all-hosts", ""]),
    ):
        one = assignment(state=state, selector={}, timing=Timing(expires_unix_ms=NOW + 1))
        facts = replace(PLAIN, assignments=(one,), owner=one, standing=Standing(Phase.FAILED, "x"), now_unix_ms=now)
        said = [
            reason.command
            for reason in chain(replace(facts, nobody_left=left))
            if reason.fact.startswith(("its rollout is", "h1 is not admitted"))
        ]
        assert said == commands, (state, left)


def test_a_host_on_the_release_before_says_what_was_taken_back_and_what_it_saw_of_it() -> None:
    """Who promoted 2.0.0 finds out why 1.0.0 runs: the newest release that was given up, if it was for this host."""
    one = assignment(1, state=RolloutState.DONE)
    bad = assignment(3, state=RolloutState.REVERTED, reason="1 of 2 finished hosts failed")
    older = assignment(2, state=RolloutState.CANCELLED, reason="cancel by ann")
    event = Event("e", NOW, "transition", "hello", state="Reverting", version="3.0.0", evidence="http failed: 503")
    facts = replace(
        PLAIN,
        assignments=(bad, older, one),
        owner=one,
        standing=Standing(Phase.HEALTHY, "runs it and is healthy"),
        admitted=True,
        runs=one,
        reported=reported(desired_version="1.0.0"),
        failure=event,
    )
    said = text(facts)
    taken = "hello 3.0.0 (generation 3) came after it and is reverted: 1 of 2 finished hosts failed"
    assert f"{taken} [towpath rollout show a3]" in said
    assert "2.0.0" not in said
    assert "when 3.0.0 went to Reverting it saw: [towpath host show h1 -o json]\n  http failed: 503 []" in said
    assert "it saw" not in text(replace(facts, failure=replace(event, version="0.9.0")))
    elsewhere = replace(bad, selector={"role": "db"})
    assert "came after it" not in text(replace(facts, assignments=(elsewhere, one)))
    assert "it saw" not in text(replace(facts, assignments=(elsewhere, one)))


def test_what_an_offline_host_waits_for_is_said_once_with_a_way_to_look() -> None:
    """Only on the host can anybody do something about it."""
    one = assignment()
    away = Standing(Phase.OFFLINE, "offline; it catches up when it comes back")
    said = text(replace(PLAIN, online=False, owner=one, assignments=(one,), standing=away))
    assert "h1 is not admitted, offline: it catches up when it comes back" in said
    assert "it is offline: it neither blocks nor counts in a rollout" in said
    assert "[towpath-agent doctor  (on h1)]" in said


def test_a_host_that_waits_says_how_far_its_download_is() -> None:
    """Downloaded and waiting for its window, or why not; nothing where nothing was announced or it was let in."""
    one = assignment(2, prefetch=True)
    waits = replace(
        PLAIN,
        host=host(agent_version="0.9.0"),
        assignments=(one,),
        owner=one,
        standing=Standing(Phase.WAITING, "waits for its turn"),
        bars=(Bar("outside of its windows (nights): the next opens at noon", 1, "towpath rollout cancel a2"),),
        reported=OLD,
    )
    said = text(waits)
    assert "it may download 2.0.0 ahead, and has said nothing of it yet (its agent is 0.9.0) [towpath host show" in said
    here = Prefetch("2.0.0", DIGEST, PrefetchState.COMPLETE)
    said = text(replace(waits, reported=replace(OLD, prefetch=here)))
    assert "nobody is let in now: outside of its windows" in said
    assert (
        "2.0.0 is downloaded, and waits until this host is let in to it [towpath-agent explain hello  (on h1)]" in said
    )
    low = replace(here, state=PrefetchState.WAITING, reason="not enough disk")
    assert "that waits: not enough disk" in text(replace(waits, reported=replace(OLD, prefetch=low)))
    for state, word in ((PrefetchState.FETCHING, "being downloaded"), (PrefetchState.REFUSED, "is refused")):
        assert word in text(replace(waits, reported=replace(OLD, prefetch=replace(here, state=state))))
    comes = replace(OLD, prefetch=replace(here, state=PrefetchState.FETCHING), transfer=Transfer("2.0.0", 10, 40))
    assert "is being downloaded ahead: 10 B of 40 B" in text(replace(waits, reported=comes))
    other = replace(here, sha256=OLD_DIGEST)
    assert "has said nothing of it yet [" in text(replace(waits, host=host(), reported=replace(OLD, prefetch=other)))
    assert "has said nothing of it yet" in text(replace(waits, reported=None))
    for silent in (replace(waits, admitted=True), replace(waits, owner=replace(one, prefetch=False))):
        assert "ownload" not in text(silent)
