"""Drivers' options: known, there where they must be, of the right type."""

import pytest

from towpath.errors import InputError
from towpath.kinds import INSTALLERS, PROBES, SERVICES, Value, check_driver, check_options

SPECS = {
    "text": "text",
    "texts": "texts",
    "int": "int",
    "port": "port",
    "bool": "bool",
    "duration": "duration",
    "size": "size",
    "pairs": "pairs",
    "choice": "one|other",
    "number": "number",
}
GOOD: dict[str, list[Value]] = {
    "text": ["", "a"],
    "texts": [(), ("a", "b")],
    "int": [0, -5, "${n}"],
    "port": [80, "${port}"],
    "bool": [True, False],
    "duration": [0, 10],
    "size": [0, 2**40],
    "pairs": [(), ("a=1", "b_2=x=y", "c=")],
    "choice": ["one", "other"],
    "number": [0, -1, "0.5", "-1e3", "${n}"],
}
BAD: dict[str, list[Value]] = {
    "text": [1, True, ("a",)],
    "texts": ["a", 1, True],
    "int": ["5", "$n", "", "${n", "${n}0", "x${n}", "${a}${b}", "${}", True, ("a",)],
    "port": ["80", "${port", "http", False, 0, 65536],
    "bool": [1, 0, "true"],
    "duration": ["10s", True],
    "size": ["1MiB", False],
    "pairs": ["a=1", ("a",), ("=1",), ("A=1",), ("a=1", "a=2"), ("${p}=1",), 1],
    "choice": ["", "One", "one|other", 1, True, ("one",)],
    "number": ["", "x", "1,5", "NaN", "${n", True, ("1",)],
}


@pytest.mark.parametrize(("option", "value"), [(option, value) for option in GOOD for value in GOOD[option]])
def test_an_option_of_its_type_passes(option: str, value: Value) -> None:
    """Each option type takes its own values; numbers and ports also one whole parameter."""
    check_options("release x", SPECS, {option: value})


@pytest.mark.parametrize(("option", "value"), [(option, value) for option in BAD for value in BAD[option]])
def test_an_option_of_another_type_is_refused(option: str, value: Value) -> None:
    """True is no number, a text is no number, and a hole that does not close would only fail on the host."""
    with pytest.raises(InputError, match=f"^cannot use release x: option '{option}' must"):
        check_options("release x", SPECS, {option: value})


def test_an_unknown_option_names_the_known_ones() -> None:
    """A typing error shows what there is; a driver without options says none."""
    with pytest.raises(InputError, match="unknown option 'pot'; known are host, port"):
        check_options("probe tcp", PROBES["tcp"], {"pot": 1})
    with pytest.raises(InputError, match="unknown option 'x'; known are none"):
        check_options("run none", SERVICES["none"], {"x": 1})


def test_a_required_option_that_is_missing_is_named() -> None:
    """`!` in a spec means that the option must be there; without it, it may be left out."""
    with pytest.raises(InputError, match="option 'url' is missing"):
        check_options("probe http", PROBES["http"], {"status": 200})
    check_options("probe http", PROBES["http"], {"status": 200, "url": "http://x/"})
    check_options("install tree", INSTALLERS["tree"], {})


def test_the_kinds_of_this_version() -> None:
    """These kinds and required options are promised to publishers; a kind that vanishes breaks signed releases."""
    assert (set(INSTALLERS), set(SERVICES)) == (
        {"tree", "file", "exec", "deb", "rpm", "oci"},
        {"systemd", "process", "none", "agent"},
    )
    assert set(PROBES) == set(
        "http tcp grpc exec process unit log fresh disk memory prometheus agent".split()  # one word each, in no order
    )
    required = {
        f"{kind}.{option}"
        for table in (INSTALLERS, SERVICES, PROBES)
        for kind, specs in table.items()
        for option, spec in specs.items()
        if spec.endswith("!")
    }
    assert required == {
        "file.path",
        "systemd.unit",
        "http.url",
        "tcp.port",
        "grpc.port",
        "exec.command",
        "exec.driver",
        "unit.unit",
        "fresh.path",
        "fresh.max_age",
        "disk.free",
        "memory.available",
        "prometheus.url",
        "prometheus.metric",
    }


@pytest.mark.parametrize("driver", ["webroot", "a.b-c_d", "0", "./install", "./bin/install driver"])
def test_a_driver_is_a_name_of_the_host_or_a_path_of_the_release(driver: str) -> None:
    """A bare name is looked up on the host; `./` begins a program of the signed tree."""
    check_driver("release x", driver)


@pytest.mark.parametrize(
    "driver",
    ["", ".", "..", "a/b", "/usr/bin/install", "../x", "./", "./../x", "./a//b", "./a/..", "./a/.", "./a\nb", "A", "${d}", "./${d}"],
)  # fmt: skip
def test_a_driver_elsewhere_or_named_by_a_parameter_is_refused(driver: str) -> None:
    """No path of the host, nothing outside the tree, and never what an operator fills in."""
    with pytest.raises(InputError, match="^cannot use release x: driver"):
        check_driver("release x", driver)
