"""The real agent through whole transactions, on a simulated clock: chains of states, reports, and what runs."""

from pathlib import Path

import pytest

from fakes.host import SimulatedHost
from towpath.release import HealthPolicy, Hook
from towpath.status import Health, State, Verdict

GOOD = ["Planned", "Fetching", "Staged", "Prepared", "Switching", "Switched", "Watching", "Confirmed"]
GONE_BACK = [*GOOD[:-1], "Reverting", "Reverted"]


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


def _running(host: SimulatedHost, version: str) -> None:
    host.assign(host.publish(version))
    host.boot()
    host.settle()
    assert host.state().state is State.CONFIRMED


def test_a_good_release_passes_every_state_and_is_reported_confirmed(host: SimulatedHost) -> None:
    """A first install goes through all states in order and ends running, linked, healthy, and known to the server."""
    _running(host, "1.0.0")
    assert host.chain() == GOOD
    state = host.state()
    assert (state.current_version, state.health, state.verdict) == ("1.0.0", Health.HEALTHY, Verdict.SUCCEEDED)
    assert (host.live(), host.serving()) == ("1.0.0", "1.0.0")


def test_a_release_whose_probes_fail_is_reverted_and_the_old_one_serves(host: SimulatedHost) -> None:
    """A release that starts and never passes its probes is taken back; the reason is the probe's evidence."""
    _running(host, "1.0.0")
    host.ill.add("2.0.0")
    host.assign(host.publish("2.0.0"), generation=2)
    host.settle()
    assert host.chain(version="2.0.0") == GONE_BACK
    state = host.state()
    assert (state.state, state.verdict, state.current_version) == (State.REVERTED, Verdict.FAILED, "1.0.0")
    assert state.health is Health.HEALTHY
    assert "status 500" in state.reason
    assert (host.live(), host.serving()) == ("1.0.0", "1.0.0")


def test_a_failed_release_is_not_tried_again_even_after_a_restart(host: SimulatedHost) -> None:
    """Failure memory survives the agent; only a new generation of the assignment makes it try again."""
    _running(host, "1.0.0")
    host.ill.add("2.0.0")
    bad = host.publish("2.0.0")
    host.assign(bad, generation=2)
    host.settle()
    before = len(host.transitions(version="2.0.0"))
    host.boot()
    host.run(600)
    assert len(host.transitions(version="2.0.0")) == before
    host.ill.clear()
    host.assign(bad, generation=3)
    host.settle()
    assert host.state().current_version == "2.0.0"


def test_where_the_old_release_is_ill_too_the_verdict_is_inconclusive(host: SimulatedHost) -> None:
    """When the world is broken, the host goes back all the same, but does not blame the release."""
    _running(host, "1.0.0")
    host.ill |= {"1.0.0", "2.0.0"}
    host.assign(host.publish("2.0.0"), generation=2)
    host.settle()
    assert host.state().verdict is Verdict.INCONCLUSIVE
    assert host.live() == "1.0.0"


def test_an_app_that_is_healthy_for_a_moment_and_falls_ill_is_reverted(host: SimulatedHost) -> None:
    """Incident 7, unhealthy only in the new version: healthy shorter than healthy_for is not healthy."""
    _running(host, "1.0.0")
    host.fails_from["2.0.0"] = 1.5
    host.assign(host.publish("2.0.0"), generation=2)
    host.settle()
    assert host.chain(version="2.0.0") == GONE_BACK


def test_an_app_that_answers_late_but_before_the_deadline_is_confirmed(host: SimulatedHost) -> None:
    """Incident 7, unhealthy only in the new version: a slow start is not ill health; only the deadline judges a probe that never passed."""
    _running(host, "1.0.0")
    host.ready_after["2.0.0"] = 20.0
    host.assign(host.publish("2.0.0"), generation=2)
    host.settle()
    assert host.state().current_version == "2.0.0"


def test_an_app_that_keeps_stopping_by_itself_is_reverted_after_three_starts(host: SimulatedHost) -> None:
    """Incident 7, unhealthy only in the new version: a crash loop ends in a revert, not in a burning host."""
    _running(host, "1.0.0")
    host.assign(host.publish("2.0.0"), generation=2)
    for _ in range(6):
        host.run(120, lambda: host.serving() == "2.0.0" or host.state().state is State.REVERTED)
        if host.serving() == "2.0.0":
            host.world.crash("hello")
    host.settle()
    assert host.serving() == "1.0.0"
    assert host.chain(version="2.0.0").count("Switched") <= 4
    assert "stopped by itself" in host.state().reason


