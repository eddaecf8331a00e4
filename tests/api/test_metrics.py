from collections.abc import Mapping

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from llmgateway.api.metrics import prefers_json, routes
from llmgateway.errors import NotFoundError

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


def ask(path: str, accept: str, *, enabled: bool = True) -> httpx2.Response:
    async def render(asked: str) -> tuple[bytes, str]:
        return asked.encode(), "text/plain; version=0.0.4; charset=utf-8"

    async def summary() -> Mapping[str, object]:
        return {"total_requests": 3}

    with TestClient(Starlette(routes=routes(render, summary, enabled=enabled))) as client:
        answer: httpx2.Response = client.get(path, headers={"accept": accept})
        return answer


def test_prometheus_gets_text_in_the_form_it_asks_for() -> None:
    answer = ask("/metrics", PROMETHEUS)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text == PROMETHEUS


@pytest.mark.parametrize("path", ["/metrics", "/v1/health/metrics"])
def test_who_asks_for_json_gets_the_summary(path: str) -> None:
    answer = ask(path, "application/json")

    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"total_requests": 3}


def test_the_health_page_is_json_whoever_asks() -> None:
    assert ask("/v1/health/metrics", PROMETHEUS).json() == {"total_requests": 3}


def test_without_prometheus_there_is_no_text_and_still_a_summary() -> None:
    with pytest.raises(NotFoundError, match="LLMGATEWAY_PROMETHEUS"):
        ask("/metrics", PROMETHEUS, enabled=False)
    assert ask("/metrics", "application/json", enabled=False).json() == {"total_requests": 3}
    assert ask("/v1/health/metrics", "", enabled=False).json() == {"total_requests": 3}


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        ("", False),
        ("*/*", False),
        (PROMETHEUS, False),
        ("application/json", True),
        ("application/json, text/plain, */*", True),  # axios
        ("text/plain, application/json", False),
        ("text/plain;q=0.1, Application/JSON;q=0.9", True),
        ("application/json;q=0", False),
        ("application/json;q=much, text/plain;q=0.1", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
    ],
)
def test_what_is_liked_best_is_given(accept: str, json: bool) -> None:
    assert prefers_json(accept) is json
