"""Twenty real hosts in three environments: a good release, a bad one, a freeze and a dark host, as an operator reads them.

What the hosts do is asked of the apps and of the hosts' own journals; what an operator is told is read from `rollout
watch` (on a terminal of 80 columns, and line by line), `why` and `audit`.
"""

import re
import shlex
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bench import apps, calls
from examples.loopback import Fleet, ask, command
from examples.processes import Daemon, free_ports, wait_for

from fakes.screen import Screen

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900), pytest.mark.xdist_group("crowd")]

HOSTS = {
    "dev": [f"d{n}" for n in range(1, 5)],
    "staging": [f"s{n}" for n in range(1, 6)],
    "production": [f"p{n}" for n in range(1, 12)],
}
ALL = [name for names in HOSTS.values() for name in names]
DARK = "p11"
CANARIES = ["p1", "p2"]
WAIT_S = 240.0
WAVES = ("--waves", "canary,50%,100%", "--max-unavailable", "5")
AT_ONCE = ("--max-unavailable", "5", "--wait", "--timeout", "240s")
TO_STAGING = ("promote", "hello", "--from", "dev", "--to", "staging")
TO_PRODUCTION = ("promote", "hello", "--from", "staging", "--to", "production", *WAVES)


def begin(fleet: Fleet) -> dict[str, int]:
    """Start the server and twenty hosts in their environments, one of them dark; return the ports of their apps."""
    fleet.start_server()
    for environment, names in HOSTS.items():
        token = fleet.token(environment=environment, uses=len(names))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name, token=token: fleet.enrol(name, token), names))
        for name in names:
            if name != DARK:
                fleet.start_agent(name)
    ports = dict(zip(ALL, free_ports(len(ALL)), strict=True))
    with calls.Operator(fleet) as operator:
        for name, port in ports.items():
            operator.set_parameter(name, "hello.port", str(port))
    for name in CANARIES:
        fleet.towpath("host", "set", name, "--label", "wave=canary")
    fleet.wait_online([name for name in ALL if name != DARK], WAIT_S)
    return ports


def release(fleet: Fleet, folder: Path, version: str, change: Callable[[Path], None] = lambda _: None) -> None:
    """Publish hello at `version`, its folder changed by `change`."""
    release_file = apps.hello(folder / "sources" / version, version)
    change(release_file.parent)
    fleet.publish(release_file, version)


def serving(ports: dict[str, int], environment: str) -> dict[str, str]:
    """Return what each app of an environment itself says that it is."""
    answers = {host: ask(ports[host]) for host in HOSTS[environment]}
    return {host: answer.headers["X-Hello-Version"] if answer else "" for host, answer in answers.items()}


def begun(fleet: Fleet, *words: str) -> str:
    """Deploy or promote without waiting; return the rollout's id."""
    return str(fleet.towpath(*words, "-o", "json").json()["assignment"])


def watching(fleet: Fleet, rollout: str) -> Daemon:
    """Watch a rollout line by line."""
    argv = [command("towpath"), "rollout", "watch", rollout]
    daemon = Daemon(argv, log=fleet.root / "logs" / f"watch-{rollout}.log", env=fleet.env(), cwd=fleet.root)
    daemon.start()
    return daemon


def terminal(fleet: Fleet, rollout: str) -> Screen:
    """Watch a rollout on a terminal of 80 columns."""
    return Screen([command("towpath"), "rollout", "watch", rollout], env=fleet.env(), cwd=fleet.root)


def lines_of(watch: Daemon) -> list[str]:
    """Return what a watch said line by line, once it has ended."""
    wait_for("the watch ends", lambda: not watch.running, WAIT_S, watch.output)
    return watch.output().splitlines()


def own_acts(fleet: Fleet, rollout: str) -> list[tuple[str, str]]:
    """Return what the audit log says that the server did with a rollout by itself, without the rollout's name."""
    rows = fleet.towpath("audit", "-o", "json", "--limit", "1000").json()
    mine = [row for row in rows if (row["actor"], row["subject"]) == ("server", f"rollout/{rollout}")]
    return [(row["act"], row["detail"].partition(": ")[2]) for row in mine]


