"""Apps of one manifest: the order of requirements, sets that move as one, and what may not stand on one host."""

from pathlib import Path

import pytest

from fakes.host import SimulatedHost
from fakes.person import told
from towpath.parameters import Parameter
from towpath.release import HealthPolicy, Install, Release, Run
from towpath.status import Health, State, Verdict

GOOD = ["Planned", "Fetching", "Staged", "Prepared", "Switching", "Switched", "Watching", "Confirmed"]
SHORT = HealthPolicy(healthy_for_ms=2_000, deadline_ms=10_000, probation_ms=60_000)


@pytest.fixture
def host(tmp_path: Path) -> SimulatedHost:
    return SimulatedHost(tmp_path)


def together(host: SimulatedHost, version: str, app: str, *others: str, requires: tuple[str, ...] = ()) -> Release:
    """Publish a release that moves as one with others."""
    return host.publish(version, app=app, together=others, critical=("together-1",), requires_apps=requires)


def pair(host: SimulatedHost, number: int) -> tuple[Release, Release]:
    """Publish an api and the worker that moves with it and requires it; versions differ, so that each can be ill."""
    api = together(host, f"{number}.0.0", "api", "worker")
    return api, together(host, f"{number}.5.0", "worker", requires=("api",))


def begun(host: SimulatedHost, *releases: Release) -> None:
    host.assign(*releases)
    host.boot()
    host.settle()
    for release in releases:
        assert host.serving(release.app) == release.version


def starts(host: SimulatedHost) -> list[str]:
    """Return what was started and stopped, in order, by version."""
    return [f"{verb} {release_id.rpartition('-')[0]}" for verb, release_id in host.world.log]


def refusals(host: SimulatedHost) -> list[tuple[str, str]]:
    return [(event.app, event.code) for event in host.server.events.values() if event.kind == "refusal"]


# -- requires


def test_what_is_required_is_confirmed_before_what_requires_it_switches(host: SimulatedHost) -> None:
    """Against the order of names, and at first install: the app starts only beside a database that is proven healthy."""
    host.ready_after["7.0"] = 5.0
    begun(host, host.publish("1.0", app="app", requires_apps=("db",)), host.publish("7.0", app="db"))
    moments = {(event.app, event.state): at for at, event in enumerate(host.server.events.values())}
    assert moments["db", "Confirmed"] < moments["app", "Switching"]
    assert starts(host) == ["start 7.0", "start 1.0"]


def test_what_requires_a_release_that_fails_goes_on_beside_the_one_that_came_back(host: SimulatedHost) -> None:
    """A requirement names an app, not a version: the previous database is a database."""
    begun(host, host.publish("1.0", app="app", requires_apps=("db",)), host.publish("7.0", app="db"))
    host.ill.add("8.0")
    host.assign(
        host.publish("2.0", app="app", requires_apps=("db",)), host.publish("8.0", app="db", health=SHORT), generation=2
    )
    host.settle()
    assert (host.serving("app"), host.serving("db")) == ("2.0", "7.0")
    assert starts(host)[-1] == "start 2.0"


def test_what_requires_an_app_that_cannot_be_had_is_told_so_and_comes_when_it_can(host: SimulatedHost) -> None:
    """A database that fails at its first install: the app never starts without it, and needs nobody's word later."""
    host.ill.add("7.0")
    app, db = host.publish("1.0", app="app", requires_apps=("db",)), host.publish("7.0", app="db", health=SHORT)
    host.assign(app, db)
    host.boot()
    host.settle()
    host.run(10)
    state = host.state("app")
    assert (state.verdict, host.serving("app")) == (Verdict.REFUSED, "")
    assert "it requires db: 7.0 failed here" in state.reason
    assert ("app", "missing-dependency") in refusals(host)
    host.assign(app, host.publish("7.1", app="db"), generation=2)
    host.run(200, lambda: host.serving("app") == "1.0")
    assert (host.serving("app"), host.serving("db")) == ("1.0", "7.1")


def test_what_is_removed_stops_after_what_required_it(host: SimulatedHost) -> None:
    """The order of stopping is the reverse of the order of starting."""
    begun(host, host.publish("1.0", app="web", requires_apps=("db",)), host.publish("7.0", app="db"))
    host.assign()
    host.settle()
    assert starts(host)[-2:] == ["stop 1.0", "stop 7.0"]
    assert not host.server.apps


