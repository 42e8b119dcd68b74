"""What the server's package puts on its machine, as a tree of files below one folder.

    /usr/bin/towpath-server, /usr/bin/towpath       start the commands in the package's own Python
    /usr/lib/towpath-server/                        that Python, all of Towpath, what it stands on
    /usr/lib/systemd/system/towpath-server.service  not enabled: a server without a fleet has nothing to do
    /etc/towpath/server.toml                        settings: agents and enrolment listen everywhere, operators here
    /usr/share/{man,bash-completion,zsh,fish,doc}   pages and completion of both commands

The same rules as for the agent's (`tree`).
"""

from environment import make_environment
from tools import run
from tree import Package, copy, copyright_of, settle, write

# As an installed server is asked about far more often than one in ./fleet.
COMMAND = """\
#!/{prefix}/bin/python3.11 -I
import os

from {module} import main

os.environ.setdefault("TOWPATH_SERVER_DIR", "/var/lib/towpath-server")
main()
"""
PAGES = {
    "man": "usr/share/man/man1/{name}.1",
    "bash": "usr/share/bash-completion/completions/{name}",
    "zsh": "usr/share/zsh/vendor-completions/_{name}",
    "fish": "usr/share/fish/vendor_completions.d/{name}.fish",
}


def make_server_tree(package: Package) -> None:
    """Fill `package.tree`."""
    tree, product = package.tree, package.product
    make_environment(package.root, tree / product.prefix, product)
    for name, module, _ in product.programs:
        write(tree / f"usr/bin/{name}", COMMAND.format(prefix=product.prefix, module=module), 0o755)
    copy(package.root / "packaging/systemd/towpath-server.service", tree / "usr/lib/systemd/system")
    copy(package.root / "packaging/server/server.toml", tree / "etc/towpath")
    doc = tree / f"usr/share/doc/{product.name}"
    copy(package.root / "LICENSE", doc)
    copy(package.root / "packaging/server/README", doc)
    write(doc / "copyright", copyright_of(package.root, product))
    python = tree / product.prefix / "bin/python3.11"
    for program in product.programs:
        name = program[0]
        for what, place in PAGES.items():
            page = run(python, "-I", package.root / "packaging/make/pages.py", what, str(package.time_s), *program)
            write(tree / place.format(name=name), page)
        run("gzip", "-9n", tree / PAGES["man"].format(name=name))
    settle(tree, package.time_s)
