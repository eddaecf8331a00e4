import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from llmgateway.api.health import CHECK_LIMIT_S, Check, routes, run_checks
from llmgateway.errors import UpstreamError

LIVE = ["/health/live", "/v1/health/live", "/livez"]
READY = ["/health/ready", "/v1/health/ready", "/readyz"]


def ask(
    path: str,
    *,
    method: str = "GET",
    draining: bool = False,
    fault: str | None = None,
    whole: bool = True,
    checks: dict[str, Check] | None = None,
) -> httpx2.Response:
    served = routes(
        "1.2.3",
        draining=lambda: draining,
        catalog_fault=lambda: fault,
        catalog_whole=lambda: whole,
        checks=checks,
    )
    with TestClient(Starlette(routes=served)) as client:
        return client.request(method, path)


def check(result: str | bool) -> Check:
    async def answer() -> str | bool:
        return result

    return answer


async def hang() -> bool:
    await anyio.sleep_forever()
    return True


def failing(error: Exception) -> Callable[[], Awaitable[bool]]:
    async def fail() -> bool:
        raise error

    return fail


def test_health_says_version_and_time_and_asks_nobody() -> None:
    answer = ask("/health", draining=True, fault="broken", checks={"database": hang})

    assert answer.status_code == 200
    assert answer.json().keys() == {"status", "version", "timestamp"}
    assert (answer.json()["status"], answer.json()["version"]) == ("ok", "1.2.3")
    assert abs(datetime.fromisoformat(answer.json()["timestamp"]) - datetime.now(UTC)) < timedelta(seconds=30)
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", LIVE)
def test_liveness_holds_while_draining_under_all_its_names(path: str) -> None:
    answer = ask(path, draining=True, checks={"database": check(False)})

    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


@pytest.mark.parametrize("path", READY)
def test_readiness_has_every_part_under_all_its_names(path: str) -> None:
    answer = ask(path, checks={"database": check(True), "redis": check("a replica")})

    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ready",
        "checks": {"database": "ok", "redis": "a replica", "queue": "not configured", "config": "ok"},
    }


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (check(False), "failed"),
        (failing(ConnectionRefusedError("10.0.0.7:5432")), "failed: ConnectionRefusedError"),
        (failing(UpstreamError("db.internal")), "failed: UpstreamError"),
    ],
)
def test_a_part_that_fails_makes_it_unready_without_naming_an_address(broken: Check, said: str) -> None:
    answer = ask("/health/ready", checks={"database": broken, "redis": check(True)})

    assert answer.status_code == 503
    assert answer.json()["status"] == "not_ready"
    assert answer.json()["checks"]["database"] == said
    assert answer.json()["checks"]["redis"] == "ok"
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["retry-after-ms"] == "1000"


async def test_a_part_that_does_not_answer_costs_a_second_and_no_more() -> None:
    with anyio.fail_after(CHECK_LIMIT_S + 0.9):
        results = await run_checks({"database": hang, "redis": hang, "queue": check(True)})

    assert results == {
        "database": (False, "no answer within 1 s"),
        "redis": (False, "no answer within 1 s"),
        "queue": (True, "ok"),
    }


def test_pitfall_093_a_broken_new_catalog_leaves_it_ready_and_says_so() -> None:
    answer = ask("/readyz", fault="/etc/gateway.yaml:3: models: wrong")

    assert answer.status_code == 200
    assert answer.json()["checks"]["config"] == "reload failed, the previous catalog is served"
    assert "/etc" not in answer.text


def test_a_process_that_ends_is_not_ready() -> None:
    answer = ask("/health/ready", draining=True)

    assert answer.status_code == 503
    assert answer.json()["status"] == "draining"


@pytest.mark.parametrize("path", ["/health", *LIVE, *READY])
def test_head_answers_where_get_does(path: str) -> None:
    answer = ask(path, method="HEAD")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"


def test_every_body_is_json() -> None:
    bodies: list[Any] = [json.loads(ask(path).content) for path in ["/health", *LIVE, *READY]]

    assert all("status" in body for body in bodies)


def test_until_the_catalog_is_whole_nothing_is_sent_here() -> None:
    answer = ask("/health/ready", whole=False, checks={"database": check(result=True)})

    assert (answer.status_code, answer.json()["status"]) == (503, "not_ready")
    assert answer.json()["checks"]["config"] == "what administrators added is not read yet"
