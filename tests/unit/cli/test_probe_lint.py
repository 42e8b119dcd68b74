"""What `towpath release lint` says of probes: types, and probes that can never pass, each with its line."""

import json
from pathlib import Path

import pytest

from towpath_cli.lint import check_tree
from towpath_cli.releasefile import ReleaseFileError, parse_release_file, schema_json
from towpath_cli.tree import read_tree

HEAD = """app: hello
version: '1'
artifact: app
install: {kind: tree}
run: {kind: process, command: [bin/serve]}
parameters: {port: {type: port, default: 8080}}
"""


def problems(tmp_path: Path, text: str, head: str = HEAD) -> list[str]:
    """Return what lint says of a release with these lines, beside a tree with bin/serve and bin/data."""
    (tmp_path / "app" / "bin").mkdir(parents=True)
    (tmp_path / "app" / "bin" / "serve").write_text("#!/bin/sh\n")
    (tmp_path / "app" / "bin" / "serve").chmod(0o755)
    (tmp_path / "app" / "bin" / "data").write_text("")
    try:
        file = parse_release_file(head + text, tmp_path / "towpath.yaml")
    except ReleaseFileError as error:
        return list(error.problems)
    tree = read_tree(file.artifact_path)
    return check_tree(file, file.release(version=None, counter=1, artifact=tree.artifact), tree)


GOOD = """probes:
  - http: {url: "https://127.0.0.1:${port}/", status: 204, verify: false}
  - tcp: {port: "${port}"}
  - grpc: {port: 50051, service: shop}
  - exec: {command: bin/serve --check}
  - process: {max_rss: 400MiB, max_restarts: 2}
  - unit: {unit: nginx.service}
  - log: {pattern: "ready on ${port}", forbid: '^Traceback'}
  - fresh: {path: data/beat, max_age: 90s, min_size: 1KiB}
  - disk: {free: 2GiB, path: /srv}
  - memory: {available: 500MiB}
  - prometheus: {url: "http://127.0.0.1:${port}/metrics", metric: errors_total, labels: ["code=500"], min: 0, max: 0.5}
health: {healthy_for: 10s, deadline: 1m}
"""


def test_every_kind_can_be_written_as_a_person_would(tmp_path: Path) -> None:
    """Durations, sizes, decimals, parameters and lists as texts; nothing is found where nothing is wrong."""
    assert problems(tmp_path, GOOD) == []
    release = parse_release_file(HEAD + GOOD, tmp_path / "towpath.yaml")
    made = release.release(version=None, counter=1, artifact=read_tree(release.artifact_path).artifact)
    options = {probe.kind: dict(probe.options) for probe in made.probes}
    assert options["fresh"] == {"path": "data/beat", "max_age": 90_000, "min_size": 1024}
    assert options["prometheus"]["labels"] == ("code=500",)
    assert (options["prometheus"]["min"], options["prometheus"]["max"]) == ("0", "0.5")
    assert options["http"]["verify"] is False


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("probes:\n  - http:\n      status: 200\n      url: 127.0.0.1:80\n", 10, "probes[0].http.url: cannot ask"),
        ("probes:\n  - http: {url: 'http:///healthz'}\n", 8, "write http://HOST"),
        ("probes:\n  - tcp: {port: 1}\n  - unit:\n      unit: nginx\n", 10, "probes[1].unit.unit: 'nginx' is no unit"),
        ("probes:\n  - log:\n      forbid: '('\n", 9, "cannot use the pattern '('"),
        ("probes:\n  - log: {}\n", 8, "it looks for nothing"),
        (
            "probes:\n  - prometheus:\n      url: http://a/\n      metric: up\n      min: 2\n      max: 1\n",
            11,
            "no number is at least 2 and at most 1",
        ),
        ("probes:\n  - exec:\n      command: bin/gone\n", 9, "the tree has no file 'bin/gone'"),
        ("probes:\n  - exec:\n      command: bin/data\n", 9, "not executable in the tree"),
        ("probes:\n  - exec:\n      command: ['${port}']\n", 9, "may not be a parameter"),
        (
            "health: {deadline: 30s}\nprobes:\n  - tcp:\n      port: 80\n      successes: 30\n",
            11,
            "30 successes 1s apart and then 10s of health take 39s; the health deadline is 30s",
        ),
        (
            "health: {deadline: 30s}\nprobes:\n  - tcp:\n      port: 80\n      timeout: 45s\n",
            11,
            "a check may take 45s, longer than the health deadline of 30s",
        ),
        ("probes:\n  - fresh:\n      path: x\n", 8, "key 'max_age' is missing"),
        ("probes:\n  - prometheus: {url: http://a/, metric: up, max: many}\n", 8, "a number is expected, such as 0.95"),
        ("probes:\n  - disk: {fre: 1GiB}\n", 8, "did you mean 'free'?"),
    ],
)
def test_a_probe_that_can_never_pass_is_named_with_its_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    """Addresses, patterns, names, numbers, programs and clocks: the first problem says what and where."""
    found = problems(tmp_path, text)
    (problem,) = [one for one in found if words in one]
    assert f"line {line}:" in problem


def test_all_impossible_probes_are_found_at_once(tmp_path: Path) -> None:
    """A publisher mends them in one go."""
    text = "probes:\n  - http: {url: x, status: 99}\n  - log: {pattern: '[', forbid: '('}\n"
    assert len(problems(tmp_path, text)) == 4


def test_an_app_without_a_log_of_its_own_needs_a_path(tmp_path: Path) -> None:
    """Where nothing runs, nothing is logged that the agent keeps."""
    head = HEAD.replace("{kind: process, command: [bin/serve]}", "{kind: none}")
    (problem,) = problems(tmp_path, "probes:\n  - log: {pattern: ready}\n", head)
    assert "give the path of one" in problem


def test_the_schema_for_editors_knows_every_kind() -> None:
    """An editor completes kinds and options, and a limit may be a number there."""
    schema = json.loads(schema_json())
    known = schema["$defs"]["ProbeItem"]["properties"]
    assert {"grpc", "unit", "log", "fresh", "disk", "memory", "prometheus"} <= set(known)
    limit = schema["$defs"]["PrometheusProbe"]["properties"]["max"]
    assert {"type": "number"} in limit["anyOf"]
