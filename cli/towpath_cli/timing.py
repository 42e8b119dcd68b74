"""The options that say when a rollout moves hosts and whom it waits for, rows of `towpath_cli.policyoption`.

What a time or a zone means is the server's to say: here only the form is checked, so that no round trip is wasted. Only
to compare a fleet file with what the server has is a time reckoned here.
"""

from typing import Any

import click

from towpath.errors import InputError
from towpath.holds import check_line
from towpath.instants import moment_ms
from towpath.quantity import format_duration
from towpath.windows import parse_moment, parse_windows, parse_zone
from towpath_cli.options import DURATION
from towpath_cli.output import when
from towpath_cli.policyoption import ABSENT, CHOICE, PolicyOption, Said, Values, or_absent

OFFLINE_DEADLINE_MS = 3_600_000
IGNORE, WAIT, JOIN = "ignore", "wait", "join"


def zoned(text: str, zone: str, option: str) -> str:
    """Return a time with the zone that it lacks."""
    if not text:
        return ""
    try:
        parse_moment(text)
    except InputError:
        if not zone:
            raise
        text = f"{text} {parse_zone(zone)}"
        parse_moment(text)
    else:
        if zone:
            raise InputError(f"cannot use --zone together with {option} {text[:40]!r}: it says its zone already")
    return text


def _moment(name: str) -> Any:
    def fields(values: Values) -> dict[str, Any]:
        if values[name]:
            parse_moment(values[name])
        return {name: values[name]}

    return fields


def _when(text: str) -> str:
    return when(moment_ms(parse_moment(text), machine="this machine")) if text else ABSENT


def _offline(values: Values) -> dict[str, Any]:
    deadline, waits = values["offline_deadline"], values["offline"] == WAIT
    if deadline is not None and not waits:
        raise InputError("cannot use --offline-deadline without --offline wait: nothing would wait for it")
    return {"offline_wait_ms": (deadline or OFFLINE_DEADLINE_MS) if waits else 0}


def _override(values: Values) -> dict[str, Any]:
    reason = values["override_freeze"]
    return {"override_freeze": check_line(reason, "reason to override a freeze") if reason else ""}


def _waits(milliseconds: int) -> str:
    return f"{WAIT} {format_duration(milliseconds)}" if milliseconds else IGNORE


TIMING_OPTIONS = (
    PolicyOption(
        "windows",
        "--window",
        yaml="Windows",
        default=(),
        fields=lambda values: {"windows": tuple(window.text for window in parse_windows(values["windows"]))},
        said=Said(
            order=lambda order: or_absent(", ".join(order.windows)),
            rollout=lambda rollout: or_absent(", ".join(rollout.windows)),
        ),
        click={
            "multiple": True,
            "metavar": "WHEN",
            "help": "Move hosts only then, such as 'Mon-Fri 22:00-04:00 Europe/Berlin'; may be repeated.",
        },
    ),
    PolicyOption(
        "at",
        "--at",
        yaml="Moment",
        default="",
        fields=_moment("at"),
        said=Said(
            order=lambda order: _when(order.at),
            rollout=lambda rollout: when(rollout.at_unix_ms),
        ),
        click={"metavar": "TIME", "help": "Not before, such as '2026-12-20T22:00 Europe/Berlin'."},
    ),
    PolicyOption(
        "expires",
        "--expires",
        yaml="Moment",
        default="",
        fields=_moment("expires"),
        said=Said(
            order=lambda order: _when(order.expires),
            rollout=lambda rollout: when(rollout.expires_unix_ms),
        ),
        click={"metavar": "TIME", "help": "Let nobody in from then on; the rollout ends."},
    ),
    PolicyOption(
        "override_freeze",
        "--override-freeze",
        yaml="Line",
        default="",
        fields=_override,
        said=Said(
            order=lambda order: or_absent(order.override_freeze),
            rollout=lambda rollout: or_absent(rollout.override_freeze),
        ),
        click={"metavar": "REASON", "help": "Freezes do not stop it; audited."},
    ),
    PolicyOption(
        "offline",
        "--offline",
        yaml=CHOICE,
        default=IGNORE,
        fields=_offline,
        said=Said(
            order=lambda order: _waits(order.offline_wait_ms),
            rollout=lambda rollout: _waits(rollout.offline_wait_ms),
            usual=(IGNORE,),
        ),
        click={
            "type": click.Choice([IGNORE, WAIT]),
            "show_default": True,
            "help": "Whether a wave waits for hosts that are away.",
        },
    ),
    PolicyOption(
        "offline_deadline",
        "--offline-deadline",
        yaml="Duration",
        default=None,
        click={"type": DURATION, "help": "How long --offline wait waits, once the rest is done [1h]."},
    ),
    PolicyOption(
        "newcomers",
        "--newcomers",
        yaml=CHOICE,
        default=JOIN,
        fields=lambda values: {"newcomers": values["newcomers"]},
        said=Said(
            order=lambda order: order.newcomers,
            rollout=lambda rollout: rollout.newcomers,
            usual=(JOIN,),
        ),
        click={
            "type": click.Choice([JOIN, WAIT]),
            "show_default": True,
            "help": "Whether hosts that come after it is done get the release, or stay on what they have.",
        },
    ),
    PolicyOption(
        "prefetch",
        "--prefetch",
        yaml="Flag",
        default=False,
        fields=lambda values: {"prefetch": values["prefetch"]},
        said=Said(
            order=lambda order: or_absent("yes" if order.prefetch else ""),
            rollout=lambda rollout: or_absent("yes" if rollout.prefetch else ""),
        ),
        click={"is_flag": True, "help": "Hosts download the release before they are let in."},
    ),
)
