"""Installer `rpm` on the real rpm: what it refuses, keeps, brings back, and mends after a cut or damage."""

import fcntl
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from fakes.packages import RpmHost, build_rpm
from fakes.trees import Tree, make_plan
from towpath.errors import InputError
from towpath.parameters import Value
from towpath.release import Install
from towpath_agent.errors import PackageError, PackageLocked
from towpath_agent.installers.base import InstallPlan, current_release
from towpath_agent.installers.package import PackageInstaller
from towpath_agent.installers.rpm import RpmTool
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files

CONF = "etc/hello.conf"


class Host:
    """One rpm host and the releases of one app."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rpm = RpmHost.make(folder / "host")
        self.plans: dict[str, tuple[InstallPlan, Tree]] = {}

    def publish(self, version: str, options: dict[str, Value] | None = None, **rpm: object) -> str:
        """Build a release; its package is made by `build_rpm(**rpm)`."""
        data = build_rpm(self.folder / "build", version, **rpm)  # type: ignore[arg-type]
        tree = Tree({"hello.rpm": data})
        self.plans[version] = make_plan(self.folder / "agent", tree, version, Install("rpm", options or {})), tree
        return version

    def stage(self, version: str) -> None:
        plan, tree = self.plans[version]
        self.rpm.installer().stage(plan, tree.materialise(Files()))

    def switch(self, version: str, **options: float) -> None:
        self.rpm.installer(**options).switch(self.plans[version][0], None)

    def go(self, version: str) -> None:
        self.stage(version)
        self.switch(version)

    def unswitch(self, version: str) -> None:
        self.rpm.installer().unswitch(self.plans[version][0])

    def verify(self, version: str) -> bool:
        return self.rpm.installer().verify(self.plans[version][0])

    def read(self, path: str) -> str:
        return (self.rpm.root / path).read_text()

    def live(self) -> str:
        return (current_release(self.folder / "agent" / "apps" / "hello") or "").rpartition("-")[0]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Return a host with a shell and nothing else on it."""
    return Host(tmp_path)


def test_a_revert_downgrades_and_keeps_the_edited_configuration(host: Host) -> None:
    """Going back is the same call with the older package; edited `%config(noreplace)` stays on the way there and back."""
    host.go(host.publish("1.0", config={CONF: "a = 1\n"}))
    (host.rpm.root / CONF).write_text("a = mine\n")
    host.go(host.publish("1.1", config={CONF: "a = 2\n"}))
    assert (host.rpm.state(), host.read(CONF)) == ("1.1", "a = mine\n")
    host.switch("1.0")
    assert (host.rpm.state(), host.read(CONF), host.live()) == ("1.0", "a = mine\n", "1.0")
    assert host.read("opt/hello/app") == "hello 1.0\n"
    assert host.verify("1.0")


@pytest.mark.parametrize("section", ["pre", "post"])
def test_a_failing_script_is_said_and_undone(host: Host, section: str) -> None:
    """%post counts as well, which rpm itself only warns of; the package before comes back, a first install goes away."""
    host.publish("1.1", scripts={section: "echo cannot reach the database\nexit 7"})
    host.stage("1.1")
    with pytest.raises(PackageError, match="cannot install hello 1.1: .*cannot reach the database"):
        host.switch("1.1")
    host.unswitch("1.1")
    assert (host.rpm.state(), host.live()) == ("", "")
    host.go(host.publish("1.0"))
    with pytest.raises(PackageError):
        host.switch("1.1")
    assert host.live() == "1.0"
    host.switch("1.0")
    assert (host.rpm.state(), host.verify("1.0")) == ("1.0", True)


def test_a_hanging_script_is_ended(host: Host) -> None:
    """At the deadline rpm and its scripts are ended; the package before comes back."""
    host.go(host.publish("1.0"))
    host.publish("1.1", options={"timeout": 1500}, scripts={"post": "while :; do :; done"})
    host.stage("1.1")
    with pytest.raises(PackageError, match="did not end within 1.5s"):
        host.switch("1.1")
    host.switch("1.0")
    assert (host.rpm.state(), host.verify("1.0")) == ("1.0", True)


