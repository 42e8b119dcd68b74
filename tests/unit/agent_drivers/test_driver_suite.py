"""`driver test`: a good driver passes every case; each way to be bad fails the case that is about it."""

import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from towpath.errors import InputError
from towpath_agent.cli import main
from towpath_agent.drivertest import kills, suite
from towpath_agent.drivertest.place import Place, Subject
from towpath_agent.installers.driver import Verb
from towpath_agent.system.clock import pause

EXAMPLE = Path(__file__).parents[3] / "examples" / "drivers" / "webroot"

# A good driver: copies one file of the release to the folder that its option names, and remembers where.
GOOD = f"""#!{sys.executable} -ISB
import json, os, sys, time
from pathlib import Path

try:
    request = json.load(sys.stdin)
    if request["protocol"] != 1:
        raise ValueError("protocol 1 only")
    verb = request["verb"]
    source, page = Path(request["folder"], "index.html"), Path(request["options"]["root"], "page")
    memory = Path(request["state"], "pages")
    pages = memory.read_text().split() if memory.exists() else []
    def remember(pages):
        fresh = memory.with_suffix(".new")
        fresh.write_text(" ".join(pages))
        fresh.rename(memory)
    if sys.argv[1] != verb:
        raise ValueError("two verbs")
    if verb == "check":
        pass
    elif verb == "switch":
        remember([*pages, str(page)])
        fresh = page.with_suffix(".new")
        fresh.write_bytes(source.read_bytes())
        fresh.rename(page)
        for old in set(pages) - {{str(page)}}:
            Path(old).unlink(missing_ok=True)
            Path(old).with_suffix(".new").unlink(missing_ok=True)
        remember([str(page)])
    elif verb == "unswitch":
        for old in pages:
            Path(old).unlink(missing_ok=True)
            Path(old).with_suffix(".new").unlink(missing_ok=True)
        remember([])
    elif verb == "verify":
        print(json.dumps({{"type": "result", "ok": page.is_file() and page.read_bytes() == source.read_bytes()}}))
    else:
        raise ValueError("unknown verb")
except (ValueError, KeyError, TypeError, OSError) as error:
    print(f"cannot: {{error!r}}", file=sys.stderr)
    sys.exit(1)
"""

