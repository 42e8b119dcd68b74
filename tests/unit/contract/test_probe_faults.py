"""Probes that could never pass are found before they are published, and nothing else is."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import InputError
from towpath.kinds import PROBES, Value, is_number
from towpath.parameters import Parameter
from towpath.probes import MAX_BODY_BYTES, MAX_PATTERN_CHARS, clock_fault, compile_pattern, probe_faults, split_label
from towpath.release import Artifact, HealthPolicy, Install, Probe, Release, Run, check_release

PARAMETERS = (Parameter("port", "port"), Parameter("n", "int"), Parameter("yes", "bool"), Parameter("name", "string"))
WEB: Mapping[str, Value] = {"url": "https://127.0.0.1:${port}/"}
PAGE: Mapping[str, Value] = {"url": "http://127.0.0.1/metrics", "metric": "up"}


def faults(kind: str, options: Mapping[str, Value], run_kind: str = "process") -> list[tuple[str, str]]:
    return list(probe_faults(kind, options, PARAMETERS, run_kind))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("http", {"url": "http://127.0.0.1:${port}/"}),
        ("http", {"url": "${name}", "status": "${n}", "body": "x" * MAX_BODY_BYTES}),
        ("http", {"url": "http://${name}:${port}/", "status": 599}),
        ("http", WEB | {"ca": "ca.pem"}),
        ("http", WEB | {"verify": False}),
        ("http", {"url": "https://${name}/", "verify": False}),
        ("http", {"url": "https://a.org/", "verify": True}),
        ("tcp", {"port": 1}),
        ("grpc", {"port": "${port}"}),
        ("exec", {"command": ("bin/check", "${name}")}),
        ("process", {"max_restarts": 0}),
        ("process", {"max_restarts": "${n}"}),
        ("unit", {"unit": "nginx.service"}),
        ("unit", {"unit": "getty@tty${n}.service"}),
        ("unit", {"unit": "${name}"}),
        ("fresh", {"path": "data/beat", "max_age": 1}),
        ("fresh", {"path": "${name}", "max_age": 1}),
        ("disk", {"free": 1}),
        ("disk", {"free": 1, "path": "/srv"}),
        ("memory", {"available": 1}),
        ("log", {"pattern": "port ${port} ready", "forbid": "^(Traceback|FATAL)"}),
        ("log", {"pattern": "${name}"}),
        ("prometheus", PAGE | {"labels": ("job=a", "le=", "x=${name}"), "min": "-1.5e3", "max": 2}),
        ("prometheus", PAGE | {"min": "${n}", "max": 1}),
        ("prometheus", {"url": "${name}", "metric": "${name}"}),
    ],
)
def test_what_may_pass_has_no_fault(kind: str, options: Mapping[str, Value]) -> None:
    """A number that an operator fills stands for any good one, a text that is not known is left to the host."""
    assert faults(kind, options) == []


@pytest.mark.parametrize(
    ("kind", "options", "option", "why"),
    [
        ("http", {"url": "127.0.0.1:80"}, "url", "write http://HOST"),
        ("http", {"url": "http:///healthz"}, "url", "write http://HOST"),
        ("http", {"url": "http://127.0.0.1:8${port}000/"}, "url", "port 81000 is none"),
        ("http", {"url": "http://127.0.0.1/", "status": 42}, "status", "no server answers 42"),
        ("http", {"url": "http://127.0.0.1/", "body": "ü" * 2049}, "body", "only the first 4096 bytes"),
        ("http", {"url": "http://127.0.0.1/", "ca": "x"}, "ca", "for https alone"),
        ("http", {"url": "http://127.0.0.1/", "verify": True}, "verify", "for https alone"),
        ("http", {"url": "https://a.org/", "verify": False}, "verify", "only loopback may be asked unverified"),
        ("http", WEB | {"verify": False, "ca": "x"}, "ca", "means nothing where verify is false"),
        ("exec", {"command": ()}, "command", "names no program"),
        ("exec", {"command": ("",)}, "command", "names no program"),
        ("exec", {"command": ("bin/${name}",)}, "command", "may not be a parameter"),
        ("process", {"max_restarts": -1}, "max_restarts", "0 or more"),
        ("unit", {"unit": "nginx"}, "unit", "'nginx' is no unit"),
        ("unit", {"unit": "--host=x.service"}, "unit", "is no unit"),
        ("unit", {"unit": "a b.service"}, "unit", "is no unit"),
        ("fresh", {"path": "", "max_age": 1}, "path", "names no file"),
        ("fresh", {"path": "x", "max_age": 0}, "max_age", "younger than nothing"),
        ("disk", {"free": 1, "path": ""}, "path", "names no folder"),
        ("log", {}, "", "looks for nothing"),
        ("log", {"pattern": "("}, "pattern", "cannot use the pattern '('"),
        ("log", {"forbid": "x" * (MAX_PATTERN_CHARS + 1)}, "forbid", "at most 512"),
        ("prometheus", PAGE | {"url": "x"}, "url", "write http://HOST"),
        ("prometheus", PAGE | {"metric": 'up{job="a"}'}, "metric", "labels have an option of their own"),
        ("prometheus", PAGE | {"metric": ""}, "metric", "is no metric's name"),
        ("prometheus", PAGE | {"labels": ("job",)}, "labels", "write name=value"),
        ("prometheus", PAGE | {"min": "2.5", "max": "2.4"}, "min", "no number is at least 2.5 and at most 2.4"),
    ],
)
def test_what_can_never_pass_is_named_with_its_option(
    kind: str, options: Mapping[str, Value], option: str, why: str
) -> None:
    """Each impossible probe has one fault, on the option that is to be changed."""
    ((named, reason),) = faults(kind, options)
    assert named == option
    assert why in reason


def test_an_app_whose_log_the_agent_does_not_keep_needs_a_path() -> None:
    """What systemd runs logs to the journal: without a path there is no log to look at."""
    ((option, reason),) = faults("log", {"pattern": "x"}, "systemd")
    assert option == ""
    assert "give the path" in reason
    assert faults("log", {"pattern": "x", "path": "/var/log/x.log"}, "systemd") == []


@pytest.mark.parametrize("text", ["(" * 200, "a{99999999999}", "[", "(?P<a>x)(?P<a>y)", "\\"])
def test_a_pattern_that_does_not_compile_is_bad_input(text: str) -> None:
    """Unbalanced, too deep, too large: an InputError, never what the compiler raises."""
    with pytest.raises(InputError, match="^cannot use the pattern"):
        compile_pattern(text)


def test_a_pattern_that_nests_too_deep_is_bad_input() -> None:
    """The compiler calls itself for each bracket; where it gives up, that is the pattern's fault."""
    depth = MAX_PATTERN_CHARS // 2
    try:
        compile_pattern("(" * depth + ")" * depth)
    except InputError as error:
        assert "cannot use the pattern" in str(error)


