"""The agent's .deb on Debian hosts that boot: installed, set up, upgraded, cloned, cut off the power, removed, purged.

The server is the real one on this machine; the hosts reach it through a firewall that lets nothing in to them.
"""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from examples.loopback import Fleet

from rig.guides import blocks
from rig.hosts import SERVER, Failed, Host, Hosts, why_not

pytestmark = [
    pytest.mark.rig,
    pytest.mark.network,
    pytest.mark.timeout(3600),
    pytest.mark.xdist_group("hosts"),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "they can be made"),
]

GUIDE = Path(__file__).parents[2] / "docs/install.md"
UNIT = """\
app: unit
artifact: ./app
install: {kind: tree}
run: {kind: systemd, unit: unit.service}
probes: [{process: {interval: 200ms}}]
health: {healthy_for: 1s, deadline: 30s, probation: 1s}
"""
CONF = """\
app: conf
artifact: ./app
install: {kind: file, path: /etc/app.conf, existing: overwrite}
run: {kind: none}
health: {healthy_for: 1s, deadline: 30s, probation: 1s}
"""
SERVICE = "[Service]\nExecStart=/usr/bin/sleep 100000\n[Install]\nWantedBy=multi-user.target\n"
PREPARE = "#!/bin/sh\nsync -f .\ntouch /run/preparing\nwhile [ ! -e /run/go ]; do sleep 0.1; done\n"
FIND_APP = "pgrep -f '[b]in/serve'"
AGENT_PID = "systemctl show --value --property=MainPID towpath-agent"


@pytest.fixture
def host(hosts: Hosts, deb: Path) -> Iterator[Host]:
    """Give a freshly booted host with the package installed."""
    host = Host(hosts, "h1")
    host.put(deb, "/opt/agent.deb")
    host("dpkg -i /opt/agent.deb")
    yield host
    hosts.rig("wipe", "h1")


def setup_line(fleet: Fleet, name: str, role: str, *more: str) -> str:
    token = fleet.token(label=f"role={role}")
    words = ("--server", fleet.addresses["enroll"], "--token", token, "--name", name, *more)
    return f"towpath-agent setup {' '.join(words)}"


def deploy(fleet: Fleet, app: str, version: str, role: str, *words: str) -> None:
    head = ("deploy", app, version, "--environment", "dev", "--select", f"role={role}")
    fleet.towpath(*head, *words, timeout_s=240)


