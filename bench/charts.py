"""Bars as plain SVG: readable in a light and in a dark page, without a library."""

from collections.abc import Callable, Sequence
from html import escape

from bench.results import Results

_WIDTH, _LABEL, _BAR, _GAP, _TOP = 760, 250, 18, 8, 34
_OURS, _THEIRS = "#2563eb", "#94a3b8"
_STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#334155}.title{font-weight:600;font-size:14px}"
    "@media(prefers-color-scheme:dark){text{fill:#cbd5e1}}</style>"
)
OURS = ("gateway", "plain", "redis-down", "one-worker", "two-workers")


def bars(title: str, rows: Sequence[tuple[str, float, bool]]) -> str:
    """Draw a bar for each row; lengths go by the square root, so that costs a hundredfold apart are both seen.

    Args:
        title: What is shown, with its unit.
        rows: A label, a value from 0 on, and whether it is this gateway's.
    """
    most = max((value for _, value, _ in rows), default=0.0) or 1.0
    height = _TOP + len(rows) * (_BAR + _GAP) + _GAP
    room = _WIDTH - _LABEL - 90
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        _STYLE,
        f'<text class="title" x="8" y="20">{escape(title)}</text>',
    ]
    for number, (label, value, is_ours) in enumerate(rows):
        top = _TOP + number * (_BAR + _GAP)
        length = max(1.0, (max(value, 0.0) / most) ** 0.5 * room)
        middle, color = top + _BAR - 5, _OURS if is_ours else _THEIRS
        parts += [
            f'<text x="{_LABEL - 8}" y="{middle}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{_LABEL}" y="{top}" width="{length:.1f}" height="{_BAR}" fill="{color}"/>',
            f'<text x="{_LABEL + length + 6:.1f}" y="{middle}">{_written(value)}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])


def _written(value: float) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def draw(results: Results) -> dict[str, str]:
    """Draw all charts that the results have figures for, by the name of their file."""

    def cost(scenario: str) -> Callable[[str], float | None]:
        return lambda name: figure.cpu_us if (figure := results.figures.get((scenario, name))) else None

    def added(share: str) -> Callable[[str], float | None]:
        def of(name: str) -> float | None:
            figure, direct = (results.figures.get(("arrivals", each)) for each in (name, "mock"))
            return getattr(figure, share) - getattr(direct, share) if figure and direct else None

        return of

    wanted = {
        "cpu-request": ("CPU-µs a relayed request (root scale)", cost("small")),
        "cpu-chunk": ("CPU-µs a chunk of a paced stream (root scale)", cost("paced")),
        "cpu-translated": ("CPU-µs a call translated to Anthropic's wire (root scale)", cost("translated")),
        "latency-p50": ("ms added at 100 requests a second, p50 (root scale)", added("p50_ms")),
        "latency-p99": ("ms added at 100 requests a second, p99 (root scale)", added("p99_ms")),
        "memory": ("MB resident after load (root scale)", lambda name: results.memory_mb[name][1]),
    }
    drawn = {}
    for name, (title, value_of) in wanted.items():
        values = [(one, value_of(one)) for one in results.titles]
        rows = [(results.titles[one], value, one in OURS) for one, value in values if value is not None]
        if rows:
            drawn[name] = bars(title, rows)
    return drawn
