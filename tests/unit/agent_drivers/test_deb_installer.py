"""Installer `deb` on the real dpkg: what it refuses, keeps, brings back, and mends after a cut."""

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from fakes.packages import DebHost, build_deb, need
from fakes.trees import Tree, make_plan
from towpath.errors import InputError, Refusal
from towpath.parameters import Value
from towpath.release import Install
from towpath_agent.errors import PackageError, PackageLocked
from towpath_agent.installers.base import InstallPlan, current_release
from towpath_agent.installers.deb import DebTool
from towpath_agent.installers.package import PackageInstaller
from towpath_agent.installers.tool import Call
from towpath_agent.system.clock import SystemClock
from towpath_agent.system.files import Files
from towpath_agent.system.process import find_by_env

CONF = "etc/hello/hello.conf"


class Host:
    """One dpkg host and the releases of one app."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.deb = DebHost.make(folder / "host", folder / "dpkg")
        self.plans: dict[str, tuple[InstallPlan, Tree]] = {}

    def publish(
        self, version: str, *, app: str = "hello", options: dict[str, Value] | None = None, **deb: object
    ) -> str:
        """Build a release; its package is made by `build_deb(**deb)`."""
        data = build_deb(self.folder, version, **deb)  # type: ignore[arg-type]
        tree = Tree({"hello.deb": data})
        plan = make_plan(self.folder / "agent", tree, version, Install("deb", options or {}))
        if app != plan.app:
            plan = InstallPlan(
                plan.app_dir.parent / app, app, plan.release_id, plan.release, plan.entries, {}, plan.staging
            )
        self.plans[version] = plan, tree
        return version

    def stage(self, version: str, **options: float) -> None:
        plan, tree = self.plans[version]
        self.deb.installer(**options).stage(plan, tree.materialise(Files()))

    def switch(self, version: str, previous: str | None = None, **options: float) -> None:
        before = None if previous is None else self.plans[previous][0].release_id
        self.deb.installer(**options).switch(self.plans[version][0], before)

    def go(self, version: str, previous: str | None = None) -> None:
        self.stage(version)
        self.switch(version, previous)

    def unswitch(self, version: str) -> None:
        self.deb.installer().unswitch(self.plans[version][0])

    def verify(self, version: str) -> bool:
        return self.deb.installer().verify(self.plans[version][0])

    def read(self, path: str) -> str:
        return (self.deb.root / path).read_text()

    def gone(self, name: str = "hello") -> bool:
        """Nothing is installed, not even half; edited configuration may be left."""
        return self.deb.state(name).partition(" ")[0] in ("", "not-installed", "config-files")

    def live(self) -> str:
        return (current_release(self.folder / "agent" / "apps" / "hello") or "").rpartition("-")[0]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Return a host with nothing on it."""
    return Host(tmp_path)


def by_somebody(host: Host, version: str, **deb: object) -> None:
    """Install a package that is none of ours."""
    build_deb(host.folder, version, **deb)  # type: ignore[arg-type]
    host.deb.by_hand("--install", host.folder / f"{deb.get('name', 'hello')}-{version}.deb")


def test_a_revert_downgrades_and_keeps_the_edited_configuration(host: Host) -> None:
    """Going back is the same call with the older package; what the operator edited stays on the way there and back."""
    host.go(host.publish("1.0", conffiles={CONF: "a = 1\n"}))
    (host.deb.root / CONF).write_text("a = mine\n")
    host.go(host.publish("1.1", conffiles={CONF: "a = 2\n"}), "1.0")
    assert (host.deb.state(), host.read(CONF)) == ("installed 1.1", "a = mine\n")
    host.switch("1.0")
    assert (host.deb.state(), host.read(CONF)) == ("installed 1.0", "a = mine\n")
    assert host.read("opt/hello/app") == "hello 1.0\n"
    assert host.live() == "1.0"


def test_removing_keeps_the_edited_configuration(host: Host) -> None:
    """An app that is removed, or a first install that is reverted, is removed and not purged."""
    host.go(host.publish("1.0", conffiles={CONF: "a = 1\n"}))
    (host.deb.root / CONF).write_text("a = mine\n")
    host.unswitch("1.0")
    assert host.deb.state() == "config-files 1.0"
    assert host.read(CONF) == "a = mine\n"
    assert not (host.deb.root / "opt/hello").exists()
    host.go("1.0")
    assert (host.deb.state(), host.read(CONF)) == ("installed 1.0", "a = mine\n")


