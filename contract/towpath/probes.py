"""What can be known of a probe before it runs: faults because of which it could never pass on any host.

The publisher's lint, the server and the host ask the same. A fault is (option, reason); the option "" is the probe as a
whole. Options are checked as far as they are known: a `${parameter}` of a number or truth value stands for any good
one, an option with a text in it is left to the host, which fails the check and says why.
Not handled here: types, unknown and missing options (`towpath.kinds`), what a release's tree holds (the CLI's lint).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal

from towpath.errors import InputError
from towpath.kinds import LOGGED_SERVICES, is_number
from towpath.parameters import Parameter, Value, placeholders, render
from towpath.quantity import format_duration
from towpath.weburl import parse_web_url

Fault = tuple[str, str]
Options = Mapping[str, Value]

# What the probe `http` looks at of a body.
MAX_BODY_BYTES = 4096
MAX_PATTERN_CHARS = 512

_STATUSES = range(100, 600)
_UNIT = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9:_.@\\-]{0,240}"
    r"\.(service|socket|device|mount|automount|swap|target|path|timer|slice|scope)"
)
_METRIC = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*")
_LABEL = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_STAND_INS: Mapping[str, Value] = {"int": 1, "port": 1, "bool": True}


def split_label(text: str) -> tuple[str, str]:
    """Return name and value of a wanted label, written `name=value`; InputError otherwise."""
    match = _LABEL.fullmatch(text)
    if match is None:
        raise InputError(f"cannot look for label {text[:60]!r}: write name=value")
    return match[1], match[2]


def compile_pattern(text: str) -> re.Pattern[str]:
    """Return the compiled regular expression; InputError where it is too long or none."""
    if len(text) > MAX_PATTERN_CHARS:
        raise InputError(f"cannot use a pattern of {len(text)} characters: at most {MAX_PATTERN_CHARS}")
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(f"cannot use the pattern {text[:60]!r}: {error}") from error


def is_unit(name: str) -> bool:
    """Return whether `name` could be a systemd unit, its type included; nothing that a command takes for an option."""
    return _UNIT.fullmatch(name) is not None


def probe_faults(kind: str, options: Options, parameters: Iterable[Parameter], run_kind: str) -> Iterator[Fault]:
    """Yield why a probe of `kind` could never pass in a release that is run by `run_kind`; its types are checked."""
    known = _known(options, parameters)
    if kind == "log" and "path" not in options and run_kind not in LOGGED_SERVICES:
        yield "", f"an app that is run by {run_kind!r} has no log of its own here; give the path of one"
    yield from _CHECKS.get(kind, _nothing)(options, known)


def clock_fault(*, interval_ms: int, successes: int, healthy_for_ms: int, deadline_ms: int) -> str:
    """Return why these clocks can never end well, "" where they can.

    The first check is made at once, the others `interval` apart; from the last of `successes` on, `healthy_for` runs.
    """
    needed = (successes - 1) * interval_ms + healthy_for_ms
    if needed < deadline_ms:
        return ""
    return (
        f"{successes} successes {format_duration(interval_ms)} apart and then {format_duration(healthy_for_ms)} "
        f"of health take {format_duration(needed)}; the health deadline is {format_duration(deadline_ms)}"
    )


def _known(options: Options, parameters: Iterable[Parameter]) -> dict[str, Value]:
    """Return the options that can be judged now, stand-ins filled."""
    values = {one.name: _STAND_INS[one.type] for one in parameters if one.type in _STAND_INS}
    known: dict[str, Value] = {}
    for name, value in options.items():
        texts = value if isinstance(value, tuple) else (value,) if isinstance(value, str) else ()
        if all(placeholders(text) <= set(values) for text in texts):
            filled = tuple(render(text, values) for text in texts)
            known[name] = filled if isinstance(value, tuple) else filled[0] if isinstance(value, str) else value
    return known


def _nothing(_options: Options, _known: Options) -> Iterator[Fault]:
    return iter(())


def _web(options: Options, known: Options) -> Iterator[Fault]:
    if options.get("verify") is False and "ca" in options:
        yield "ca", "a certificate authority means nothing where verify is false; leave one of them out"
    if "url" not in known:
        return
    try:
        url = parse_web_url(str(known["url"]))
    except InputError as error:
        yield "url", str(error)
        return
    secured = [name for name in ("ca", "verify") if name in options]
    if secured and url.scheme != "https":
        yield secured[0], "it is for https alone, and the url is http"
    elif options.get("verify") is False and not url.loopback:
        yield "verify", f"only loopback may be asked unverified, and {url.host} is not; give the authority as ca"


def _http(options: Options, known: Options) -> Iterator[Fault]:
    yield from _web(options, known)
    status = options.get("status")
    if isinstance(status, int) and status not in _STATUSES:
        yield "status", f"no server answers {status}; a status is 100 to 599"
    body = known.get("body")
    if body is not None and len(str(body).encode()) > MAX_BODY_BYTES:
        yield "body", f"only the first {MAX_BODY_BYTES} bytes of a body are looked at, and this text is longer"


def _exec(options: Options, _known: Options) -> Iterator[Fault]:
    command = options.get("command", ())
    words = command if isinstance(command, tuple) else ()
    if not words or not words[0]:
        yield "command", "it names no program"
    elif placeholders(words[0]):
        yield "command", f"the program {words[0]!r} of a command may not be a parameter"


def _process(options: Options, _known: Options) -> Iterator[Fault]:
    restarts = options.get("max_restarts")
    if isinstance(restarts, int) and restarts < 0:
        yield "max_restarts", "a count of restarts is 0 or more"


def _unit(_options: Options, known: Options) -> Iterator[Fault]:
    name = str(known.get("unit", "x.service"))
    if not is_unit(name):
        yield "unit", f"{name[:60]!r} is no unit; name it with its type, such as nginx.service"


def _fresh(options: Options, known: Options) -> Iterator[Fault]:
    if not known.get("path", "x"):
        yield "path", "it names no file"
    if options.get("max_age") == 0:
        yield "max_age", "no file is younger than nothing; give the longest time between two writes"


def _disk(_options: Options, known: Options) -> Iterator[Fault]:
    if not known.get("path", "x"):
        yield "path", "it names no folder"


def _log(options: Options, known: Options) -> Iterator[Fault]:
    if "pattern" not in options and "forbid" not in options:
        yield "", "it looks for nothing; give a pattern, a text to forbid, or both"
    for name in ("pattern", "forbid"):
        if name in known:
            try:
                compile_pattern(str(known[name]))
            except InputError as error:
                yield name, str(error)


def _prometheus(options: Options, known: Options) -> Iterator[Fault]:
    yield from _web(options, known)
    metric = str(known.get("metric", "x"))
    if _METRIC.fullmatch(metric) is None:
        yield "metric", f"{metric[:60]!r} is no metric's name; labels have an option of their own"
    labels = options.get("labels", ())
    for label in labels if isinstance(labels, tuple) else ():
        try:
            split_label(label)
        except InputError as error:
            yield "labels", str(error)
    limits = [str(options.get(name)) for name in ("min", "max")]
    if all(is_number(limit) and not placeholders(limit) for limit in limits):
        low, high = (Decimal(limit) for limit in limits)
        if low > high:
            yield "min", f"no number is at least {low} and at most {high}"


_CHECKS: Mapping[str, Callable[[Options, Options], Iterator[Fault]]] = {
    "http": _http,
    "exec": _exec,
    "process": _process,
    "unit": _unit,
    "fresh": _fresh,
    "disk": _disk,
    "log": _log,
    "prometheus": _prometheus,
}
