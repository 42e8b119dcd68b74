"""A handover in the release file: what it becomes, and that what it lacks names its line."""

import json
from pathlib import Path

import pytest

from towpath.errors import InputError
from towpath.handover import FEATURE, Handover
from towpath.release import Artifact, Hook, Release
from towpath_cli.releasefile import ReleaseFileError, load_release_file, parse_release_file, schema_json

EXAMPLE = Path(__file__).parents[3] / "examples" / "handover" / "towpath.yaml"
TEXT = """\
app: shop
artifact: app
install: {kind: tree}
run:
  kind: process
  command: [bin/serve, "--port", "${port}"]
  handover: {ports: [port, spare], drain: 2s}
hooks: {handover: [bin/handover, "${port}"]}
parameters:
  port: {type: port, default: 8081}
  spare: {type: port, default: 8082}
"""


def release(text: str) -> Release:
    file = parse_release_file(text, Path("towpath.yaml"))
    return file.release(version="1", counter=1, artifact=Artifact(bytes(32), 1, 1))


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ReleaseFileError) as caught:
        release(text)
    return caught.value.problems


def test_a_handover_becomes_part_of_the_release_and_is_critical() -> None:
    """Ports, drain and hook are taken; an agent that does not know handovers refuses the release."""
    made = release(TEXT)
    assert made.run.handover == Handover(("port", "spare"), 2_000)
    assert made.hook("handover") == Hook("handover", ("bin/handover", "${port}"))
    assert made.critical == (FEATURE,)
    assert release(TEXT.replace(", drain: 2s", "")).run.handover == Handover(("port", "spare"), 5_000)


def test_a_release_without_a_handover_needs_nothing_critical() -> None:
    """Old agents go on running what they always ran."""
    text = TEXT.replace("  handover: {ports: [port, spare], drain: 2s}\n", "")
    made = release(text.replace('hooks: {handover: [bin/handover, "${port}"]}\n', ""))
    assert (made.run.handover, made.critical) == (None, ())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[port, spare]", "[port, spore]", "line 7: 'spore' is no parameter of type port"),
        ("spare: {type: port,", "spare: {type: int,", "line 7: 'spare' is no parameter of type port"),
        ("hooks: {handover:", "hooks: {prepare:", "line 7: a handover needs hooks: {handover: ...}"),
        ("[port, spare]", "[port]", "line 7:"),
        ("drain: 2s", "drain: 2h", "line 7:"),
        ("drain: 2s", "drian: 2s", "did you mean 'drain'?"),
    ],
)
def test_what_a_handover_lacks_names_its_line(old: str, new: str, said: str) -> None:
    """The file, the line and what would be right."""
    assert any(said in problem for problem in problems(TEXT.replace(old, new)))


def test_a_handover_of_another_service_is_an_unknown_key() -> None:
    """Only a process can be handed over."""
    text = TEXT.replace("kind: process", "kind: none").replace('  command: [bin/serve, "--port", "${port}"]\n', "")
    assert any("unknown key 'handover'" in problem for problem in problems(text))


def test_both_ports_the_same_are_refused_before_anything_is_published() -> None:
    """The contract's own check has the last word."""
    with pytest.raises(InputError, match="port and spare have the same default"):
        release(TEXT.replace("8082", "8081"))


def test_the_example_is_a_release_and_the_schema_knows_handovers() -> None:
    """What the docs show can be published, and editors complete it."""
    load_release_file(EXAMPLE).release(version="1", counter=1, artifact=Artifact(bytes(32), 1, 1))
    definitions = json.loads(schema_json())["$defs"]
    assert set(definitions["HandoverSection"]["properties"]) == {"ports", "drain"}
    assert "handover" in definitions["ProcessRun"]["properties"]
    assert "handover" not in definitions["SystemdRun"]["properties"]
