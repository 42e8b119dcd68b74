"""The release file: what it means, and that every fault names its line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import InputError
from towpath.kinds import INSTALLERS, PROBES, SERVICES
from towpath.parameters import Parameter
from towpath.release import Artifact, HealthPolicy, Hook, Install, Probe, Release, Run
from towpath_cli.releasefile import ReleaseFile, ReleaseFileError, load_release_file, parse_release_file, schema_json

ARTIFACT = Artifact(bytes(32), 10, 100)

DESIGN = """\
app: checkout
version: 2.4.1                    # or --version from CI
artifact: ./dist
install: {kind: tree, shared: [data/, config.toml], keep: 5}
run:     {kind: systemd, unit: checkout.service}
hooks:   {prepare: bin/migrate, timeout: 120s}
probes:
  - http: {url: "http://127.0.0.1:${port}/healthz", status: 200}
  - process: {max_rss: 400MiB}
health:  {healthy_for: 10s, deadline: 5m, probation: 10m}
parameters: {port: {type: int, default: 8080}}
requires: {disk: 500MiB, apps: [redis]}
"""

SMALL = """\
app: hello
artifact: app
install: {kind: tree}
run: {kind: process, command: [bin/serve, "--port", "${port}"]}
parameters:
  port: {type: port, default: 8080}
"""


def parse(text: str) -> ReleaseFile:
    return parse_release_file(text, Path("apps/towpath.yaml"))


def release(text: str, version: str | None = "1.0") -> Release:
    return parse(text).release(version=version, counter=1, artifact=ARTIFACT)


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ReleaseFileError) as caught:
        parse(text)
    return caught.value.problems


def test_the_file_of_the_design() -> None:
    """The documented example becomes exactly this release."""
    assert release(DESIGN, None) == Release(
        app="checkout",
        version="2.4.1",
        counter=1,
        artifact=ARTIFACT,
        install=Install("tree", {"shared": ("data/", "config.toml")}, keep=5),
        run=Run("systemd", {"unit": "checkout.service"}),
        hooks=(Hook("prepare", ("bin/migrate",), 120_000),),
        probes=(
            Probe("http", {"url": "http://127.0.0.1:${port}/healthz", "status": 200}),
            Probe("process", {"max_rss": 400 * 2**20}),
        ),
        health=HealthPolicy(10_000, 300_000, 600_000),
        parameters=(Parameter("port", "int", 8080),),
        requires_disk_bytes=500 * 2**20,
        requires_apps=("redis",),
    )


def test_a_set_is_critical() -> None:
    """Who moves together is signed, and an agent that does not know sets must refuse the release."""
    made = release(SMALL + "requires: {together: [worker, db]}\n")
    assert (made.together, made.critical) == (("worker", "db"), ("together-1",))
    assert release(SMALL).critical == ()


def test_artifact_stands_beside_the_file() -> None:
    """The artifact's path is relative to the file's folder, not to where the command is typed."""
    assert parse(SMALL).artifact_path == Path("apps/app")


def test_version_of_the_command_is_stronger() -> None:
    """--version wins over the file; without either, publishing says what to do."""
    assert release(DESIGN, "3.0").version == "3.0"
    with pytest.raises(InputError, match="--version"):
        release(SMALL, None)


def test_a_version_keeps_its_digits() -> None:
    """`version: 1.10` is the version 1.10 and not 1.1."""
    assert release(SMALL + "version: 1.10\n", None).version == "1.10"


def test_environment_of_the_process() -> None:
    """Values under env are texts as written; an empty one is the empty text."""
    made = release(SMALL.replace("command:", "env: {A: 1, DEBUG: , YES: yes}, stop_timeout: 3s, command:"))
    assert made.run.env == {"A": "1", "DEBUG": "", "YES": "yes"}
    assert made.run.stop_timeout_ms == 3_000


def test_hooks_are_split_like_a_shell_would() -> None:
    """A hook's text is split into words with quotes; a list is taken as it is; one timeout is for all."""
    made = release(SMALL + "hooks: {prepare: \"bin/m --x 'a b'\", post_start: [bin/s, a b], timeout: 5s}\n")
    assert made.hooks == (Hook("prepare", ("bin/m", "--x", "a b"), 5_000), Hook("post_start", ("bin/s", "a b"), 5_000))


def test_probe_keys() -> None:
    """interval, timeout, successes and failures are of every probe; the rest are its kind's options in their units."""
    made = release(
        SMALL
        + "probes:\n"
        + "  - tcp: {port: '${port}', interval: 250ms, timeout: 1s, successes: 2, failures: 4}\n"
        + "  - exec: {command: bin/check --deep}\n"
        + "  - process:\n"
    )
    assert made.probes == (
        Probe("tcp", {"port": "${port}"}, 250, 1_000, 2, 4),
        Probe("exec", {"command": ("bin/check", "--deep")}),
        Probe("process", {}),
    )


