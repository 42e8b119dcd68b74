"""What a release takes for itself on a host: of each claim there is one, so two apps cannot both have it.

A claim is a kind and a value, computed from the signed release and its filled parameters alone, so that every party can
tell of a clash before anything changes. A new installer or service that takes something (a package, a mount point) adds
one row below and no other code.
Not handled here: who gives way (the agent's `engine.admission`), and what a program takes without declaring it: a port
that is written into a command, or a parameter of type `int`. A parameter of type `port` is a port that the app listens
on; one that it only connects to is an `int`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from towpath.parameters import Value, render
from towpath.release import Release


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """One thing of which a host has one. `kind` is a word for people and codes: port, path, unit, package."""

    kind: str
    value: str

    def __str__(self) -> str:
        """Return it as a person would say it."""
        return f"{self.kind} {self.value}"


# Yields the values that a driver's options claim.
Values = Callable[[Release, Mapping[str, Value]], Iterator[str]]


def _path(release: Release, parameters: Mapping[str, Value]) -> Iterator[str]:
    yield render(str(release.install.options["path"]), parameters)


def _unit(release: Release, _parameters: Mapping[str, Value]) -> Iterator[str]:
    yield PurePosixPath(str(release.run.options["unit"])).name


def _package(release: Release, parameters: Mapping[str, Value]) -> Iterator[str]:
    """Yield the package where the publisher named it; otherwise only the installer learns it, from the package."""
    if "package" in release.install.options:
        yield render(str(release.install.options["package"]), parameters)


# Driver kind to (claim kind, values). What is not listed claims nothing.
_INSTALLER_CLAIMS: Mapping[str, tuple[str, Values]] = {
    "file": ("path", _path),
    "deb": ("package", _package),
    "rpm": ("package", _package),
}
_SERVICE_CLAIMS: Mapping[str, tuple[str, Values]] = {"systemd": ("unit", _unit)}


def claims(release: Release, parameters: Mapping[str, Value]) -> frozenset[Claim]:
    """Return what `release` with the filled `parameters` takes on a host. The release was checked before."""
    found = {
        Claim("port", str(parameters[parameter.name]))
        for parameter in release.parameters
        if parameter.type == "port" and parameter.name in parameters
    }
    for rows, kind in ((_INSTALLER_CLAIMS, release.install.kind), (_SERVICE_CLAIMS, release.run.kind)):
        if kind in rows:
            name, values = rows[kind]
            found.update(Claim(name, value) for value in values(release, parameters))
    return frozenset(found)