# name: (what is replaced in GOOD, by what, the case that must fail, what it says)
BAD: dict[str, tuple[str, str, str, str]] = {
    "writes outside the folder of the test only": (
        'Path(request["options"]["root"], "page")',
        'Path(request["state"], "page")',
        "first_install",
        "nothing changed in the folder of the test",
    ),
    "hangs": ('elif verb == "switch":\n', 'elif verb == "switch":\n        time.sleep(600)\n', "first_install", "did not end"),
    "fails": ("fresh.rename(page)", "fresh.rename(page); sys.exit(3)", "first_install", "it exited 3"),
    "chatters": ("remember([str(page)])", 'print("done")', "first_install", "no line of the protocol"),
    "asks for ever to try again": ("remember([str(page)])", "sys.exit(75)", "first_install", "try again later"),
    "leaves a process behind": (
        "remember([str(page)])",
        # Popen returns when the program runs in its session: before, the end of the call would take it along.
        'remember([str(page)]); __import__("subprocess").Popen(["sleep", "600"], start_new_session=True)',
        "first_install",
        "left 1 processes behind",
    ),
    "changes the release": (
        "remember([str(page)])",
        'remember([str(page)]); source.with_name("mine").touch()',
        "first_install",
        "changed the release's own folder",
    ),
    "does what it should only check": ("    pass\n", "    page.touch()\n", "check", "check put something in place"),
    "says yes to everything": (
        "page.is_file() and page.read_bytes() == source.read_bytes()",
        "True",
        "nothing_there",
        "though nothing is in place",
    ),
    "does not look at the bytes": ("page.read_bytes() == source.read_bytes()", "True", "damage", "was changed"),
    "mends while it looks": (
        'print(json.dumps({"type": "result", "ok": page.is_file()',
        'page.exists() or page.touch()\n        print(json.dumps({"type": "result", "ok": page.is_file()',
        "nothing_there",
        "verify changed what is in place",
    ),
    "appends": (
        "fresh.write_bytes(source.read_bytes())",
        'fresh.write_bytes((page.read_bytes() if page.exists() else b"") + source.read_bytes())',
        "again",
        "the second switch did something else",
    ),
    "keeps the first": (
        "fresh.rename(page)",
        "page.exists() or fresh.rename(page); fresh.unlink(missing_ok=True)",
        "upgrade",
        "nothing changed",
    ),
    "forgets what it put there": (
        'Path(old).unlink(missing_ok=True)\n            Path(old).with_suffix(".new").unlink(missing_ok=True)\n        remember([])',
        "pass\n        remember([])",
        "removal",
        "something is left",
    ),
    "takes all away": (
        "for old in pages:\n            Path(old).unlink(missing_ok=True)",
        "for old in page.parent.iterdir():\n            Path(old).unlink(missing_ok=True)",
        "removal_of_nothing",
        "somebody-elses is gone",
    ),
    "cannot remove twice": ("for old in pages:", "for old in pages or [str(page.parent / 'none' / 'x')]:\n            os.stat(old)", "removal", "it exited 1"),
    "leaves the old place": ("for old in set(pages) - {str(page)}:", "for old in []:", "moved", "still at the old place"),
    "takes garbage for a removal": ("sys.exit(1)\n", "sys.exit(0)\n", "garbage", "exited 0"),
    "wants to see garbage again": ("sys.exit(1)\n", "sys.exit(75)\n", "garbage", "which cannot help"),
    "gives no reason": ('print(f"cannot: {error!r}", file=sys.stderr)', "pass", "garbage", "no reason"),
    "takes any verb": ('        raise ValueError("unknown verb")', "        pass", "unknown_verb", "exited 0"),
    "takes any protocol": ('if request["protocol"] != 1:', "if False:", "unknown_protocol", "exited 0"),
    "takes no field that it does not know": (
        'verb = request["verb"]',
        'verb = request["verb"]\n    if len(request) > 10: raise ValueError("too many fields")',
        "unknown_fields",
        "one more field",
    ),
    "locks itself out when killed": (
        "fresh = page.with_suffix",
        'os.mkdir(memory.parent / "lock"); time.sleep(0.15); os.rmdir(memory.parent / "lock")\n        fresh = page.with_suffix',
        "killed_first_install",
        "File exists",
    ),
    "writes in place": (
        'fresh = page.with_suffix(".new")\n        fresh.write_bytes(source.read_bytes())\n        fresh.rename(page)',
        "if not page.exists() or len(page.read_bytes()) < 2:\n            page.write_bytes(source.read_bytes()[:2]); time.sleep(0.15)\n            page.write_bytes(source.read_bytes())",
        "killed_first_install",
        "killed after",
    ),
    "remembers too late": (
        "remember([*pages, str(page)])",
        "time.sleep(0)",
        "killed_first_install",
        "asked to go back",
    ),
}  # fmt: skip


def driver(folder: Path, text: str) -> Path:
    path = folder / "driver"
    path.write_text(text)
    path.chmod(0o755)
    return path


def judge(path: Path, *only: str, times: int = 4, timeout_s: float = 20.0) -> dict[str, suite.CaseResult]:
    subject = Subject(path, {"root": "{outside}"}, {}, timeout_s)
    return {result.name: result for result in suite.run(subject, kills_per_move=times, seed=1, only=only)}


def test_a_good_driver_passes_every_case(tmp_path: Path) -> None:
    """All cases are run, none is passed over, and the driver was really hit while it worked."""
    results = judge(driver(tmp_path, GOOD))
    assert [(r.name, r.detail) for r in results.values() if r.status != "passed"] == []
    assert list(results) == suite.names()
    assert all("while at work" in result.detail for name, result in results.items() if name.startswith("killed_"))


def test_the_example_passes_every_case() -> None:
    """What the documentation shows keeps the protocol, with a handful of kills for each move."""
    results = judge(EXAMPLE)
    assert [(r.name, r.detail) for r in results.values() if r.status != "passed"] == []


def test_kills_find_a_driver_at_work_whose_first_call_was_slow_by_chance() -> None:
    """A busy machine must not make every kill come too late: moments that missed come sooner the next time."""

    class Quick:
        """A place whose first call took two hundred times as long as each later one."""

        def ask(self, *_: object) -> None:
            pause(0.4)

        def unswitch(self, _version: str) -> None:
            """Go back: nothing to do."""

        def seen(self) -> dict[str, str]:
            return {}

        def kill(self, _verb: Verb, _version: str, _previous: str | None, after_s: float) -> bool:
            return after_s < 0.002

        def require_same(self, *_: object) -> None:
            """Nothing was harmed."""

    first = next(move for move in kills.MOVES if move.name == "killed_first_install")
    said = kills.run(first, lambda: cast("Place", Quick()), 9, random.Random(2))
    assert said.endswith("times while at work")


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_driver_fails_the_case_that_is_about_its_fault(tmp_path: Path, fault: str) -> None:
    """Each fault is found, by the case that is named for it, with a reason that names it."""
    old, new, case, reason = BAD[fault]
    assert old in GOOD
    text = GOOD.replace(old, new)
    if fault == "remembers too late":  # after the file is there, and with time to be killed in between
        text = text.replace("fresh.rename(page)", "fresh.rename(page); time.sleep(0.2)")
    timeout_s = 1.5 if fault in ("hangs", "asks for ever to try again") else 20.0
    results = judge(driver(tmp_path, text), case, times=12, timeout_s=timeout_s)
    assert results[case].status == "failed"
    assert reason in results[case].detail
    if case != "first_install":
        assert results["first_install"].status == "passed"


