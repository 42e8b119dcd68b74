"""Runs a hook of a release at one of its points, and says how it failed where it did."""

from towpath.errors import TowpathError
from towpath.wire import decode_release
from towpath_agent.engine.table import Outcome
from towpath_agent.journal import Deployed
from towpath_agent.runner.result import Result
from towpath_agent.runner.site import Drivers, Site, values_of


def run_hook(drivers: Drivers, site: Site, point: str, deployed: Deployed) -> Result | None:
    """Run the hook of `point` where the release has one; return a Result only where it failed."""
    release = decode_release(deployed.release)
    hook = release.hook(point)
    if hook is None:
        return None
    try:
        result = drivers.hooks.run(hook, site.instance(deployed), values_of(deployed))
    except (TowpathError, OSError) as error:
        return Result(Outcome.FAILED, f"hook {point}: {error}", "hook-failed")
    except Exception as error:  # noqa: BLE001 - most hooks only say that they failed; a bug must not do more
        return Result(Outcome.FAILED, f"hook {point}: {type(error).__name__}: {error}", "driver-bug")
    if result.timed_out:
        reason = f"hook {point} did not end within {hook.timeout_ms / 1000:g}s"
        return Result(Outcome.FAILED, reason, "hook-timeout", evidence=result.output)
    if result.status != 0:
        return Result(Outcome.FAILED, f"hook {point} exited {result.status}", "hook-failed", evidence=result.output)
    return None
