from collections.abc import Mapping
from typing import Any

import anyio
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from llmgateway.api.health import Check
from llmgateway.api.health_detailed import Part, catalog_part, ledger_part, queue_part, routes
from llmgateway.errors import UpstreamError
from llmgateway.telemetry.provider_health import CLOSED, Circuit, ProviderHealth, Rest

PATHS = ["/health/detailed", "/v1/health/detailed"]
PARTS = ("cache", "rate_limiter", "queue", "ledger", "catalog")


def ask(
    path: str = PATHS[0],
    *,
    draining: bool = False,
    fault: str | None = None,
    checks: Mapping[str, Check] | None = None,
    parts: Mapping[str, Part] | None = None,
) -> httpx2.Response:
    health = ProviderHealth(590.0)
    circuits = {"main": CLOSED, "spare": Circuit("open", available=False, resting=(Rest("m", "quota", 12.5),))}
    served = routes(
        "1.2.3",
        draining=lambda: draining,
        catalog_fault=lambda: fault,
        checks=checks,
        providers=lambda: health.states(circuits),
        parts=parts or {},
    )
    with TestClient(Starlette(routes=served)) as client:
        return client.get(path)


async def away() -> bool:
    raise UpstreamError("db.internal:5432")


async def hang() -> bool:
    await anyio.sleep_forever()
    return True


@pytest.mark.parametrize("path", PATHS)
def test_it_tells_of_every_part_under_both_its_names(path: str) -> None:
    answer = ask(path)
    told: dict[str, Any] = answer.json()

    assert answer.status_code == 200
    assert (told["status"], told["version"]) == ("ready", "1.2.3")
    assert told["uptime_seconds"] >= 0
    assert told["checks"].keys() >= {"database", "redis", "queue", "config"}
    assert told["providers"].keys() == {"main", "spare"}
    assert told["providers"]["main"].keys() >= {"available", "status", "last_checked", "latency_ms", "circuit"}
    assert told["providers"]["main"]["circuit"] == "closed"
    assert told["providers"]["spare"]["resting"] == [{"model": "m", "cause": "quota", "until_s": 12.5}]
    assert {name: told[name] for name in PARTS} == {name: {"status": "not configured"} for name in PARTS}
    assert answer.headers["cache-control"] == "no-store"


def test_a_part_that_is_there_tells_its_figures() -> None:
    told = ask(
        parts={"ledger": lambda: ledger_part(512, 1.23456, 0), "catalog": lambda: catalog_part("a1", has_fault=False)}
    )

    assert told.json()["ledger"] == {"status": "ok", "backlog_bytes": 512, "backlog_seconds": 1.235, "lost": 0}
    assert told.json()["catalog"] == {"status": "ok", "version": "a1"}
    assert ledger_part(0, 0.0, 3)["status"] == "entries lost"


def test_a_broken_new_catalog_is_told_without_the_hosts_files_and_leaves_it_ready() -> None:
    fault = "/etc/gateway.yaml:3: models: wrong"
    answer = ask(fault=fault, parts={"catalog": lambda: catalog_part("a1", has_fault=True)})

    assert answer.status_code == 200
    assert answer.json()["catalog"] == {"status": "reload failed, the previous catalog is served", "version": "a1"}
    assert "/etc" not in answer.text


@pytest.mark.parametrize("check", [away, hang])
def test_only_what_makes_it_unready_makes_it_a_503_and_all_else_is_still_told(check: Check) -> None:
    answer = ask(checks={"database": check})

    assert (answer.status_code, answer.json()["status"]) == (503, "not_ready")
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["providers"].keys() == {"main", "spare"}
    assert "internal" not in answer.text


def test_a_process_that_ends_says_so() -> None:
    answer = ask(draining=True)

    assert (answer.status_code, answer.json()["status"]) == (503, "draining")


def test_the_queue_says_who_tells_of_jobs_and_who_runs_them() -> None:
    assert queue_part(broker=False, here=True, waiting=3, running=1) == {
        "status": "ok",
        "told_by": "this process",
        "runs_jobs": True,
        "waiting": 3,
        "running": 1,
    }
    assert queue_part(broker=True, here=False, waiting=0, running=0)["told_by"] == "broker"