def test_the_removal_of_a_required_app_is_held_and_said(host: SimulatedHost) -> None:
    """While something that stays needs it, it stays; once that goes or no longer needs it, it goes."""
    web, db = host.publish("1.0", app="web", requires_apps=("db",)), host.publish("7.0", app="db")
    begun(host, web, db)
    host.assign(web, generation=1)
    host.run(30)
    assert host.serving("db") == "7.0"
    assert refusals(host) == [("web", "missing-dependency")] or refusals(host) == [("db", "still-required")]
    assert "cannot remove db: web 1.0, which stays on this host, requires it" in host.state("db").reason
    host.boot()
    host.run(30)
    assert len(refusals(host)) == 1, "a restart tells it again"
    host.assign(host.publish("2.0", app="web"), generation=2)
    host.settle()
    assert (host.serving("web"), host.serving("db")) == ("2.0", "")


# -- together


def test_a_set_is_confirmed_as_one(host: SimulatedHost) -> None:
    """The api, proven at once, is confirmed in the same instant as the worker, which takes its time."""
    begun(host, *pair(host, 1))
    host.ready_after["2.5.0"] = 8.0
    host.assign(*pair(host, 2), generation=2)
    host.settle()
    confirmed = [event for event in host.server.events.values() if event.state == "Confirmed"][-2:]
    assert {event.version for event in confirmed} == {"2.0.0", "2.5.0"}
    assert len({event.at_unix_ms for event in confirmed}) == 1
    assert host.chain("api", "2.0.0") == host.chain("worker", "2.5.0") == GOOD


@pytest.mark.parametrize("bad", ["2.0.0", "2.5.0"])
def test_when_one_of_a_set_fails_all_go_back_and_only_it_is_blamed(host: SimulatedHost, bad: str) -> None:
    """Whole, in reverse order; each report names the one that failed; neither is tried again alone."""
    begun(host, *pair(host, 1))
    host.ill.add(bad)
    host.assign(*pair(host, 2), generation=2)
    host.settle()
    assert (host.serving("api"), host.serving("worker")) == ("1.0.0", "1.5.0")
    blamed, fine = ("api", "worker") if bad == "2.0.0" else ("worker", "api")
    assert host.state(blamed).verdict is Verdict.FAILED
    assert "status 500" in host.state(blamed).reason
    assert host.state(fine).verdict is Verdict.INCONCLUSIVE
    assert f"moves together with {blamed} {bad}, which failed" in host.state(fine).reason
    assert "nothing was found against" in host.state(fine).reason
    if bad == "2.5.0":
        assert starts(host)[-4:] == ["stop 2.5.0", "start 1.5.0", "stop 2.0.0", "start 1.0.0"]
    else:
        assert "start 2.5.0" not in starts(host)
    before = len(host.server.events)
    host.boot()
    host.run(600)
    assert len(host.server.events) == before


def test_a_set_that_failed_is_tried_again_whole_when_one_of_it_is_mended(host: SimulatedHost) -> None:
    """The member that was not to blame is not left behind."""
    begun(host, *pair(host, 1))
    host.ill.add("2.5.0")
    api, worker = pair(host, 2)
    host.assign(api, worker, generation=2)
    host.settle()
    host.wishes = [(api, 2, {}), (together(host, "2.6.0", "worker", requires=("api",)), 3, {})]
    host.agent.hint()
    host.settle()
    assert (host.serving("api"), host.serving("worker")) == ("2.0.0", "2.6.0")


def test_a_set_of_which_one_cannot_be_fetched_stays_as_it_is(host: SimulatedHost) -> None:
    """Nothing of it switches, and both are tried again together."""
    begun(host, *pair(host, 1))
    api, worker = pair(host, 2)
    lost = host.server.carried.pop(worker.artifact.index_sha256)
    host.assign(api, worker, generation=2)
    host.run(400, lambda: "Reverted" in host.chain("api", "2.0.0"))
    host.run(5)
    assert starts(host)[-1] == "start 1.5.0"
    host.server.carried[worker.artifact.index_sha256] = lost
    host.run(400, lambda: host.serving("worker") == "2.5.0")
    host.settle()
    assert (host.serving("api"), host.serving("worker")) == ("2.0.0", "2.5.0")


