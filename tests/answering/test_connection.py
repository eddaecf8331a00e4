"""Requests as they come over the wire: in pieces, one behind the other, malformed, too many, or not at all."""

import asyncio
import gc
import weakref
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
import uvicorn
from starlette.types import Message, Scope

from tests.answering.site import GET, Call, Site, closing, piece, says, serving, sized, split, start, talking

HELLO = says(start(sized(b"hello")), piece(b"hello"))
CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


def configured(site: Site) -> uvicorn.Config:
    assert site.server is not None
    return site.server.config


async def echo(call: Call) -> None:
    """Answer with the body."""
    body = b""
    while (message := await call.receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    await call.send(start(sized(body)))
    await call.send(piece(body))


async def test_what_the_application_is_told_of_a_request() -> None:
    scopes: list[Scope] = []

    async def app(call: Call) -> None:
        scopes.append(call.scope)
        await HELLO(call)

    async with serving(app) as site, talking(site) as (reader, writer):
        client = writer.get_extra_info("sockname")
        writer.write(b"GET /a%20b/%C3%A9?q=%20&r HTTP/1.1\r\nHost: x\r\nX-Two:  1\r\nx-two: 2\r\n\r\n")
        await reader.readuntil(b"hello")
        server = writer.get_extra_info("peername")

    scope = scopes[0]
    assert (scope["type"], scope["method"], scope["scheme"], scope["http_version"]) == ("http", "GET", "http", "1.1")
    assert (scope["path"], scope["raw_path"]) == ("/a b/é", b"/a%20b/%C3%A9")
    assert scope["query_string"] == b"q=%20&r"
    assert scope["headers"] == [(b"host", b"x"), (b"x-two", b"1"), (b"x-two", b"2")]
    assert scope["named_headers"] == {b"host": b"x", b"x-two": b"2"}
    assert (scope["client"], scope["server"]) == (client, server)
    assert (scope["root_path"], scope["asgi"]["version"]) == ("", "3.0")


@pytest.mark.parametrize("request_", [b"GET http://elsewhere/path?q HTTP/1.1", b"GET /path?q HTTP/1.1"])
async def test_a_target_with_a_host_is_its_path(request_: bytes) -> None:
    scopes: list[Scope] = []

    async def app(call: Call) -> None:
        scopes.append(call.scope)
        await HELLO(call)

    async with serving(app) as site:
        await site.ask(request_ + b"\r\nhost: x\r\nconnection: close\r\n\r\n")

    assert [(scope["path"], scope["query_string"]) for scope in scopes] == [("/path", b"q")]


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (b"POST /path HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab\r\nc", b"ab\r\nc"),
        (CHUNKED + b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nx-after: 1\r\n\r\n", b"abcd"),
        (CHUNKED + b"0\r\n\r\n", b""),
        (GET, b""),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_request_may_come_byte_by_byte(request_: bytes, body: bytes, at_once: bool) -> None:
    async with serving(echo) as site, talking(site) as (reader, writer):
        for _ in range(2):
            for byte in [request_] if at_once else [request_[at : at + 1] for at in range(len(request_))]:
                writer.write(byte)
                await asyncio.sleep(0)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert await reader.readexactly(len(body)) == body

    assert site.raised == []


@pytest.mark.parametrize(
    "request_",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/3.0\r\nhost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nho st: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\0y\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\nab",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        CHUNKED + b"x\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"2\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"3\nabc\r\n0\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT /c HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT /c HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ],
)
async def test_a_malformed_request_is_refused_and_nothing_after_it_is_read(request_: bytes) -> None:
    """What two readers of one connection could take for different requests is none."""
    async with serving(echo) as site:
        answer = await site.ask(request_ + b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.sleep(0.05)

    status, lines, body = split(answer)
    assert (status, body) == (b"HTTP/1.1 400 Bad Request", b"Invalid HTTP request received.")
    assert (b"connection: close" in lines, b"\r\ndate: " in answer) == (True, True)
    assert "/smuggled" not in site.ended


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 200_000, b"GET /" + b"x" * 1_000_000]
)
async def test_a_head_without_end_is_not_read_to_its_end(head: bytes) -> None:
    async with serving(HELLO) as site:
        async with talking(site) as (reader, writer):
            writer.write(head)
            # What it has not read makes the end of the connection a hard one, which may overtake the refusal.
            with suppress(ConnectionResetError):
                assert b" 400 " in await reader.read()
        assert await site.ask(closing(GET)) != b""

    assert site.ended == ["/"]


