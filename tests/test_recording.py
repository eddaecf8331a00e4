"""What writes exchanges down, put together: asked through a gateway that serves."""

import sqlite3
from pathlib import Path

import pytest

from llmgateway.recording import Recording
from llmgateway.settings import load_settings
from tests.api.ledger.books import ready
from tests.conftest import Serve
from tests.middleware.conftest import Log
from tests.running import running
from tests.services import free_port

HELLO = [{"role": "user", "content": "hi"}]
DEMO = {"model": "demo/echo", "messages": HELLO}


async def test_one_answer_is_in_the_ledger_the_metrics_the_log_and_the_providers_state(gateway: Serve) -> None:
    served = await gateway()
    await ready(served)

    answer = await served.client.post("/v1/chat/completions", json=DEMO)

    request_id = answer.headers["x-gateway-request-id"]
    entry = (await served.client.get(f"/v1/requests/{request_id}")).json()
    usage = (await served.client.get("/v1/usage?group_by=model")).json()
    metrics = (await served.client.get("/metrics")).text
    detailed = (await served.client.get("/health/detailed")).json()
    line = await served.logged("llm_request_complete", request_id=request_id)
    assert (entry["id"], entry["cost_usd"], entry["trace_id"]) == (request_id, 0.0, line["trace_id"])
    assert [(row["model"], row["requests"]) for row in usage["data"]] == [("demo/echo", 1)]
    assert 'llm_requests_total{model="demo/echo",operation="chat",provider="demo",status="200"' in metrics
    assert detailed["providers"]["demo"]["status"] == "healthy"


async def test_what_was_written_is_in_the_database_when_the_process_has_ended(tmp_path: Path) -> None:
    async with running(tmp_path) as served:
        await ready(served)
        for _ in range(3):
            await served.client.post("/v1/chat/completions", json=DEMO)

    with sqlite3.connect(tmp_path / "data" / "llmgateway.db") as database:
        (count,) = database.execute("SELECT count(*) FROM ledger").fetchone()
    database.close()
    assert count == 3
    assert list((tmp_path / "data" / "journal").iterdir()) == []


async def test_pitfall_084_without_its_database_the_gateway_answers_and_keeps_what_it_has_to_write(
    tmp_path: Path,
) -> None:
    nowhere = f"postgresql://gateway@127.0.0.1:{free_port()}/gateway"
    keys = {"LLMGATEWAY_ENCRYPTION_KEYS": "k" * 43 + "="}

    async with running(tmp_path, environ=keys, database_url=nowhere) as served:
        answer = await served.client.post("/v1/chat/completions", json=DEMO)
        ready = await served.client.get("/health/ready")
        usage = await served.client.get("/v1/usage")
        entry = await served.client.get(f"/v1/requests/{answer.headers['x-gateway-request-id']}")

    assert answer.status_code == 200
    assert (ready.status_code, usage.status_code) == (503, 503), "never reached: it may not be ready"
    assert usage.json()["error"]["code"] == "ledger_unavailable"
    assert entry.status_code == 200, "what was just answered is remembered"
    (segment,) = (tmp_path / "data" / "journal").iterdir()
    assert answer.headers["x-gateway-request-id"] in segment.read_text()


def test_a_journal_that_cannot_be_written_is_known_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file where the folder should be")

    with pytest.raises(OSError, match="journal"):
        Recording(load_settings({"LLMGATEWAY_DATA_DIR": str(tmp_path)}), Log().logger, "1", providers=tuple)
