import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench import payloads
from bench.budgets import Budget, budgets, numbers
from bench.report import BEGIN, END, into_document, render
from bench.results import Results, raw, read, summarise
from bench.run import is_kept
from bench.scenarios import Repetition
from bench.special import Special


def repetition(contestant: str, cpu_us: float, *, scenario: str = "small", others_share: float = 0.0) -> Repetition:
    """Make a repetition of a thousand answers in one second."""
    return Repetition(scenario, contestant, 1000, 1.0, cpu_us / 1000, others_share, [0.001, 0.002], [])


def results(*repetitions: Repetition) -> Results:
    """Fold repetitions into results of a machine."""
    facts = {"processor": "P", "cores": "2", "kernel": "Linux", "python": "CPython", "loop": "1 ms", "commit": "abc"}
    titles = {each.contestant: each.contestant for each in repetitions}
    figures = summarise(repetitions, is_kept, 3)
    memory_mb = dict.fromkeys(titles, (50.0, 60.0))
    starts_s = {name: [0.4, 0.5, 0.9] for name in titles}
    return Results(facts, {"node": "20.1"}, titles, figures, memory_mb, starts_s, repetitions)


def test_disturbed_repetitions_do_not_count() -> None:
    measured = [repetition("gateway", cpu_us) for cpu_us in (100, 110, 120)]
    measured.append(repetition("gateway", 900, others_share=0.4))

    figure = results(*measured).figures["small", "gateway"]

    assert figure.cpu_us == pytest.approx(110)
    assert not figure.disturbed


def test_too_few_undisturbed_repetitions_are_marked() -> None:
    measured = [repetition("gateway", 100 + n, others_share=n / 10) for n in range(6)]

    whole = results(*measured)

    assert whole.figures["small", "gateway"].cpu_us == pytest.approx(101)
    assert "101~" in render(whole, {})


def test_a_streams_cost_is_counted_by_the_chunk() -> None:
    figure = results(repetition("gateway", 5000, scenario="paced")).figures["paced", "gateway"]

    assert figure.cpu_us == pytest.approx(5000 / payloads.EVENTS)


def test_budgets_are_ratios_in_the_same_run() -> None:
    measured = [repetition("gateway", 160), repetition("raw", 100)]

    verdicts = {each.what: each.verdict for each in budgets(results(*measured))}

    assert verdicts["request, everything on: times the bare relay (220 / 140)"] == "**miss**"
    assert verdicts["chunk, burst: times the bare relay (3 / 1.7)"] == "not measured"
    assert verdicts["s from exec to /health"] == "pass"


def test_a_budget_is_held_at_its_very_limit() -> None:
    assert Budget("x", 2.0, 2.0).verdict == "pass"
    assert Budget("x", 2.0, 2.0, at_least=True).verdict == "pass"


def test_the_first_table_holds_every_goal_and_a_miss_stands_in_it() -> None:
    measured = [repetition("gateway", 150), repetition("litellm", 7500), repetition("portkey", 750)]
    measured += [repetition("gateway", 120, scenario="hit"), repetition("mock", 10, scenario="arrivals")]
    measured.append(repetition("gateway", 150, scenario="arrivals"))
    whole = replace(results(*measured), specials=[Special("idle_streams", "gateway", {"during_mb": 401.0})])

    verdicts = [each.verdict for each in numbers(whole)]
    text = render(whole, {})

    assert len(verdicts) == 15
    assert verdicts.count("not measured") == 8
    assert "| relay: LiteLLM's proxy takes times the CPU (best hoped for: 85) | 50.00 | ≥ 45.00 | pass |" in text
    assert "| relay: Portkey takes times the CPU (best hoped for: 11) | 5.00 | ≥ 6.00 | **miss** |" in text
    assert "| MB with 2,000 idle streams | 401.00 | ≤ 400.00 | **miss** |" in text
    assert text.index("| goal") < text.index("| CPU-µs |")


def test_added_latency_is_the_percentile_minus_the_one_straight_to_the_mock() -> None:
    slow = replace(repetition("gateway", 150, scenario="arrivals"), latencies_s=[0.002] * 90 + [0.007] * 10)

    text = render(results(repetition("mock", 10, scenario="arrivals"), slow), {})

    assert "| gateway | 1.00 / 0.00 / 5.00 / 5.00 |  |" in text


def test_the_table_names_everybody_and_the_ratios_leave_out_the_gateway_itself() -> None:
    text = render(results(repetition("gateway", 150), repetition("litellm", 7500)), {"cpu": "<svg/>"})

    assert "| litellm | 50.00 |" in text
    assert text.count("| gateway |") == 2  # its CPU time, and its memory
    assert "![cpu](performance/cpu.svg)" in text
    assert "Versions: node 20.1." in text


def test_raw_results_can_be_shown_again() -> None:
    special = Special("workers", "gateway", {"times_one": 1.05})
    whole = replace(results(repetition("gateway", 150), repetition("raw", 100)), specials=[special])

    again = read(json.loads(json.dumps(raw(whole))))

    assert render(again, {}) == render(whole, {})
    assert "| gateway | 1.05 |" in render(again, {})


def test_raw_results_keep_what_was_thrown_away() -> None:
    kept = raw(results(repetition("gateway", 100), repetition("gateway", 200, others_share=0.5)))

    assert isinstance(kept["repetitions"], list)
    assert [each["others_share"] for each in kept["repetitions"]] == [0.0, 0.5]
    assert kept["repetitions"][0]["latency_ms"]["p99"] == 2.0


def test_tables_are_put_between_the_documents_markers(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")

    into_document(document, "new")

    assert document.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


def test_a_document_without_markers_is_refused(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("nothing to replace")

    with pytest.raises(ValueError, match="lacks the lines"):
        into_document(document, "new")
