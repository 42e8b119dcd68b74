"""The folder of a fleet as an operator's command sees it: `operator/` (identity, CA, settings) and `publisher/`.

Rules: settings come from a flag, then a TOWPATH_* variable, then `operator/towpath.toml`, then the default. Nothing
here writes: `towpath init` makes these folders.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from towpath.errors import InputError
from towpath.settings import Setting, check_settings

DEFAULT_DIR = "fleet"
SETTINGS = frozenset({"server", "output"})
SETTINGS_FILE = "operator/towpath.toml"
MAX_FILE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Identity:
    """An operator's key with its certificate (one PEM), and the CA that vouches for servers."""

    pem: bytes
    ca_pem: bytes


def read_settings(folder: Path) -> dict[str, Setting]:
    """Return the settings of a fleet's folder; {} where it has no settings file, InputError where it is unusable."""
    path = folder / SETTINGS_FILE
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    return check_settings(table, SETTINGS, str(path))


def read_identity(folder: Path) -> Identity:
    """Return the operator's identity in a fleet's folder; InputError says how to get one."""
    if not (folder / "operator").is_dir():
        raise InputError(
            f"cannot find a fleet in {folder}: it has no folder operator/; name it with --dir, or make one with: "
            f"towpath init {folder}"
        )
    return Identity(_read(folder / "operator" / "operator.pem"), _read(folder / "operator" / "ca.pem"))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; name the fleet's folder with --dir") from error
