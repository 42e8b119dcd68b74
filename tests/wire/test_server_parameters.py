"""Parameters of environments and labels over real gRPC: what a host's manifest says, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.cli_shell import CliShell
from fakes.live_server import HostUnderTest, LiveServer, eventually
from towpath.parameters import Parameter, Value

PORT = Parameter("port", "port", 8000)
COLOUR = Parameter("colour", "string", "grey")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """Return a running server of a new fleet."""
    with LiveServer(tmp_path) as running:
        yield running


@pytest.fixture
def shell(server: LiveServer) -> CliShell:
    """Return an operator's keyboard at that server."""
    return CliShell(server.fleet, server.operators)


def filled(host: HostUnderTest) -> dict[str, Value]:
    """Return the parameters that the host's manifest has for hello."""
    return next((dict(one.parameters) for one in host.sync().apps if one.app == "hello"), {})


def change(shell: CliShell, *words: str, verb: str = "set", environment: str = "dev") -> str:
    done = shell.type("parameter", verb, "--environment", environment, *words)
    assert done.code == 0, done.err
    return done.out


def running(server: LiveServer) -> tuple[HostUnderTest, HostUnderTest]:
    """Return a host of rack 7 and one of rack 8 that both are to run hello."""
    hosts = server.new_host("h1", rack="7"), server.new_host("h2", rack="8")
    for host in hosts:
        host.sync()
    server.publish("1.0.0", b"", PORT, COLOUR)
    server.deploy("1.0.0", max_unavailable=2)
    eventually(lambda: all(host.desired() == "1.0.0" for host in hosts), "both are admitted")
    for host in hosts:
        host.obey()
    return hosts


def test_a_manifest_takes_the_host_before_the_label_before_the_environment(server: LiveServer, shell: CliShell) -> None:
    """At once and typed; `host show` and `why` say what sets each, and unsetting gives the next one back."""
    h1, h2 = running(server)
    assert "dev: hello.port=8080; for 2 hosts now" in change(shell, "hello.port=8080")
    assert (filled(h1), filled(h2)) == ({"port": 8080}, {"port": 8080})
    assert "dev with rack=7: hello.port=8081; for 1 host now" in change(shell, "hello.port=8081", "--label", "rack=7")
    assert (filled(h1), filled(h2)) == ({"port": 8081}, {"port": 8080})
    assert "parameter hello.port=8081  (from label rack=7)" in shell.type("host", "show", "h1").out
    assert "with port=8080 (from environment dev)" in shell.type("why", "h2", "hello").out
    said = shell.type("host", "set", "h1", "hello.port=8082").out
    assert "h1: parameter hello.port=8082," in said
    assert filled(h1) == {"port": 8082}
    assert "parameter hello.port=8082\n" in shell.type("host", "show", "h1").out
    assert shell.type("host", "set", "h1", "--unset", "hello.port").code == 0
    assert filled(h1) == {"port": 8081}
    change(shell, "hello.port", "--label", "rack=7", verb="unset")
    assert filled(h1) == {"port": 8080}
    change(shell, "hello.port", verb="unset")
    assert (filled(h1), filled(h2)) == ({}, {})
    assert "nothing is set" in shell.type("parameter", "list").out
    acts = [entry.detail for entry in server.audit("parameter.set")]
    assert acts == [
        "dev: hello.port=8080",
        "dev with rack=7: hello.port=8081",
        "dev with rack=7: unset hello.port",
        "dev: unset hello.port",
    ]


def test_labels_that_disagree_are_refused_whoever_makes_them_disagree(server: LiveServer, shell: CliShell) -> None:
    """By a parameter, by a label, and a newcomer who has both waits and says why."""
    h1, _ = running(server)
    change(shell, "hello.port=8081", "--label", "rack=7")
    wrong = ("parameter", "set", "--environment", "dev", "hello.port=8082", "--label", "role=web")
    part = "cannot tell what hello.port is on h1: label rack=7 says 8081, label role=web says 8082"
    assert part in shell.type(*wrong).line
    assert filled(h1) == {"port": 8081}
    assert len(shell.type("parameter", "list", "-o", "json").json()) == 1
    change(shell, "hello.port=8083", "--label", "zone=a")
    assert "label zone=a says 8083" in shell.type("host", "set", "h1", "--label", "zone=a").line
    newcomer = server.new_host("h3", rack="7", zone="a")
    newcomer.sync()
    why = eventually(lambda: "what hello.port is on h3" in (out := shell.type("why", "h3", "hello").out) and out, "why")
    assert "not admitted" in why
    assert newcomer.desired() == ""
    assert shell.type("host", "show", "h3").code == 0
    assert shell.type("host", "set", "h3", "hello.port=8084").code == 0
    eventually(lambda: filled(newcomer) == {"port": 8084}, "its own word ends it")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["hello.port=http"], "it is a port, a whole number"),
        (["hello.prot=1"], "hello declares colour, port"),
        (["hello=1"], "a parameter is named app.name"),
        (["hello.port=1", "--label", "rack"], "write it as key=value"),
        ([], "name a parameter"),
        (["hello.port=1", "--environment", "prod"], "towpath environment set prod adds it"),
        (["--unset", "hello.port"], "it is not set for dev"),
    ],
    ids=lambda it: " ".join(it) if isinstance(it, list) else "",
)
def test_what_cannot_be_set_is_one_line_and_nothing_changes(
    server: LiveServer, shell: CliShell, words: list[str], part: str
) -> None:
    """A wrong type, a name that no release declares, no label, an environment that is none."""
    h1, _ = running(server)
    where = [] if "--environment" in words else ["--environment", "dev"]
    verb = ["unset", *words[1:]] if words[:1] == ["--unset"] else ["set", *words]
    assert part in shell.type("parameter", *verb, *where).line
    assert filled(h1) == {}
    assert shell.type("parameter", "list", "-o", "json").json() == []


def test_parameters_are_set_before_a_release_and_checked_when_it_is_deployed(
    server: LiveServer, shell: CliShell
) -> None:
    """A note says so; a deploy that does not fit names the host and changes nothing."""
    server.new_host("h1").sync()
    assert "note: no release of hello is published yet" in change(shell, "hello.port=http")
    server.publish("1.0.0", b"", PORT)
    deploy = ("deploy", "hello", "1.0.0", "--environment", "dev", "--all-hosts")
    assert "host h1: cannot set port to 'http'" in shell.type(*deploy).line
    change(shell, "hello.port=8080")
    assert shell.type(*deploy).code == 0
