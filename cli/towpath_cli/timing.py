"""The options that say when a rollout moves hosts and whom it waits for, shared by `deploy` and `promote`.

What a time or a zone means is the server's to say: here only the form is checked, so that no round trip is wasted.
"""

from typing import Any

import click

from towpath.errors import InputError
from towpath.holds import check_line
from towpath.windows import parse_moment, parse_windows
from towpath_cli.options import DURATION

OFFLINE_DEADLINE_MS = 3_600_000

TIMING_OPTIONS = (
    click.option(
        "--window",
        "windows",
        multiple=True,
        metavar="WHEN",
        help="Move hosts only then, such as 'Mon-Fri 22:00-04:00 Europe/Berlin'; may be repeated.",
    ),
    click.option("--at", metavar="TIME", default="", help="Not before, such as '2026-12-20T22:00 Europe/Berlin'."),
    click.option("--expires", metavar="TIME", default="", help="Let nobody in from then on; the rollout ends."),
    click.option("--override-freeze", metavar="REASON", default="", help="Freezes do not stop it; audited."),
    click.option(
        "--offline",
        type=click.Choice(["ignore", "wait"]),
        default="ignore",
        show_default=True,
        help="Whether a wave waits for hosts that are away.",
    ),
    click.option(
        "--offline-deadline",
        type=DURATION,
        default=None,
        help="How long --offline wait waits, once the rest is done [1h].",
    ),
    click.option(
        "--newcomers",
        type=click.Choice(["join", "wait"]),
        default="join",
        show_default=True,
        help="Whether hosts that come after it is done get the release, or stay on what they have.",
    ),
)


def timing(
    *,
    windows: tuple[str, ...] = (),
    at: str = "",
    expires: str = "",
    override_freeze: str = "",
    offline: str = "ignore",
    offline_deadline: int | None = None,
    newcomers: str = "join",
) -> dict[str, Any]:
    """Return the options as fields of a `DeployOrder`; InputError where nobody could read them."""
    if offline_deadline is not None and offline != "wait":
        raise InputError("cannot use --offline-deadline without --offline wait: nothing would wait for it")
    for text in (at, expires):
        if text:
            parse_moment(text)
    return {
        "windows": tuple(window.text for window in parse_windows(windows)),
        "at": at,
        "expires": expires,
        "override_freeze": check_line(override_freeze, "reason to override a freeze") if override_freeze else "",
        "offline_wait_ms": (offline_deadline or OFFLINE_DEADLINE_MS) if offline == "wait" else 0,
        "newcomers": newcomers,
    }
