"""A site that no line reaches: a release on a stick, a reverted one, and the reports that come back. Real processes."""

import os
import re
import shutil
from pathlib import Path

import pytest
from examples.loopback import EXAMPLES, Done, Fleet, ask, clean_env, command, run
from examples.processes import Daemon, free_ports, wait_for

from fakes.line import Line
from towpath.bundle.layout import walk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def release(folder: Path, version: str, ballast: bytes, probe: str = "") -> Path:
    """Make a release of `hello`; return its file. `probe`: a path that the app does not answer."""
    made = folder / version
    shutil.copytree(EXAMPLES / "hello", made)
    (made / "app").mkdir(exist_ok=True)
    (made / "app" / "ballast").write_bytes(ballast)
    if probe:
        text = (made / "towpath.yaml").read_text()
        assert "/healthz" in text
        (made / "towpath.yaml").write_text(text.replace("/healthz", probe))
    return made / "towpath.yaml"


def on_host(fleet: Fleet, name: str, *words: str, code: int | None = 0) -> Done:
    """Run `towpath-agent bundle ...` on a host."""
    argv = [command("towpath-agent"), "bundle", words[0], "--dir", str(fleet.agent_dir(name)), *words[1:]]
    done = run(argv, env=clean_env(), cwd=fleet.root, timeout_s=150)
    assert code is None or done.code == code, (argv, done)
    assert "Traceback" not in done.err
    return done


def refuses(done: Done, words: str) -> None:
    """One line says why, and the exit code that it did not work."""
    assert done.code == 1, done
    assert re.search(words, done.err), done
    assert len(done.err.splitlines()) == 1, done


def create(fleet: Fleet, *words: str) -> Done:
    """Make a bundle. A host that was there a moment ago counts as online: its rollout lets it in within a tick."""
    made: list[Done] = []

    def tried() -> bool:
        made.append(fleet.towpath("bundle", "create", *words, code=None, timeout_s=150))
        return made[-1].code == 0

    wait_for(f"towpath bundle create {' '.join(words)} works", tried, 200, fleet.logs)
    return made[-1]


def site(fleet: Fleet, tmp_path: Path) -> bytes:
    """A host that runs 1.0.0, and that no line reaches from now on; 1.1.0 is deployed to it."""
    fleet.start_server()
    fleet.add_hosts(["site-7"])
    fleet.towpath("host", "set", "site-7", f"hello.port={free_ports(1)[0]}")
    ballast = (Path(__file__).read_bytes() * 40)[:400_000]
    fleet.publish(release(tmp_path, "1.0.0", ballast), "1.0.0")
    fleet.deploy("hello", "1.0.0")
    fleet.publish(release(tmp_path, "1.1.0", ballast[:5000] + b"what is new" + ballast[5000:]), "1.1.0")
    fleet.agents["site-7"].stop()
    fleet.towpath("deploy", "hello", "1.1.0", "--environment", "dev", "--select", "role=web")
    return ballast


