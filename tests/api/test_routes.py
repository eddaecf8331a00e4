"""Every path finds what serves it, and no other."""

import json

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from llmgateway.api.calls import ReplyTimes
from llmgateway.api.routes import OPERATIONS, Paths, model_calls
from llmgateway.errors import OverloadedError
from llmgateway.exchange import Complete
from tests.api.answering import Answering
from tests.asgi import Client, scope_of
from tests.conftest import Serve

CALLS = {
    "/v1/chat/completions": ("chat", {"model": "m", "messages": [{"role": "user", "content": "hi"}]}),
    "/v1/completions": ("completion", {"model": "m", "prompt": "hi"}),
    "/v1/embeddings": ("embedding", {"model": "m", "input": "hi"}),
}


def paths(target: Answering) -> Paths:
    async def page(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.path_params.get("name", "page"))

    pages = [Route("/page", page, methods=["GET"]), Route("/page/{name:path}", page, methods=["GET"])]
    return Paths(model_calls(target.gateway(), ReplyTimes()), pages)


async def ask(scope: Scope) -> tuple[Client, Answering]:
    client, target = Client(), Answering(Complete(b"{}"))
    await paths(target)(scope, client.receive, client.send)
    return client, target


@pytest.mark.parametrize("path", list(CALLS))
async def test_a_model_call_reaches_its_operation(path: str) -> None:
    operation, body = CALLS[path]

    client, target = await ask(scope_of(path=path, body=json.dumps(body).encode()))

    assert client.status == 200
    assert [call.operation for call in target.calls] == [operation]


@pytest.mark.parametrize(("path", "text"), [("/page", b"page"), ("/page/a/b", b"a/b"), ("/page/", b"")])
async def test_a_page_is_served_by_the_router(path: str, text: bytes) -> None:
    client, target = await ask(scope_of("GET", path))

    assert (client.status, client.body) == (200, text)
    assert target.calls == []


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "",
        "/PAGE",
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1/Chat/completions",
        "/v1/chat",
        "/v1/chat/completions/../completions",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unknown_path_is_raised_and_never_redirected(method: str, path: str) -> None:
    with pytest.raises(HTTPException) as raised:
        await ask(scope_of(method, path, body=b"{}"))

    assert raised.value.status_code == 404


async def test_a_wrong_method_is_raised_with_the_right_ones() -> None:
    with pytest.raises(HTTPException) as raised:
        await ask(scope_of("DELETE", "/page"))

    assert raised.value.status_code == 405
    assert sorted((raised.value.headers or {})["Allow"].split(", ")) == ["GET", "HEAD"]


async def test_later_changes_to_the_table_change_nothing() -> None:
    reached: list[str] = []

    async def call(scope: Scope, _: Receive, __: Send) -> None:
        reached.append(scope["path"])

    table = {"/call": call}
    served, client = Paths(table, []), Client()
    table.clear()

    await served(scope_of(path="/call"), client.receive, client.send)

    assert reached == ["/call"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allowed"),
    [
        ("GET", "/nothing", 404, "not_found", None),
        ("POST", "/v1/nothing", 404, "not_found", None),
        ("POST", "/v1/chat/completions/", 404, "not_found", None),
        ("GET", "/v1/embeddings", 405, "method_not_allowed", {"POST"}),
        ("DELETE", "/v1/models", 405, "method_not_allowed", {"GET", "HEAD"}),
        ("POST", "/health", 405, "method_not_allowed", {"GET", "HEAD"}),
    ],
)
async def test_what_is_not_served_answers_in_the_envelope(
    gateway: Serve, method: str, path: str, status: int, code: str, allowed: set[str] | None
) -> None:
    served = await gateway()

    answer = await served.client.request(method, path)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert path in answer.json()["error"]["message"]
    assert ("allow" in answer.headers) == (allowed is not None)
    if allowed is not None:
        assert set(answer.headers["allow"].split(", ")) == allowed


async def test_a_head_request_is_answered_without_a_body(gateway: Serve) -> None:
    served = await gateway()

    page = await served.client.head("/health")
    call = await served.client.head("/v1/chat/completions")

    assert (page.status_code, page.content) == (200, b"")
    assert (call.status_code, call.content, call.headers["allow"]) == (405, b"", "POST")


@pytest.mark.parametrize("path", sorted(OPERATIONS))
async def test_a_call_that_is_refused_before_its_body_is_read_is_a_model_call_all_the_same(path: str) -> None:
    """503, 413 and later 401: what the guards refuse is counted, and answered, as what it was meant to be."""

    async def refuse(_: Scope, __: Receive, ___: Send) -> None:
        raise OverloadedError("full")

    scope, client = scope_of(path=path), Client()
    with pytest.raises(OverloadedError):
        await Paths(dict.fromkeys(OPERATIONS, refuse), [])(scope, client.receive, client.send)

    assert scope["exchange"].operation == OPERATIONS[path]
    assert (b"x-attempts", b"0") in scope["exchange"].headers()


async def test_a_refused_method_is_told_of_every_method_that_the_path_takes() -> None:
    async def read(_: Request) -> PlainTextResponse:
        return PlainTextResponse("read")

    async def remove(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"removed {request.path_params['id']}")

    pages = [Route("/keys/{id}", read, methods=["GET"]), Route("/keys/{id}", remove, methods=["DELETE"])]
    served, client = Paths({}, pages), Client()

    await served(scope_of("DELETE", "/keys/7"), client.receive, client.send)
    with pytest.raises(HTTPException) as refused:
        await served(scope_of("PUT", "/keys/7"), client.receive, client.send)

    assert client.body == b"removed 7"
    assert set((refused.value.headers or {})["Allow"].split(", ")) == {"DELETE", "GET", "HEAD"}
