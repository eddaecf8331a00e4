"""What browsers are told not to do, on every answer."""

import pytest
from starlette.types import Receive, Scope, Send

from llmgateway.middleware.security_headers import SecurityHeaders
from tests.asgi import Client, scope_of
from tests.conftest import Serve

ALWAYS = {"x-content-type-options": "nosniff"}
PAGE = ALWAYS | {"x-frame-options": "DENY", "referrer-policy": "no-referrer"}


async def answered(*headers: tuple[bytes, bytes]) -> Client:
    """Answer with these headers, and a body of two pieces."""

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    client = Client()
    await SecurityHeaders(app)(scope_of(), client.receive, client.send)
    return client


@pytest.mark.parametrize("kind", [b"text/html", b"text/html; charset=utf-8"])
async def test_a_page_has_them_all_beside_its_own(kind: bytes) -> None:
    client = await answered((b"content-type", kind), (b"content-security-policy", b"default-src 'none'"))

    own = {"content-type": kind.decode(), "content-security-policy": "default-src 'none'"}
    assert client.headers == PAGE | own


@pytest.mark.parametrize("kind", [b"application/json", b"text/event-stream; charset=utf-8", b"text/plain"])
async def test_any_other_answer_may_not_be_taken_for_a_page(kind: bytes) -> None:
    client = await answered((b"content-type", kind))

    assert client.headers == ALWAYS | {"content-type": kind.decode()}


async def test_an_answer_without_a_type_has_them_too() -> None:
    assert (await answered()).headers == ALWAYS


async def test_only_the_head_of_the_answer_changes() -> None:
    client = await answered((b"content-type", b"text/html"))

    assert client.sent[1:] == [
        {"type": "http.response.body", "body": b"a", "more_body": True},
        {"type": "http.response.body", "body": b"b"},
    ]


async def test_answers_do_not_share_their_headers() -> None:
    """A list that grows with every answer would be a leak."""
    shared = [(b"content-type", b"text/html")]

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": shared})

    clients = [Client() for _ in range(3)]
    for client in clients:
        await SecurityHeaders(app)(scope_of(), client.receive, client.send)

    assert shared == [(b"content-type", b"text/html")]
    assert [len(client.sent[0]["headers"]) for client in clients] == [4, 4, 4]


@pytest.mark.parametrize("path", ["/", "/health", "/docs", "/nothing", "/v1/models/nope", "/v1/chat/completions"])
async def test_every_answer_has_them_once_errors_too(gateway: Serve, path: str) -> None:
    served = await gateway()

    answer = await served.client.get(path)

    for name, value in (PAGE if path == "/docs" else ALWAYS).items():
        assert answer.headers.get_list(name) == [value]


async def test_what_is_no_request_passes() -> None:
    seen: list[tuple[Scope, Receive, Send]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    client, scope = Client(), {"type": "websocket", "path": "/"}
    receive, send = client.receive, client.send
    await SecurityHeaders(app)(scope, receive, send)

    assert seen == [(scope, receive, send)]
