"""Write `grafana/dashboards/*.json` from the tables in `grafana/tables/`, one panel after the other.

A table is what people read and change: rows of panels, each with its queries, its unit, from where on it looks bad
(`steps`), what it shows and what to do then (`act`). The rest of Grafana's JSON is the same for all panels and comes
from here, places included. Run it after a change: `python scripts/make_dashboards.py`, or with `--check` to compare
only. A test does the latter.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

GRAFANA = Path(__file__).resolve().parent.parent / "grafana"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
SCHEMA = 40  # Grafana 11.4
COLUMNS = 24
# Panels of each kind: Grafana's type, width and height when the table names none.
KINDS = {
    "stat": ("stat", 3, 4),
    "lines": ("timeseries", 6, 8),
    "bars": ("bargauge", 12, 6),
    "timeline": ("state-timeline", 12, 6),
    "heatmap": ("heatmap", 12, 8),
    "table": ("table", 24, 8),
}
# Where a stat has no room for more than one number, it says the last; a table and bars look at the whole time once.
INSTANT = {"bars", "table"}
# Variable -> the metric whose label has its values.
VARIABLES = {"model": "llm_requests_total", "provider": "llm_attempts_total", "instance": "llm_workers"}


def dashboard(name: str, table: dict[str, Any]) -> dict[str, Any]:
    """Make one dashboard."""
    return {
        "uid": f"llmgateway-{name}",
        "title": f"LLM Gateway: {table['title']}",
        "description": table["about"],
        "tags": ["llmgateway"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [_links()],
        "templating": {"list": [_variable(variable) for variable in table["variables"]]},
        "annotations": {"list": [_alerts()]},
        "panels": list(_panels(table["rows"])),
    }


def _links() -> dict[str, Any]:
    same = {"asDropdown": False, "includeVars": True, "keepTime": True, "targetBlank": False}
    return {"type": "dashboards", "title": "LLM Gateway", "tags": ["llmgateway"], "icon": "external link", **same}


def _variable(name: str) -> dict[str, Any]:
    query = f"label_values({VARIABLES[name]}, {name})"
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"variable-{name}"},
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
    }


def _alerts() -> dict[str, Any]:
    query = {"expr": 'ALERTS{alertstate="firing"}', "step": "60s", "titleFormat": "{{alertname}}"}
    return {"name": "Alerts", "datasource": SOURCE, "enable": True, "iconColor": "red", **query}


def _panels(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    number, y = 1, 0
    for row in rows:
        yield {"id": number, "type": "row", "title": row["title"], "collapsed": False, "panels": []} | _place(
            0, y, COLUMNS, 1
        )
        number, y, x, tallest = number + 1, y + 1, 0, 0
        for table in row["panels"]:
            _, width, height = KINDS[table.get("kind", "lines")]
            width, height = table.get("width", width), table.get("height", height)
            if x + width > COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            yield {"id": number, **_panel(table), **_place(x, y, width, height)}
            number, x, tallest = number + 1, x + width, max(tallest, height)
        y += tallest


def _place(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return {"gridPos": {"x": x, "y": y, "w": width, "h": height}}


def _panel(table: dict[str, Any]) -> dict[str, Any]:
    kind = table.get("kind", "lines")
    return {
        "type": KINDS[kind][0],
        "title": table["title"],
        "description": f"{table['shows']}\n\n**When it looks bad:** {table['act']}",
        "datasource": SOURCE,
        "targets": list(_targets(table, kind)),
        "fieldConfig": {"defaults": _defaults(table, kind), "overrides": _columns(table)},
        "options": _options(table, kind),
        **({"transformations": _merged(table)} if kind == "table" else {}),
    }


def _targets(table: dict[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    queries = {name: column["expr"] for name, column in table.get("columns", {}).items()} or table["queries"]
    for letter, (legend, expr) in zip("ABCDEFGHIJ", queries.items(), strict=False):
        target = {"refId": letter, "datasource": SOURCE, "expr": expr, "legendFormat": legend}
        if kind in INSTANT:
            target |= {"instant": True, "range": False}
        if kind in {"table", "heatmap"}:
            target["format"] = kind
        yield target


def _defaults(table: dict[str, Any], kind: str) -> dict[str, Any]:
    steps = [{"color": color, "value": value} for color, value in table["steps"].items()]
    defaults: dict[str, Any] = {"unit": table["unit"], "noValue": "–", "min": 0}  # noqa: RUF001  a dash, to be seen
    defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    defaults["color"] = {"mode": "palette-classic" if kind == "lines" else "thresholds"}
    defaults |= {name: table[name] for name in ("max", "decimals") if name in table}
    if "names" in table:
        named = {str(value): {"text": text} for value, text in table["names"].items()}
        defaults["mappings"] = [{"type": "value", "options": named}]
    if kind == "lines":
        defaults["custom"] = _lines(stack=table.get("stack", False), marked=len(steps) > 1)
    return defaults


def _lines(*, stack: bool, marked: bool) -> dict[str, Any]:
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 30 if stack else 5,
        "showPoints": "never",
        "spanNulls": 60_000,
        "stacking": {"mode": "normal" if stack else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if marked else "off"},
    }


def _options(table: dict[str, Any], kind: str) -> dict[str, Any]:
    last = {"reduceOptions": {"calcs": ["lastNotNull"], "values": False, "fields": ""}}
    legend = {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max", "lastNotNull"]}
    options: dict[str, dict[str, Any]] = {
        "stat": {**last, "colorMode": "background", "graphMode": "area", "textMode": table.get("text", "auto")},
        "lines": {"legend": {**legend, "showLegend": True}, "tooltip": {"mode": "multi", "sort": "desc"}},
        "bars": {**last, "orientation": "horizontal", "displayMode": "lcd", "showUnfilled": True},
        "timeline": {"mergeValues": True, "showValue": "auto", "rowHeight": 0.8, "legend": {"showLegend": False}},
        "heatmap": {
            "calculate": False,
            "color": {"mode": "scheme", "scheme": "Blues", "steps": 64},
            "yAxis": {"unit": table["unit"]},
            "tooltip": {"mode": "single"},
        },
        "table": {"showHeader": True, "cellHeight": "sm"},
    }
    return options[kind]


def _columns(table: dict[str, Any]) -> list[dict[str, Any]]:
    """Give each column of a table its name and unit."""
    return [
        {
            "matcher": {"id": "byName", "options": f"Value #{letter}"},
            "properties": [{"id": "displayName", "value": name}, {"id": "unit", "value": column["unit"]}],
        }
        for letter, (name, column) in zip("ABCDEFGHIJ", table.get("columns", {}).items(), strict=False)
    ]


def _merged(table: dict[str, Any]) -> list[dict[str, Any]]:
    """Lay the queries of a table beside each other, by their labels."""
    first = {label.strip(): place for place, label in enumerate(table["by"].split(","))}
    order = {"excludeByName": {"Time": True}, "indexByName": first}
    return [{"id": "merge", "options": {}}, {"id": "organize", "options": order}]


def rendered(grafana: Path = GRAFANA) -> dict[Path, str]:
    """Make every dashboard: where it belongs, and its text."""
    made = {}
    for path in sorted((grafana / "tables").glob("*.yaml")):
        content = dashboard(path.stem, yaml.safe_load(path.read_text("utf-8")))
        made[grafana / "dashboards" / f"{path.stem}.json"] = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    return made


def faults(grafana: Path = GRAFANA) -> list[str]:
    """Name the dashboards that are not what their table says now, or have none."""
    made = rendered(grafana)
    there = {path: path.read_text("utf-8") for path in (grafana / "dashboards").glob("*.json")}
    return sorted(path.name for path in {*made, *there} if made.get(path) != there.get(path))


def main() -> int:
    """Write the dashboards, or compare them with their tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a dashboard is out of date")
    if parser.parse_args().check:
        stale = faults()
        if stale:
            print(f"{', '.join(stale)}: run python scripts/make_dashboards.py", file=sys.stderr)
        return 1 if stale else 0
    for path, text in rendered().items():
        path.write_text(text, "utf-8")
        print(f"{path.name}: {text.count('gridPos')} panels and rows")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
