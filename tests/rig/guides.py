"""Blocks of the guides that are marked, with `sh` where nothing else is said: what tests type."""

from pathlib import Path


def blocks(page: Path, kind: str = "sh") -> list[tuple[str, list[str]]]:
    """Return the heading and the lines of every block that is marked as `kind`."""
    found, heading, block = [], "", None
    for line in page.read_text().splitlines():
        if block is None and line.startswith("## "):
            heading = line[3:]
        elif block is None and line == f"```{kind}":
            block = []
        elif block is not None and line == "```":
            found.append((heading, block))
            block = None
        elif block is not None:
            block.append(line)
    return found
