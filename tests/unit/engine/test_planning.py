"""Planning: from what runs to what should run, and then silence."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from towpath.status import State, Verdict
from towpath_agent.engine.planning import (
    Decision,
    Failure,
    Open,
    Step,
    Wish,
    blocked,
    disk_needed,
    plan,
    to_remember,
)

ONE = Wish("hello", b"1", "1.0", {"port": 80}, generation=1)
TWO = Wish("hello", b"2", "2.0", {"port": 80}, generation=2)
NOW = 1000


def steps(
    *wishes: Wish,
    current: Wish | None = None,
    opened: Open | None = None,
    failure: Failure | None = None,
    refused: tuple[str, ...] = (),
    now: int = NOW,
) -> list[tuple[Step, Wish]]:
    decisions = plan(
        wishes,
        current={current.app: current} if current else {},
        opened={opened.wish.app: opened} if opened else {},
        failures={failure.wish.app: failure} if failure else {},
        refused=refused,
        now_unix_ms=now,
    )
    return [(decision.step, decision.wish) for decision in decisions]


def test_what_is_wanted_and_not_there_begins() -> None:
    """A first install, another release and another parameter each begin a transaction."""
    assert steps(ONE) == [(Step.BEGIN, ONE)]
    assert steps(TWO, current=ONE) == [(Step.BEGIN, TWO)]
    changed = replace(ONE, parameters={"port": 81})
    assert steps(changed, current=ONE) == [(Step.BEGIN, changed)]


def test_an_app_that_the_complete_set_does_not_name_is_removed() -> None:
    """Missing in the set means that nothing of it should run: a wish without a digest."""
    assert steps(current=ONE) == [(Step.BEGIN, Wish("hello"))]
    assert steps(opened=Open(ONE, State.FETCHING)) == [(Step.SUPERSEDE, Wish("hello"))]


def test_what_runs_as_wanted_is_left_alone() -> None:
    """The same bits, parameters and generation: nothing to do, also for an app that is neither wanted nor there."""
    assert steps(ONE, current=ONE) == []
    assert steps(Wish("hello")) == []
    assert steps() == []


def test_a_new_generation_of_what_runs_is_only_noted() -> None:
    """An identical release is a no-op: the generation is adopted and nothing restarts."""
    again = replace(ONE, generation=9)
    assert steps(again, current=ONE) == [(Step.ADOPT, again)]


def test_a_transaction_for_something_else_is_superseded() -> None:
    """Other bits, other parameters or another generation than the open one's: it is told so, in every state."""
    for other in (TWO, replace(ONE, parameters={}), replace(ONE, generation=2)):
        for state in State:
            assert steps(other, opened=Open(ONE, state)) == [(Step.SUPERSEDE, other)]
    assert steps(ONE, opened=Open(ONE, State.WATCHING)) == []


def test_an_open_transaction_comes_before_everything_else() -> None:
    """While one is open none begins, and nothing is adopted, whatever runs or failed before."""
    failed = Failure(ONE, "", Verdict.FAILED)
    assert steps(ONE, current=TWO, opened=Open(ONE, State.STAGED), failure=failed) == []
    assert steps(TWO, current=TWO, opened=Open(ONE, State.STAGED)) == [(Step.SUPERSEDE, TWO)]


def test_the_reason_says_what_should_run() -> None:
    """Each decision says why, for a person."""
    (gone,) = plan([], current={}, opened={"hello": Open(ONE, State.STAGED)}, failures={}, refused=(), now_unix_ms=0)
    assert gone == Decision(Step.SUPERSEDE, Wish("hello"), "the host should run nothing by now")
    (other,) = plan(
        [TWO], current={}, opened={"hello": Open(ONE, State.STAGED)}, failures={}, refused=(), now_unix_ms=0
    )
    assert "2.0" in other.reason
    (new,) = plan([ONE], current={}, opened={}, failures={}, refused=(), now_unix_ms=0)
    assert new.reason == "desired differs from current"
    again = replace(ONE, generation=9)
    (kept,) = plan([again], current={"hello": ONE}, opened={}, failures={}, refused=(), now_unix_ms=0)
    assert kept.reason == "it runs already"


def test_a_failed_release_waits_for_a_new_generation() -> None:
    """Failure memory: the same bits, parameters and generation are not tried again, however late it is."""
    failure = Failure(TWO, "ill", Verdict.FAILED)
    assert steps(TWO, current=ONE, failure=failure, now=2**62) == []
    told = replace(TWO, generation=3)
    assert steps(told, current=ONE, failure=failure) == [(Step.BEGIN, told)]