def test_what_an_operator_sees_of_a_good_release_a_bad_one_a_freeze_and_a_dark_host(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Promoted through all; halted in its canary and taken back by itself; delayed until a command; caught up."""
    ports = begin(fleet)
    good_one(fleet, tmp_path, ports)
    bad_one(fleet, tmp_path, ports)
    frozen_one(fleet, tmp_path, ports)
    dark_host(fleet, ports)


def good_one(fleet: Fleet, folder: Path, ports: dict[str, int]) -> None:
    """1.0.0 goes from dev over staging to production, there by waves."""
    release(fleet, folder, "1.0.0")
    fleet.towpath("deploy", "hello", "1.0.0", "--environment", "dev", "--all-hosts", *AT_ONCE, timeout_s=WAIT_S)
    said = fleet.towpath(*TO_STAGING, *AT_ONCE, timeout_s=WAIT_S).out
    assert "hello 1.0.0 is healthy on 5 hosts of staging after " in said
    rollout = begun(fleet, *TO_PRODUCTION)
    watch = watching(fleet, rollout)
    with terminal(fleet, rollout) as screen:
        assert screen.end(WAIT_S) == 0, screen.text
    lines = lines_of(watch)
    assert serving(ports, "dev") == dict.fromkeys(HOSTS["dev"], "1.0.0")
    assert serving(ports, "production") == {**dict.fromkeys(HOSTS["production"], "1.0.0"), DARK: ""}

    assert f"{DARK}: offline: it catches up when it comes back" in lines
    passed = lines.index("wave 1 of 3 (canary): passed, 2 of 2 hosts finished")
    second, third = (
        next(number for number, line in enumerate(lines) if line.startswith(f"wave {wave}: passed, "))
        for wave in ("2 of 3 (50%)", "3 of 3 (100%)")
    )
    moved = [number for number, line in enumerate(lines) if re.match(r"p([3-9]|10): (in flight|healthy)", line)]
    healthy = [number for number, line in enumerate(lines) if re.match(r"p[12]: healthy, Confirmed, runs 1.0.0$", line)]
    assert len(healthy) == 2
    assert max(healthy) < passed < min(moved) < second < third, "\n".join(lines)
    assert [lines[number].endswith(", 1 offline") for number in (second, third)].count(True) == 1
    assert lines[-1].startswith("hello 1.0.0 in production: done, 10 of 11 hosts healthy, 1 offline after ")
    assert any(line.startswith("└── 3 100%") and ": passed," not in line for line in screen.lines), screen.text
    opened = [("rollout.wave", f"wave {n} of 3 ({what}) is open") for n, what in ((2, "50%"), (3, "100%"))]
    assert own_acts(fleet, rollout) == [*opened, ("rollout.done", "rolling to done, 10 of 11 hosts healthy, 1 offline")]


def bad_one(fleet: Fleet, folder: Path, ports: dict[str, int]) -> None:
    """1.1.0 is fine in dev, in staging and on p1, and breaks on p2: production goes back by itself, nobody else moved."""

    def broken_on_p2(source: Path) -> None:
        settings, serve = source / "towpath.yaml", source / "app" / "bin" / "serve"
        settings.write_text(settings.read_text().replace("deadline: 20s", "deadline: 10s"))
        breaks = "(HERE / 'pages' / 'news.txt').write_text('${nothing}'); print('error: the news have no title')"
        guard = f"import sys\nif '{ports['p2']}' in sys.argv:\n    {breaks}\n"
        text = serve.read_text().replace("\nVERSION = ", f"\n{guard}VERSION = ", 1)
        assert guard in text
        serve.write_text(text)

    release(fleet, folder, "1.1.0", broken_on_p2)
    fleet.towpath("deploy", "hello", "1.1.0", "--environment", "dev", "--all-hosts", *AT_ONCE, timeout_s=WAIT_S)
    fleet.towpath(*TO_STAGING, *AT_ONCE, timeout_s=WAIT_S)
    rollout = begun(fleet, *TO_PRODUCTION, "--on-breach", "revert")
    watch = watching(fleet, rollout)
    with terminal(fleet, rollout) as screen:
        assert screen.end(WAIT_S) == 1, screen.text
    lines = lines_of(watch)
    assert serving(ports, "production") == {**dict.fromkeys(HOSTS["production"], "1.0.0"), DARK: ""}
    assert serving(ports, "staging") == dict.fromkeys(HOSTS["staging"], "1.1.0")
    for host in HOSTS["production"]:
        tried = {event["state"] for event in fleet.history(host) if event["version"] == "1.1.0"}
        assert bool(tried) == (host in CANARIES), host
        assert ("Confirmed" in tried) == (host == "p1"), host

    why = "p2: not healthy within the deadline of 10s: probe http does not pass: GET "
    breach = next(line for line in lines if line.startswith("rollout reverting: "))
    assert breach.startswith(f"rollout reverting: 1 of 2 finished hosts failed, 0 allowed: {why}")
    assert any(re.match(r"p2: back, .*1\.1\.0 failed: not healthy within the deadline of 10s", line) for line in lines)
    assert any(re.match(r"p2 \| http failed \d+ times in a row, .*status 500", line) for line in lines), lines
    assert "p2 | error: the news have no title" in lines
    assert any(line.startswith("p1: going back, ") for line in lines)
    assert "p1: back, Confirmed, runs 1.0.0, healthy" in lines
    assert [line for line in lines if re.match(r"p([3-9]|10): (in flight|failed|back)", line)] == []
    assert lines[-1].endswith(f"; see: towpath rollout show {rollout}")

    said = screen.text
    assert said.count("\nhello 1.1.0 in production: ") + said.startswith("hello 1.1.0 in production: ") == 1, said
    assert "2 of 2 back" in said
    assert re.search(r"─ 2 50% .* never opened, \d hosts", said), said
    assert "error: the news have no title" in said
    reason = fleet.towpath("why", "p2", "hello").out
    taken_back = "hello 1.1.0 (generation 6) came after it and is reverted: 1 of 2 finished hosts failed, 0 allowed: p2"
    assert taken_back in reason
    assert f"    $ towpath rollout show {rollout}\n" in reason
    assert "  error: the news have no title\n" in reason
    assert "it reports that it runs 1.0.0, healthy; 1.0.0 is Confirmed, succeeded" in reason
    acts = own_acts(fleet, rollout)
    assert [act for act, _ in acts] == ["rollout.reverting", "rollout.reverted"]
    assert acts[0][1].startswith(f"rolling to reverting, 1 of 2 finished hosts failed, 0 allowed: {why}")


def frozen_one(fleet: Fleet, folder: Path, ports: dict[str, int]) -> None:
    """1.2.0 waits in dev for a freeze, and goes on by itself when somebody has typed what `watch` says."""
    release(fleet, folder, "1.2.0")
    frozen = ("freeze", "add", "--environment", "dev", "--weekly", "Mon-Sun 00:00-24:00 UTC", "--reason", "stocktaking")
    fleet.towpath(*frozen)
    rollout = begun(fleet, "deploy", "hello", "1.2.0", "--environment", "dev", "--all-hosts", *AT_ONCE[:2])
    watch = watching(fleet, rollout)
    with terminal(fleet, rollout) as screen:
        wait_for("the terminal says so", lambda: "stocktaking" in screen.text, WAIT_S, fleet.logs)
        barred = watch.wait_for_line(r"^nobody is let in now: frozen .*: stocktaking; to change it: towpath (.*)$")
        assert serving(ports, "dev") == dict.fromkeys(HOSTS["dev"], "1.1.0")
        why = fleet.towpath("why", "d1", "hello").out
        assert re.search(rf"nobody is let in now: frozen .*: stocktaking\n    \$ towpath {barred[1]}\n", why), why
        fleet.towpath(*shlex.split(barred[1]))
        assert screen.end(WAIT_S) == 0, screen.text
    lines = lines_of(watch)
    assert lines.index("hosts are let in again") < lines.index("d1: healthy, Confirmed, runs 1.2.0")
    assert "nobody is let in" not in screen.text
    assert serving(ports, "dev") == dict.fromkeys(HOSTS["dev"], "1.2.0")
    acts = [row["act"] for row in fleet.towpath("audit", "-o", "json").json()]
    assert acts[-4:] == ["freeze.add", "deploy", "freeze.remove", "rollout.done"]


def dark_host(fleet: Fleet, ports: dict[str, int]) -> None:
    """The host that was away all the time gets what counts now, and never the release that was taken back."""
    why = fleet.towpath("why", DARK, "hello").out
    assert "it is offline: it neither blocks nor counts in a rollout, and catches up later" in why
    assert f"{DARK} is not admitted, offline: it catches up when it comes back" in why
    fleet.start_agent(DARK)

    def caught_up() -> bool:
        rows = fleet.towpath("rollout", "list", "hello", "--environment", "production", "-o", "json").json()
        return [row["reason"] for row in rows if row["version"] == "1.0.0"] == ["11 of 11 hosts healthy"]

    wait_for("it has caught up", caught_up, WAIT_S, fleet.logs)
    assert serving(ports, "production") == dict.fromkeys(HOSTS["production"], "1.0.0")
    assert {event["version"] for event in fleet.history(DARK)} == {"1.0.0"}
    assert "it reports that it runs 1.0.0, healthy" in fleet.towpath("why", DARK, "hello").out