def test_one_of_a_set_that_falls_ill_in_probation_takes_all_back(host: SimulatedHost) -> None:
    """Probation is the set's, too, and lasts until the last of it has passed."""
    begun(host, *pair(host, 1))
    host.fails_from["2.0.0"] = 20.0
    host.assign(*pair(host, 2), generation=2)
    host.settle()
    assert host.state("api").current_version == "2.0.0"
    host.run(120, lambda: host.serving("api") == "1.0.0")
    host.settle()
    assert (host.serving("api"), host.serving("worker")) == ("1.0.0", "1.5.0")
    assert host.chain("worker", "2.5.0") == [*GOOD, "Reverting", "Reverted"]
    assert starts(host)[-4:] == ["stop 2.5.0", "start 1.5.0", "stop 2.0.0", "start 1.0.0"]


def test_a_set_is_in_probation_until_the_longest_of_its_probations_is_over(host: SimulatedHost) -> None:
    """The api's own minute is long over when it falls ill; the worker's five are not: both go back."""
    begun(host, *pair(host, 1))
    host.fails_from["2.0.0"] = 150.0
    long = HealthPolicy(healthy_for_ms=2_000, deadline_ms=10_000, probation_ms=300_000)
    set_key = ("together-1",)
    api = host.publish("2.0.0", app="api", together=("worker",), critical=set_key, health=SHORT)
    worker = host.publish("2.5.0", app="worker", critical=set_key, requires_apps=("api",), health=long)
    host.assign(api, worker, generation=2)
    host.settle()
    host.run(120)
    assert {tx.app for tx in host.journal.transactions()} == {"api", "worker"}
    host.run(60, lambda: host.serving("api") == "1.0.0")
    host.settle()
    assert (host.serving("api"), host.serving("worker")) == ("1.0.0", "1.5.0")


def test_a_set_whose_longest_probation_is_over_is_no_set_any_more(host: SimulatedHost) -> None:
    """Then both stay, ill or not: the transactions are gone, for all of it at once."""
    begun(host, *pair(host, 1))
    host.run(50)
    assert {tx.app for tx in host.journal.transactions()} == {"api", "worker"}
    host.run(30)
    assert host.journal.transactions() == []


def test_a_retry_of_one_of_a_set_tries_the_whole_set_again(host: SimulatedHost) -> None:
    """What failed as a set is remembered of each of it, and forgotten of each: neither could come without the other."""
    begun(host, *pair(host, 1))
    host.ill.add("2.5.0")
    host.assign(*pair(host, 2), generation=2)
    host.settle()
    assert set(host.journal.failures()) == {"api", "worker"}
    host.ill.clear()
    host.run(600)
    assert (host.serving("api"), host.serving("worker")) == ("1.0.0", "1.5.0")
    assert "is tried again" in told(host, "retry", "api")
    assert host.journal.failures() == {}
    host.settle()
    assert (host.serving("api"), host.serving("worker")) == ("2.0.0", "2.5.0")


def test_a_newer_wish_for_one_of_a_set_starts_the_whole_set_anew(host: SimulatedHost) -> None:
    """In mid-watch, the other has proven itself already: it goes back and comes again with the new one."""
    begun(host, *pair(host, 1))
    host.ill.add("2.5.0")
    api, worker = pair(host, 2)
    host.assign(api, worker, generation=2)
    host.run(10, lambda: host.serving("worker") == "2.5.0")
    host.wishes = [(api, 2, {}), (together(host, "2.6.0", "worker", requires=("api",)), 3, {})]
    host.agent.hint()
    host.settle()
    assert (host.serving("api"), host.serving("worker")) == ("2.0.0", "2.6.0")
    assert host.state("api").verdict is Verdict.SUCCEEDED


def test_a_first_install_of_a_set_that_fails_leaves_none_of_it(host: SimulatedHost) -> None:
    """Going back to nothing is whole, too."""
    host.ill.add("1.5.0")
    host.assign(*pair(host, 1))
    host.boot()
    host.settle()
    assert (host.live("api"), host.live("worker")) == ("", "")
    assert host.world.apps == {}


def test_a_set_that_is_replaced_in_probation_is_no_set_any_more(host: SimulatedHost) -> None:
    """A fix for one ends the watch over both; the other does not go back alone later."""
    begun(host, *pair(host, 1))
    api, worker = pair(host, 2)
    host.fails_from["2.0.0"] = 40.0
    host.assign(api, worker, generation=2)
    host.settle()
    host.wishes = [(api, 2, {}), (host.publish("3.0.0", app="worker"), 3, {})]
    host.agent.hint()
    host.settle()
    host.run(200)
    assert (host.serving("api"), host.serving("worker")) == ("2.0.0", "3.0.0")
    assert host.state("api").health is Health.UNHEALTHY


# -- claims


