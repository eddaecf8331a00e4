"""The results as Markdown: what was promised, tables, ratios, charts."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.budgets import Budget, budgets, numbers
from bench.figures import median
from bench.results import Results, ratio

BEGIN, END = "<!-- bench: begin (written by `python -m bench --docs`) -->", "<!-- bench: end -->"
# A contestant whose core was busy for less than this part of the time was not the limit: its rate is a lower bound.
SATURATED = 0.93
# Scenarios whose CPU cost is a column, and what the column is called.
COSTS = {
    "small": "request",
    "paced": "chunk, paced",
    "burst": "chunk, burst",
    "hit": "cache hit",
    "translated": "translated",
    "translated_stream": "chunk, translated",
    "big": "200 KB body",
    "tools": "tool-call loop, a request",
    "failover": "first deployment dead",
}
TOLD_ONCE = {
    "idle_streams": "2,000 idle streams",
    "leavers": "2,000 clients that hang up after a stream's first event",
    "stalled_readers": "20 clients that do not read an endless stream",
    "jobs": "40 document jobs of 10 passes each",
    "workers": "two workers, 64 connections",
}
OPEN_LOOP = {"arrivals": 100, "slow_arrivals": 50, "many_arrivals": 1000}


def render(results: Results, charts: Mapping[str, str]) -> str:
    """Write promises, tables and budgets as Markdown.

    Args:
        results: What was measured.
        charts: Those that the text shows, by the name of their file.
    """
    parts = [
        _machine(results),
        "Every repetition: [results.json](performance/results.json).\n" if charts else "",
        promises(numbers(results), "goal, everything on"),
        *(f"![{name}](performance/{name}.svg)\n" for name in charts),
        _costs(results),
        _ratios(results),
        _latencies(results),
        _sizes(results),
        _specials(results),
        promises(budgets(results), "budget"),
    ]
    return "\n".join(part for part in parts if part)


def _machine(results: Results) -> str:
    facts = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    return (
        f"Machine: {facts['processor']}, {facts['cores']} cores, {facts['kernel']}. Interpreter: {facts['python']} "
        f"({facts['loop']}). Commit {facts['commit']}. One worker each: it has one core, load and mock another.\n\n"
        f"Versions: {versions}.\n"
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


def _measured(results: Results, scenarios: Iterable[str]) -> list[str]:
    """Keep the scenarios that were measured for somebody but the mock."""
    seen = {scenario for scenario, name in results.figures if name != "mock"}
    return [scenario for scenario in scenarios if scenario in seen]


def _costs(results: Results) -> str:
    columns = _measured(results, COSTS)
    rows = [
        [title, *cells, _rate(results, name)]
        for name, title in results.titles.items()
        if any(cells := [_cost(results, scenario, name) for scenario in columns])
    ]
    return grid(["CPU-µs", *(COSTS[one] for one in columns), "requests/s, 16 connections"], rows) if rows else ""


def _ratios(results: Results) -> str:
    columns = _measured(results, COSTS)
    rows = []
    for name, title in results.titles.items():
        found = [ratio(results, scenario, name, "gateway") for scenario in columns]
        if name != "gateway" and any(found):
            rows.append([title, *(f"{each:.2f}" if each else "" for each in found)])
    return grid(["times this gateway's CPU", *(COSTS[one] for one in columns)], rows) if rows else ""


def _latencies(results: Results) -> str:
    columns = _measured(results, OPEN_LOOP)
    rows = []
    for name, title in results.titles.items():
        way = results.figures.get(("paced", name))
        cells = [_added(results, scenario, name) for scenario in columns]
        cells.append(f"{way.p50_ms:.2f} / {way.p99_ms:.2f}" if way else "")
        if any(cells):
            rows.append([title, *cells])
    head = [f"added at {OPEN_LOOP[one]:,}/s: p50 / p90 / p99 / p99.9" for one in columns]
    return grid(["ms", *head, "a chunk's way: p50 / p99"], rows) if rows else ""


def _added(results: Results, scenario: str, name: str) -> str:
    figure, direct = results.figures.get((scenario, name)), results.figures.get((scenario, "mock"))
    if figure is None or direct is None:
        return ""
    shares = ("p50_ms", "p90_ms", "p99_ms", "p999_ms")
    return " / ".join(f"{getattr(figure, share) - getattr(direct, share):.2f}" for share in shares)


def _sizes(results: Results) -> str:
    rows = [
        [title, f"{idle:.0f}", f"{loaded:.0f}", f"{median(results.starts_s[name]):.2f}"]
        for name, title in results.titles.items()
        for idle, loaded in (results.memory_mb[name],)
    ]
    return grid(["", "MB idle", "MB after load", "s from exec until it serves"], rows)


def _specials(results: Results) -> str:
    texts = []
    for scenario in dict.fromkeys(each.scenario for each in results.specials):
        found = [each for each in results.specials if each.scenario == scenario]
        columns = list(dict.fromkeys(name for each in found for name in each.figures))
        rows = [
            [
                results.titles[each.contestant],
                *(f"{each.figures[one]:,.2f}" if one in each.figures else "" for one in columns),
            ]
            for each in found
        ]
        texts.append(grid([TOLD_ONCE[scenario], *(one.replace("_", " ") for one in columns)], rows))
    return "\n".join(texts)


def promises(checked: Sequence[Budget], what: str = "budget") -> str:
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
    return grid([what, "measured", "allowed", ""], rows)


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
