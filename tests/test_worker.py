import json
from pathlib import Path

import pytest
from starlette.types import Message

from llmgateway.lifespan import Application
from llmgateway.worker import create_child_app, create_jobs_app


def environ(folder: Path) -> dict[str, str]:
    return {"LLMGATEWAY_DATA_DIR": str(folder), "LLMGATEWAY_CATALOG": str(folder / "none.yaml")}


@pytest.fixture(autouse=True)
def _catalog(tmp_path: Path) -> None:
    (tmp_path / "none.yaml").write_text("models: []\n")


async def answer(app: Application, path: str) -> tuple[int, bytes]:
    """Ask without a server."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "method": "GET", "path": path, "headers": headers, "client": ("127.0.0.1", 1)}
    await app({**scope, "query_string": b"", "scheme": "http", "http_version": "1.1"}, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


async def test_a_worker_serves_its_health_and_its_figures_and_nothing_else(tmp_path: Path) -> None:
    app = create_jobs_app(environ=environ(tmp_path))

    status, body = await answer(app, "/")
    assert (status, json.loads(body)["name"]) == (200, "llmgateway")
    assert (await answer(app, "/health"))[0] == 200
    assert b"llm_queue_depth" in (await answer(app, "/metrics"))[1]
    assert (await answer(app, "/v1/chat/completions"))[0] == 404
    assert (await answer(app, "/api/v1/services"))[0] == 404


async def test_a_worker_that_lives_runs_what_it_needs_and_ends_in_order(tmp_path: Path) -> None:
    app = create_child_app(environ(tmp_path))
    told: list[str] = []
    orders = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> Message:
        return {"type": next(orders)}

    async def send(message: Message) -> None:
        told.append(message["type"])

    await app({"type": "lifespan"}, receive, send)

    assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
