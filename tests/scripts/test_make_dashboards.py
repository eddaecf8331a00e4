import json
import shutil
from pathlib import Path

from scripts import make_dashboards


def test_the_committed_dashboards_are_what_their_tables_say_now() -> None:
    assert make_dashboards.faults() == [], "run: python scripts/make_dashboards.py"


def test_dashboard_that_was_changed_by_hand_or_has_no_table_is_named(tmp_path: Path) -> None:
    grafana = tmp_path / "grafana"
    shutil.copytree(make_dashboards.GRAFANA, grafana)
    (grafana / "dashboards" / "jobs.json").write_text("{}")
    (grafana / "dashboards" / "stray.json").write_text("{}")

    assert make_dashboards.faults(grafana) == ["jobs.json", "stray.json"]


def test_panels_flow_from_left_to_right_and_rows_follow_the_tallest() -> None:
    look = {"unit": "s", "steps": {"green": None}, "shows": "", "act": "", "queries": {"a": "up"}}
    panels = [{"title": str(width), "width": width, "height": height, **look} for width, height in [(12, 4), (12, 6)]]
    table = {"title": "", "about": "", "variables": [], "rows": [{"title": "r", "panels": [*panels, panels[0]]}] * 2}

    made = make_dashboards.dashboard("x", table)

    places = [tuple(panel["gridPos"][side] for side in "xyw") for panel in made["panels"]]
    assert places == [
        (0, 0, 24),
        (0, 1, 12),
        (12, 1, 12),
        (0, 7, 12),
        (0, 11, 24),
        (0, 12, 12),
        (12, 12, 12),
        (0, 18, 12),
    ]
    assert json.loads(json.dumps(made)) == made
