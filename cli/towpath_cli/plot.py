"""The plot of a rehearsal as SVG: where the hosts stood over time. A drawing of lines needs no library."""

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 900, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 50, 50
TICKS = 5
FONT = 'font-family="sans-serif" font-size="12"'
LINES: Mapping[str, str] = {"healthy": "#2a7d2a", "in_flight": "#c98a00", "back": "#3060b0", "harmed": "#c02020"}
HOUR_MS = 3_600_000

Sample = Mapping[str, int]


def svg(title: str, samples: Sequence[Sample], hosts: int, opened: Mapping[str, int]) -> str:
    """Return the picture: one stepped line per kind of host, a dashed line where each wave (by its name) opened."""
    span = max(1, samples[-1]["after_ms"])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
        *_axes(span, hosts),
    ]
    for name, after in opened.items():
        x = _x(after, span)
        parts.append(
            f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{HEIGHT - BOTTOM}" stroke="#aaa" stroke-dasharray="4 4"/>'
            f'<text x="{x + 3}" y="{TOP + 12}" fill="#777">{escape(name)}</text>'
        )
    for number, (key, colour) in enumerate(LINES.items()):
        points = " ".join(_steps(samples, key, span, hosts))
        x = LEFT + 110 * number
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{x}" y="{TOP - 10}" fill="{colour}">{key.replace("_", " ")}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _x(after_ms: int, span: int) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * after_ms / span, 1)


def _y(count: int, hosts: int) -> float:
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * count / max(1, hosts), 1)


def _steps(samples: Sequence[Sample], key: str, span: int, hosts: int) -> list[str]:
    """Return the points of a line that keeps its height until the next sample."""
    points = []
    before: float | None = None
    for sample in samples:
        x, y = _x(sample["after_ms"], span), _y(sample[key], hosts)
        if before is not None and before != y:
            points.append(f"{x},{before}")
        points.append(f"{x},{y}")
        before = y
    return points


def _axes(span: int, hosts: int) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [f'<path d="M{LEFT} {TOP} V{bottom} H{right}" fill="none" stroke="black"/>']
    for n in range(TICKS + 1):
        at, count = span * n // TICKS, hosts * n // TICKS
        hours = f"{at / HOUR_MS:.2f}"
        parts.append(f'<text x="{_x(at, span)}" y="{bottom + 18}" text-anchor="middle">{hours}</text>')
        parts.append(f'<text x="{LEFT - 6}" y="{_y(count, hosts) + 4}" text-anchor="end">{count}</text>')
    parts.append(f'<text x="{(LEFT + right) // 2}" y="{HEIGHT - 10}" text-anchor="middle">hours</text>')
    return parts
