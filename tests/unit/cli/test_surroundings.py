"""Environments, windows, freezes and parameters of a fleet file against what there is: what is done, and in which order."""

from typing import Any

import pytest

from towpath.errors import InputError
from towpath_cli.changes import Kind
from towpath_cli.fleetfile import parse_fleet_file
from towpath_cli.model import CalendarEntry, EntryOrder, EnvironmentRow, Host, ParameterRow
from towpath_cli.steps import RemoveEntry, SetEnvironment, SetHost, SetParameters
from towpath_cli.surroundings import There, compare

NOW = 1_800_000_000_000
ROWS = (
    EnvironmentRow("dev", "", 0, 0, declared=True),
    EnvironmentRow("staging", "dev", 0, 0, declared=True),
    EnvironmentRow("production", "staging", 7_200_000, 0, declared=True),
)


def host(name: str, **own: str) -> Host:
    return Host(name, name, "dev", {}, "active", True, 0, 0, "", "", {}, own_parameters={f"a.{k}": own[k] for k in own})


def entry(**fields: Any) -> CalendarEntry:
    row: dict[str, Any] = {
        "id": "e1",
        "kind": "freeze",
        "environment": "dev",
        "selector": {},
        "weekly": "",
        "from_unix_ms": 0,
        "until_unix_ms": 0,
        "reason": "r",
        "created_by": "",
        "created_unix_ms": 0,
        "now": "on",
    }
    return CalendarEntry(**{**row, **fields})


def acts(text: str, *, prune: bool = False, **there: Any) -> list[Any]:
    known = There(**{"environments": ROWS, "parameters": (), "hosts": (), "entries": (), **there})
    return compare(parse_fleet_file(text, "f"), known, NOW, prune=prune)


def steps(text: str, **there: Any) -> list[Any]:
    return [act.step for act in acts(text, **there) if act.step is not None]


def test_environments_follow_one_another_as_in_the_file() -> None:
    """The first is left as it is, each of the others follows the one above; `after` and `first` say otherwise."""
    assert steps("environments: {dev: , staging: , production: }") == []
    assert steps("environments: {production: {healthy_for: 2h}}") == []
    assert steps("environments: {dev: , production: }") == [SetEnvironment("production", "dev", None)]
    assert steps("environments: {staging: {first: true}, lab: {healthy_for: 1h}}") == [
        SetEnvironment("staging", "", None),
        SetEnvironment("lab", "staging", 3_600_000),
    ]
    assert steps("environments: {lab: {after: dev}, production: {after: staging, healthy_for: 0s}}") == [
        SetEnvironment("lab", "dev", None),
        SetEnvironment("production", "staging", 0),
    ]


def test_an_environment_that_only_hosts_are_in_is_declared() -> None:
    """It is there in the list and still new."""
    rows = (*ROWS, EnvironmentRow("lab", "", 0, 3, declared=False))
    (act,) = acts("environments: {lab: }", environments=rows)
    assert (act.change.kind, act.step) == (Kind.ADD, SetEnvironment("lab", None, None))


def test_windows_of_an_environment_are_added_and_others_left_or_pruned() -> None:
    """A text that means the same is the same; an environment of which the file says no windows keeps its own."""
    text = "environments: {dev: {windows: [mon-fri 9:00-17:00 UTC, Sat 10:00-12:00 UTC]}}"
    there = (
        entry(kind="window", weekly="Mon-Fri 09:00-17:00 UTC"),
        entry(kind="window", weekly="daily 00:00-04:00 UTC", id="e2"),
        entry(kind="window", weekly="daily 00:00-04:00 UTC", id="e3", environment="production"),
    )
    added = EntryOrder("window", "dev", "as agreed", weekly="Sat 10:00-12:00 UTC")
    assert steps(text, entries=there) == [added]
    assert [one.change.kind for one in acts(text, entries=there)] == [Kind.SAME, Kind.SAME, Kind.ADD, Kind.LEFT]
    assert steps(text, entries=there, prune=True) == [added, RemoveEntry("window", "e2")]
    assert steps("environments: {dev: }", entries=there, prune=True) == []


FREEZES = """\
environments: {dev: }
freezes:
  - {environment: dev, select: {role: db}, weekly: "fri 15:00-24:00 UTC", reason: weekend}
  - {all_environments: true, from: 2030-12-20T00:00, until: 2031-01-02T00:00, zone: Europe/Berlin, reason: feast}
  - {environment: dev, from: 2020-12-20T00:00Z, until: 2021-01-02T00:00Z, reason: long ago}
"""


def test_freezes_weekly_and_one_off_are_compared_by_when_they_are() -> None:
    """However a time was written; one that is over is not asked for any more, and none is taken off that is over."""
    weekly = entry(selector={"role": "db"}, weekly="Fri 15:00-24:00 UTC", reason="weekend")
    first, second = steps(FREEZES)
    assert (first.weekly, first.selector, first.environment) == ("Fri 15:00-24:00 UTC", {"role": "db"}, "dev")
    assert (second.everywhere, second.begins) == (True, "2030-12-20T00:00 Europe/Berlin")
    once = entry(environment="", from_unix_ms=1_923_951_600_000, until_unix_ms=1_925_074_800_000, reason="feast")
    assert steps(FREEZES, entries=[weekly, once]) == []
    stray, over = entry(id="e8", reason="other"), entry(id="e9", now="over")
    elsewhere = entry(id="e7", environment="production")
    there = [weekly, once, stray, over, elsewhere]
    assert steps(FREEZES, entries=there, prune=True) == [RemoveEntry("freeze", "e8")]
    assert [one.change.kind for one in acts(FREEZES, entries=there)][-1] is Kind.LEFT
    assert steps("environments: {dev: }", entries=[stray], prune=True) == []


