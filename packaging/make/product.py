"""The two things that are packaged: what is in each, and what it is called."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Product:
    """One package. `project`: the folder of the wheel; `lock`: what it carries; `scripts`: dpkg's, below packaging/.

    `rpm_scripts`: rpm's; `rpm_needs`: of an RPM host, beside the C library. `programs`: each command,
    the module that has its `main`, and its click group there.
    """

    name: str
    prefix: str
    summary: str
    description: str
    conffile: str
    project: str
    lock: str
    scripts: str
    rpm_scripts: str
    depends: str
    rpm_needs: tuple[str, ...]
    programs: tuple[tuple[str, str, str], ...]


AGENT = Product(
    name="towpath-agent",
    prefix="usr/lib/towpath-agent",
    summary="Towpath's agent: pulls signed releases, proves them, goes back by itself",
    description=(
        " The agent dials out to its server, so that the host needs no open port. It carries its own Python.\n"
        " After the installation: towpath-agent setup --server HOST:7444 --token TOKEN\n"
    ),
    conffile="/etc/towpath/agent.toml",
    project="packaging/agent",
    lock="packaging/agent/requirements.lock",
    scripts="packaging/deb",
    rpm_scripts="packaging/rpm",
    depends="",
    rpm_needs=(),
    programs=(("towpath-agent", "towpath_agent.cli", "group"),),
)
SERVER = Product(
    name="towpath-server",
    prefix="usr/lib/towpath-server",
    summary="Towpath's server and the operator's command",
    description=(
        " The server says which hosts run which signed releases; agents dial it. It carries its own Python, and the\n"
        " command towpath for operators and publishers. It starts once /var/lib/towpath-server holds a fleet's keys.\n"
    ),
    conffile="/etc/towpath/server.toml",
    project=".",
    lock="packaging/server/requirements.lock",
    scripts="packaging/server/deb",
    rpm_scripts="packaging/server/rpm",
    depends=", passwd, tzdata",
    rpm_needs=("shadow-utils", "tzdata"),
    programs=(("towpath-server", "towpath_server.cli", "group"), ("towpath", "towpath_cli.main", "cli")),
)
