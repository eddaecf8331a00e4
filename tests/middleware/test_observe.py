"""Every request is written down once: secured before its last byte goes out, told right after, however it ends."""

import asyncio
from collections.abc import Awaitable
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from typing_extensions import override

from llmgateway.exchange import Exchange
from llmgateway.middleware.observe import Observe
from llmgateway.turn import Turn
from tests.asgi import Client, scope_of
from tests.conftest import Serve
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player

START: Message = {"type": "http.response.start", "status": 201, "headers": []}


class Records:
    """What was written down of each exchange, once each, as `Recorder` does."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int | None]] = []
        self.secured: list[str] = []
        self.in_turn: list[str] = []
        self.turn = Turn()

    def secure(self, exchange: Exchange) -> None:
        if exchange.ended is None:
            exchange.ended = 1.0
            self.secured.append(exchange.id)

    def record(self, exchange: Exchange) -> None:
        self.secure(exchange)
        if not exchange.recorded:
            exchange.recorded = True
            self.seen.append((exchange.id, exchange.status))

    def secure_in_turn(self, exchange: Exchange) -> None:
        self.in_turn.append("secured")
        self.secure(exchange)

    def record_in_turn(self, exchange: Exchange) -> None:
        self.in_turn.append("told")
        self.record(exchange)


class Order(Client):
    """A client that notes how many were secured and told when each message went out."""

    def __init__(self, records: Records) -> None:
        super().__init__()
        self._records = records
        self.records_at: list[tuple[int, int]] = []

    @override
    async def send(self, message: Message) -> None:
        self.records_at.append((len(self._records.secured), len(self._records.seen)))
        await super().send(message)


async def test_a_request_is_secured_before_its_last_byte_and_told_after_it() -> None:
    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    records = Records()
    client, scope = Order(records), scope_of()
    await Observe(app, recorder=records)(scope, client.receive, client.send)

    assert records.seen == [(scope["exchange"].id, 201)]
    assert client.records_at == [(0, 0), (0, 0), (1, 0)], "secured before, told after"
    assert client.body == b"ab"


@pytest.mark.parametrize("slow", [False, True])
async def test_what_our_own_server_sends_is_written_down_with_its_turn_unless_the_client_is_slow(slow: bool) -> None:
    sent = list[tuple[str, list[str]]]()

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"a"})

    async def later(message: Message) -> None:
        await asyncio.sleep(0)
        sent.append((message["type"], [*records.in_turn]))

    def server(message: Message) -> Awaitable[None]:
        if slow:
            return later(message)
        sent.append((message["type"], [*records.in_turn]))
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    records, scope = Records(), scope_of()
    scope["request"] = SimpleNamespace(turn=records.turn)
    await Observe(app, recorder=records)(scope, Client().receive, server)

    assert sent == [("http.response.start", []), ("http.response.body", ["secured"])]
    assert records.in_turn == (["secured"] if slow else ["secured", "told"])
    assert records.seen == [(scope["exchange"].id, 201)]


async def test_what_is_sent_by_another_turn_is_secured_at_once() -> None:
    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"a"})

    records, scope = Records(), scope_of()
    client = Order(records)
    scope["request"] = SimpleNamespace(turn=Turn())
    await Observe(app, recorder=records)(scope, client.receive, client.send)

    assert client.records_at == [(0, 0), (1, 0)]
    assert (records.in_turn, len(records.seen)) == ([], 1)


@pytest.mark.parametrize("started", [False, True])
async def test_an_answer_without_an_end_is_written_down_all_the_same(started: bool) -> None:
    async def app(_: Scope, __: Receive, send: Send) -> None:
        if started:
            await send(START)

    records, client = Records(), Client()
    await Observe(app, recorder=records)(scope_of(), client.receive, client.send)

    assert [status for _, status in records.seen] == [201 if started else None]


@pytest.mark.parametrize("started", [False, True])
async def test_a_client_that_left_is_a_499_whatever_had_gone_out(started: bool) -> None:
    async def app(scope: Scope, __: Receive, send: Send) -> None:
        if started:
            await send(START)
        scope["exchange"].error_code = "client_closed_request"

    records, client = Records(), Client()
    await Observe(app, recorder=records)(scope_of(), client.receive, client.send)

    assert [status for _, status in records.seen] == [499]


@pytest.mark.parametrize("error", [LookupError("canary"), asyncio.CancelledError()])
async def test_what_escapes_is_written_down_and_goes_on(error: BaseException) -> None:
    async def app(_: Scope, __: Receive, ___: Send) -> None:
        raise error

    records, client = Records(), Client()
    with pytest.raises(type(error)):
        await Observe(app, recorder=records)(scope_of(), client.receive, client.send)

    assert len(records.seen) == 1


async def test_what_is_no_request_is_not_told() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.append(scope)

    records, client = Records(), Client()
    await Observe(app, recorder=records)({"type": "websocket"}, client.receive, client.send)

    assert seen == [{"type": "websocket"}]
    assert records.seen == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fails", [False, True])
async def test_pitfall_099_neither_content_nor_keys_are_in_the_log(
    gateway: Serve, provider: Player, catalog: str, stream: bool, fails: bool
) -> None:
    served = await gateway(catalog, retry__max_retries=0)
    if fails:
        provider.always(OpenAIWire().error(500, "canary-answer"))
    body: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "canary-prompt"}]}
    headers = {"Authorization": "Bearer sk-canary-client", "api-key": "canary-key", "Cookie": "canary=1"}

    await served.client.post(
        "/v1/chat/completions?secret=canary-query", json=body | {"stream": stream}, headers=headers
    )
    await served.client.get("/nothing?secret=canary-query", headers=headers)

    await served.logged("llm_request_error" if fails else "llm_request_complete")
    await served.logged("http_request", path="/nothing")
    for secret in ("canary", "sk-upstream"):
        assert secret not in str(served.logs())