def test_a_stick_there_and_a_file_back(fleet: Fleet, tmp_path: Path) -> None:
    """1.1.0 is installed and proven without a server; a bad 1.2.0 reverts; both are known once the reports are back."""
    ballast = site(fleet, tmp_path)
    assert fleet.server is not None
    words = ("--release", "hello@1.1.0", "--for", "site-7", "--since", "1.0.0", "-o", "hello.tpb")
    made = create(fleet, *words).out
    assert "for hosts that run 1.0.0" in made
    fleet.publish(release(tmp_path, "1.2.0", ballast, probe="/never"), "1.2.0")
    fleet.towpath("deploy", "hello", "1.2.0", "--environment", "dev", "--select", "role=web")
    create(fleet, "--release", "hello@1.2.0", "--for", "role=web", "--valid", "2d", "-o", "bad.tpb")
    fleet.server.stop()
    good = fleet.towpath("bundle", "verify", "hello.tpb").out
    assert "good, " in good
    assert "for      site-7 (dev)" in good
    assert run(["tar", "tf", str(fleet.root / "hello.tpb")], env=clean_env(), cwd=fleet.root).out.startswith(
        "towpath-b"
    )

    refuses(on_host(fleet, "site-7", "apply", str(fleet.root / "hello.tpb"), code=None), "it does not run")
    fleet.start_agent("site-7")
    fleet.agents["site-7"].wait_for_line(r"agent .* runs")
    applied = on_host(fleet, "site-7", "apply", "--wait", str(fleet.root / "hello.tpb"))
    assert "hello: Confirmed 1.1.0" in applied.out
    assert fleet.own_status("site-7")["hello"]["current_version"] == "1.1.0"
    reverted = on_host(fleet, "site-7", "apply", "--wait", str(fleet.root / "bad.tpb"), code=1)
    assert "hello: Reverted 1.2.0" in reverted.out
    port = fleet.own_status("site-7")["hello"]["parameters"]["port"]
    answer = ask(port, "/healthz")
    assert answer is not None
    assert answer.status == 200
    refuses(on_host(fleet, "site-7", "apply", str(fleet.root / "hello.tpb"), code=None), "is older than")
    written = on_host(fleet, "site-7", "report", "-o", str(fleet.root / "back.reports"))
    assert "and the state of 1 app of site-7\n" in written.out
    fleet.agents["site-7"].stop()

    fleet.start_server()
    done = fleet.towpath("bundle", "import", "back.reports")
    assert "what it says of its apps is news" in done.out
    assert fleet.status()["site-7"]["current"] == "1.1.0"
    wait_for(
        "the failure that came by file halts the rollout",
        lambda: any(
            row["state"] == "halted" and row["version"] == "1.2.0"
            for row in fleet.towpath("rollout", "list", "-o", "json").json()
        ),
        60,
        fleet.logs,
    )
    assert "1.2.0" in fleet.towpath("why", "site-7", "hello").out
    audit = fleet.towpath("audit", "-o", "json").json()
    assert [entry["act"] for entry in audit if entry["act"].startswith(("bundle", "reports"))] == [
        "bundle.create", "bundle.create", "reports.import"
    ]  # fmt: skip
    assert any("by file" in entry["detail"] for entry in audit)


