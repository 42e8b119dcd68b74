"""A WSGI site that says who serves it and what it was told about the caller: what a proxy's headers became."""

import json
from collections.abc import Callable
from importlib.metadata import version


def app(environ: dict[str, str], start_response: Callable[[str, list[tuple[str, str]]], object]) -> list[bytes]:
    """Answer every path with JSON."""
    seen = {
        "waitress": version("waitress"),
        "remote_addr": environ["REMOTE_ADDR"],
        "forwarded_for": environ.get("HTTP_X_FORWARDED_FOR"),
    }
    body = json.dumps(seen).encode() + b"\n"
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