def test_a_failure_does_not_block_another_release_or_parameter() -> None:
    """Only what failed is remembered: a fixed release or parameter of the same generation begins."""
    failure = Failure(TWO, "ill", Verdict.FAILED)
    for other in (replace(TWO, sha256=b"3"), replace(TWO, parameters={"port": 81})):
        assert steps(other, current=ONE, failure=failure) == [(Step.BEGIN, other)]


def test_what_could_only_not_be_reached_is_tried_again_at_its_time() -> None:
    """With a time to retry, the failure blocks until then and not a millisecond longer."""
    failure = Failure(TWO, "no line", Verdict.FAILED, retry_unix_ms=NOW)
    assert steps(TWO, failure=failure, now=NOW - 1) == []
    assert steps(TWO, failure=failure, now=NOW) == [(Step.BEGIN, TWO)]


def test_a_failure_is_final_only_for_what_failed_and_only_where_no_time_was_set() -> None:
    """What is tried again later is not given up: its bytes may wait for it."""
    failure = Failure(TWO, "ill", Verdict.FAILED)
    assert failure.final(TWO)
    assert not failure.final(ONE)
    assert not failure.final(replace(TWO, generation=TWO.generation + 1))
    assert not replace(failure, retry_unix_ms=NOW).final(TWO)


def test_refused_apps_stay_as_they_are() -> None:
    """An app whose new release was refused is neither moved nor removed, running or under way."""
    assert steps(current=ONE, refused=("hello",)) == []
    assert steps(TWO, current=ONE, refused=("hello",)) == []
    assert steps(opened=Open(ONE, State.STAGED), refused=("hello",)) == []
    assert steps(ONE, refused=("other",)) == [(Step.BEGIN, ONE)]


def test_same_as_looks_at_bits_and_parameters_only() -> None:
    """The generation and the version's text do not make a difference; a wish for nothing equals nothing there."""
    assert ONE.same_as(replace(ONE, generation=5, version="x"))
    assert not ONE.same_as(replace(ONE, sha256=b"2"))
    assert not ONE.same_as(replace(ONE, parameters={"port": 81}))
    assert not ONE.same_as(None)
    assert Wish("hello").same_as(None)


LEFT, RIGHT = Wish("left", b"1", "1", generation=1), Wish("right", b"2", "1", generation=1)
BOTH = {"left": LEFT, "right": RIGHT}


def test_what_failed_as_a_set_is_held_as_a_set_until_one_of_it_should_run_something_else() -> None:
    """Neither is tried alone; another release or a new generation of either lets both be tried again."""
    failures = {
        "left": Failure(LEFT, "ill", Verdict.FAILED, mates=(RIGHT,)),
        "right": Failure(RIGHT, "went back with left", Verdict.INCONCLUSIVE, mates=(LEFT,)),
    }

    def held(**changed: Wish) -> set[str]:
        return blocked(BOTH | changed, opened={}, failures=failures, now_unix_ms=NOW)

    assert held() == {"left", "right"}
    assert held(left=replace(LEFT, sha256=b"3")) == set()
    assert held(right=replace(RIGHT, generation=2)) == set()


def test_a_set_that_may_be_tried_again_begins_together() -> None:
    """While one of it still waits for its time, or still goes back, the other waits with it."""
    failures = {
        "left": Failure(LEFT, "full", Verdict.FAILED, retry_unix_ms=NOW, mates=(RIGHT,)),
        "right": Failure(RIGHT, "full", Verdict.INCONCLUSIVE, retry_unix_ms=NOW + 1, mates=(LEFT,)),
    }
    assert blocked(BOTH, opened={}, failures=failures, now_unix_ms=NOW) == {"left", "right"}
    assert blocked(BOTH, opened={}, failures=failures, now_unix_ms=NOW + 1) == set()
    back = {"right": Open(RIGHT, State.REVERTING)}
    assert blocked(BOTH, opened=back, failures=failures, now_unix_ms=NOW + 1) == {"left"}
    begun = {"right": Open(RIGHT, State.PLANNED)}
    assert blocked(BOTH, opened=begun, failures=failures, now_unix_ms=NOW + 1) == set()


def test_the_disk_holds_what_is_fetched_and_what_is_unpacked() -> None:
    """What the store lacks and what is not unpacked; what releases ask for and the margin come on top."""
    assert disk_needed(fetch=30, unpack=20, extra=5, margin=3) == 58


