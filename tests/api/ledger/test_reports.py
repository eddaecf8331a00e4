from typing import Any

import httpx2
import jsonschema  # type: ignore[import-untyped]  # it carries no types
import pytest

from llmgateway.api.ledger.reports import routes
from llmgateway.api.openapi import openapi_document
from llmgateway.catalog.load import load
from llmgateway.storage.queries import (
    Costs,
    CostShare,
    Performance,
    ProviderPerformance,
    Spent,
    StorageAwayError,
    Trend,
)
from tests.api.ledger.books import FOREVER, Books, asking, entry_of_a_call, flushed

DOCUMENT = openapi_document("1.2.3")
SLOW = entry_of_a_call(duration_ms=12_000.0)
PERFORMANCE = Performance(
    [SLOW],
    [
        ProviderPerformance("main", 3, 800.0, 2100.5, 4700.0, 2 / 3, 61.5, {"provider_timeout": 1}),
        ProviderPerformance(None, 1, 1.0, 1.0, 1.0, 0.0, None, {"invalid_value": 1}),
    ],
    10.0,
)
TRENDS = [Trend("2026-11-21T09:00:00Z", 2, 1, 30, 12, None, 812.5, 900.0)]
SHARE = CostShare("main", 2, 30, 12, 0.25, 0)
SPENT = Spent("chat", "main", "one", 2, 0.25, 30_000, 10_000)
COSTS = Costs(0.25, 1, [SHARE], [CostShare(None, 2, 30, 12, None, 1)], [SHARE], [SLOW], [SPENT])
CATALOG = load(
    """
    providers:
      main: {provider: openai, api_key: k1}
      second: {provider: openai, api_key: k2}
    models:
      - name: chat
        deployments:
          - {provider: main, model: one, prices_per_million: {input: 5, output: 10}}
          - {provider: second, model: one, prices_per_million: {input: 1, output: 2}}
    """,
    {},
)
REPORTS: list[tuple[str, Any, str]] = [
    ("/metrics/performance", PERFORMANCE, "PerformanceReport"),
    ("/metrics/trends", TRENDS, "TrendsReport"),
    ("/metrics/costs", COSTS, "CostsReport"),
]
PATHS = [path for path, _, _ in REPORTS]


def ask(path: str, books: Books, query: str = "", limit_s: float = 1.0) -> httpx2.Response:
    client = asking(routes(books, flushed, lambda: CATALOG, limit_s=limit_s))
    return client.get(f"{path}{query}")


@pytest.mark.parametrize(("path", "found", "schema"), REPORTS)
def test_each_report_is_as_described(path: str, found: Any, schema: str) -> None:
    answer = ask(path, Books(found), "?hours=6")

    assert (answer.status_code, answer.json()["hours"]) == (200, 6)
    described = {**DOCUMENT["components"]["schemas"][schema], "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(described).validate(answer.json())


def test_performance_is_told_in_seconds_per_account() -> None:
    told = ask("/metrics/performance", Books(PERFORMANCE)).json()

    assert told["by_provider"]["main"] == {
        "requests": 3,
        "p50": 0.8,
        "p95": 2.1005,
        "p99": 4.7,
        "success_rate": 0.666667,
        "tokens_per_second": 61.5,
        "error_breakdown": {"provider_timeout": 1},
    }
    assert told["by_provider"]["none"]["error_breakdown"] == {"invalid_value": 1}
    assert [request["id"] for request in told["slow_requests"]] == [SLOW.id]
    assert told["threshold_seconds"] == 10.0


def test_costs_are_told_by_provider_user_and_model() -> None:
    told = ask("/metrics/costs", Books(COSTS)).json()

    assert (told["total_cost_usd"], told["unpriced_requests"]) == (0.25, 1)
    assert told["by_provider"][0]["provider"] == told["by_model"][0]["model"] == "main"
    assert (told["by_user"][0]["user"], told["by_user"][0]["cost_usd"]) == (None, None)
    assert told["most_expensive"][0]["cost_usd"] == 0.000195


def test_costs_come_with_what_could_have_cost_less() -> None:
    [told] = ask("/metrics/costs", Books(COSTS)).json()["recommendations"]

    assert (told["model"], told["alternative_model"], told["alternative_provider"]) == ("chat", "chat", "second")
    assert (told["current_cost_usd"], told["alternative_cost_usd"], told["saving_usd"]) == (0.25, 0.05, 0.2)
    assert (told["requests"], told["saving_share"], told["estimated"]) == (2, 0.8, True)


def test_a_day_is_told_when_nothing_else_is_asked() -> None:
    performance, trends, costs = Books(PERFORMANCE), Books(TRENDS), Books(COSTS)
    ask("/metrics/performance", performance)
    ask("/metrics/trends", trends)
    ask("/metrics/costs", costs, "?hours=744")

    assert (performance.asked, trends.asked, costs.asked) == ([(24,)], [(24,)], [(744,)])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("hours", ["0", "745", "-1", "1.5", "x", "1e2", "٣", "9" * 5000, "24 OR 1=1", "%00"])
def test_hours_are_a_whole_number_up_to_a_month(path: str, hours: str) -> None:
    books = Books()
    answer = ask(path, books, f"?hours={hours}")

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "hours")
    assert "744" in answer.json()["error"]["message"]
    assert len(answer.text) < 1000
    assert books.asked == []


@pytest.mark.parametrize("path", PATHS)
def test_a_misspelt_parameter_is_refused(path: str) -> None:
    assert ask(path, Books(), "?hour=3").json()["error"]["param"] == "hour"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("broken", [StorageAwayError("postgres.internal:5432 refuses"), FOREVER])
def test_without_the_database_it_says_when_to_come_back(path: str, broken: object) -> None:
    answer = ask(path, Books(broken), limit_s=0.1)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert "internal" not in answer.text