def test_without_a_first_install_the_other_cases_are_not_run(tmp_path: Path) -> None:
    """What builds on a case that failed would only say the same again."""
    results = judge(driver(tmp_path, "#!/bin/sh\nexit 1\n"))
    assert results.pop("first_install").status == "failed"
    assert {result.status for result in results.values()} == {"not run"}


def test_own_trees_are_taken_for_the_two_releases(tmp_path: Path) -> None:
    """A driver that needs more than the samples hold is tested with the author's files; one tree is not enough."""
    trees = []
    for number in ("1", "2"):
        tree = tmp_path / number
        tree.mkdir()
        (tree / "index.html").write_text(number)
        (tree / "wanted").write_text(number)
        trees.append(tree)
    text = GOOD.replace('"index.html"', '"wanted"')
    path = driver(tmp_path, text)
    subject = suite.subject_of(path, {"root": "{outside}"}, trees, 20.0)
    assert {r.status for r in suite.run(subject, kills_per_move=0, seed=1, only=("upgrade", "revert"))} == {"passed"}
    with pytest.raises(InputError, match="give --tree twice"):
        suite.subject_of(path, {}, trees[:1], 20.0)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command line and returns exit code, stdout, stderr."""

    def call(*words: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["driver", "test", *map(str, words)])
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


def test_the_command_prints_a_table_and_says_no_by_its_exit_code(run: Run, tmp_path: Path) -> None:
    """Sentences for people, the seed to run it again, exit 0 only where nothing failed."""
    path = driver(tmp_path, GOOD)
    code, out, _ = run(path, "--option", "root={outside}", "--case", "again", "--seed", "7")
    assert code == 0
    assert out.splitlines() == [
        f"driver {path}, seed 7",
        "ok      A first install puts the release in place, and verify agrees",
        "ok      A switch that is repeated changes nothing",
        "2 passed, 0 failed, 0 not run",
    ]
    path.write_text("#!/bin/sh\necho 'no such luck' >&2\nexit 1\n")
    code, out, _ = run(path, "--option", "root={outside}", "--case", "again")
    assert code == 1
    assert "FAILED  A first install" in out
    assert "it exited 1: no such luck" in out


def test_the_command_prints_json(run: Run, tmp_path: Path) -> None:
    """Machines get every case with its name, sentence, status, detail and time."""
    path = driver(tmp_path, GOOD)
    code, out, _ = run(path, "--option", "root={outside}", "--case", "killed_removal", "--kills", "0", "-o", "json")
    table = json.loads(out)
    assert code == 0
    assert table["ok"] is True
    assert [(case["name"], case["status"]) for case in table["cases"]] == [
        ("first_install", "passed"),
        ("killed_removal", "not run"),
    ]
    assert set(table["cases"][0]) == {"name", "sentence", "status", "detail", "took_ms"}


def test_mistakes_are_one_line(run: Run, tmp_path: Path) -> None:
    """A wrong option, an unknown case or a file that is no program is said at once."""
    path = driver(tmp_path, GOOD)
    for words, reason in (
        ([path, "--option", "root"], "must hold NAME=VALUE"),
        ([path, "--case", "nothing"], "known are first_install"),
        ([path, "--timeout", "0s"], "a call needs some time"),
        ([path, "--tree", tmp_path], "give --tree twice"),
        ([tmp_path / "none"], "does not exist"),
    ):
        code, out, err = run(*words)
        assert (code in (1, 2), out) == (True, "")
        assert reason in err
        assert err.count("\n") == 1
    path.chmod(0o644)
    assert "is not executable" in run(path)[2]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_place_from_which_an_agent_would_not_run_it_is_a_warning(run: Run, tmp_path: Path) -> None:
    """An author's own folder may be open to others: the driver is tested all the same, and told."""
    path = driver(tmp_path, GOOD)
    path.chmod(0o777)
    code, out, _ = run(path, "--option", "root={outside}", "--case", "again")
    assert code == 0
    assert "warning: an agent would not run it from here: cannot use driver" in out
