"""A host that may speak to an HTTP proxy only: enrolment, sync, objects and hints all go through CONNECT."""

from pathlib import Path

import pytest
from examples.loopback import EXAMPLES, Fleet, clean_env, command, run
from examples.processes import Daemon, free_ports

from fakes.proxy import ConnectProxy

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.mark.parametrize(("name", "login"), [("HTTPS_PROXY", ""), ("https_proxy", "me:p%40ss")])
def test_everything_of_an_agent_goes_through_the_proxy(fleet: Fleet, tmp_path: Path, name: str, login: str) -> None:
    """The server is named by something that only the proxy's side could know is loopback; the certificate still counts,
    from end to end, and the proxy sees no token.
    """
    fleet.start_server()
    token = fleet.token()
    with ConnectProxy(login=login.replace("%40", "@")) as proxy:
        url = f"http://{login}@{proxy.address}" if login else f"http://{proxy.address}"
        env = clean_env(**{name: url})
        enrol = [command("towpath-agent"), "enroll", "--server", fleet.addresses["enroll"], "--token", token]
        done = run([*enrol, "--name", "h1", "--dir", str(tmp_path / "h1")], env=env, cwd=tmp_path)
        assert done.code == 0, done.err
        assert set(proxy.asked) == {fleet.addresses["enroll"]}
        fleet.agents["h1"] = Daemon(
            [command("towpath-agent"), "run", "--dir", str(tmp_path / "h1")],
            log=tmp_path / "logs/h1.log",
            env=env,
            cwd=tmp_path,
        )
        fleet.start_agent("h1")
        fleet.wait_online(["h1"])
        fleet.publish(EXAMPLES / "hello/towpath.yaml", "1.0.0")
        fleet.towpath("host", "set", "h1", f"hello.port={free_ports(1)[0]}")
        fleet.deploy("hello", "1.0.0")
        assert fleet.addresses["agent"] in proxy.asked
        doctor = run([command("towpath-agent"), "doctor", "--dir", str(tmp_path / "h1")], env=env, cwd=tmp_path)
        assert f"agents' port {fleet.addresses['agent']} answers" in doctor.out
        assert f"has the proxy {proxy.address}" in doctor.out
        assert token.encode() not in proxy.carried
        assert b"1.0.0" not in proxy.carried
        fleet.agents["h1"].stop()


def test_a_proxy_that_refuses_is_one_line_with_its_answer(fleet: Fleet, tmp_path: Path) -> None:
    """A wrong login, a forbidden port, no HTTP, and no proxy at all, each under its own name; no login is shown."""
    fleet.start_server()
    token = fleet.token()
    words = [
        command("towpath-agent"),
        "enroll",
        "--server",
        fleet.addresses["enroll"],
        "--token",
        token,
        "--name",
        "h1",
    ]

    def said(url: str) -> str:
        done = run([*words, "--dir", str(tmp_path / "h1")], env=clean_env(https_proxy=url), cwd=tmp_path)
        assert done.code == 1
        assert done.err.count("\n") == 1, done.err
        assert "cannot reach" in done.err
        assert "secret" not in done.err
        return done.err

    with ConnectProxy(login="me:right") as proxy:
        assert "407 Proxy Authentication Required" in said(f"http://me:secret@{proxy.address}")
    assert "cannot be reached (connection refused)" in said(f"http://me:secret@{proxy.address}")
    with ConnectProxy(answer=b"HTTP/1.1 403 Forbidden\r\n\r\n") as proxy:
        assert f"refuses {fleet.addresses['enroll']}: 403 Forbidden" in said(proxy.url)
    with ConnectProxy(answer=b"SSH-2.0-other\r\n\r\n") as proxy:
        assert "answers no HTTP" in said(proxy.url)
    with ConnectProxy(answer=b"") as proxy:
        assert "ends the connection" in said(proxy.url)
    assert (
        "write http://HOST:PORT"
        in run([*words, "--dir", str(tmp_path / "h1")], env=clean_env(https_proxy="socks5://x:1"), cwd=tmp_path).err
    )
    assert not (tmp_path / "h1/host.json").exists()
