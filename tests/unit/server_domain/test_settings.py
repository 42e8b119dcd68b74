"""Parameters of hosts, labels and environments: which text wins, and where nobody can tell."""

import pytest

from fakes.rows import host
from towpath.errors import InputError
from towpath_server.domain.manifests import texts_of
from towpath_server.domain.model import Setting
from towpath_server.domain.settings import Origin, check_label, covers, origins

HERE = host(labels={"rack": "7", "role": "web"}, parameters={"hello.colour": "red", "other.port": "1"})


def setting(name: str, text: str, label: str = "", environment: str = "dev", app: str = "hello") -> Setting:
    return Setting(environment, label, app, name, text)


def test_the_host_comes_before_its_label_and_that_before_its_environment() -> None:
    """Each name by itself, and with what sets it; what nobody sets is left to the release's default."""
    rows = [
        setting("colour", "blue"),
        setting("colour", "green", "rack=7"),
        setting("port", "8080"),
        setting("port", "8081", "rack=7"),
        setting("size", "3"),
    ]
    assert origins(HERE, "hello", rows) == {
        "colour": Origin("red", "host"),
        "port": Origin("8081", "label rack=7"),
        "size": Origin("3", "environment dev"),
    }
    assert texts_of(HERE, "hello", rows) == {"colour": "red", "port": "8081", "size": "3"}
    assert texts_of(HERE, "hello") == {"colour": "red"}


def test_only_what_covers_the_host_counts() -> None:
    """Another environment, another label, another app."""
    rows = [
        setting("port", "1", environment="staging"),
        setting("port", "2", "rack=8"),
        setting("port", "3", "zone=a"),
        setting("port", "4", app="admin"),
    ]
    assert texts_of(HERE, "hello", rows) == {"colour": "red"}
    assert covers(setting("port", "1", "rack=7"), HERE)
    assert not covers(setting("port", "1", "rack=8"), HERE)


def test_two_labels_that_disagree_are_refused_unless_the_host_says_it_itself() -> None:
    """Nobody guesses; the line names the host, both labels, both values and the way out."""
    rows = [setting("port", "1", "rack=7"), setting("port", "2", "role=web")]
    with pytest.raises(
        InputError,
        match="what hello.port is on h1: label rack=7 says 1, label role=web says 2; set it on the host, or unset one",
    ):
        origins(HERE, "hello", rows)
    alike = [setting("port", "1", "rack=7"), setting("port", "1", "role=web")]
    assert origins(HERE, "hello", alike)["port"] == Origin("1", "label rack=7")
    own = [setting("colour", "1", "rack=7"), setting("colour", "2", "role=web")]
    assert origins(HERE, "hello", own) == {"colour": Origin("red", "host")}


def test_a_label_is_one_key_and_its_value() -> None:
    """Or nothing: every host of the environment."""
    assert [check_label(text) for text in ("", "rack=7")] == ["", "rack=7"]
    for text in ("rack", "=7", "rack=", "ra ck=7"):
        with pytest.raises(InputError, match="label"):
            check_label(text)
