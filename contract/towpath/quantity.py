"""Durations, sizes and rates as people write them: `1.5s`, `2m`, `400MiB`, `256KiB/s`.

Inside, always milliseconds, bytes and bytes a second.
"""

import re

from towpath.errors import InputError

_NUMBER = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([A-Za-z]*)")
_DURATION_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZE = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
# Lines are sold in bits a second; everything else is counted in bytes.
_BIT_RATE = {"bit": 1, "kbit": 10**3, "Mbit": 10**6, "Gbit": 10**9}
MAX_DURATION_MS = 366 * _DURATION_MS["d"]
MAX_SIZE = 2**50


def parse_duration_ms(text: str) -> int:
    """Return milliseconds for text such as `500ms`, `10s`, `1.5m`, `2h`, `7d`; InputError otherwise."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None or match[2] not in _DURATION_MS:
        raise InputError(f"cannot read {text[:40]!r} as a duration: write a number and ms, s, m, h or d, such as 90s")
    value = round(float(match[1]) * _DURATION_MS[match[2]])
    if value > MAX_DURATION_MS:
        raise InputError(f"cannot use {text[:40]!r} as a duration: the most is 366d")
    return value


def parse_size(text: str) -> int:
    """Return bytes for text such as `512`, `400MiB`, `2GB`; InputError otherwise."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None or match[2] not in _SIZE:
        raise InputError(f"cannot read {text[:40]!r} as a size: write a number and KiB, MiB, GiB, KB, MB or GB")
    value = round(float(match[1]) * _SIZE[match[2]])
    if value > MAX_SIZE:
        raise InputError(f"cannot use {text[:40]!r} as a size: the most is 1024TiB")
    return value


def parse_rate(text: str) -> int:
    """Return bytes a second for text such as `256KiB/s`, `2MB/s`, `10Mbit/s`; InputError otherwise."""
    amount, slash, per = text.strip().partition("/")
    match = _NUMBER.fullmatch(amount.strip())
    units = _SIZE | _BIT_RATE
    if match is None or not match[2] or match[2] not in units or not slash or per.strip() != "s":
        raise InputError(
            f"cannot read {text[:40]!r} as a rate: write a number and KiB/s, MiB/s, KB/s, MB/s, kbit/s or Mbit/s"
        )
    value = round(float(match[1]) * units[match[2]]) // (8 if match[2] in _BIT_RATE else 1)
    if not 1 <= value <= MAX_SIZE:
        raise InputError(f"cannot use {text[:40]!r} as a rate: at least 1B/s, at most 1024TiB/s")
    return value


def format_duration(ms: int) -> str:
    """Return `ms` in the largest unit that keeps it short: `850ms`, `12s`, `4m`, `3h`, `6d`."""
    if ms < 1000:
        return f"{ms}ms"
    for unit, limit in (("s", 120_000), ("m", 7_200_000), ("h", 172_800_000)):
        if ms < limit:
            return f"{ms // _DURATION_MS[unit]}{unit}"
    return f"{ms // _DURATION_MS['d']}d"


def format_size(size: int) -> str:
    """Return `size` with a binary unit: `812 B`, `1.4 MiB`."""
    if size < 1024:
        return f"{size} B"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1024
        if round(value, 1) < 1024:
            return f"{value:.1f} {unit}"
    return f"{value / 1024:.1f} TiB"


def format_rate(rate: int) -> str:
    """Return bytes a second with a binary unit: `812 B/s`, `1.4 MiB/s`."""
    return f"{format_size(rate)}/s"