def test_a_fall_into_illness_during_probation_reverts_a_confirmed_release(host: SimulatedHost) -> None:
    """After confirm the probes go on, and during probation an ill verdict still goes back."""
    _running(host, "1.0.0")
    host.fails_from["2.0.0"] = 10.0
    host.assign(host.publish("2.0.0"), generation=2)
    host.settle()
    host.run(120, lambda: host.serving() == "1.0.0")
    host.settle()
    assert host.chain(version="2.0.0") == [*GOOD, "Reverting", "Reverted"]
    assert host.state().current_version == "1.0.0"


def test_after_probation_an_ill_release_stays_and_is_said_to_be_unhealthy(host: SimulatedHost) -> None:
    """Old news is no reason to go back: the operator is told and decides."""
    _running(host, "1.0.0")
    host.assign(host.publish("2.0.0"), generation=2)
    host.settle()
    host.run(120)
    host.ill.add("2.0.0")
    host.run(120)
    assert host.live() == "2.0.0"
    assert host.state().health is Health.UNHEALTHY


def test_a_first_install_that_fails_leaves_nothing_running(host: SimulatedHost) -> None:
    """Without a previous release going back means: nothing linked, nothing running."""
    host.ill.add("1.0.0")
    host.assign(host.publish("1.0.0"))
    host.boot()
    host.settle()
    assert (host.live(), host.serving()) == ("", "")
    assert host.state().verdict is Verdict.FAILED


def test_an_app_that_is_no_longer_desired_is_removed(host: SimulatedHost) -> None:
    """The desired set is complete: what it does not name is stopped and unlinked."""
    _running(host, "1.0.0")
    host.assign()
    host.settle()
    assert (host.live(), host.serving()) == ("", "")
    assert "hello" not in host.server.apps


def test_a_changed_parameter_restarts_the_same_release_and_fails_back_to_the_old_value(host: SimulatedHost) -> None:
    """Parameters are part of what is desired, and are reverted with the rest."""
    release = host.publish("1.0.0")
    host.assign(release)
    host.boot()
    host.settle()
    host.assign(release, generation=1, parameters={"port": 9001})
    host.settle()
    assert host.world.apps["hello"].command[-1] == "9001"
    assert host.state().parameters == {"port": 9001}


def test_a_new_generation_of_what_runs_already_changes_nothing(host: SimulatedHost) -> None:
    """An identical release is a no-op: adopted without a restart, and reported under the new generation."""
    release = host.publish("1.0.0")
    host.assign(release)
    host.boot()
    host.settle()
    starts = len(host.world.log)
    host.assign(release, generation=7)
    host.run(30)
    assert len(host.world.log) == starts
    assert host.state().generation == 7


def test_the_newest_of_rapid_manifests_wins_and_a_superseded_one_ends(host: SimulatedHost) -> None:
    """Incident 10, rapid successive manifests: what is superseded before its switch never runs."""
    _running(host, "1.0.0")
    second, third = host.publish("2.0.0"), host.publish("3.0.0")
    host.server.before_chunk = lambda _number: host.assign(third, generation=3)
    host.assign(second, generation=2)
    host.settle()
    assert host.state().current_version == "3.0.0"
    assert ("start", "2.0.0") not in [(verb, it.rpartition("-")[0]) for verb, it in host.world.log]
    assert host.chain(version="2.0.0")[-1] == "Reverted"


def test_a_newer_manifest_while_watching_replaces_a_bad_release_at_once(host: SimulatedHost) -> None:
    """A fix need not wait for the deadline of what it fixes."""
    _running(host, "1.0.0")
    host.ill.add("2.0.0")
    host.assign(host.publish("2.0.0"), generation=2)
    host.run(10, lambda: host.serving() == "2.0.0")
    host.assign(host.publish("3.0.0"), generation=3)
    host.run(12)
    assert host.serving() == "3.0.0"


def test_a_server_that_is_away_is_never_ill_health(host: SimulatedHost) -> None:
    """Losing the server in mid-watch neither fails nor delays the transaction; reports wait on disk."""
    _running(host, "1.0.0")
    host.assign(host.publish("2.0.0"), generation=2)
    host.run(10, lambda: host.serving() == "2.0.0")
    host.server.unreachable = True
    host.run(60)
    assert host.live() == "2.0.0"
    host.server.unreachable = False
    host.settle()
    assert host.chain(version="2.0.0") == GOOD


