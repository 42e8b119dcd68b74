"""Names and identifiers, and the one place that says what they may look like."""

import re

from towpath.errors import InputError

MAX_LABELS = 64

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_APP = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_VERSION = re.compile(r"[0-9A-Za-z]([0-9A-Za-z.+_~-]{0,62}[0-9A-Za-z])?")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")

HOST_URI = "spiffe://towpath/host/"
OPERATOR_URI = "spiffe://towpath/operator/"
# Every server presents this name, whatever address it was dialled by: the private CA is what vouches for it.
SERVER_NAME = "server.towpath.internal"
# What a host asks for that wants objects of the relay of its site; proves nothing, and nothing depends on it.
RELAY_NAME = "relay.towpath.internal"


def _check(pattern: re.Pattern[str], what: str, value: str, allowed: str) -> str:
    if pattern.fullmatch(value) is None:
        shown = value if len(value) <= 80 else value[:77] + "..."
        raise InputError(f"cannot use {shown!r} as {what}: allowed are {allowed}")
    return value


def check_host(name: str) -> str:
    """Return `name` where it is a usable host name, else raise InputError."""
    return _check(_NAME, "a host name", name, "1 to 63 lower-case letters, digits, '.', '_' and '-'")


def check_app(name: str) -> str:
    """Return `name` where it is a usable app name, else raise InputError."""
    return _check(_APP, "an app name", name, "1 to 40 lower-case letters, digits and '-', a letter first")


def check_version(version: str) -> str:
    """Return `version` where it is a usable version string, else raise InputError."""
    if ".." in version:
        raise InputError(f"cannot use {version[:80]!r} as a version: '..' is not allowed")
    return _check(_VERSION, "a version", version, "1 to 64 letters, digits, '.', '+', '_', '~' and '-'")


def check_environment(name: str) -> str:
    """Return `name` where it is a usable environment name, else raise InputError."""
    return _check(_NAME, "an environment", name, "lower-case letters, digits, '.', '_' and '-'")


def check_labels(labels: dict[str, str]) -> dict[str, str]:
    """Return `labels` where keys and values are usable, else raise InputError."""
    if len(labels) > MAX_LABELS:
        raise InputError(f"cannot use {len(labels)} labels: at most {MAX_LABELS} are allowed")
    for key, value in labels.items():
        _check(_LABEL, "a label", key, "letters, digits, '.', '_', '/' and '-'")
        if value:
            _check(_LABEL, f"the value of label {key}", value, "letters, digits, '.', '_', '/' and '-'")
    return labels


def target_path(app: str, version: str) -> str:
    """Return the TUF target path of a release: the delegation of an app covers `APP/*`."""
    return f"{app}/{version}.release"


def app_role(app: str) -> str:
    """Return the TUF role name to which an app's releases are delegated."""
    return f"app-{app}"


def release_id(version: str, sha256: bytes) -> str:
    """Return the folder name of a release on a host: readable, and unique by digest."""
    return f"{version}-{sha256.hex()[:16]}"