@pytest.mark.parametrize("behind", [b"x: " + b"y" * 1_000_000, b"x: y\r\n" * 200_000])
async def test_what_comes_behind_a_body_has_an_end(behind: bytes) -> None:
    async def app(call: Call) -> None:
        await echo(call)

    async with serving(app) as site:
        async with talking(site) as (reader, writer):
            writer.write(CHUNKED + b"3\r\nabc\r\n0\r\n")
            writer.write(behind)
            with suppress(ConnectionResetError):
                assert b" 400 " in await reader.read()
        assert await site.ask(closing(CHUNKED) + b"3\r\nabc\r\n" * 200_000 + b"0\r\nx: y\r\n\r\n") != b""

    assert len(site.ended) == 2


async def test_a_read_may_bring_more_of_a_body_than_a_head_may_have() -> None:
    body = b"x" * 2_000_000
    async with serving(echo) as site, talking(site) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body))
        connection = await site.connection()
        while connection.newest is None:  # noqa: ASYNC110  nor has it
            await asyncio.sleep(0.005)
        for start in range(0, len(body), 500_000):
            connection.data_received(body[start : start + 500_000])

        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")


async def test_no_refusal_is_written_into_an_answer_that_has_begun() -> None:
    async def app(call: Call) -> None:
        await call.send(start())
        await call.send(piece(b"abc", more=True))
        await asyncio.sleep(0.2)
        await call.send(piece(b"def"))

    async with serving(app) as site, talking(site) as (reader, writer):
        writer.write(CHUNKED)
        await reader.readuntil(b"3\r\nabc\r\n")
        writer.write(b"x\r\n")

        assert await reader.read() == b""


async def test_no_refusal_is_written_into_an_answer_while_another_request_waits() -> None:
    go = asyncio.Event()

    async def app(call: Call) -> None:
        await call.send(start())
        await call.send(piece(b"part", more=True))
        await go.wait()

    async with serving(app) as site, talking(site) as (reader, writer):
        writer.write(GET)
        await reader.readuntil(b"part\r\n")
        writer.write(GET + b"hello\r\n\r\n")
        assert await reader.read() == b""
        go.set()


async def test_what_comes_of_a_body_after_its_answer_is_passed_over() -> None:
    async with serving(HELLO) as site, talking(site) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n" + b"x" * 1000)
        await reader.readuntil(b"hello")
        writer.write(b"x" * 299_000 + GET)

        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 OK\r\n")
        assert site.ended == ["/", "/"]


async def test_a_body_that_nobody_reads_waits_at_its_sender() -> None:
    go = asyncio.Event()

    async def app(call: Call) -> None:
        await go.wait()
        await echo(call)

    size = 16_000_000
    async with serving(app) as site, talking(site) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
        writer.write(b"x" * size)
        connection = await site.connection()
        await asyncio.sleep(0.3)
        assert 0 < len(connection.newest.body) < 1_000_000
        assert writer.transport.get_write_buffer_size() > 0
        go.set()
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(size) == b"x" * size


async def test_a_request_waits_for_the_answer_to_the_one_before() -> None:
    order: list[str] = []
    go = asyncio.Event()

    async def app(call: Call) -> None:
        path = call.scope["path"]
        order.append(f"{path} begins")
        if path == "/first":
            await go.wait()
        await call.send(start(sized(b"")))
        order.append(f"{path} ends")
        await call.send(piece())

    async with serving(app) as site, talking(site) as (reader, writer):
        writer.write(GET.replace(b"/ ", b"/first ") + GET.replace(b"/ ", b"/second ") + GET.replace(b"/ ", b"/third "))
        await asyncio.sleep(0.1)
        assert order == ["/first begins"]
        go.set()
        for _ in range(3):
            await reader.readuntil(b"\r\n\r\n")

    assert order == [f"/{which} {what}" for which in ("first", "second", "third") for what in ("begins", "ends")]