@pytest.mark.parametrize("section", ["pre", "post", "preun", "postun"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_rpm_killed_in_any_script_is_mended_by_the_next_call(host: Host, section: str, version: str) -> None:
    """Killed -9 in the middle, both versions may be on record; the next run ends with exactly one, verified."""
    shell = {section: "if test -e /kill; then : > /killed; kill -9 $PPID; fi"}
    outgoing = section in ("preun", "postun")
    host.go(host.publish("1.0", scripts=shell if outgoing else {}))
    host.stage(host.publish("1.1", scripts={} if outgoing else shell))
    (host.rpm.root / "kill").touch()
    with pytest.raises(PackageError, match="status -9"):
        host.switch("1.1")
    assert (host.rpm.root / "killed").exists()
    (host.rpm.root / "kill").unlink()
    host.switch(version)
    assert (host.rpm.state(), host.live(), host.verify(version)) == (version, version, True)
    assert host.read("opt/hello/app") == f"hello {version}\n"


@pytest.mark.parametrize("section", ["preun", "postun"])
def test_a_broken_removal_script_keeps_no_release_on_the_host(host: Host, section: str) -> None:
    """A revert and a removal get past a script of the outgoing package that always fails."""
    host.go(host.publish("1.0"))
    host.go(host.publish("1.1", scripts={section: "exit 3"}))
    host.switch("1.0")
    assert (host.rpm.state(), host.verify("1.0")) == ("1.0", True)
    host.go("1.1")
    host.unswitch("1.1")
    assert host.rpm.state() == ""


@pytest.mark.parametrize(
    ("tags", "code", "words"),
    [
        ("Requires: libfoo >= 2", "missing-dependency", "libfoo >= 2 is needed by hello"),
        ("Conflicts: there", "conflict", "there conflicts with"),
        ("Obsoletes: there", "conflict", "would remove package there"),
        ("Requires: there = 9", "missing-dependency", "there = 9"),
    ],
)
def test_what_cannot_be_installed_is_refused_before_anything_changes(
    host: Host, tags: str, code: str, words: str
) -> None:
    """Dependencies by name, conflicts, and whatever would go for it, are said at the staging."""
    build_rpm(host.folder / "build", "1", name="there")
    host.rpm.by_hand("--install", host.folder / "build/rpmbuild/RPMS/noarch/there-1-1.noarch.rpm")
    host.publish("1.0", tags=tags)
    with pytest.raises(InputError) as caught:
        host.stage("1.0")
    assert (caught.value.code, words in str(caught.value)) == (code, True), caught.value
    assert (host.rpm.state("there"), host.rpm.state(), host.live()) == ("1", "", "")


def test_a_package_for_another_architecture_is_refused_before_anything_changes(host: Host) -> None:
    """Rpm itself says so in its dry run; what ran goes on."""
    host.go(host.publish("1.0"))
    host.publish("1.1", architecture="aarch64" if os.uname().machine == "x86_64" else "x86_64")
    with pytest.raises(InputError, match="cannot install package hello 1.1-1: .*different architecture") as caught:
        host.stage("1.1")
    assert caught.value.code == "wrong-architecture"
    assert (host.rpm.state(), host.live(), host.verify("1.0")) == ("1.0", "1.0", True)


def test_a_package_of_somebody_else_is_neither_replaced_nor_removed(host: Host) -> None:
    """Without `adopt` it is refused before anything changes, with it taken over, and in the end let go."""
    build_rpm(host.folder / "build", "1.0")
    host.rpm.by_hand("--install", host.folder / "build/rpmbuild/RPMS/noarch/hello-1.0-1.noarch.rpm")
    host.publish("1.1")
    with pytest.raises(InputError, match="is installed and not from this app") as caught:
        host.stage("1.1")
    assert caught.value.code == "unmanaged-package"
    host.unswitch("1.1")
    assert host.rpm.state() == "1.0"
    host.go(host.publish("1.2", options={"adopt": True}))
    assert host.rpm.state() == "1.2"
    host.unswitch("1.2")
    assert (host.rpm.state(), host.live()) == ("1.2", "")


def test_a_changed_file_is_drift_and_edited_configuration_is_not(host: Host) -> None:
    """`verify` sees a changed and a lost file; switching again mends them."""
    host.go(host.publish("1.0", config={CONF: "a = 1\n"}))
    (host.rpm.root / CONF).write_text("a = mine\n")
    assert host.verify("1.0")
    app = host.rpm.root / "opt/hello/app"
    for damage in (lambda: app.write_text("changed"), app.unlink):
        damage()
        assert not host.verify("1.0")
        host.switch("1.0")
        assert (host.verify("1.0"), host.read(CONF)) == (True, "a = mine\n")


def lock(host: Host) -> int:
    """Take rpm's lock as another program would; return its descriptor."""
    held = os.open(host.rpm.root / "var/lib/rpm/.rpm.lock", os.O_RDWR | os.O_CREAT)
    fcntl.lockf(held, fcntl.LOCK_EX)
    return held


def test_a_lock_is_waited_for_and_its_holder_named(host: Host) -> None:
    """Another program that ends is waited for; one that does not is named, and nothing has changed."""
    host.stage(host.publish("1.0"))
    held = lock(host)
    with pytest.raises(PackageLocked, match=rf"is held by process {os.getpid()} \(.*python") as caught:
        host.switch("1.0", lock_timeout_s=0.3)
    assert (caught.value.retryable, host.live(), host.rpm.state()) == (True, "", "")
    timer = threading.Timer(0.5, os.close, [held])
    timer.start()
    host.switch("1.0")
    timer.join()
    assert host.rpm.state() == "1.0"


def test_a_damaged_database_is_rebuilt(host: Host) -> None:
    """Where an index is damaged, rpm rebuilds it from its headers before anything is decided on it."""
    host.go(host.publish("1.0"))
    path = host.rpm.root / "var/lib/rpm/rpmdb.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'Providename'").fetchone()[0]
        size = database.execute("PRAGMA page_size").fetchone()[0]
    database.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    host.go(host.publish("1.1"))
    assert (host.rpm.state(), host.rpm.state("sh"), host.verify("1.1")) == ("1.1", "1", True)


def test_a_lost_database_is_said_and_nothing_is_installed_on_it(host: Host) -> None:
    """Where rpm cannot rebuild its database, the way out is a backup; no package is installed beside it."""
    host.publish("1.0")
    (host.rpm.root / "var/lib/rpm/rpmdb.sqlite").write_bytes(b"garbage" * 999)
    with pytest.raises(PackageError, match="damaged and cannot be rebuilt; restore it from a backup") as caught:
        host.stage("1.0")
    assert caught.value.code == "database"
    assert not (host.rpm.root / "opt").exists()


def test_what_is_no_package_is_refused_at_the_staging(host: Host) -> None:
    """Other bytes, and bytes that only begin well, never come to a switch."""
    for content in (b"no package", b"\xed\xab\xee\xdb cut off"):
        tree = Tree({"hello.rpm": content})
        plan = make_plan(host.folder / "agent", tree, "1.0", Install("rpm"))
        with pytest.raises(InputError, match=r"as an? RPM package") as caught:
            host.rpm.installer().stage(plan, tree.materialise(Files()))
        assert caught.value.code == "bad-package"


def test_a_host_without_the_tool_refuses_before_anything_is_staged(tmp_path: Path) -> None:
    """An agent on a Debian host says so by name."""
    tree = Tree({"hello.rpm": b"\xed\xab\xee\xdb"})
    plan = make_plan(tmp_path / "agent", tree, "1.0", Install("rpm"))
    installer = PackageInstaller(Files(), RpmTool(SystemClock(), rpm=("/nowhere/rpm",)))
    with pytest.raises(InputError, match="cannot install kind 'rpm' here: there is no rpm on this host"):
        installer.stage(plan, tree.materialise(Files()))
    assert not plan.app_dir.exists()