def test_a_fetch_that_is_cut_again_and_again_ends_in_a_report_and_a_fresh_try(host: SimulatedHost) -> None:
    """Incident 2, download retries exhausted: retries that run out are told, and tried again later; never silence."""
    _running(host, "1.0.0")
    release = host.publish("2.0.0")
    digest, carried = host.server.carried.popitem()
    host.assign(release, generation=2)
    host.run(400, lambda: "Reverted" in host.chain(version="2.0.0"))
    assert "could not be fetched" in host.transitions(version="2.0.0")[-2].reason
    assert host.serving() == "1.0.0"
    host.server.carried[digest] = carried
    host.run(400, lambda: host.state().current_version == "2.0.0")
    assert host.serving() == "2.0.0"


def test_a_process_that_dies_later_is_started_again_without_a_server(host: SimulatedHost) -> None:
    """Cached desired state keeps being repaired while offline, and is told as drift afterwards."""
    _running(host, "1.0.0")
    host.server.unreachable = True
    host.world.crash("hello")
    host.run(30)
    assert host.serving() == "1.0.0"
    host.server.unreachable = False
    host.run(120)
    assert [event.kind for event in host.server.events.values()].count("drift") == 1


def test_after_a_reboot_without_a_server_the_apps_are_started_again(host: SimulatedHost) -> None:
    """A host that boots on a dark site runs what it ran."""
    _running(host, "1.0.0")
    host.world.reboot()
    host.server.unreachable = True
    host.boot()
    host.run(30)
    assert host.serving() == "1.0.0"


@pytest.mark.parametrize(
    ("point", "chain"),
    [
        ("prepare", ["Planned", "Fetching", "Staged", "Reverting", "Reverted"]),
        ("post_start", [*GOOD[:6], "Reverting", "Reverted"]),
    ],
)
def test_a_failing_hook_sends_the_host_back_from_where_it_stands(
    host: SimulatedHost, point: str, chain: list[str]
) -> None:
    """Incident 8, hook that misbehaves: A hook that fails before the switch touches nothing; one after it is reverted."""
    _running(host, "1.0.0")
    host.assign(host.publish("2.0.0", hooks=(Hook(point, ("/bin/false",), 5_000),)), generation=2)
    host.settle()
    assert host.chain(version="2.0.0") == chain
    assert f"hook {point} exited 1" in host.state().reason
    assert host.serving() == "1.0.0"


@pytest.mark.parametrize("point", ["pre_stop", "post_confirm"])
def test_a_hook_that_cannot_decide_is_said_and_does_not_stop_the_deployment(host: SimulatedHost, point: str) -> None:
    """Incident 9, stop hook of the old release broken: the broken stop hook of the old release does not keep it on the host; it is said, not silent."""
    host.assign(host.publish("1.0.0", hooks=(Hook("pre_stop", ("/bin/false",), 5_000),)))
    host.boot()
    host.settle()
    hooks = (Hook("post_confirm", ("/bin/false",), 5_000),)
    host.assign(host.publish("2.0.0", hooks=hooks), generation=2)
    host.settle()
    assert host.state().current_version == "2.0.0"
    assert any(event.kind == "note" and point in event.reason for event in host.server.events.values())


def test_a_set_is_staged_whole_before_any_of_it_switches(host: SimulatedHost) -> None:
    """While one app of a manifest cannot be fetched yet, the other waits: no mix is chosen by a bad line."""
    one, two = host.publish("1.0.0", app="one"), host.publish("1.0.0", app="two", content="x" * 1000)
    digest, carried = host.server.carried.popitem()
    host.assign(one, two)
    host.boot()
    host.run(5)
    assert host.chain("one")[-1] == "Prepared"
    assert host.world.log == []
    host.server.carried[digest] = carried
    host.settle()
    assert host.serving("one") == host.serving("two") == "1.0.0"


