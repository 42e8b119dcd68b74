"""Which server object a host uses: the server alone, or with the relay of its site before it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from towpath import __version__
from towpath_agent.identity import Identity, local_platform
from towpath_agent.system.clock import Clock
from towpath_agent.transport.channel import Limits, parse_address
from towpath_agent.transport.client import GrpcServer

if TYPE_CHECKING:
    from towpath_agent.transport.relayed import RelayedServer

# A relay listens as its server would. A host that shall find one by itself asks its resolver for this name.
AUTO, AUTO_ADDRESS = "auto", "towpath-relay:7443"


def check_relay(text: str) -> str:
    """Return the address of the relay that a setting names, `auto` or HOST:PORT; InputError otherwise."""
    address = AUTO_ADDRESS if text == AUTO else text
    parse_address(address)
    return address


def server_of(
    who: Identity,
    *,
    relay: str = "",
    direct_from: Sequence[str] = (),
    pem: bytes = b"",
    clock: Clock,
    log: Callable[[str], None],
    limits: Limits | None = None,
) -> "GrpcServer | RelayedServer":
    """Return the server of host `who`, over `relay` (HOST:PORT) where one is given. `pem`: instead of its identity.

    `direct_from`: the origins at which objects may be fetched without the server, where it says that they are there.
    """
    direct = None
    if direct_from:
        from towpath_agent.transport.direct import Direct  # noqa: PLC0415  (http and ssl, for this setting alone)

        direct = Direct(direct_from, clock=clock, limits=limits or Limits(), log=log)
    if not relay:
        return GrpcServer(
            who.host.agent_address,
            identity_pem=pem or who.pem,
            ca_pem=who.ca_pem,
            platform=local_platform(),
            agent_version=__version__,
            clock=clock,
            limits=limits,
            direct=direct,
        )
    from towpath_agent.transport.relayed import RelayedServer  # noqa: PLC0415  (ssl: only hosts with a relay need it)

    return RelayedServer(
        who.host.agent_address,
        relay,
        identity_pem=pem or who.pem,
        ca_pem=who.ca_pem,
        platform=local_platform(),
        agent_version=__version__,
        clock=clock,
        log=log,
        limits=limits,
        direct=direct,
    )
