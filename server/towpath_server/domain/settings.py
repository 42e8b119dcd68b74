"""Where a parameter's text comes from: the host, a label of it, its environment, and else the release's own default.

Rules, each a named test:
- host before label before environment; what none of them sets is the release's default.
- two labels of one host that set a parameter differently disagree: nobody guesses, it is refused in one line. Where the
  host sets it itself, or both say the same, they do not.

Pure. Not handled here: types (`domain.manifests`, against what the release declares).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from towpath.errors import InputError
from towpath.names import check_labels
from towpath_server.domain.model import Host, Setting

HOST = "host"


@dataclass(frozen=True, slots=True)
class Origin:
    """A text, and what sets it: `host`, `label rack=7` or `environment dev`."""

    text: str
    where: str


def covers(setting: Setting, host: Host) -> bool:
    """Return whether the host is in the setting's environment, with its label."""
    key, _, value = setting.label.partition("=")
    return setting.environment == host.environment and (not key or host.labels.get(key) == value)


def check_label(label: str) -> str:
    """Return `label` where it is empty or KEY=VALUE, else raise InputError."""
    key, equals, value = label.partition("=")
    if label and not (key and equals and value):
        raise InputError(f"cannot read label {label[:80]!r}: write it as key=value")
    check_labels({key: value} if label else {})
    return label


def origins(host: Host, app: str, settings: Iterable[Setting]) -> dict[str, Origin]:
    """Return the texts of an app's parameters on a host, each with what sets it; InputError where labels disagree."""
    prefix = f"{app}."
    own = {name[len(prefix) :]: text for name, text in host.parameters.items() if name.startswith(prefix)}
    mine = [one for one in settings if one.app == app and covers(one, host)]
    result = {one.name: Origin(one.text, f"environment {one.environment}") for one in mine if not one.label}
    labelled: dict[str, list[Setting]] = {}
    for one in mine:
        if one.label and one.name not in own:
            labelled.setdefault(one.name, []).append(one)
    for name, found in labelled.items():
        _check_agree(host, found)
        result[name] = Origin(found[0].text, f"label {found[0].label}")
    return {**result, **{name: Origin(text, HOST) for name, text in own.items()}}


def _check_agree(host: Host, found: Sequence[Setting]) -> None:
    other = next((one for one in found if one.text != found[0].text), None)
    if other is not None:
        one = found[0]
        raise InputError(
            f"cannot tell what {one.app}.{one.name} is on {host.name}: label {one.label} says {one.text[:60]}, label "
            f"{other.label} says {other.text[:60]}; set it on the host, or unset one of them"
        )