def test_a_label_is_split_at_its_first_sign() -> None:
    """Values may hold more of them."""
    assert split_label("query=a=b") == ("query", "a=b")
    assert split_label("le=") == ("le", "")
    with pytest.raises(InputError, match="write name=value"):
        split_label("2x=1")


@pytest.mark.parametrize(
    ("successes", "interval_ms", "healthy_for_ms", "deadline_ms", "possible"),
    [
        (1, 99_000, 9_999, 10_000, True),
        (1, 99_000, 10_000, 10_000, False),
        (3, 2_000, 5_999, 10_000, True),
        (3, 2_000, 6_000, 10_000, False),
        (1000, 1_000, 0, 300_000, False),
    ],
)
def test_clocks_that_cannot_fit_are_told(
    successes: int, interval_ms: int, healthy_for_ms: int, deadline_ms: int, possible: bool
) -> None:
    """Successes are an interval apart, then healthy_for runs; all of it must end before the deadline."""
    reason = clock_fault(
        interval_ms=interval_ms, successes=successes, healthy_for_ms=healthy_for_ms, deadline_ms=deadline_ms
    )
    assert (reason == "") is possible
    if not possible:
        assert "the health deadline is" in reason


@pytest.mark.parametrize(
    ("probe", "why"),
    [
        (Probe("http", {"url": "x"}), "cannot use release hello 1.0.0: probes http: cannot ask 'x'"),
        (Probe("tcp", {"port": 80}, successes=30), "probes tcp: 30 successes 1s apart and then 10s of health take 39s"),
    ],
)
def test_every_party_refuses_a_probe_that_can_never_pass(probe: Probe, why: str) -> None:
    """`check_release` is the one rule of publisher, server and host, and has the faults in it."""
    release = Release(
        "hello", "1.0.0", 1, Artifact(bytes(32), 0, 0), Install("tree"), Run("none"), probes=(probe,),
        health=HealthPolicy(10_000, 30_000),
    )  # fmt: skip
    with pytest.raises(InputError) as caught:
        check_release(release)
    assert str(caught.value).startswith(why) or why in str(caught.value)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", True), ("-0.5", True), ("+1e9", True), ("${n}", True), ("1.", False), ("NaN", False), ("1_0", False),
     ("x${n}", False), ("", False)],
)  # fmt: skip
def test_a_number_is_a_decimal_or_one_parameter(text: str, number: bool) -> None:
    """What a limit may be: no infinity, no NaN, no text around a hole."""
    assert is_number(text) is number


@given(
    st.sampled_from(sorted(PROBES)),
    st.dictionaries(
        st.sampled_from(sorted({name for specs in PROBES.values() for name in specs})),
        st.text(max_size=12)
        | st.integers(0, 10**6)
        | st.booleans()
        | st.lists(st.text(max_size=8), max_size=3).map(tuple),
        max_size=5,
    ),
)
def test_whatever_the_options_faults_are_found_and_never_raised(kind: str, options: Mapping[str, Value]) -> None:
    """A release from anybody is judged by the server: no option makes the judge fall over."""
    for option, reason in probe_faults(kind, options, PARAMETERS, "process"):
        assert option in ("", *PROBES[kind])
        assert reason
