"""Where the passphrase of a publisher's keys comes from: a file, or the person at the terminal. Never an argument."""

import sys
from collections.abc import Callable
from pathlib import Path

import click

from towpath.errors import InputError

MAX_BYTES = 1024
PROMPT = "Passphrase of the publisher's keys"


def read_passphrase_file(path: Path) -> bytes:
    """Return the first line of the file at `path`; InputError where there is none."""
    try:
        with path.open("rb") as file:
            line = file.readline(MAX_BYTES + 1).rstrip(b"\r\n")
    except OSError as error:
        raise InputError(f"cannot read the passphrase file {path}: {error.strerror}") from error
    if not line or len(line) > MAX_BYTES:
        raise InputError(f"cannot use the passphrase in {path}: its first line must have 1 to {MAX_BYTES} bytes")
    return line


def new_passphrase() -> bytes:
    """Ask twice for a new passphrase."""
    answer: str = click.prompt(PROMPT, hide_input=True, confirmation_prompt=True, err=True)
    return answer.encode()


def passphrase_source(path: Path | None) -> Callable[[], bytes]:
    """Return the function that gives the passphrase when a key turns out to be protected."""

    def get() -> bytes:
        if path is not None:
            return read_passphrase_file(path)
        if not sys.stdin.isatty():
            raise InputError("cannot sign: the publisher's keys have a passphrase; give it with --passphrase-file")
        answer: str = click.prompt(PROMPT, hide_input=True, err=True)
        return answer.encode()

    return get
