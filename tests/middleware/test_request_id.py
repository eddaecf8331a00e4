"""Every request has our id; the client's own is echoed when it is one."""

import re

import pytest
from starlette.types import Message, Receive, Scope, Send

from llmgateway.exchange import Exchange
from llmgateway.middleware.request_id import RequestID
from tests.asgi import Client, scope_of

ANSWER: list[Message] = [
    {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]},
    {"type": "http.response.body", "body": b"a", "more_body": True},
    {"type": "http.response.body", "body": b"b"},
]


class Answers:
    """Answers, and keeps what it saw."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.headers: dict[bytes, bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.exchanges.append(scope["exchange"])
        self.headers = scope["named_headers"]
        for message in ANSWER:
            await send(dict(message))


async def ask(*ids: bytes) -> tuple[Client, Exchange]:
    client, app = Client(), Answers()
    scope = scope_of(headers=[(b"host", b"x"), *((b"x-request-id", theirs) for theirs in ids)])
    del scope["exchange"]
    await RequestID(app)(scope, client.receive, client.send)
    return client, app.exchanges[0]


async def test_without_an_id_ours_stands_in() -> None:
    client, exchange = await ask()

    assert re.fullmatch(r"req_[0-9a-z]{20,30}", exchange.id)
    assert client.headers["x-request-id"] == client.headers["x-gateway-request-id"] == exchange.id
    assert exchange.client_id is None


@pytest.mark.parametrize("theirs", [b"a", b"my.id-1_Z", b"x" * 128, b"..", b"0"])
async def test_a_valid_id_is_echoed_beside_ours(theirs: bytes) -> None:
    client, exchange = await ask(theirs)

    assert client.headers["x-request-id"] == exchange.client_id == theirs.decode()
    assert client.headers["x-gateway-request-id"] == exchange.id != exchange.client_id


@pytest.mark.parametrize(
    "theirs", [b"", b"x" * 129, b"my id", b"a\n", b"a/b", b"\xff\xfe", "é".encode(), b"a,b", b"<b>"]
)
async def test_anything_else_is_replaced_and_kept_nowhere(theirs: bytes) -> None:
    client, exchange = await ask(theirs)

    assert client.headers["x-request-id"] == exchange.id
    assert exchange.client_id is None


async def test_of_several_ids_the_last_is_looked_at() -> None:
    assert (await ask(b"first", b"second"))[0].headers["x-request-id"] == "second"
    assert (await ask(b"first", b"not one"))[1].client_id is None


async def test_each_request_has_its_own_exchange() -> None:
    exchanges = [(await ask(b"same"))[1] for _ in range(100)]

    assert len({exchange.id for exchange in exchanges}) == 100


async def test_only_the_head_of_the_answer_changes() -> None:
    client, _ = await ask()

    assert client.headers["content-type"] == "text/plain"
    assert client.sent[1:] == ANSWER[1:]


async def test_the_headers_can_be_found_by_their_names_further_in() -> None:
    client, app = Client(), Answers()

    await RequestID(app)(scope_of(headers=[(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]), client.receive, client.send)

    assert app.headers == {b"a": b"3", b"b": b"2"}


async def test_what_a_header_says_of_the_organization_is_not_believed_here() -> None:
    client, app = Client(), Answers()

    await RequestID(app)(scope_of(headers=[(b"x-organization-id", b"acme")]), client.receive, client.send)

    assert app.exchanges[0].organization is None


async def test_what_is_no_request_passes() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.append(scope)

    client, scope = Client(), {"type": "websocket", "path": "/"}
    await RequestID(app)(scope, client.receive, client.send)

    assert seen == [{"type": "websocket", "path": "/"}]