def test_file_installer_takes_an_octal_mode() -> None:
    """A mode is read as chmod reads it."""
    text = SMALL.replace("{kind: tree}", "{kind: file, path: /etc/motd, mode: 0640}")
    text = text.replace('{kind: process, command: [bin/serve, "--port", "${port}"]}', "{kind: none}")
    assert release(text).install.options == {"path": "/etc/motd", "mode": 0o640}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (SMALL + "probse: []\n", 7, ["'probse'", "did you mean 'probes'?"]),
        (SMALL.replace("kind: tree", "kind: tree, sharde: []"), 3, ["install", "'sharde'", "'shared'"]),
        (SMALL.replace("default: 8080", "defautl: 8080"), 6, ["'defautl'", "'default'"]),
        (SMALL + "hooks:\n  prepar: x\n", 8, ["'prepar'", "'prepare'"]),
        (SMALL + "probes:\n  - http:\n      url: x\n      stauts: 200\n", 10, ["'stauts'", "'status'"]),
        (SMALL + "probes:\n  - htpp: {}\n", 8, ["'htpp'", "'http'"]),
        (SMALL + "health: {healthy: 1s}\n", 7, ["'healthy'", "'healthy_for'"]),
        (SMALL + "zzz: 1\n", 7, ["unknown key 'zzz'", "known are app"]),
    ],
)
def test_unknown_keys_name_line_and_nearest_key(text: str, line: int, words: list[str]) -> None:
    """An unknown key is an error that names file, line and the nearest key that is known."""
    (problem,) = problems(text)
    assert f"apps/towpath.yaml, line {line}:" in problem
    assert all(word in problem for word in words), problem


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (SMALL.replace("app: hello", "app: Hello"), 1, ["'Hello'", "app name"]),
        (SMALL + "version: a/b\n", 7, ["version"]),
        (SMALL.replace("kind: tree", "kind: tre"), 3, ["install", "'tre'", "tree, file"]),
        (SMALL.replace("{kind: tree}", "tree"), 3, ["kind"]),
        (SMALL.replace("kind: process, ", ""), 4, ["run", "kind"]),
        (SMALL.replace("kind: tree", "kind: tree, keep: many"), 3, ["install.keep", "'many'"]),
        (SMALL.replace("kind: tree", "kind: tree, keep: -1"), 3, ["install.keep", "at least 0"]),
        (SMALL.replace("kind: tree", "kind: tree, shared: data"), 3, ["install.shared", "list"]),
        (SMALL.replace("kind: tree", "kind: file, path: x, mode: 4755"), 3, ["install.mode", "octal"]),
        (
            SMALL.replace("kind: tree", "kind: file, path: x, existing: kep"),
            3,
            ["install.existing", "one of refuse", "'kep'"],
        ),
        (SMALL.replace("kind: tree", "kind: exec, driver: d, options: [a]"), 3, ["install.options", "a mapping"]),
        (
            SMALL.replace("kind: tree", "kind: exec, driver: d, options: {a: '${x}'}"),
            3,
            ["${x}", "no declared parameter"],
        ),
        (SMALL.replace("kind: tree", "kind: tree, keep_bytes: much"), 3, ["install.keep_bytes", "'much'"]),
        (SMALL.replace("port}", "prt}"), 4, ["${prt}", "parameters"]),
        (SMALL.replace("command:", "env: {TOWPATH_APP: x}, command:"), 4, ["TOWPATH_"]),
        (SMALL.replace("command:", "env: {'a b': x}, command:"), 4, ["'a b'"]),
        (SMALL.replace("type: port", "type: prot"), 6, ["'prot'"]),
        (SMALL.replace("default: 8080", "default: 80000"), 6, ["80000"]),
        (SMALL + 'hooks: {prepare: "a \'b"}\n', 7, ["hooks.prepare"]),
        (SMALL + "hooks: {prepare: []}\n", 7, ["hooks.prepare"]),
        (SMALL + "hooks:\n  timeout: soon\n", 8, ["hooks.timeout", "'soon'"]),
        (SMALL + "hooks:\n  timeout: 2h\n", 8, ["hooks.timeout", "at most"]),
        (SMALL + "probes:\n  - tcp: {}\n", 8, ["probes[0].tcp", "'port' is missing"]),
        (SMALL + "probes:\n  - tcp:\n      port: http\n", 9, ["probes[0].tcp.port", "'http'"]),
        (SMALL + "probes:\n  - process: {max_rss: lots}\n", 8, ["max_rss", "'lots'"]),
        (SMALL + "probes:\n  - process: {interval: 0s}\n", 8, ["interval"]),
        (SMALL + "probes:\n  - tcp: {port: 1}\n    exec: {command: x}\n", 8, ["one kind"]),
        (SMALL + "probes:\n  - {}\n", 8, ["one kind"]),
        (SMALL + "probes: {http: {url: x}}\n", 7, ["list"]),
        (SMALL + "health:\n  healthy_for: 10m\n", 8, ["shorter than deadline"]),
        (SMALL + "requires: {disk: big}\n", 7, ["requires.disk", "'big'"]),
        (SMALL + "requires: {apps: [Redis]}\n", 7, ["'Redis'"]),
        (SMALL + "environments: [Prod]\n", 7, ["'Prod'"]),
        (SMALL + "rollback_floor: -1\n", 7, ["rollback_floor"]),
        (SMALL.replace("artifact: app\n", ""), 1, ["'artifact' is missing"]),
        (SMALL.replace("artifact: app", "artifact:"), 2, ["artifact"]),
        ("- a\n- b\n", 1, ["mapping"]),
        ("hello\n", 1, ["mapping"]),
    ],
)
def test_wrong_values_name_their_line(text: str, line: int, words: list[str]) -> None:
    """Every wrong value is an error that names file, line, key and what would be right."""
    problem = problems(text)[0]
    assert f"apps/towpath.yaml, line {line}:" in problem, problem
    assert all(word in problem for word in words), problem