def test_disk_that_is_full_is_a_reason_and_heals_by_itself(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Incident 4, disk filled and freed again: not enough space is refused before the fetch, and tried again when there is some."""
    _running(host, "1.0.0")
    free = {"bytes": 10}
    monkeypatch.setattr("towpath_agent.system.files.Files.disk_free", lambda _self, _path: free["bytes"])
    host.assign(host.publish("2.0.0"), generation=2)
    host.run(20)
    assert host.state().verdict is Verdict.FAILED
    assert "not enough disk" in host.state().reason
    free["bytes"] = 10**12
    host.run(200, lambda: host.state().current_version == "2.0.0")
    assert host.serving() == "2.0.0"


def test_without_probes_a_release_is_confirmed_when_it_has_run_for_healthy_for(host: SimulatedHost) -> None:
    """No probe is the weakest proof there is: it ran without stopping for that long."""
    host.assign(host.publish("1.0.0", probes=(), health=HealthPolicy(5_000, 30_000, 0)))
    host.boot()
    began = host.clock.monotonic()
    host.settle()
    assert host.state().state is State.CONFIRMED
    assert host.clock.monotonic() - began >= 5


def test_a_server_restored_from_a_backup_is_told_the_whole_state_again(host: SimulatedHost) -> None:
    """Incident 14, server restored to yesterday: what a server knows is compared at every sync, so it cannot stay wrong."""
    _running(host, "1.0.0")
    host.server.apps, host.server.known_state_revision = {}, 0
    host.run(120)
    assert host.state().current_version == "1.0.0"


def test_a_server_whose_database_was_restored_is_told_what_was_accepted_and_moves_nobody(host: SimulatedHost) -> None:
    """Incident 14, server database restored to yesterday: it says "keep", and nothing is changed until it is settled.

    What runs goes on, reports flow, a person on the host sees why.
    """
    _running(host, "1.0.0")
    assert host.server.syncs[0].accepted_sequence == 0
    host.run(120)
    host.server.keep = "the server's database is older"
    host.server.apps, host.server.known_state_revision = {}, 0
    host.assign(host.publish("2.0.0"), generation=2)
    before = len(host.server.syncs)
    host.run(300)
    assert host.serving() == "1.0.0"
    assert host.state().current_version == "1.0.0", "it reports all the same"
    (accepted,) = {call.accepted_sequence for call in host.server.syncs[before:]}
    assert accepted > 0
    host.boot()
    host.run(300)
    assert host.serving() == "1.0.0"
    assert 0 < host.server.syncs[-1].accepted_sequence <= accepted, "durable, as far as it was acted upon"
    host.server.keep = ""
    host.run(300)
    assert host.serving() == "2.0.0"


def test_a_refused_manifest_is_reported_under_its_attack_and_changes_nothing(host: SimulatedHost) -> None:
    """A manifest for another host is refused by name, once, and what runs goes on."""
    _running(host, "1.0.0")
    theirs = host.facts
    host.facts = type(theirs)("host-2", theirs.host_key_sha256, theirs.environment, theirs.platform)
    host.assign(host.publish("2.0.0"), generation=2)
    host.run(200)
    refusals = [event for event in host.server.events.values() if event.kind == "refusal"]
    assert [event.code for event in refusals] == ["wrong-host"]
    assert host.serving() == "1.0.0"


def test_an_app_that_is_refused_keeps_running_what_it_ran(host: SimulatedHost) -> None:
    """A release for another platform is refused by name; it is neither installed nor is the running one removed."""
    _running(host, "1.0.0")
    host.assign(host.publish("2.0.0", platforms=("linux/s390x",)), generation=2)
    host.run(30)
    assert (host.state().verdict, host.state().generation) == (Verdict.REFUSED, 2)
    assert "s390x" in host.state().reason
    refusals = [event for event in host.server.events.values() if event.kind == "refusal"]
    assert [(event.code, event.version) for event in refusals] == [("wrong-platform", "2.0.0")]
    assert host.serving() == "1.0.0"


def test_what_was_refused_is_judged_again_when_the_publisher_has_signed_anew(host: SimulatedHost) -> None:
    """A refusal is no failure memory: metadata that lapsed and was renewed lets the release in."""
    _running(host, "1.0.0")
    release = host.publish("2.0.0")
    listed = host.sim.apps["hello"].targets.pop("hello/2.0.0.release")
    host.sim.serve_app("hello")
    host.sim.serve_online()
    host.assign(release, generation=2)
    host.run(30)
    assert host.state().verdict is Verdict.REFUSED
    host.sim.apps["hello"].targets["hello/2.0.0.release"] = listed
    host.sim.serve_app("hello")
    host.sim.serve_online()
    host.run(120)
    assert host.state().current_version == "2.0.0"
