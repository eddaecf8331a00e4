"""Whatever escapes becomes an answer in OpenAI's envelope, unless one has begun or nobody is left to read it."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from llmgateway.errors import (
    AuthenticationError,
    ClientGoneError,
    GatewayError,
    InvalidRequestError,
    MethodNotAllowedError,
    ModelNotFoundError,
    OverloadedError,
    RequestTooLargeError,
    ShuttingDownError,
)
from llmgateway.exchange import Exchange
from llmgateway.middleware.errors import Errors
from tests.asgi import GONE, Client, piece, scope_of
from tests.middleware.conftest import Log

START: Message = {"type": "http.response.start", "status": 200, "headers": []}


def raising(error: BaseException, *before: Message) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """What sends these messages, then fails."""

    async def app(_: Scope, __: Receive, send: Send) -> None:
        for message in before:
            await send(message)
        raise error

    return app


async def ask(
    error: BaseException, log: Log, *before: Message, scope: Scope | None = None, client: Client | None = None
) -> tuple[Client, Exchange]:
    client, scope = client or Client(), scope or scope_of()
    await Errors(raising(error, *before), logger=log.logger)(scope, client.receive, client.send)
    return client, scope["exchange"]


async def test_an_answer_without_an_error_goes_out_as_it_is(log: Log) -> None:
    client, scope = Client(), scope_of()
    messages = [START, {"type": "http.response.body", "body": b"{}"}]

    async def app(_: Scope, __: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    await Errors(app, logger=log.logger)(scope, client.receive, client.send)

    assert client.sent == messages
    assert scope["exchange"].error_code is None
    assert log.lines() == []


async def test_an_error_is_rendered_in_the_envelope(log: Log) -> None:
    error = ModelNotFoundError("No such model.", param="model", details={"available_models": ["grüße"]})

    client, exchange = await ask(error, log)

    assert client.status == 404
    assert client.error == {
        "message": "No such model.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
        "details": {"available_models": ["grüße"]},
        "request_id": exchange.id,
    }
    assert client.headers == {"content-type": "application/json", "content-length": str(len(client.body))}
    assert client.complete
    assert exchange.error_code == "model_not_found"
    assert log.lines() == [], "what the client did wrong is no fault of ours"


async def test_when_to_come_again_is_in_the_headers(log: Log) -> None:
    client, _ = await ask(OverloadedError("Full.", retry_after_s=1.2), log)

    assert (client.headers["retry-after"], client.headers["retry-after-ms"]) == ("2", "1200")
    assert client.headers["x-should-retry"] == "true"


async def test_the_error_of_a_model_call_has_a_model_calls_headers(log: Log) -> None:
    scope = scope_of()
    scope["exchange"].operation = "chat"

    client, _ = await ask(InvalidRequestError("no"), log, scope=scope)

    assert {"x-attempts", "x-overhead-ms", "server-timing", "x-cache-status"} <= client.headers.keys()


@pytest.mark.parametrize(
    "raised",
    [
        LookupError("secret-canary at 10.1.2.3"),
        RuntimeError("secret-canary"),
        ExceptionGroup("secret-canary", [ValueError("secret-canary")]),
        TimeoutError("secret-canary"),
    ],
)
async def test_pitfall_135_a_bug_is_a_500_without_its_inside(log: Log, raised: Exception) -> None:
    client, exchange = await ask(raised, log, scope=scope_of(path="/v1/" + "x" * 1000))

    assert client.status == 500
    assert (client.error["type"], client.error["code"]) == ("server_error", "internal_error")
    assert b"canary" not in client.body
    assert type(raised).__name__.encode() not in client.body
    assert exchange.error_code == "internal_error"
    (line,) = log.lines()
    assert (line["event"], line["level"], line["request_id"]) == ("unexpected_error", "error", exchange.id)
    assert "Traceback" in line["exception"]
    assert "secret-canary" in line["exception"]
    assert len(line["path"]) == 256


@pytest.mark.parametrize("error", [InvalidRequestError("late"), LookupError("late"), HTTPException(404)])
async def test_after_an_answer_has_begun_nothing_more_is_sent(log: Log, error: Exception) -> None:
    begun = [START, {"type": "http.response.body", "body": b"a", "more_body": True}]

    client, exchange = await ask(error, log, *begun)

    assert client.sent == begun
    assert exchange.error_code is not None
    assert [line["event"] for line in log.lines()] == (["unexpected_error"] if isinstance(error, LookupError) else [])


async def test_what_goes_wrong_after_the_end_makes_no_good_answer_a_bad_one(log: Log) -> None:
    scope = scope_of()

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"all of it"})
        scope["exchange"].recorded = True
        raise LookupError("late")

    client = Client()
    await Errors(app, logger=log.logger)(scope, client.receive, client.send)

    assert scope["exchange"].error_code is None
    assert [line["event"] for line in log.lines()] == ["unexpected_error"]


async def test_a_client_that_is_gone_is_sent_nothing(log: Log) -> None:
    client, exchange = await ask(ClientGoneError("Gone."), log)

    assert client.sent == []
    assert exchange.error_code == "client_closed_request"


async def cancelled(cause: GatewayError | None, log: Log, *before: Message) -> tuple[Client, asyncio.Task[int]]:
    """Cancel a request that works, after its cause was noted; the task gives how many cancellations were left."""
    client, scope = Client(), scope_of()
    works = asyncio.Event()

    async def app(_: Scope, __: Receive, send: Send) -> None:
        for message in before:
            await send(message)
        works.set()
        await asyncio.Event().wait()

    async def run() -> int:
        await Errors(app, logger=log.logger)(scope, client.receive, client.send)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    task = asyncio.get_running_loop().create_task(run())
    await works.wait()
    scope["exchange"].cancelled_by = cause
    task.cancel()
    await asyncio.wait([task])
    return client, task


async def test_a_request_ended_by_the_shutdown_is_told_so(log: Log) -> None:
    client, task = await cancelled(ShuttingDownError("Ending."), log)

    assert (client.status, client.error["code"]) == (503, "shutting_down")
    assert (client.headers["x-should-retry"], client.headers["retry-after"]) == ("true", "1")
    assert task.result() == 0, "the task is not left as cancelled"


async def test_a_request_ended_since_its_client_left_is_sent_nothing(log: Log) -> None:
    client, task = await cancelled(ClientGoneError("Gone."), log)

    assert client.sent == []
    assert task.result() == 0


async def test_a_cancellation_after_the_answer_began_adds_nothing(log: Log) -> None:
    client, task = await cancelled(ShuttingDownError("Ending."), log, START)

    assert client.sent == [START]
    assert task.result() == 0


async def test_a_cancellation_from_elsewhere_goes_on(log: Log) -> None:
    client, task = await cancelled(None, log)

    assert task.cancelled()
    assert client.sent == []
    assert log.lines() == []


async def test_an_unknown_path_says_where_to_look(log: Log) -> None:
    scope = scope_of("GET", '/a"b\n' + "x" * 1000)

    client, _ = await ask(HTTPException(404), log, scope=scope)

    assert (client.status, client.error["code"]) == (404, "not_found")
    assert client.error["message"].startswith('Unknown path: GET /a"b\nxxx')
    assert client.error["message"].endswith("/docs shows what is served.")
    assert len(client.error["message"]) < 300


async def test_a_wrong_method_says_which_are_right(log: Log) -> None:
    client, _ = await ask(HTTPException(405, headers={"Allow": "GET, HEAD"}), log, scope=scope_of("DELETE", "/health"))

    assert (client.status, client.error["code"]) == (405, "method_not_allowed")
    assert client.error["message"] == "/health takes GET, HEAD, not DELETE."
    assert client.headers["allow"] == "GET, HEAD"


async def test_a_wrong_method_may_come_without_the_right_ones(log: Log) -> None:
    bare, _ = await ask(HTTPException(405), log)
    own, _ = await ask(MethodNotAllowedError("No."), log)

    assert (bare.status, bare.headers["allow"]) == (405, "another method")
    assert own.status == 405
    assert "allow" not in own.headers


@pytest.mark.parametrize("status", [400, 403, 413, 418])
async def test_any_other_status_of_the_router_is_the_clients_fault(log: Log, status: int) -> None:
    client, _ = await ask(HTTPException(status, detail="What was wrong."), log)

    assert (client.status, client.error["message"]) == (400, "What was wrong.")


async def test_the_rest_of_a_refused_body_is_read_so_that_the_answer_is_seen(log: Log) -> None:
    client = Client(piece(b"x", more=True), piece(b"x", more=True), piece(b"x"), GONE)

    await ask(RequestTooLargeError("Too large."), log, client=client)

    assert (client.status, client.headers["connection"]) == (413, "close")
    assert client.error["code"] == "request_too_large"
    assert client.headers["content-length"] == str(len(client.body))
    assert client.unread == 1
    assert [message.get("more_body", False) for message in client.sent] == [False, True, False]


async def test_the_answer_is_out_before_the_rest_is_read(log: Log) -> None:
    client = Client(piece(b"x", more=True))
    asking = asyncio.ensure_future(ask(RequestTooLargeError("Too large."), log, client=client))
    await asyncio.sleep(0.05)

    assert client.error["code"] == "request_too_large"
    assert not client.complete
    client.leave()
    await asking
    assert client.complete


async def test_a_refused_body_that_goes_on_for_ever_is_read_for_a_second(log: Log) -> None:
    client, scope = Client(), scope_of()

    async def receive() -> Message:
        await asyncio.sleep(0.01)
        return piece(b"x", more=True)

    started = time.perf_counter()
    await Errors(raising(RequestTooLargeError("Too large.")), logger=log.logger)(scope, receive, client.send)

    assert 0.9 < time.perf_counter() - started < 2
    assert client.complete


@pytest.mark.parametrize("expects", ["100-continue", "something else"])
async def test_who_waits_to_be_told_to_go_on_is_not(log: Log, expects: str) -> None:
    """To receive would be to ask for the body."""
    client = Client(piece(b"x"))

    await ask(RequestTooLargeError("Too large."), log, client=client, scope=scope_of(headers={"expect": expects}))

    assert client.complete
    assert client.asked == 0


@pytest.mark.parametrize("error", [InvalidRequestError("no"), OverloadedError("full")])
async def test_no_other_error_waits_for_the_rest(log: Log, error: GatewayError) -> None:
    client = Client(piece(b"x", more=True))

    await ask(error, log, client=client)

    assert client.complete
    assert client.asked == 0
    assert "connection" not in client.headers


async def test_what_is_no_request_passes_with_its_errors(log: Log) -> None:
    seen: list[tuple[Scope, Receive, Send]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))
        if len(seen) > 1:
            raise LookupError

    client, scope = Client(), {"type": "websocket"}
    receive, send = client.receive, client.send
    errors = Errors(app, logger=log.logger)
    await errors(scope, receive, send)
    with pytest.raises(LookupError):
        await errors(scope, receive, send)

    assert seen == [(scope, receive, send)] * 2
    assert log.lines() == []


async def test_who_is_not_known_is_told_how_to_say_who_one_is(log: Log) -> None:
    client = Client()

    await Errors(raising(AuthenticationError("No key was sent.")), logger=log.logger)(
        scope_of(), client.receive, client.send
    )

    assert client.status == 401
    assert client.headers["www-authenticate"] == "Bearer"
    assert client.headers["x-should-retry"] == "false"
