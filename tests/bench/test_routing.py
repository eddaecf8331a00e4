import pytest

from bench.routing import SCENARIOS, catalog, render
from bench.run import is_kept
from bench.scenarios import Repetition


def repetition(scenario: str, cpu_us: float, took_s: float) -> Repetition:
    """Make a repetition of a thousand answers in one second."""
    return Repetition(scenario, "routing", 1000, 1.0, cpu_us / 1000, 0.0, [took_s], [])


def test_each_scenario_has_its_model() -> None:
    models = catalog(1, 2, 3)["models"]
    assert isinstance(models, list)

    assert [model["name"] for model in models] == [scenario.name for scenario in SCENARIOS]
    assert {len(model["deployments"]) for model in models} == {1, 3, 10, 100}


@pytest.mark.parametrize(("took_s", "verdict"), [(0.03, "pass"), (0.06, "**miss**")])
def test_ratios_are_held_against_what_was_promised(took_s: float, verdict: str) -> None:
    done = [repetition(scenario.name, 200.0, took_s) for scenario in SCENARIOS]
    done[0] = repetition("slow-round_robin", 200.0, 0.1)
    done[-1] = repetition("100-balanced", 239.0, 0.1)

    text = render(done, is_kept, 1)

    assert "| round_robin | 100.0 | 100.0 |" in text
    assert "| balanced | 200.0 | 200.0 | 239.0 | 1.000 | 1.195 |" in text
    assert f"≥ 2.00 | {verdict} |" in text
    assert "balanced among 100: times one deployment (1 + 40 / 202) | 1.19 | ≤ 1.20 | pass |" in text
