"""Where a driver comes from: the host's own operator, or the signed release. Nobody else.

Rules: a bare name is a file of `DIR/drivers`, else of `/usr/lib/towpath/drivers`; it and every folder on the way to it
must belong to root or the agent's user and be writable by nobody else, because it runs with the agent's rights. A path
`./...` lies inside the release's tree, which a publisher signed
and which was compared with its index when it was staged; it is as safe as the release's hooks.
"""

from pathlib import Path

from towpath.errors import InputError, Refusal
from towpath.kinds import check_driver
from towpath_agent.errors import StartError
from towpath_agent.installers.base import InstallPlan
from towpath_agent.instance import SEARCH_PATH
from towpath_agent.system.files import Files
from towpath_agent.system.ownership import changeable_by
from towpath_agent.system.process import find_program

DRIVERS = "drivers"
SYSTEM_DRIVERS = Path("/usr/lib/towpath/drivers")


def in_release(driver: str) -> bool:
    """Return whether `driver` names a program of the release's tree."""
    return driver.startswith("./")


def find_driver(plan: InstallPlan, driver: str, files: Files, system: Path = SYSTEM_DRIVERS) -> Path:
    """Return the program of `driver`.

    InputError where it is not there, StartError where it could not run, Refusal (`unsafe-driver`) where others could
    change it.
    """
    check_driver(f"{plan.app} {plan.release.version}", driver)
    if in_release(driver):
        return find_program(driver, folder=plan.folder, search_path=SEARCH_PATH)
    places = (plan.app_dir.parent.parent / DRIVERS, system)
    for place in places:
        if files.exists(place / driver):
            return check_program(place / driver, files)
    raise InputError(
        f"cannot install {plan.app}: this host has no driver {driver!r}; put one into {places[0]} or {places[1]}",
        code="no-driver",
    )


def check_program(path: Path, files: Files) -> Path:
    """Return the real path of a driver of the host, which nobody but root and the agent's user can change."""
    real = files.real(path)
    try:
        program = find_program(str(real), folder=real.parent, search_path=SEARCH_PATH)
    except StartError as error:
        raise StartError(f"cannot use driver {path}: {error}") from error
    reason = changeable_by(program)
    if reason:
        raise Refusal(f"cannot use driver {path}: {reason}; chown it to root and chmod go-w", code="unsafe-driver")
    return program
