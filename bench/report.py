"""The results as Markdown: the one table, the ratios and the budgets."""

from collections.abc import Sequence
from pathlib import Path

from bench.budgets import Budget, budgets
from bench.figures import median
from bench.results import Results, ratio

BEGIN, END = "<!-- bench: begin (written by `python -m bench --docs`) -->", "<!-- bench: end -->"
TIMED = ("slow_arrivals", "arrivals")
# A contestant whose core was busy for less than this part of the time was not the limit: its rate is a lower bound.
SATURATED = 0.93


def render(results: Results) -> str:
    """Write tables and budgets as Markdown."""
    parts = [_machine(results), _table(results), _ratios(results), promises(budgets(results))]
    return "\n".join(parts)


def _machine(results: Results) -> str:
    facts = results.machine
    return (
        f"Machine: {facts['processor']}, {facts['cores']} cores, {facts['kernel']}. Interpreter: {facts['python']} "
        f"({facts['loop']}). Commit {facts['commit']}. One worker each: it has one core, load and mock another.\n"
    )


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table as Markdown."""
    return "\n".join([_row(head), _row(["---"] * len(head)), *(_row(row) for row in rows)]) + "\n"


def _cost(results: Results, scenario: str, name: str) -> str:
    figure = results.figures.get((scenario, name))
    if figure is None:
        return ""
    digits = 0 if figure.cpu_us >= 100 else 1 if figure.cpu_us >= 10 else 2
    return f"{figure.cpu_us:,.{digits}f}{'~' if figure.disturbed else ''}"


def _rate(results: Results, name: str) -> str:
    figure = results.figures.get(("small", name))
    if figure is None:
        return ""
    return f"{'' if figure.busy >= SATURATED else '≥ '}{figure.per_s:,.0f}"


def _added(results: Results, scenario: str, name: str) -> str:
    figure, direct = results.figures.get((scenario, name)), results.figures.get((scenario, "mock"))
    if figure is None or direct is None:
        return ""
    return f"{figure.p50_ms - direct.p50_ms:.2f} / {figure.p99_ms - direct.p99_ms:.2f}"


def _chunk_delay(results: Results, name: str) -> str:
    figure = results.figures.get(("paced", name))
    return f"{figure.p50_ms:.2f} / {figure.p99_ms:.2f}" if figure else ""


def _table(results: Results) -> str:
    head = [
        "contestant",
        "CPU-µs a request",
        "requests/s, 16 connections",
        "CPU-µs a chunk, paced",
        "CPU-µs a chunk, burst",
        "CPU-µs, 200 KB body",
        "CPU-µs, translated",
        "CPU-µs, cache hit",
        "added ms at 50/s, p50 / p99",
        "added ms at 1,000/s, p50 / p99",
        "chunk's way ms, p50 / p99",
        "MB idle / after load",
        "start s",
    ]
    rows = []
    for name, title in results.titles.items():
        idle_mb, loaded_mb = results.memory_mb[name]
        cells = [title, _cost(results, "small", name), _rate(results, name)]
        cells += [_cost(results, scenario, name) for scenario in ("paced", "burst", "big", "translated", "hit")]
        cells += [_added(results, scenario, name) for scenario in TIMED]
        cells += [
            _chunk_delay(results, name),
            f"{idle_mb:.0f} / {loaded_mb:.0f}",
            f"{median(results.starts_s[name]):.2f}",
        ]
        rows.append(cells)
    return grid(head, rows)


def _ratios(results: Results) -> str:
    scenarios = ("small", "paced", "burst", "big", "translated", "hit")
    rows = []
    for name, title in results.titles.items():
        found = [ratio(results, scenario, name, "gateway") for scenario in scenarios]
        if name != "gateway" and any(found):
            rows.append([title, *(f"{each:.2f}" if each else "" for each in found)])
    head = [
        "CPU cost as a multiple of this gateway's",
        "request",
        "chunk, paced",
        "chunk, burst",
        "200 KB body",
        "translated",
        "cache hit",
    ]
    return grid(head, rows)


def promises(checked: Sequence[Budget]) -> str:
    """Write what was promised beside what was measured."""
    rows = [
        [
            each.what,
            "" if each.measured is None else f"{each.measured:.2f}",
            f"{'≥' if each.at_least else '≤'} {each.allowed:.2f}",
            each.verdict,
        ]
        for each in checked
    ]
    return grid(["budget", "measured", "allowed", ""], rows)


def into_document(path: Path, text: str) -> None:
    """Replace what stands between the two markers of a document.

    Raises:
        ValueError: A marker is missing.
    """
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path.name} lacks the lines {BEGIN!r} and {END!r}; put them where the tables belong")
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