async def test_more_requests_than_some_wait_at_their_sender() -> None:
    go = asyncio.Event()

    async def app(call: Call) -> None:
        await go.wait()
        assert (await call.receive())["body"] == b""
        await call.send(start([(b"content-length", b"0")]))
        await call.send(piece())

    request, count = b"GET / HTTP/1.1\r\nhost: x\r\nx-long: %b\r\n\r\n" % (b"x" * 8000), 2000
    async with serving(app) as site, talking(site) as (reader, writer):
        writer.write(request * count)
        await asyncio.sleep(0.5)
        assert writer.transport.get_write_buffer_size() > 1_000_000
        go.set()
        for _ in range(count):
            await reader.readuntil(b"\r\n\r\n")

    assert len(site.ended) == count


async def test_each_request_has_a_context_of_its_own() -> None:
    asked = ContextVar("asked", default="nothing")
    found: list[str] = []

    async def app(call: Call) -> None:
        found.append(asked.get())
        asked.set(call.scope["path"])
        await HELLO(call)

    async with serving(app) as site, talking(site) as (reader, writer):
        writer.write(GET + GET)
        for _ in range(2):
            await reader.readuntil(b"hello")
        writer.write(GET)
        await reader.readuntil(b"hello")

    assert found == ["nothing"] * 3


async def test_who_asks_nothing_for_long_is_parted_from() -> None:
    """Counted from the last answer, or from the next question's first byte; a long answer is no silence."""

    async def app(call: Call) -> None:
        await asyncio.sleep(1.0 if call.scope["path"] == "/slow" else 0)
        await HELLO(call)

    async with serving(app) as site:
        configured(site).timeout_keep_alive = 0.8  # type: ignore[assignment]  # whole seconds take long
        async with talking(site) as (reader, writer):
            for path in (b"/ ", b"/slow ", b"/ ", b"/ "):
                await asyncio.sleep(0.3)
                writer.write(GET.replace(b"/ ", path, 1))
                await reader.readuntil(b"hello")
            started = asyncio.get_running_loop().time()
            assert await reader.read() == b""
            assert 0.7 < asyncio.get_running_loop().time() - started < 3
        async with talking(site) as (reader, writer):
            writer.write(GET)
            await reader.readuntil(b"hello")
            await asyncio.sleep(0.5)
            writer.write(GET[:10])
            await asyncio.sleep(0.5)
            writer.write(GET[10:])
            await reader.readuntil(b"hello")


@pytest.mark.parametrize("half", [b"", GET[:10]])
async def test_who_never_ends_a_question_is_parted_from(half: bytes) -> None:
    async with serving(HELLO) as site:
        configured(site).timeout_keep_alive = 0.3  # type: ignore[assignment]  # likewise
        async with talking(site) as (reader, writer):
            writer.write(half)
            assert await reader.read() == b""

    assert site.ended == []


@pytest.mark.parametrize("asked", [False, True])
async def test_at_the_end_idle_connections_are_closed(asked: bool) -> None:
    async with serving(HELLO) as site, talking(site) as (reader, writer):
        await site.connection()
        if asked:
            writer.write(GET)
            await reader.readuntil(b"hello")
        assert site.server is not None
        site.server.should_exit = True

        assert await reader.read() == b""


async def test_a_request_that_waits_at_the_end_is_answered_and_the_last() -> None:
    here, go = asyncio.Event(), asyncio.Event()

    async def app(call: Call) -> None:
        here.set()
        await go.wait()
        await HELLO(call)

    async with serving(app) as site, talking(site) as (reader, writer):
        writer.write(GET + GET)
        await here.wait()
        assert site.server is not None
        site.server.should_exit = True
        await asyncio.sleep(0.3)
        go.set()
        answers = await reader.read()

    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert answers.count(b"connection: close") == 1


