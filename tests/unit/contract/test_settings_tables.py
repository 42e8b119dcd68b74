"""Settings files: known keys as texts, strangers with the nearest known key; what cannot be read is named by its place."""

import pytest

from towpath.errors import InputError
from towpath.quantity import parse_size
from towpath.settings import check_settings, parsed, read

KNOWN = ("agent_listen", "server", "interval", "quiet")


def test_values_become_texts_and_dashes_underscores() -> None:
    """Texts, numbers and truth values become the texts that flags would have had."""
    table = {"agent-listen": ":7443", "server": "a:1", "interval": 5, "quiet": True}
    assert check_settings(table, KNOWN, "agent.toml") == {
        "agent_listen": ":7443",
        "server": "a:1",
        "interval": "5",
        "quiet": "true",
    }
    assert check_settings({"quiet": False, "interval": 1.5}, KNOWN, "f") == {"quiet": "false", "interval": "1.5"}


def test_a_stranger_is_named_with_its_file_and_the_nearest_key() -> None:
    """A typing error shows what was meant."""
    with pytest.raises(
        InputError, match="cannot use agent.toml: unknown key 'agent-lisen'; did you mean 'agent_listen'"
    ):
        check_settings({"agent-lisen": ""}, KNOWN, "agent.toml")


def test_a_stranger_without_a_neighbour_shows_all_keys() -> None:
    """Where nothing is near, every known key is listed in order."""
    with pytest.raises(InputError, match="unknown key 'zzz'; known are agent_listen, interval, quiet, server"):
        check_settings({"zzz": ""}, KNOWN, "agent.toml")


@pytest.mark.parametrize("value", [["a"], {"a": 1}, None])
def test_tables_and_lists_are_no_settings(value: object) -> None:
    """A setting is one text, number or truth value."""
    with pytest.raises(InputError, match="cannot use agent.toml: 'server' must be one text"):
        check_settings({"server": value}, KNOWN, "agent.toml")


def test_a_setting_is_read_and_an_error_names_its_key_and_file() -> None:
    """The key is named as it is written there; what is not set is no error."""
    settings = check_settings({"agent-listen": "2KiB", "interval": "much"}, KNOWN, "/etc/towpath/agent.toml")
    assert read(settings, "agent_listen", parse_size) == 2048
    assert read(settings, "server", parse_size) is None
    with pytest.raises(
        InputError, match="cannot use interval in /etc/towpath/agent.toml: cannot read 'much' as a size"
    ):
        read(settings, "interval", parse_size)
    assert settings["agent_listen"].place == "agent-listen in /etc/towpath/agent.toml"


def test_what_stands_elsewhere_is_named_the_same_way() -> None:
    """A flag, for one."""
    assert parsed("--space", parse_size, "1") == 1
    with pytest.raises(InputError, match="^cannot use --space: cannot read 'x' as a size: write a number and KiB"):
        parsed("--space", parse_size, "x")
