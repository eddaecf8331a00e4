"""The results as one HTML page that needs nothing else."""

from collections.abc import Mapping
from html import escape

from bench.report import render as as_markdown
from bench.results import Results

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
td, th { border: 1px solid #94a3b8; padding: .25rem .6rem; text-align: left; }
svg { max-width: 48rem; display: block; margin: 1rem 0; }
:root { color-scheme: light dark; }
"""


def render(results: Results, charts: Mapping[str, str]) -> str:
    """Write the page.

    Args:
        results: What was measured.
        charts: SVG by name.
    """
    parts = [_block(block) for block in as_markdown(results, {}).split("\n\n")]
    drawn = [*parts[:3], *charts.values(), *parts[3:]]
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Benchmark</title><style>{_STYLE}</style>'
    return "\n".join([head, "<h1>What a request costs</h1>", *drawn, "</html>\n"])


def _block(block: str) -> str:
    lines = block.strip().splitlines()
    if not lines or not lines[0].startswith("|"):
        return f"<p>{escape(block.strip())}</p>" if lines else ""
    head, _, *rows = ([escape(cell.strip()) for cell in line.strip("|").split("|")] for line in lines)
    body = "".join(f"<tr>{''.join(f'<td>{_strong(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>{body}</table>"


def _strong(cell: str) -> str:
    return f"<strong>{cell[2:-2]}</strong>" if cell.startswith("**") and cell.endswith("**") else cell