def test_a_held_app_begins_nothing_and_gives_nothing_up() -> None:
    """Neither a release, nor a removal, nor what is under way for something older; other apps go on."""
    other = replace(TWO, app="other")

    def decide(**fields: object) -> list[tuple[Step, str]]:
        given = {"current": {}, "opened": {}, "failures": {}, "refused": (), "now_unix_ms": NOW, **fields}
        return [(it.step, it.wish.app) for it in plan([TWO, other], held=lambda app: app == "hello", **given)]  # type: ignore[arg-type]

    assert decide() == [(Step.BEGIN, "other")]
    assert decide(opened={"hello": Open(ONE, State.FETCHING)}) == [(Step.BEGIN, "other")]
    removal = plan(
        [], current={"hello": ONE}, opened={}, failures={}, refused=(), now_unix_ms=NOW, held=lambda _app: True
    )
    assert removal == []


def test_a_held_app_that_runs_what_is_wanted_notes_the_new_generation() -> None:
    """Nothing changes on the host by that."""
    again = replace(ONE, generation=9)
    (kept,) = plan(
        [again],
        current={"hello": ONE},
        opened={},
        failures={},
        refused=(),
        now_unix_ms=NOW,
        held=lambda _app: True,
    )
    assert kept.step is Step.ADOPT


def test_the_failure_that_is_in_the_way_is_not_forgotten_for_another() -> None:
    """Going back by hand from what should not run anyway leaves the memory of what should; the newest counts else."""
    blocks = Failure(TWO, "ill", Verdict.FAILED)
    left = Failure(ONE, "reverted by ana", Verdict.FAILED)
    assert not to_remember(left, blocks, TWO, NOW)
    assert to_remember(left, None, TWO, NOW)
    assert to_remember(left, blocks, None, NOW)
    assert to_remember(left, replace(blocks, retry_unix_ms=NOW), TWO, NOW)
    assert to_remember(blocks, blocks, TWO, NOW)


APPS = ("a", "b", "c")
WISHES = st.builds(
    Wish,
    app=st.sampled_from(APPS),
    sha256=st.sampled_from([b"1", b"2"]),
    version=st.just("v"),
    parameters=st.sampled_from([{}, {"port": 1}]),
    generation=st.integers(1, 2),
)
BY_APP = st.lists(WISHES, max_size=3).map(lambda wishes: {wish.app: wish for wish in wishes})
FAILURES = st.lists(st.builds(Failure, WISHES, st.just(""), st.just(Verdict.FAILED), st.sampled_from([None, 5, 50])))


@settings(max_examples=300)
@given(
    wanted=BY_APP,
    current=BY_APP,
    under_way=BY_APP,
    state=st.sampled_from(State),
    failed=FAILURES,
    refused=st.sets(st.sampled_from(APPS), max_size=1),
    good=st.lists(st.booleans(), min_size=10, max_size=10),
)
def test_carried_out_decisions_end_in_silence(
    *,
    wanted: dict[str, Wish],
    current: dict[str, Wish],
    under_way: dict[str, Wish],
    state: State,
    failed: list[Failure],
    refused: set[str],
    good: list[bool],
) -> None:
    """Carry out what is decided, well or badly: soon nothing is left to do, and every app is right, failed or refused."""
    opened = {app: Open(wish, state) for app, wish in under_way.items()}
    failures = {failure.wish.app: failure for failure in failed}
    before = dict(current)
    outcomes = iter(good)

    def decide() -> list[Decision]:
        return plan(
            list(wanted.values()),
            current=current,
            opened=opened,
            failures=failures,
            refused=refused,
            now_unix_ms=10,
        )

    for _ in range(4):
        decisions = decide()
        assert [decision.wish.app for decision in decisions] == sorted({d.wish.app for d in decisions} - refused)
        for step, wish in ((decision.step, decision.wish) for decision in decisions):
            if step is Step.SUPERSEDE:
                del opened[wish.app]
            elif step is Step.ADOPT or next(outcomes, True):
                assert step is not Step.ADOPT or current[wish.app].same_as(wish)
                current.pop(wish.app, None)
                if wish.sha256:
                    current[wish.app] = wish
            else:
                failures[wish.app] = Failure(wish, "", Verdict.FAILED)
        for app in [app for app, it in opened.items() if app not in refused and it.wish == wanted.get(app)]:
            current[app] = opened.pop(app).wish
    assert decide() == []
    for app in APPS:
        if app in refused:
            assert current.get(app) == before.get(app)
        elif app in failures and failures[app].blocks(wanted.get(app, Wish(app)), 10):
            continue
        else:
            assert current.get(app) == wanted.get(app)