def test_a_failing_script_is_said_and_undone(host: Host) -> None:
    """What the script wrote is in the error; the package before comes back, and a first install goes away again."""
    host.publish("1.0", scripts={"postinst": 'echo "cannot reach the database" >&2; exit 7'})
    host.stage("1.0")
    with pytest.raises(PackageError, match="cannot install hello 1.0: .*cannot reach the database") as caught:
        host.switch("1.0")
    assert (caught.value.code, host.live()) == ("package", "")
    host.unswitch("1.0")
    assert host.gone()
    host.go(host.publish("0.9"))
    with pytest.raises(PackageError):
        host.switch("1.0", "0.9")
    assert (host.deb.state(), host.live()) == ("half-configured 1.0", "0.9")
    host.switch("0.9")
    assert (host.deb.state(), host.verify("0.9")) == ("installed 0.9", True)


def test_a_hanging_script_is_ended_with_all_that_it_started(host: Host) -> None:
    """At the deadline of option `timeout` dpkg and its scripts are ended; the package before comes back."""
    host.go(host.publish("1.0"))
    host.publish("1.1", options={"timeout": 1500}, scripts={"postinst": "sleep 999 & wait"})
    host.stage("1.1")
    began = time.monotonic()
    with pytest.raises(PackageError, match="did not end within 1.5s"):
        host.switch("1.1", "1.0")
    assert time.monotonic() - began < 60
    assert not find_by_env("TOWPATH_INSTALL", str(host.plans["1.1"][0].app_dir))
    host.switch("1.0")
    assert (host.deb.state(), host.verify("1.0")) == ("installed 1.0", True)


@pytest.mark.parametrize("point", ["preinst", "postinst", "prerm", "postrm"])
@pytest.mark.parametrize("then", ["forward", "back"])
def test_dpkg_killed_in_any_script_is_mended_by_the_next_call(host: Host, point: str, then: str) -> None:
    """Killed -9 in the middle, half of each version is there; the next run ends with exactly one, verified."""
    deadly = 'if [ -e "$DPKG_ROOT/kill" ]; then rm "$DPKG_ROOT/kill"; kill -9 $PPID; sleep 1; fi'
    old = {point: deadly} if point in ("prerm", "postrm") else {}
    new = {} if old else {point: deadly}
    host.go(host.publish("1.0", scripts=old))
    host.stage(host.publish("1.1", scripts=new))
    (host.deb.root / "kill").touch()
    with pytest.raises(PackageError, match="status -9"):
        host.switch("1.1", "1.0")
    assert not (host.deb.root / "kill").exists()
    version = "1.1" if then == "forward" else "1.0"
    host.switch(version)
    assert (host.deb.state(), host.live(), host.verify(version)) == (f"installed {version}", version, True)
    assert host.read("opt/hello/app") == f"hello {version}\n"
    assert host.deb.by_hand("--audit") == ""


SYSCALLS = "rename,unlink"


def traced(host: Host, log: Path, inject: str = "") -> PackageInstaller:
    """Return an installer whose dpkg is watched by strace, and killed at the call that `inject` names."""
    watch = ("strace", "-o", str(log), "-e", f"trace={SYSCALLS}", *(("-e", inject) if inject else ()))
    return PackageInstaller(
        Files(), DebTool(Files(), SystemClock(), dpkg=(*watch, *host.deb.dpkg), query=host.deb.query)
    )


