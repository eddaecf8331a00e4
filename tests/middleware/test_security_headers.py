"""What browsers are told not to do, on every answer."""

import pytest
from starlette.types import Message, Receive, Scope, Send
from tests.asgi import Client, scope_of
from tests.conftest import Serve

from llmgateway.middleware.security_headers import SecurityHeaders

ALWAYS = {"x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer"}


async def test_they_are_added_to_the_head_and_nothing_else_changes() -> None:
    body: list[Message] = [
        {"type": "http.response.body", "body": b"a", "more_body": True},
        {"type": "http.response.body", "body": b"b"},
    ]
    own = (b"content-security-policy", b"default-src 'none'")

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [own]})
        for message in body:
            await send(message)

    client = Client()
    await SecurityHeaders(app)(scope_of(), client.receive, client.send)

    assert client.headers == ALWAYS | {"content-security-policy": "default-src 'none'"}
    assert client.sent[1:] == body


async def test_answers_do_not_share_their_headers() -> None:
    """A list that grows with every answer would be a leak."""
    shared = [(b"content-type", b"text/plain")]

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": shared})

    clients = [Client() for _ in range(3)]
    for client in clients:
        await SecurityHeaders(app)(scope_of(), client.receive, client.send)

    assert shared == [(b"content-type", b"text/plain")]
    assert [len(client.sent[0]["headers"]) for client in clients] == [4, 4, 4]


@pytest.mark.parametrize("path", ["/", "/health", "/docs", "/nothing", "/v1/models/nope", "/v1/chat/completions"])
async def test_every_answer_has_them_errors_too(gateway: Serve, path: str) -> None:
    served = await gateway()

    answer = await served.client.get(path)

    assert ALWAYS.items() <= dict(answer.headers).items()
    for name in ALWAYS:
        assert len(answer.headers.get_list(name)) == 1


async def test_what_is_no_request_passes() -> None:
    seen: list[tuple[Scope, Receive, Send]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    client, scope = Client(), {"type": "websocket", "path": "/"}
    receive, send = client.receive, client.send
    await SecurityHeaders(app)(scope, receive, send)

    assert seen == [(scope, receive, send)]
