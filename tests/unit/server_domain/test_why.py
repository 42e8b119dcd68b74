"""The chain of reasons: every fact that decided, each with the command that would change it."""

from dataclasses import replace

from fakes.rows import NOW, OLD_DIGEST, REVERTED, assignment, host, reported
from towpath.holds import Hold
from towpath.reports import Event
from towpath.status import Health, State, Verdict
from towpath_server.domain.model import HostStatus, RolloutState
from towpath_server.domain.rolling import Phase, Standing
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
    one = assignment(state=RolloutState.DONE, reason="1 of 1 hosts healthy")
    said = text(
        replace(
            PLAIN,
            assignments=(one,),
            owner=one,
            standing=Standing(Phase.HEALTHY, "runs it and is healthy"),
            admitted=True,
            runs=one,
            parameters={"port": "9001"},
            reported=reported(),
        )
    )
    assert "operator/ann deployed hello 1.0.0 to role=web in dev (generation 1): it covers h1" in said
    assert "its rollout is done: 1 of 1 hosts healthy" in said
    assert "h1 is admitted, healthy" in said
    assert "with port=9001" in said
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
    assert "[towpath deploy hello 2.0.0 --environment dev --all-hosts" in said
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
    again = text(replace(PLAIN, assignments=(one,), owner=one, standing=Standing(Phase.FAILED, "x")))
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
