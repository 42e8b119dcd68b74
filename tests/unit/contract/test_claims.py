"""Claims: what a release takes of a host, told from its signed words and parameters alone."""

from dataclasses import replace

from towpath.claims import Claim, claims
from towpath.parameters import Parameter
from towpath.release import Artifact, Install, Release, Run

RELEASE = Release("hello", "1.0.0", 1, Artifact(b"d" * 32, 10, 20), Install("tree"), Run("none"))


def test_a_release_without_ports_paths_or_units_claims_nothing() -> None:
    """A tree below the agent's folder is in nobody's way."""
    assert claims(RELEASE, {}) == frozenset()


def test_parameters_of_type_port_are_ports_and_others_are_not() -> None:
    """Only what is declared as a port is one; a number may be anything, the port of another app too."""
    release = replace(
        RELEASE, parameters=(Parameter("http", "port"), Parameter("redis", "int"), Parameter("x", "port"))
    )
    assert claims(release, {"http": 8080, "redis": 6379}) == {Claim("port", "8080")}


def test_a_file_claims_its_rendered_path_and_a_unit_its_name() -> None:
    """The path as it will be on the host, and the unit without the folder in which the release ships it."""
    install = Install("file", {"path": "/etc/${name}.conf"})
    release = replace(RELEASE, install=install, run=Run("systemd", {"unit": "units/hello.service"}))
    found = claims(release, {"name": "hello"})
    assert found == {Claim("path", "/etc/hello.conf"), Claim("unit", "hello.service")}
    assert sorted(map(str, found)) == ["path /etc/hello.conf", "unit hello.service"]


def test_a_package_is_claimed_where_its_publisher_named_it() -> None:
    """Two apps cannot both install one package; where no name is declared, the installer finds out."""
    for kind in ("deb", "rpm"):
        named = replace(RELEASE, install=Install(kind, {"package": "nginx"}))
        assert claims(named, {}) == frozenset({Claim("package", "nginx")})
        assert claims(replace(RELEASE, install=Install(kind)), {}) == frozenset()