def test_a_driver_takes_options_of_its_own() -> None:
    """What a driver of the host wants to know is a mapping; what the kind itself takes stands beside it."""
    text = SMALL.replace("kind: tree", "kind: exec, driver: webroot, options: {root: /srv, depth: 2}, timeout: 5s")
    wanted = {"driver": "webroot", "options": ("depth=2", "root=/srv"), "timeout": 5000}
    assert release(text).install.options == wanted


def test_releases_on_a_host_are_limited_by_number_and_bytes() -> None:
    """`keep` counts releases, `keep_bytes` their bytes; neither is an option of a driver."""
    install = release(SMALL.replace("kind: tree", "kind: tree, keep: 9, keep_bytes: 2MiB")).install
    assert (install.keep, install.keep_bytes, install.options) == (9, 2 * 2**20, {})


def test_all_problems_are_found_at_once() -> None:
    """A file with several faults lists them all, an unknown key before the key that it should have been."""
    found = problems("app: Hello\nartefact: x\ninstall: {kind: tree}\nrun: {kind: none, foo: 1}\nrequires: {disk: x}\n")
    assert [problem.split(": ")[0].rpartition(" ")[2] for problem in found] == ["1", "2", "4", "5", "1"]
    assert "'artifact' is missing" in found[-1]
    with pytest.raises(ReleaseFileError, match="4 more"):
        parse("app: Hello\nartefact: x\ninstall: {kind: tree}\nrun: {kind: none, foo: 1}\nrequires: {disk: x}\n")


def test_every_kind_of_the_contract_can_be_written() -> None:
    """A kind that is added to the contract's tables can be used in a release file without a change here."""
    schema = json.loads(schema_json())
    names = set(schema["$defs"])
    for kinds, suffix in ((INSTALLERS, "Install"), (SERVICES, "Run"), (PROBES, "Probe")):
        for kind, options in kinds.items():
            assert f"{kind.title()}{suffix}" in names
            assert set(options) <= set(schema["$defs"][f"{kind.title()}{suffix}"]["properties"])


def test_schema_closes_every_section() -> None:
    """Editors flag an unknown key too: no section of the schema takes additional keys."""
    schema = json.loads(schema_json())
    sections = [schema, *schema["$defs"].values()]
    assert all(section["additionalProperties"] is False for section in sections if "properties" in section)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A missing or binary file is one line that names it."""
    with pytest.raises(InputError, match=r"towpath\.yaml: No such file"):
        load_release_file(tmp_path / "towpath.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        load_release_file(tmp_path / "binary")
    with pytest.raises(InputError, match=r"it is a folder; give the file: .*/towpath\.yaml"):
        load_release_file(tmp_path)


def refusal(text: str) -> str:
    """Return why a text is no release file, or nothing."""
    try:
        parse(text)
    except InputError as error:
        return str(error)
    return ""


@given(st.text(max_size=200))
def test_no_text_crashes_the_reader(text: str) -> None:
    """Whatever a file holds, the answer is a release file or an InputError in one line."""
    assert "\n" not in refusal(text)


@given(st.lists(st.sampled_from(SMALL.splitlines() + DESIGN.splitlines()), max_size=14))
def test_shuffled_files_never_crash(lines: list[str]) -> None:
    """Lines of good files in any order are read or refused, never a crash."""
    why = refusal("\n".join(lines))
    assert not why or "towpath.yaml" in why