def test_parameters_of_an_environment_a_label_and_a_host() -> None:
    """Three levels, one step for each; a stray one of a level of which the file speaks is left, or pruned."""
    text = """\
environments:
  dev:
    parameters: {a.port: 1, a.name: x}
    labels:
      rack=7: {a.port: 2}
hosts:
  h1: {parameters: {a.port: 3}}
"""
    assert steps(text, hosts=[host("h1"), host("h2", port="9")]) == [
        SetParameters("dev", "", {"a.port": "1"}),
        SetParameters("dev", "", {"a.name": "x"}),
        SetParameters("dev", "rack=7", {"a.port": "2"}),
        SetHost("h1", {"a.port": "3"}),
    ]
    there = {
        "parameters": [
            ParameterRow("dev", "", "a", "port", "1"),
            ParameterRow("dev", "", "a", "name", "y"),
            ParameterRow("dev", "", "a", "old", "z"),
            ParameterRow("dev", "rack=7", "a", "port", "2"),
            ParameterRow("dev", "rack=8", "a", "port", "2"),
            ParameterRow("staging", "", "a", "port", "2"),
        ],
        "hosts": [host("h1", port="3", old="1"), host("h2", port="9")],
    }
    assert steps(text, **there) == [SetParameters("dev", "", {"a.name": "x"})]
    assert steps(text, **there, prune=True) == [
        SetParameters("dev", "", {"a.name": "x"}),
        SetParameters("dev", "", unset=("a.old",)),
        SetParameters("dev", "rack=8", unset=("a.port",)),
        SetHost("h1", unset=("a.old",)),
    ]
    lines = [act.change.line() for act in acts(text, **there) if act.change.line()]
    assert lines[0] == "~ parameter a.name of dev: value y -> x"
    assert lines[1] == "  parameter a.old of dev: value z, not in the file, left alone; --prune would remove it"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("environments: {dev: {after: a b}}", "line 1: environments.dev.after: "),
        (
            "environments:\n  dev: {first: true, after: x}",
            "line 2: environments.dev.first: it has both after and first",
        ),
        ("environments:\n  dev:\n    healthy_for: soon", "line 3: environments.dev.healthy_for: "),
        (
            "environments:\n  dev:\n    windows: [sometimes]",
            "line 3: environments.dev.windows: cannot read 'sometimes'",
        ),
        ("environments:\n  dev:\n    parameters: {port: 1}", "line 3: environments.dev.parameters: cannot use 'port'"),
        ("environments:\n  dev:\n    parameters: {a.port: [1]}", "environments.dev.parameters: the value of a.port"),
        ("environments:\n  dev:\n    parameters: []", "a mapping of parameters"),
        ("environments:\n  dev:\n    labels: {rack: {}}", "a label KEY=VALUE is expected, not 'rack'"),
        ("environments:\n  dev:\n    label: {}", "unknown key 'label'; did you mean 'labels'?"),
        ("environments: {dev: }\nhosts:\n  h1: {labels: {}}", "line 3: hosts.h1: unknown key 'labels'"),
        (
            "environments: {dev: }\nfreezes:\n  - {weekly: Fri 1:00-2:00 UTC, reason: r}",
            "line 3: freezes[0]: give either",
        ),
        ("environments: {dev: }\nfreezes:\n  - {environment: dev, reason: r}", "give either weekly, or from and until"),
        (
            "environments: {dev: }\nfreezes:\n  - {environment: dev, from: 2030-01-01T00:00Z, reason: r}",
            "needs both from and until",
        ),
        (
            "environments: {dev: }\nfreezes:\n  - {environment: dev, from: 2030-01-01T00:00, until: 2031-01-01T00:00Z, reason: r}",
            "say its zone once",
        ),
        (
            "environments: {dev: }\nfreezes:\n  - {environment: prod, weekly: Fri 1:00-2:00 UTC, reason: r}",
            "line 3: freezes[0].environment: 'prod' is not among",
        ),
        (
            "environments: {dev: }\nfreezes:\n  - {environment: dev, weekly: x, reason: r}",
            "line 3: freezes[0]: cannot read",
        ),
        ("environments: {dev: }\nfreezes:\n  - {environment: dev, weekly: x}", "key 'reason' is missing"),
        ("environments: {dev: }\nfreezes:\n  - {zone: x y, reason: r}", "line 3: freezes[0].zone: "),
    ],
)
def test_a_fault_of_a_section_is_one_line_with_file_line_and_key(text: str, part: str) -> None:
    """Before the server is asked."""
    with pytest.raises(InputError) as caught:
        parse_fleet_file(text, "fleet.yaml")
    assert part in str(caught.value)
    assert "cannot use fleet.yaml, line" in str(caught.value)
    assert "\n" not in str(caught.value)
