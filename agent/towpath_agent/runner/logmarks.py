"""Where the logs of a release stood when it was started: what the probe `log` counts from.

Noted before the start, so that not even the first line is missed, beside the release's record, so that an agent that
comes back counts from the same place. Only releases with such probes have notes. A log that cannot be looked at, or a
note that cannot be written, costs precision (the log then counts whole, or from an earlier start), never the start.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from towpath.errors import TowpathError
from towpath.wire import decode_release
from towpath_agent.instance import Instance
from towpath_agent.journal import Deployed
from towpath_agent.probes.base import FileMark, place
from towpath_agent.runner.site import Site, id_of, render_options, values_of
from towpath_agent.services.base import Service

_MAX_BYTES = 2**16


def start(site: Site, service: Service, deployed: Deployed) -> None:
    """Start `deployed`, its logs noted before; one that runs already is adopted, with the notes that it has."""
    instance = site.instance(deployed)
    logs = _logs(deployed, instance)
    if logs and not service.state(instance).running:
        _take(site, deployed, logs)
    service.start(instance)


def read(site: Site, deployed: Deployed) -> Mapping[str, FileMark]:
    """Return the notes of the last start by path; none where there are none or they are garbled."""
    try:
        raw = json.loads(site.files.read(_path(site, deployed), _MAX_BYTES))
        return {str(path): FileMark(int(inode), int(size)) for path, (inode, size) in raw.items()}
    except (OSError, ValueError, AttributeError, TypeError, TowpathError):
        return {}


def _path(site: Site, deployed: Deployed) -> Path:
    return site.app_dir(deployed.wish.app) / "records" / f"{id_of(deployed)}.marks"


def _logs(deployed: Deployed, instance: Instance) -> list[Path]:
    """Return the files that the probes `log` of a release look at."""
    probes = [probe for probe in decode_release(deployed.release).probes if probe.kind == "log"]
    options = [render_options(probe.options, values_of(deployed)) for probe in probes]
    return [place(each.get("path", str(instance.log)), instance) for each in options]


def _take(site: Site, deployed: Deployed, logs: list[Path]) -> None:
    marks = {}
    for log in logs:
        with contextlib.suppress(OSError, TowpathError, RuntimeError):
            facts = site.files.stat(site.files.real(log))
            marks[str(log)] = (facts.st_ino, facts.st_size)
    with contextlib.suppress(OSError, TowpathError):
        site.files.make_dirs(_path(site, deployed).parent)
        site.files.write_atomic(_path(site, deployed), json.dumps(marks).encode())
