"""One log line for every request, however it ends: what happened, never what was said."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from llmgateway.exchange import Attempt, Complete, Exchange, Streamed, Usage
from llmgateway.middleware.observe import Observe
from tests.asgi import Client, scope_of
from tests.conftest import Serve
from tests.middleware.conftest import Log
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player

Fill = Callable[[Exchange], Awaitable[None]]


async def nothing(_: Exchange) -> None:
    """Learn nothing on the way."""


async def observed(log: Log, *, status: int | None = 200, fill: Fill = nothing, **scope: Any) -> dict[str, Any]:
    """Serve one request, and give its line."""

    async def app(asked: Scope, _: Receive, send: Send) -> None:
        await fill(asked["exchange"])
        if status is not None:
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    client = Client()
    await Observe(app, logger=log.logger)(scope_of(**scope), client.receive, client.send)
    (line,) = log.lines()
    return line


def of_model(**fields: object) -> Fill:
    """What the rooms behind learn of a model call."""

    async def fill(exchange: Exchange) -> None:
        exchange.operation, exchange.requested_model = "chat", "fast"
        exchange.provider, exchange.upstream_model = "main", "gpt-4o"
        for name, value in fields.items():
            setattr(exchange, name, value)

    return fill


class NoChunks:
    def __aiter__(self) -> "NoChunks":
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("status", [200, 204, 307, 404])
async def test_a_page_that_is_served_is_told_at_debug_only(log: Log, status: int) -> None:
    line = await observed(log, status=status, method="GET", path="/health")

    assert (line["event"], line["level"]) == ("http_request", "debug")
    assert (line["method"], line["path"], line["status"]) == ("GET", "/health", status)
    assert line["duration_ms"] >= 0
    assert line.keys() == {"timestamp", "level", "event", "request_id", "method", "path", "status", "duration_ms"}


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (500, "internal_error"), (503, None), (None, None)])
async def test_a_page_that_fails_is_a_warning(log: Log, status: int | None, code: str | None) -> None:
    async def fail(exchange: Exchange) -> None:
        exchange.error_code = code

    line = await observed(log, status=status, fill=fail, method="GET", path="/" + "x" * 1000)

    assert (line["event"], line["level"], line["status"]) == ("http_request", "warning", status)
    assert line.get("error_code") == code
    assert len(line["path"]) == 256


async def test_the_clients_own_id_is_beside_ours(log: Log) -> None:
    exchange = Exchange(client_id="mine")

    line = await observed(log, exchange=exchange)

    assert (line["request_id"], line["client_request_id"]) == (exchange.id, "mine")


async def test_a_model_call_is_told_with_all_that_was_learned(log: Log) -> None:
    now = time.perf_counter()
    attempts = [Attempt("other", "m", now, now + 0.01), Attempt("main", "gpt-4o", now + 0.01, now + 0.03)]
    reply = Complete(b"{}", Usage(prompt_tokens=7, completion_tokens=3))

    line = await observed(log, fill=of_model(attempts=attempts, reply=reply))

    assert (line["event"], line["level"], line["status"]) == ("llm_request_complete", "info", 200)
    told = {name: line[name] for name in ("operation", "model", "provider", "upstream_model", "stream", "attempts")}
    assert told == {
        "operation": "chat",
        "model": "fast",
        "provider": "main",
        "upstream_model": "gpt-4o",
        "stream": False,
        "attempts": 2,
    }
    assert (line["prompt_tokens"], line["completion_tokens"]) == (7, 3)
    assert "ttft_ms" not in line
    assert "error_code" not in line


async def test_overhead_is_what_no_attempt_took(log: Log) -> None:
    async def work(exchange: Exchange) -> None:
        await asyncio.sleep(0.02)
        now = time.perf_counter()
        exchange.attempts = [Attempt("main", "m", now, now + 0.03), Attempt("main", "m", now + 0.03)]
        await asyncio.sleep(0.05)
        exchange.attempts[-1].ended = now + 0.05
        exchange.operation = "chat"

    line = await observed(log, fill=work)

    assert line["duration_ms"] > 65
    assert line["overhead_ms"] == pytest.approx(line["duration_ms"] - 50, abs=0.1)


async def test_overhead_is_never_below_nothing(log: Log) -> None:
    now = time.perf_counter()

    line = await observed(log, fill=of_model(attempts=[Attempt("main", "m", now, now + 5.0)]))

    assert line["overhead_ms"] == 0


@pytest.mark.parametrize("first_chunk_after_s", [None, 0.25])
async def test_a_stream_tells_when_its_first_chunk_came(log: Log, first_chunk_after_s: float | None) -> None:
    exchange = Exchange()
    started = exchange.started
    first = None if first_chunk_after_s is None else started + first_chunk_after_s
    attempts = [
        Attempt("main", "m", started, started, first_chunk=started + 9.0),
        Attempt("main", "m", started, started, first_chunk=first),
    ]

    line = await observed(
        log, exchange=exchange, fill=of_model(stream=True, reply=Streamed(NoChunks()), attempts=attempts)
    )

    assert line["stream"] is True
    assert line.get("ttft_ms") == (None if first is None else pytest.approx(250, abs=0.1)), "of the last attempt"
    assert "prompt_tokens" not in line


async def test_a_stream_that_nobody_attempted_has_no_first_chunk(log: Log) -> None:
    line = await observed(log, fill=of_model(stream=True, reply=Streamed(NoChunks(), Usage(1, 2))))

    assert "ttft_ms" not in line
    assert (line["prompt_tokens"], line["completion_tokens"]) == (1, 2)


async def test_a_call_that_failed_before_its_model_was_known_is_told(log: Log) -> None:
    async def fail(exchange: Exchange) -> None:
        exchange.operation, exchange.error_code = "embedding", "invalid_json"

    line = await observed(log, status=400, fill=fail)

    assert (line["event"], line["level"], line["status"]) == ("llm_request_error", "warning", 400)
    assert (line["error_code"], line["model"], line["provider"], line["attempts"]) == ("invalid_json", "", None, 0)


async def test_a_stream_that_broke_is_an_error_although_its_status_was_200(log: Log) -> None:
    line = await observed(log, fill=of_model(stream=True, error_code="provider_unavailable"))

    assert (line["event"], line["status"]) == ("llm_request_error", 200)
    assert line["error_code"] == "provider_unavailable"


@pytest.mark.parametrize("status", [None, 200])
async def test_a_client_that_left_is_a_499_whatever_had_gone_out(log: Log, status: int | None) -> None:
    line = await observed(log, status=status, fill=of_model(error_code="client_closed_request"))

    assert (line["event"], line["status"]) == ("llm_request_error", 499)


async def test_a_name_as_long_as_a_book_is_cut(log: Log) -> None:
    line = await observed(log, fill=of_model(requested_model="x" * 100_000))

    assert line["model"] == "x" * 256


@pytest.mark.parametrize("error", [LookupError("canary"), asyncio.CancelledError()])
async def test_what_escapes_is_told_and_goes_on(log: Log, error: BaseException) -> None:
    async def app(_: Scope, __: Receive, ___: Send) -> None:
        raise error

    client = Client()
    with pytest.raises(type(error)):
        await Observe(app, logger=log.logger)(scope_of(), client.receive, client.send)

    (line,) = log.lines()
    assert (line["event"], line["level"], line["status"]) == ("http_request", "warning", None)
    assert "canary" not in str(line)


async def test_what_is_no_request_is_not_told(log: Log) -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.append(scope)

    client = Client()
    await Observe(app, logger=log.logger)({"type": "websocket"}, client.receive, client.send)

    assert seen == [{"type": "websocket"}]
    assert log.lines() == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_pitfall_099_neither_content_nor_keys_are_in_the_log(
    gateway: Serve, provider: Player, catalog: str, stream: bool, fails: bool
) -> None:
    served = await gateway(catalog, retry__max_retries=0)
    if fails:
        provider.always(OpenAIWire().error(500, "canary-answer"))
    body = {"model": "chat", "messages": [{"role": "user", "content": "canary-prompt"}], "stream": stream}
    headers = {"Authorization": "Bearer sk-canary-client", "api-key": "canary-key", "Cookie": "canary=1"}

    await served.client.post("/v1/chat/completions?secret=canary-query", json=body, headers=headers)
    await served.client.get("/nothing?secret=canary-query", headers=headers)

    await served.logged("llm_request_error" if fails else "llm_request_complete")
    await served.logged("http_request", path="/nothing")
    for secret in ("canary", "sk-upstream"):
        assert secret not in str(served.logs())