WEBSOCKET = (
    b"GET /live HTTP/1.1\r\nhost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def live(call: Call) -> None:
    if call.scope["type"] == "http":
        await HELLO(call)
        return
    await call.receive()
    await call.send({"type": "websocket.accept"})
    await call.send({"type": "websocket.send", "text": "hi"})
    await call.send({"type": "websocket.close"})


async def test_a_websocket_is_handed_on() -> None:
    async with serving(live) as site, talking(site) as (reader, writer):
        writer.write(GET)
        await reader.readuntil(b"hello")
        writer.write(WEBSOCKET)
        head = await reader.readuntil(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        assert await reader.readexactly(4) == b"\x81\x02hi"


async def test_a_websocket_does_not_take_the_connection_from_an_answer() -> None:
    go = asyncio.Event()

    async def app(call: Call) -> None:
        assert call.scope["type"] == "http"
        await call.send(start())
        await call.send(piece(b"abc", more=True))
        await go.wait()

    async with serving(app) as site, talking(site) as (reader, writer):
        writer.write(GET)
        await reader.readuntil(b"3\r\nabc\r\n")
        writer.write(WEBSOCKET)
        assert await reader.read() == b""
        go.set()

    assert site.raised == []


@pytest.mark.parametrize("at_once", [True, False])
async def test_another_upgrade_is_not_taken_up_and_its_body_is_no_request(at_once: bool) -> None:
    """A client that would rather speak HTTP/2 asks so with each first request, bodies and all."""
    async with serving(echo) as site, talking(site) as (reader, writer):
        for body in (b"", b"hello", GET):
            writer.write(
                b"POST /h2c HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
                b"content-length: %d\r\n\r\n" % len(body)
            )
            await asyncio.sleep(0 if at_once else 0.05)
            writer.write(body)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
            assert await reader.readexactly(len(body)) == body

    assert site.ended == ["/h2c"] * 3


async def test_thousands_of_upgrades_at_once_are_passed_over_one_after_the_other() -> None:
    request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    async with serving(HELLO) as site:
        answers = await site.ask(request * 2000 + closing(GET))

    assert answers.count(b"HTTP/1.1 200 OK") == answers.count(b"hello") == 2001


async def test_what_comes_behind_a_body_is_no_header() -> None:
    told: list[Scope] = []

    async def app(call: Call) -> None:
        told.append(call.scope)
        await echo(call)

    async with serving(app) as site, talking(site) as (reader, writer):
        writer.write(CHUNKED + b"3\r\nabc\r\n0\r\nauthorization: Bearer x\r\n\r\n")
        await reader.readuntil(b"abc")

    assert b"authorization" not in told[0]["named_headers"]
    assert b"authorization" not in dict(told[0]["headers"])


async def test_a_body_that_was_not_read_goes_with_its_answer() -> None:
    async with serving(HELLO) as site, talking(site) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n" + b"x" * 60_000)
        await reader.readuntil(b"hello")
        connection = await site.connection()
        assert connection.newest.body == b""


async def test_many_may_wait_for_the_same_end() -> None:
    told: list[Message] = []

    async def app(call: Call) -> None:
        await call.receive()
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(hear, call)

    async def hear(call: Call) -> None:
        told.append(await call.receive())

    async with serving(app) as site:
        async with talking(site) as (_, writer):
            writer.write(GET)
            await asyncio.sleep(0.1)
            assert told == []
        await asyncio.sleep(0.1)

    assert told == [{"type": "http.disconnect"}] * 2
    assert site.raised == []


async def test_what_is_received_after_the_answer_is_its_end() -> None:
    told: list[Message] = []

    async def app(call: Call) -> None:
        await HELLO(call)
        told.append(await call.receive())

    async with serving(app) as site:
        await site.ask(closing(GET))
        await asyncio.sleep(0.05)

    assert told == [{"type": "http.disconnect"}]


@pytest.mark.parametrize("requests", [0, 1, 3])
async def test_a_connection_that_has_ended_leaves_nothing_behind(requests: int) -> None:
    """It would wait for the collector, which comes late."""
    async with serving(HELLO) as site:
        gc.collect()
        gc.disable()
        try:
            async with talking(site) as (reader, writer):
                kept: weakref.ref[Any] = weakref.ref(await site.connection())
                for _ in range(requests):
                    writer.write(GET)
                    await reader.readuntil(b"hello")
            await asyncio.sleep(0.1)
            assert kept() is None
        finally:
            gc.enable()


async def test_what_was_answered_is_counted() -> None:
    async with serving(HELLO) as site:
        for _ in range(3):
            await site.ask(closing(GET))
        assert site.server is not None
        state = site.server.server_state

        assert (state.total_requests, state.tasks, state.connections) == (3, set(), set())