def release(folder: Path, text: str, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / "app" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(0o755)
    (folder / "towpath.yaml").write_text(text)
    return folder / "towpath.yaml"


def test_the_life_of_a_package(host: Host, fleet: Fleet, tmp_path: Path) -> None:
    """Nothing runs before setup; apps outlive upgrade and removal; a removal keeps state, a purge leaves nothing."""
    assert host.show("ActiveState") == "inactive"
    assert host("systemctl is-enabled towpath-agent", code=None) == "disabled"
    assert "--token TOKEN is missing" in host(f"towpath-agent setup --server {SERVER}:1", code=1)

    began = time.monotonic()
    said = host(setup_line(fleet, "life", "life"))
    print(f"setup took {time.monotonic() - began:.1f} s")
    assert said.splitlines()[-1].startswith("life in dev is set up")
    assert host.show("ActiveState") == "active"
    assert host("systemctl is-enabled towpath-agent") == "enabled"
    assert "enrolled already: life" in host("towpath-agent setup")
    assert "this host is life of" in host(f"towpath-agent setup --server {SERVER}:1 --token x", code=1)
    print(f"idle: {host('grep VmRSS /proc/$(' + AGENT_PID + ')/status')}")

    fleet.publish(release(tmp_path, UNIT, {"unit.service": SERVICE}), "1")
    deploy(fleet, "hello", "1.0.0", "life", "--wait", "--timeout", "120s")
    deploy(fleet, "unit", "1", "life", "--wait", "--timeout", "120s")
    assert "X-Hello-Version: 1.0.0" in host("curl -si http://127.0.0.1:8080/healthz")
    apps, agent = (host(FIND_APP), host.show("MainPID", "unit")), host(AGENT_PID)

    host("dpkg -i /opt/agent.deb")
    assert host(AGENT_PID) not in (agent, "0")
    assert (host(FIND_APP), host.show("MainPID", "unit")) == apps

    host("dpkg -r towpath-agent")
    assert host("test -e /usr/bin/towpath-agent || test -e /usr/lib/towpath-agent || echo gone") == "gone"
    assert (host(FIND_APP), host.show("MainPID", "unit")) == apps
    assert host("ls /var/lib/towpath/host.json /etc/towpath/agent.toml")

    assert "is enrolled already; to let its agent run again" in host("dpkg -i /opt/agent.deb")
    assert host("systemctl is-active towpath-agent", code=None) == "inactive"
    host("towpath-agent setup")
    assert (host(FIND_APP), host.show("MainPID", "unit")) == apps

    host("dpkg -P towpath-agent")
    host(f"! {FIND_APP}")
    assert host.show("ActiveState", "unit") == "inactive"
    left = host("find / -xdev -name '*towpath*' -not -path '/proc/*' -not -path '/sys/*'")
    assert left == ""
    host("! grep -ls towpath-agent.service /proc/[0-9]*/cgroup")


def test_a_purge_keeps_the_file_that_a_release_took_the_place_of(host: Host, fleet: Fleet, tmp_path: Path) -> None:
    """The released file stays; the host's former one, which nobody else has, is where the purge and the guide say."""
    host("printf mine > /etc/app.conf; chmod 0640 /etc/app.conf")
    fleet.publish(release(tmp_path, CONF, {"app.conf": "released"}), "1")
    host(setup_line(fleet, "purged", "purged"))
    deploy(fleet, "conf", "1", "purged", "--wait", "--timeout", "120s")
    assert host("cat /etc/app.conf") == "released"

    said = host("dpkg -P towpath-agent")

    kept = re.search(r" is in (/var/backups/towpath-agent-\S+)$", said, re.MULTILINE)
    assert kept is not None, said
    assert host("cat /etc/app.conf") == "released"
    host("! test -e /var/lib/towpath")
    (place,) = re.findall(r"^replaced/\$\(.*PATH.*$", GUIDE.read_text(), re.MULTILINE)
    assert host(f"cat {kept[1]}/conf/{place.replace('PATH', '/etc/app.conf')}") == "mine"
    assert json.loads(host(f"cat {kept[1]}/conf/file.json"))["saved"]["/etc/app.conf"]["mode"] == 0o640
    assert host(f"stat -c %U:%a {kept[1]}") == "root:700"


@pytest.mark.parametrize("cut", ["power_cut", "reboot"])
def test_a_host_that_goes_down_in_mid_install_comes_back_by_itself(
    host: Host, fleet: Fleet, tmp_path: Path, cut: str
) -> None:
    """Power lost, or an orderly reboot, while a hook of an install runs: after the boot the release gets healthy."""
    app, role = f"slow-{cut.replace('_', '')}", f"role-{cut.replace('_', '')}"
    text = UNIT.replace("app: unit", f"app: {app}") + "hooks: {prepare: bin/prepare, timeout: 120s}\n"
    fleet.publish(release(tmp_path, text, {"unit.service": SERVICE, "bin/prepare": PREPARE}), "1")
    host(setup_line(fleet, role, role))
    deploy(fleet, app, "1", role)
    host.until("test -e /run/preparing")
    before = host("cat /proc/sys/kernel/random/boot_id; cat /var/lib/towpath/host.json")

    getattr(host, cut)()

    assert host("cat /proc/sys/kernel/random/boot_id; cat /var/lib/towpath/host.json") != before
    host.until("test -e /run/preparing")
    host("touch /run/go")
    host.until("systemctl is-active unit.service")
    host.until('towpath-agent status -o json | grep -q \'"state": "Confirmed"\'')
    assert host("find /var/lib/towpath/staging -mindepth 1") == ""


def test_a_clone_refuses_to_run_and_gets_an_identity_of_its_own(host: Host, fleet: Fleet) -> None:
    """With another machine-id the agent ends for good and says what to do; setup --new-identity makes another host."""
    host(setup_line(fleet, "original", "clone"))
    id_before = host("cat /var/lib/towpath/host.json")
    host("systemctl stop towpath-agent; tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id; sync")
    host.reboot()
    host.until("systemctl is-failed towpath-agent")
    assert host.show("ExecMainStatus") == "78"
    assert host.show("NRestarts") == "0"
    refusal = host("towpath-agent setup", code=1)
    assert "was enrolled on another machine" in refusal
    assert "--new-identity" in refusal
    assert host("cat /var/lib/towpath/host.json") == id_before

    line = setup_line(fleet, "clone", "clone", "--new-identity")
    assert host(line).endswith("towpath-agent status")
    assert host("cat /var/lib/towpath/host.json") != id_before
    hosts = {row["name"]: row["online"] for row in fleet.towpath("host", "list", "-o", "json").json()}
    assert hosts["clone"] is True
    assert "original" in hosts  # still the server's, with the identity that nobody overwrote


@pytest.mark.long
def test_an_agent_that_hangs_is_restarted_and_one_that_waits_is_not(host: Host, fleet: Fleet) -> None:
    """The watchdog is fed by work and by waiting, longer than its limit; a stopped process is replaced, apps live on."""
    host("mkdir -p /etc/systemd/system/towpath-agent.service.d")
    host("printf '[Service]\\nWatchdogSec=20\\n' > /etc/systemd/system/towpath-agent.service.d/watchdog.conf")
    host("systemctl daemon-reload")
    host("printf 'sync_interval = \"2s\"\\n' > /etc/towpath/agent.toml")
    host(setup_line(fleet, "watched", "watched"))
    deploy(fleet, "hello", "1.0.0", "watched", "--wait", "--timeout", "120s")
    app, agent, restarts = host(FIND_APP), host(AGENT_PID), int(host.show("NRestarts"))
    fed_at = int(host.show("WatchdogTimestampMonotonic"))
    host.until(f"test $(systemctl show --value -p WatchdogTimestampMonotonic towpath-agent) -gt {fed_at + 40_000_000}")
    assert host(AGENT_PID) == agent

    host(f"kill -STOP {agent}")
    host.until(f"test $(systemctl show --value --property=NRestarts towpath-agent) = {restarts + 1}")
    host.until("systemctl is-active towpath-agent")
    assert host(AGENT_PID) != agent
    assert host(FIND_APP) == app
    assert re.search("[Ww]atchdog timeout", host("journalctl -b --no-pager -u towpath-agent"))


@pytest.mark.long
def test_cloud_init_and_ansible_of_the_guide_set_hosts_up(host: Host, deb: Path, fleet: Fleet) -> None:
    """What the two examples have a host do, done: the file and commands of cloud-init; the command and variable of Ansible."""
    cloud, play = (yaml.safe_load("\n".join(lines)) for _, lines in blocks(GUIDE, "yaml"))
    token_file, server = cloud["write_files"][0], fleet.addresses["enroll"]

    def filled(text: str, name: str) -> str:
        said = text.replace("towpath.example.com:7444", server)
        return f"{said} --name {name}" if "towpath-agent setup" in said else said

    host.put(deb, "/opt/towpath-agent_0.1.0_amd64.deb")
    host(
        f"umask 077; printf {fleet.token()} > {token_file['path']}; chmod {token_file['permissions']} {token_file['path']}"
    )
    said = [host(filled(line, "by-cloud-init")) for line in cloud["runcmd"]]
    assert any("by-cloud-init in dev is set up" in text for text in said), said
    assert host(f"! test -e {token_file['path']}") == ""

    host("dpkg -P towpath-agent")
    install, command = play
    host(f"dpkg -i {install['ansible.builtin.apt']['deb']}")
    (name,) = command["environment"]
    line = filled(command["ansible.builtin.command"]["cmd"], "by-ansible")
    assert "by-ansible in dev is set up" in host(f"{name}={fleet.token()} {line}")


def test_setup_says_what_is_in_the_way(host: Host, hosts: Hosts, fleet: Fleet) -> None:
    """A firewall that drops, and a wrong token, end setup with one line; nothing is left running or enrolled."""
    line = setup_line(fleet, "blocked", "blocked")
    hosts.rig("cut", "h1", "both")
    refused = host(line, code=1)
    assert refused.splitlines()[-1].startswith("towpath-agent: cannot ")
    assert "Traceback" not in refused
    hosts.rig("heal", "h1")
    assert host.show("ActiveState") == "inactive"
    host("! test -e /var/lib/towpath/host.json")
    host(line)  # the same token still counts
    with pytest.raises(Failed, match="is life|this host is blocked"):
        host(f"towpath-agent setup --server {SERVER}:9 --token x")