@pytest.mark.timeout(300)
def test_dpkg_killed_at_any_rename_and_unlink_is_mended_by_the_next_call(tmp_path: Path) -> None:
    """Strace kills dpkg at its n-th change of a name, for every n: the next call goes on or back, to one whole package."""
    need("strace", "strace")

    def begin(name: str) -> Host:
        folder = tmp_path / name
        folder.mkdir()
        host = Host(folder)
        host.go(host.publish("1.0", conffiles={CONF: "a = 1\n"}))
        (host.deb.root / CONF).write_text("a = mine\n")
        host.stage(host.publish("1.1", conffiles={CONF: "a = 2\n"}))
        return host

    host = begin("count")
    log = tmp_path / "log"
    # Only the last call of dpkg is in the log of each; the upgrade is the one that renames.
    tool = traced(host, log)._tool
    plan = host.plans["1.1"][0]
    tool.install(plan.folder / "hello.deb", tool.read(plan.folder / "hello.deb"), Call("x", 60.0, "x"))
    calls = [line.partition("(")[0] for line in log.read_text().splitlines() if line.startswith(("rename(", "unlink("))]
    assert len(calls) > 15
    for at, call in enumerate(calls):
        host = begin(str(at))
        installer = traced(host, log, f"inject={call}:signal=KILL:when={calls[: at + 1].count(call)}")
        with pytest.raises(PackageError, match="status -9"):
            installer.switch(host.plans["1.1"][0], None)
        version = "1.1" if at % 2 else "1.0"
        host.switch(version)
        assert (host.deb.state(), host.verify(version)) == (f"installed {version}", True), at
        assert (host.deb.by_hand("--audit"), host.read(CONF)) == ("", "a = mine\n"), at


def test_a_first_install_that_is_killed_is_taken_away(host: Host) -> None:
    """A package that was cut off before it was ever whole is removed, half as it is."""
    for point in ("preinst", "postinst"):
        version = host.publish(f"1.0-{point}", scripts={point: "kill -9 $PPID; sleep 1"})
        host.stage(version)
        with pytest.raises(PackageError):
            host.switch(version)
        host.unswitch(version)
        assert host.gone()
        assert not (host.deb.root / "opt").exists()


@pytest.mark.parametrize(
    ("deb", "code", "words"),
    [
        ({"architecture": "s390x"}, "wrong-architecture", "is for s390x, this host is"),
        ({"control": "Depends: libfoo (>= 2), other\n"}, "missing-dependency", "libfoo (>= 2); other, which is not"),
        ({"control": "Pre-Depends: libfoo | libbar\n"}, "missing-dependency", "libfoo | libbar"),
        ({"control": "Depends: there (>> 1.0)\n"}, "missing-dependency", "there (>> 1.0)"),
        ({"control": "Conflicts: there\n"}, "conflict", "conflicts with there"),
        ({"control": "Conflicts: there\nReplaces: there\n"}, "conflict", "would remove package there"),
        ({"options": {"package": "hallo"}}, "wrong-package", "the package is 'hello', not 'hallo'"),
    ],
)
def test_what_cannot_be_installed_is_refused_before_anything_changes(
    host: Host, deb: dict[str, object], code: str, words: str
) -> None:
    """Architecture, dependencies by name, conflicts and another package's name are said at the staging."""
    by_somebody(host, "1.0", name="there")
    status = (host.deb.admin / "status").read_text()
    host.publish("1.0", **deb)
    with pytest.raises((InputError, Refusal)) as caught:
        host.stage("1.0")
    assert (caught.value.code, words in str(caught.value)) == (code, True), caught.value
    assert (host.deb.admin / "status").read_text() == status
    assert host.live() == ""


def test_dependencies_that_are_there_are_enough(host: Host) -> None:
    """Installed in that version, provided by another, an alternative, or the package itself."""
    by_somebody(host, "1.5", name="there", control="Provides: virtual, numbered (= 3)\n")
    needs = "Depends: there (>= 1.2), none | virtual, numbered (>= 3), hello, own\nProvides: own\n"
    host.go(host.publish("1.0", control=needs))
    assert host.deb.state() == "installed 1.0"


def test_a_package_of_somebody_else_is_neither_replaced_nor_removed(host: Host) -> None:
    """Without `adopt` it is refused before anything changes, and a removal of the app leaves it."""
    by_somebody(host, "1.0")
    host.publish("1.1")
    with pytest.raises(InputError, match="is installed and not from this app; remove it, or publish") as caught:
        host.stage("1.1")
    assert caught.value.code == "unmanaged-package"
    with pytest.raises(InputError):
        host.switch("1.1")
    host.unswitch("1.1")
    assert host.deb.state() == "installed 1.0"


