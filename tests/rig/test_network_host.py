"""docs/network.md on hosts that boot: the block for a proxy typed where nothing else can be reached, the firewall's loaded."""

from pathlib import Path

import pytest
from examples.loopback import Fleet
from examples.processes import wait_for

from fakes.proxy import ConnectProxy
from rig.fleets import WAIT_S, serves
from rig.guides import blocks
from rig.hosts import SERVER, Host, Hosts, why_not

GUIDE = Path(__file__).parents[2] / "docs/network.md"

pytestmark = [
    pytest.mark.rig,
    pytest.mark.long,
    pytest.mark.network,
    pytest.mark.timeout(3600),
    pytest.mark.xdist_group("hosts"),
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "they can be made"),
]

# Nothing leaves but what goes to the proxy's port: no way around it.
ONLY = (
    "nft add table inet only; nft add chain inet only out '{{ type filter hook output priority 0; }}'; "
    "nft add rule inet only out oifname eth0 tcp dport != {port} drop"
)


# A password with an @ in it; in the URL, and so in what systemd reads, it has a %.
LOGIN, QUOTED = "agent:p@ss", "agent:p%40ss"
DROP_IN = "/etc/systemd/system/towpath-agent.service.d"


def test_a_host_behind_a_proxy_is_set_up_as_the_guide_says(hosts: Hosts, base: Path, fleet: Fleet) -> None:
    """The block as it stands there, with this test's names and a login; the service goes through the proxy too, after a restart
    as well, and nobody but root can read the login.
    """
    ((_, lines),) = blocks(GUIDE)
    ((_, firewall),) = blocks(GUIDE, "nft")
    host = Host(hosts, "h8", base=base)
    try:
        text = "\n".join(firewall)
        host(f"nft -f - <<'END'\n{text}\nEND")
        host("nft delete table inet towpath")
        with ConnectProxy(host=SERVER, login=LOGIN) as proxy:
            host(ONLY.format(port=proxy.address.rpartition(":")[2]))
            given = {
                "proxy.example.com:3128": f"{QUOTED}@{proxy.address}",
                "towpath.example.com:7444": fleet.addresses["enroll"],
                "TOKEN": fleet.token(label="role=proxied"),
            }
            script = "\n".join(["set -e", *lines])
            for name, value in given.items():
                script = script.replace(name, value)
            said = host(f"{script} --name proxied")
            assert "proxied in dev is set up" in said
            assert {fleet.addresses["enroll"], fleet.addresses["agent"]} <= set(proxy.asked)
            assert host(f"grep -rlF {QUOTED} /etc") == f"{DROP_IN}/proxy.env"
            assert host(f"stat -c '%U %a' {DROP_IN}/proxy.env") == "root 600"
            words = ("deploy", "hello", "1.0.0", "--environment", "dev", "--select", "role=proxied")
            fleet.towpath(*words, "--wait", "--timeout", f"{WAIT_S:g}s", timeout_s=WAIT_S + 30)
            assert serves(host) == "1.0.0"
            before = len(proxy.asked)
            host("systemctl restart towpath-agent")
            wait_for("it dials again", lambda: len(proxy.asked) > before, WAIT_S, fleet.logs)
            fleet.wait_online(["proxied"], WAIT_S)
    finally:
        hosts.rig("wipe", "h8")
