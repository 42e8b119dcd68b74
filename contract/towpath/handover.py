"""Handover: a new release is started beside the running one and takes over its traffic, so that no request is lost.

A release that asks for it declares two `port` parameters. Each is a slot; the host gives the new release the one that
the running release does not use, and the publisher's hook `handover` tells a proxy where to send requests (ADR 16).
Not handled here: which slot is taken (the agent's `engine.slots`), and when the hook runs (the agent's runner).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from towpath.errors import InputError
from towpath.parameters import Value, placeholders

if TYPE_CHECKING:
    from towpath.release import Release

# Critical for a release that hands over: an agent that does not know it would stop the old release first.
FEATURE = "handover-1"
HOOK_POINT = "handover"
SLOTS = 2
MAX_DRAIN_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Handover:
    """The names of two `port` parameters; the first is this copy's own port in a command, a probe or a hook.

    For `drain_ms` after the hook the old release goes on with what it has begun.
    """

    ports: tuple[str, ...]
    drain_ms: int = 5_000


def check_handover(where: str, release: "Release") -> None:
    """Raise InputError where a release cannot hand over as it asks; `where` begins the message."""
    handover = release.run.handover
    if handover is None:
        if release.hook(HOOK_POINT) is not None:
            raise InputError(f"cannot use {where}: hook 'handover' never runs without run: {{handover: ...}}")
        return
    if release.run.kind != "process" or release.install.kind != "tree":
        raise InputError(
            f"cannot use {where}: a handover needs run kind 'process' and install kind 'tree', because two releases "
            "run at once, each from its own folder"
        )
    declared = {parameter.name: parameter for parameter in release.parameters}
    ports = [declared[name] for name in handover.ports if name in declared and declared[name].type == "port"]
    if len(handover.ports) != SLOTS or len({port.name for port in ports}) != SLOTS:
        raise InputError(f"cannot use {where}: a handover needs the names of two different parameters of type port")
    if not 0 <= handover.drain_ms <= MAX_DRAIN_MS:
        raise InputError(f"cannot use {where}: a handover may drain for 1h at most")
    if release.hook(HOOK_POINT) is None:
        raise InputError(f"cannot use {where}: a handover needs a hook 'handover' that points the proxy to ${{port}}")
    own = handover.ports[0]
    if not any(own in placeholders(text) for text in (*release.run.command, *release.run.env.values())):
        raise InputError(f"cannot use {where}: neither its command nor its env has ${{{own}}}, its own port")
    if FEATURE not in release.critical:
        raise InputError(f"cannot use {where}: a handover needs the critical feature {FEATURE}")
    if ports[0].default is not None and ports[0].default == ports[1].default:
        raise InputError(f"cannot use {where}: {ports[0].name} and {ports[1].name} have the same default")


def check_ports(handover: Handover | None, values: Mapping[str, Value]) -> None:
    """Raise InputError where both slots would be one port."""
    if handover is not None and len({values[name] for name in handover.ports}) != SLOTS:
        first, second = handover.ports
        raise InputError(f"cannot hand over between {first} and {second}: both are {values[first]}; set one of them")