def test_an_adopted_package_is_upgraded_and_in_the_end_let_go(host: Host) -> None:
    """With `adopt: true` it is taken over; what was there before us is still there after us."""
    by_somebody(host, "1.0")
    host.go(host.publish("1.1", options={"adopt": True}))
    assert host.deb.state() == "installed 1.1"
    host.go(host.publish("1.2"), "1.1")
    host.unswitch("1.2")
    assert host.deb.state() == "installed 1.2"
    host.publish("1.3")
    with pytest.raises(InputError, match="not from this app"):
        host.stage("1.3")


def test_a_package_of_another_app_is_refused(host: Host) -> None:
    """Two apps never claim one package, not even with `adopt`; the first keeps it."""
    host.go(host.publish("1.0"))
    host.publish("1.1", app="other", options={"adopt": True})
    with pytest.raises(InputError, match="belongs to app hello; undeploy that first") as caught:
        host.stage("1.1")
    assert caught.value.code == "package-claimed"
    host.unswitch("1.1")
    assert host.deb.state() == "installed 1.0"


def test_an_app_may_change_its_package(host: Host) -> None:
    """A release with a package of another name takes the old one's place, and gives it back on a revert."""
    host.go(host.publish("1.0"))
    host.go(host.publish("1.1", name="hallo"), "1.0")
    assert (host.gone("hello"), host.deb.state("hallo")) == (True, "installed 1.1")
    host.switch("1.0")
    assert (host.deb.state("hello"), host.gone("hallo")) == ("installed 1.0", True)


def lock(path: Path) -> int:
    """Take dpkg's lock as another program would; return its descriptor."""
    held = os.open(path / "lock-frontend", os.O_RDWR | os.O_CREAT)
    fcntl.lockf(held, fcntl.LOCK_EX)
    return held


def test_a_lock_is_waited_for(host: Host) -> None:
    """Where another program works with dpkg, the switch waits for its end."""
    host.stage(host.publish("1.0"))
    held = lock(host.deb.admin)
    timer = threading.Timer(0.5, os.close, [held])
    timer.start()
    host.switch("1.0")
    timer.join()
    assert host.deb.state() == "installed 1.0"


def test_who_holds_the_lock_for_too_long_is_named(host: Host) -> None:
    """The error names the process, is worth another try, and nothing has changed."""
    host.stage(host.publish("1.0"))
    held = lock(host.deb.admin)
    with pytest.raises(PackageLocked, match=rf"is held by process {os.getpid()} \(.*python") as caught:
        host.switch("1.0", lock_timeout_s=0.3)
    os.close(held)
    assert (caught.value.code, caught.value.retryable, host.live(), host.deb.state()) == (
        "package-locked",
        True,
        "",
        "",
    )