@pytest.mark.parametrize("kind", ["port", "path", "unit"])
def test_two_apps_that_claim_one_thing_are_refused_before_anything_changes(host: SimulatedHost, kind: str) -> None:
    """Incident 16, two apps for one path, port or unit: both are named, the third app goes on, nothing was fetched."""
    fields = {
        "port": {"parameters": (Parameter("port", "port", 80),)},
        "path": {"install": Install("file", {"path": str(host.folder.parent / "etc.conf")}), "run": Run("none")},
        "unit": {"run": Run("systemd", {"unit": "bin/serve.service"})},
    }[kind]
    host.assign(host.publish("1.0", app="one", **fields), host.publish("1.1", app="two", **fields), host.publish("3.0"))
    host.boot()
    host.settle()
    host.run(5)
    assert host.serving() == "3.0"
    assert refusals(host) == [("one", f"{kind}-claimed-twice"), ("two", f"{kind}-claimed-twice")]
    assert "two 1.1" in host.state("one").reason
    assert "one 1.0" in host.state("two").reason
    assert host.chain("one") == host.chain("two") == []


def test_what_runs_keeps_its_port_and_the_newcomer_gets_it_once_it_is_free(host: SimulatedHost) -> None:
    """Refused while the other stays; taken, without being told again, after the other has stopped."""
    port = (Parameter("port", "port", 80),)
    old = host.publish("1.0", app="old", parameters=port)
    begun(host, old)
    new = host.publish("1.1", app="new", parameters=port)
    host.assign(old, new)
    host.run(20)
    assert (host.serving("old"), host.serving("new")) == ("1.0", "")
    host.assign(new)
    host.settle()
    assert starts(host) == ["start 1.0", "stop 1.0", "start 1.1"]


def test_an_ill_release_does_not_go_back_to_a_port_that_another_took(host: SimulatedHost) -> None:
    """In probation, going back would break what runs well: it stays and is said to be ill."""
    first = host.publish("1.0", app="a", parameters=(Parameter("port", "port", 80),))
    begun(host, first)
    host.fails_from["2.0"] = 30.0
    host.assign(
        host.publish("2.0", app="a", parameters=(Parameter("port", "port", 81),)),
        host.publish("5.0", app="b", parameters=(Parameter("port", "port", 80),)),
        generation=2,
    )
    host.settle()
    host.run(100)
    assert (host.serving("a"), host.serving("b")) == ("2.0", "5.0")
    assert host.state("a").health is Health.UNHEALTHY


def test_a_circle_of_requirements_is_refused_and_what_runs_goes_on(host: SimulatedHost) -> None:
    """Both are named; their older releases stay."""
    begun(host, host.publish("1.0", app="a"), host.publish("1.1", app="b"))
    host.assign(
        host.publish("2.0", app="a", requires_apps=("b",)),
        host.publish("2.1", app="b", requires_apps=("a",)),
        generation=2,
    )
    host.run(20)
    assert refusals(host) == [("a", "requires-cycle"), ("b", "requires-cycle")]
    assert (host.serving("a"), host.serving("b")) == ("1.0", "1.1")
    assert "a requires b requires a" in host.state("a").reason


def test_the_disk_is_counted_for_the_whole_set_before_the_first_fetch(
    host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for one of the two is no room: a set stays as it is whole. What the store holds already is not counted."""
    begun(host, *pair(host, 1))
    size = 20 * 2**20
    free = {"bytes": 3 * size + 32 * 2**20}
    monkeypatch.setattr("towpath_agent.system.files.Files.disk_free", lambda _self, _path: free["bytes"])
    big = "x" * size
    api = host.publish("2.0.0", app="api", content=big, together=("worker",), critical=("together-1",))
    worker = host.publish("2.5.0", app="worker", content=big + "y", together=("api",), critical=("together-1",))
    fetched = len(host.server.fetches)
    host.assign(api, worker, generation=2)
    host.run(20)
    assert "not enough disk: the set needs" in host.state("api").reason
    assert "moves together with api 2.0.0, which failed" in host.state("worker").reason
    assert not any(want.kind == "object" for wants in host.server.fetches[fetched:] for want in wants)
    same = host.publish("2.6.0", app="worker", content=big, together=("api",), critical=("together-1",))
    host.assign(api, same, generation=3)  # one object for both, but that is known only once an index is here
    host.run(20)
    assert host.state("api").state is State.REVERTED
    free["bytes"] = 4 * size + 33 * 2**20
    host.run(200, lambda: host.serving("worker") == "2.6.0")
    assert host.serving("api") == "2.0.0"