def test_a_bad_file_is_one_line_and_changes_nothing(fleet: Fleet, tmp_path: Path) -> None:
    """Cut off, swapped, another fleet's, for another host, forged reports: said by name at every party's command."""
    site(fleet, tmp_path)
    fleet.add_hosts(["other"], label="role=spare")
    words = ("--release", "hello@1.1.0", "--for", "site-7", "-o", "hello.tpb")
    create(fleet, *words)
    refuses(fleet.towpath("bundle", "create", *words[:3], "site-9", *words[4:], code=None), "cannot find host")
    refuses(fleet.towpath("bundle", "create", *words, "--valid", "91d", code=None), "from 1h to 90d")
    refuses(fleet.towpath("bundle", "create", *words[:1], "hello@1.0.0", *words[2:], code=None), "not 1.0.0")
    whole = (fleet.root / "hello.tpb").read_bytes()
    swapped = bytearray(whole)
    longest = max(walk(lambda at, size: whole[at : at + size], len(whole)), key=lambda member: member.size)
    assert longest.name.startswith("objects/")
    swapped[longest.offset + longest.size // 2] ^= 1
    files = {
        "cut.tpb": (whole[: len(whole) // 2], "cut off"),
        "swapped.tpb": (bytes(swapped), "cannot accept object .*; copy it again"),
        "alien.tpb": (b"no bundle" * 1000, "it is none"),
        "zeros.tpb": (bytes(len(whole)), "it is none"),
        "newer.tpb": (whole.replace(b"towpath-bundle-1", b"towpath-bundle-9", 1), "it is none"),
    }
    fleet.start_agent("site-7")
    fleet.agents["site-7"].wait_for_line(r"agent .* runs")
    for name, (data, why) in files.items():
        (fleet.root / name).write_bytes(data)
        refuses(fleet.towpath("bundle", "verify", name, code=None), f"{name}: .*{why}")
        refuses(on_host(fleet, "site-7", "apply", str(fleet.root / name), code=None), f"/{name}: .*{why}")
    refuses(on_host(fleet, "other", "apply", str(fleet.root / "hello.tpb"), code=None), "not for this host")
    refuses(on_host(fleet, "site-7", "apply", str(fleet.root / "nothing.tpb"), code=None), "cannot read")
    with Fleet(tmp_path / "stranger") as stranger:
        stranger.init()
        refuses(stranger.towpath("bundle", "verify", str(fleet.root / "hello.tpb"), code=None), "signatures are good")
    on_host(fleet, "other", "report", "-o", str(fleet.root / "back.reports"))
    reports = (fleet.root / "back.reports").read_bytes()
    (fleet.root / "cut.reports").write_bytes(reports[:-1])
    (fleet.root / "forged.reports").write_bytes(reports[:-90] + bytes([reports[-90] ^ 1]) + reports[-89:])
    refuses(fleet.towpath("bundle", "import", "cut.reports", code=None), "cut off")
    refuses(fleet.towpath("bundle", "import", "forged.reports", code=None), "cannot")
    refuses(fleet.towpath("bundle", "import", "hello.tpb", code=None), "hello.tpb: .* no file of a host's reports")
    assert not list(fleet.root.glob("*.part-*"))
    assert not list(fleet.root.glob(".*.part-*"))


def test_a_relay_has_what_was_imported(fleet: Fleet, tmp_path: Path) -> None:
    """Its hosts take a release of 4 MiB, and the site's line carries next to nothing of it; beside a running relay."""
    fleet.start_server()
    ballast = 4 * 2**20
    with Line(fleet.addresses["agent"]) as line:
        fleet.enrol("site-7", fleet.token())
        fleet.towpath("host", "set", "site-7", f"hello.port={free_ports(1)[0]}")
        folders = ["--dir", str(tmp_path / "relay"), "--agent-dir", str(fleet.agent_dir("site-7"))]
        ports = ["--server", line.address, "--listen", "127.0.0.1:0", "--enroll-listen", "127.0.0.1:0"]
        relay = Daemon(
            [command("towpath"), "relay", "run", *folders, *ports],
            log=fleet.root / "logs" / "relay.log",
            env=clean_env(),
            cwd=fleet.root,
        )
        relay.start()
        try:
            relay.wait_for_line(r"^ready")
            address = relay.wait_for_line(r"^agents on (\S+:\d+)\s*$")[1]
            fleet.publish(release(tmp_path, "1.0.0", os.urandom(ballast)), "1.0.0")
            fleet.towpath("deploy", "hello", "1.0.0", "--environment", "dev", "--select", "role=web")
            words = ("--release", "hello@1.0.0", "--for", "site-7", "-o", "hello.tpb")
            create(fleet, *words)
            done = fleet.towpath("relay", "import", *folders, "hello.tpb", timeout_s=150)
            assert "the relay has them" in done.out
            refuses_small = fleet.towpath("relay", "import", *folders, "--max-bytes", "1MiB", "hello.tpb", code=None)
            assert refuses_small.code == 1
            assert "larger --max-bytes" in refuses_small.err
            before = line.carried_bytes
            (fleet.agent_dir("site-7") / "agent.toml").write_text(f'relay = "{address}"\n')
            fleet.start_agent("site-7")
            wait_for(
                "the release runs",
                lambda: fleet.status().get("site-7", {}).get("current") == "1.0.0",
                120,
                fleet.logs,
            )
            assert line.carried_bytes - before < ballast / 10
        finally:
            if relay.running:
                relay.stop()