@pytest.mark.parametrize("hangs", [False, True])
def test_a_dpkg_that_a_killed_agent_left_is_awaited_and_ended_where_it_hangs(host: Host, hangs: bool) -> None:
    """Kill -9 of the agent leaves dpkg at work: the next agent neither runs into it nor waits for ever."""
    wait = 'touch "$DPKG_ROOT/begun"; while [ ! -e "$DPKG_ROOT/go" ]; do sleep 0.05; done'
    host.publish("1.0", scripts={"postinst": wait}, options={"timeout": 1000 if hangs else 60000})
    host.stage("1.0")
    first = os.fork()
    if first == 0:
        host.switch("1.0")
        os._exit(0)
    deadline = time.monotonic() + 30
    while not (host.deb.root / "begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(first, 9)
    os.waitpid(first, 0)
    marker = str(host.plans["1.0"][0].app_dir)
    assert find_by_env("TOWPATH_INSTALL", marker)
    if not hangs:
        threading.Timer(0.5, (host.deb.root / "go").touch).start()
        host.switch("1.0")
        assert host.deb.state() == "installed 1.0"
    else:
        host.unswitch("1.0")
        assert host.gone()
    assert not find_by_env("TOWPATH_INSTALL", marker)


@pytest.mark.parametrize("point", ["prerm", "postrm"])
def test_a_broken_removal_script_keeps_no_release_on_the_host(host: Host, point: str) -> None:
    """A revert and a removal get past a script of the outgoing package that always fails."""
    host.go(host.publish("1.0"))
    host.go(host.publish("1.1", scripts={point: "exit 3"}), "1.0")
    host.switch("1.0")
    assert (host.deb.state(), host.verify("1.0")) == ("installed 1.0", True)
    host.go("1.1", "1.0")
    host.unswitch("1.1")
    assert host.gone()


def test_a_changed_file_is_drift_and_edited_configuration_is_not(host: Host) -> None:
    """`verify` sees a changed file, a lost one and another version; switching again mends all three."""
    host.go(host.publish("1.0", conffiles={CONF: "a = 1\n"}))
    (host.deb.root / CONF).write_text("a = mine\n")
    assert host.verify("1.0")

    def other_version() -> None:
        by_somebody(host, "9.0")

    app = host.deb.root / "opt/hello/app"
    for damage in (lambda: app.write_text("changed"), app.unlink, other_version):
        damage()
        assert not host.verify("1.0")
        host.switch("1.0")
        assert host.verify("1.0")
        assert host.read(CONF) == "a = mine\n"


def test_what_others_left_half_way_is_left_and_what_we_left_is_finished(host: Host) -> None:
    """After a cut, only packages that became half-way in that very call are configured."""
    (host.deb.root / "ill").touch()
    by_somebody(host, "1.0", name="sick", scripts={"postinst": '[ ! -e "$DPKG_ROOT/ill" ]'})
    (host.deb.root / "ill").unlink()  # from here on it could be configured, by whoever does
    once = 'if [ "$1" = triggered ] && [ -e "$DPKG_ROOT/kill" ]; then rm "$DPKG_ROOT/kill"; kill -9 $PPID; sleep 1; fi'
    by_somebody(host, "1.0", name="watcher", scripts={"postinst": once}, triggers="interest-noawait /opt/hello\n")
    assert (host.deb.state("sick"), host.deb.state("watcher")) == ("half-configured 1.0", "installed 1.0")
    host.stage(host.publish("1.0"))
    (host.deb.root / "kill").touch()
    with pytest.raises(PackageError):
        host.switch("1.0")
    assert host.deb.state("watcher") != "installed 1.0"
    host.switch("1.0")
    assert (host.deb.state(), host.deb.state("watcher")) == ("installed 1.0", "installed 1.0")
    assert host.deb.state("sick") == "half-configured 1.0"


def test_a_record_cut_off_anywhere_is_known_again_by_the_links(host: Host) -> None:
    """FAULTS 2.15: whatever is left of `package.json`, an upgrade and a revert go on; in doubt nothing is removed."""
    host.go(host.publish("1.0"))
    record = host.plans["1.0"][0].app_dir / "package.json"
    whole = record.read_bytes()
    host.publish("1.1")
    for length in range(0, len(whole), 7):
        record.write_bytes(whole[:length])
        host.go("1.1", "1.0")
        record.write_bytes(whole[:length])
        host.switch("1.0")
        assert (host.deb.state(), host.verify("1.0")) == ("installed 1.0", True)
    record.write_bytes(b"")
    host.unswitch("1.0")
    assert (host.deb.state(), host.live()) == ("installed 1.0", "")


@pytest.mark.parametrize("content", [b"no package at all", b"!<arch>\ndebian-binary but cut off"])
def test_what_is_no_package_is_refused_at_the_staging(host: Host, content: bytes) -> None:
    """Other bytes, and bytes that only begin well, never come to a switch."""
    tree = Tree({"hello.deb": content})
    plan = make_plan(host.folder / "agent", tree, "1.0", Install("deb"))
    with pytest.raises(InputError, match="as a Debian package") as caught:
        host.deb.installer().stage(plan, tree.materialise(Files()))
    assert caught.value.code == "bad-package"


def test_a_host_without_the_tool_refuses_before_anything_is_staged(tmp_path: Path) -> None:
    """An agent on another kind of host says so by name."""
    tree = Tree({"hello.deb": b"!<arch>\ndebian-binary"})
    plan = make_plan(tmp_path / "agent", tree, "1.0", Install("deb"))
    installer = PackageInstaller(Files(), DebTool(Files(), SystemClock(), dpkg=("/nowhere/dpkg",)))
    with pytest.raises(InputError, match="cannot install kind 'deb' here: there is no dpkg on this host") as caught:
        installer.stage(plan, tree.materialise(Files()))
    assert caught.value.code == "no-tool"
    assert not plan.app_dir.exists()
