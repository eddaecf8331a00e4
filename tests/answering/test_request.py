"""Answers as they leave on the wire: small applications behind a real socket, and clients that write bytes."""

import asyncio
import gc
import socket
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from starlette.types import Message

from llmgateway.outgoing import WHOLE
from tests.answering.site import GET, Call, Headers, closing, piece, says, serving, sized, split, start, talking


class Counting:
    """A transport that remembers what was written to it."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.writes: list[bytes] = []

    def write(self, piece: bytes) -> None:
        self.writes.append(piece)
        self._transport.write(piece)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def by_message(call: Call, events: bytes) -> None:
    await call.send(piece(events, more=True))


async def past_messages(call: Call, events: bytes) -> None:
    if (slow := call.scope["piece"](events)) is not None:
        await slow


WAYS = pytest.mark.parametrize("go_on", [by_message, past_messages])
GoOn = Callable[[Call, bytes], Awaitable[None]]


async def test_an_answer_of_a_known_length_leaves_in_one_piece() -> None:
    app = says(start([*sized(b"hello"), (b"X-Thing", b"Yes")]), piece(b"hello"))
    async with serving(app) as site, talking(site) as (reader, writer):
        connection = await site.connection()
        connection.transport = counting = Counting(connection.transport)
        writer.write(GET)
        answer = await reader.readuntil(b"hello")

    assert counting.writes == [answer]
    assert b"\r\ndate: " in answer
    assert split(answer) == (b"HTTP/1.1 200 OK", [b"content-length: 5", b"x-thing: Yes"], b"hello")


async def test_a_body_without_a_length_comes_in_chunks() -> None:
    async with serving(says(start(), piece(b"ab", more=True), piece(more=True), piece(b"c" * 16))) as site:
        _, lines, body = split(await site.ask(closing(GET)))

    assert sorted(lines) == [b"connection: close", b"transfer-encoding: chunked"]
    assert body == b"2\r\nab\r\n10\r\n" + b"c" * 16 + b"\r\n0\r\n\r\n"


async def test_a_head_does_not_wait_for_a_body_that_is_still_to_come() -> None:
    go = asyncio.Event()

    async def app(call: Call) -> None:
        await call.send(start())
        await go.wait()
        await call.send(piece(b"late"))

    async with serving(app) as site, talking(site) as (reader, writer):
        writer.write(GET)
        with anyio.fail_after(1):
            head = await reader.readuntil(b"\r\n\r\n")
        go.set()
        body = await reader.readexactly(14)

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"4\r\nlate\r\n0\r\n\r\n"


async def test_head_gets_the_headers_and_no_body() -> None:
    async with serving(says(start(sized(b"hello")), piece(b"hello"))) as site:
        _, lines, body = split(await site.ask(closing(GET.replace(b"GET", b"HEAD"))))

    assert (sorted(lines), body) == ([b"connection: close", b"content-length: 5"], b"")


@pytest.mark.parametrize(("status", "headers"), [(204, []), (304, []), (304, [(b"content-length", b"9")])])
async def test_answers_that_have_no_body_are_not_framed(status: int, headers: Headers) -> None:
    async with serving(says(start(headers, status), piece())) as site, talking(site) as (reader, writer):
        for _ in range(2):
            writer.write(GET)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status)
            assert b"transfer-encoding" not in head
        assert site.raised == []


@pytest.mark.parametrize("body", [b"four", b"sixsix"])
@pytest.mark.parametrize("flushed", [False, True])
async def test_a_body_of_another_length_raises_and_ends_the_connection(body: bytes, flushed: bool) -> None:
    async def app(call: Call) -> None:
        await call.send(start([(b"content-length", b"5")]))
        if flushed:
            await asyncio.sleep(0.05)
        await call.send(piece(body))

    async with serving(app) as site:
        answer = await site.ask()

    assert [type(error) for error in site.raised] == [RuntimeError]
    assert body not in answer
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") is flushed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((b"x-a", b"v" + bad + b"set-cookie: a=b") for bad in (b"\r\n", b"\n", b"\r", b"\0", b"\x7f")),
        *((b"x" + bad + b"evil", b"v") for bad in (b"\r\n", b"\n", b"\r", b"\0", b": ", b" ")),
    ],
)
async def test_a_line_break_in_a_header_never_leaves(name: bytes, value: bytes) -> None:
    async with serving(says(start([(name, value), *sized(b"hello")]), piece(b"hello"))) as site:
        status, lines, body = split(await site.ask())

    assert [type(error) for error in site.raised] == [RuntimeError]
    assert (status, body) == (b"HTTP/1.1 500 Internal Server Error", b"Internal Server Error")
    assert not [line for line in lines if b"cookie" in line or b"evil" in line]


async def test_after_a_refused_head_another_answer_may_be_given() -> None:
    async def app(call: Call) -> None:
        with pytest.raises(RuntimeError, match="value"):
            await call.send(start([(b"connection", b"close"), (b"x-a", b"\n")]))
        await call.send(start(sized(b"sorry"), 500))
        await call.send(piece(b"sorry"))

    async with serving(app) as site, talking(site) as (reader, writer):
        for _ in range(2):
            writer.write(GET)
            _, lines, body = split(await reader.read(65536))
            assert (lines, body) == ([b"content-length: 5"], b"sorry")


@pytest.mark.parametrize(
    "header",
    [(b"connection", b"close"), (b"Connection", b"Close"), (b"connection", b"close, x"), (b"CONNECTION", b"x , CLOSE")],
)
async def test_an_application_may_end_the_connection_and_says_so_once(header: tuple[bytes, bytes]) -> None:
    async with serving(says(start([header, *sized(b"hello")]), piece(b"hello"))) as site:
        _, lines, body = split(await site.ask())

    assert (lines, body) == ([b"connection: " + header[1], b"content-length: 5"], b"hello")


@pytest.mark.parametrize("length", [[], [(b"content-length", b"5")], [(b"Content-LENGTH", b"5")]])
async def test_the_framing_is_said_once_whatever_the_application_says(length: Headers) -> None:
    given = [(b"Transfer-Encoding", b"chunked"), *length]
    async with serving(says(start(given), piece(b"hello"))) as site:
        _, lines, body = split(await site.ask(closing(GET)))

    framing = [line for line in lines if line.startswith((b"transfer-encoding", b"content-length"))]
    if length:
        assert (framing, body) == ([b"content-length: 5"], b"hello")
    else:
        assert (framing, body) == ([b"transfer-encoding: chunked"], b"5\r\nhello\r\n0\r\n\r\n")


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"6")]])
async def test_an_old_client_gets_a_plain_body_that_ends_with_the_connection(headers: Headers) -> None:
    async with serving(says(start(headers), piece(b"abc", more=True), piece(b"def"))) as site:
        _, lines, body = split(await site.ask(b"GET / HTTP/1.0\r\n\r\n"))

    assert body == b"abcdef"
    assert b"connection: close" in lines
    assert b"transfer-encoding: chunked" not in lines


@WAYS
@pytest.mark.parametrize(
    ("version", "headers", "body"),
    [
        (b"1.1", [], b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"),
        (b"1.1", sized(b"abcdef"), b"abcdef"),
        (b"1.0", [], b"abcdef"),
    ],
)
async def test_a_stream_goes_on_past_all_that_looks_at_messages(
    go_on: GoOn, version: bytes, headers: Headers, body: bytes
) -> None:
    async def app(call: Call) -> None:
        await call.send(start(headers))
        await go_on(call, b"abc")
        await go_on(call, b"")
        await go_on(call, b"def")
        await call.send(piece())

    async with serving(app) as site:
        assert split(await site.ask(b"GET / HTTP/%b\r\nconnection: close\r\n\r\n" % version))[2] == body
    assert site.raised == []


@WAYS
@pytest.mark.parametrize("messages", [(), (start(), piece())])
async def test_what_goes_on_has_begun_and_is_not_over(go_on: GoOn, messages: tuple[Message, ...]) -> None:
    async def app(call: Call) -> None:
        await says(*messages)(call)
        await go_on(call, b"abc")

    async with serving(app) as site:
        await site.ask(closing(GET))

    assert [str(error) for error in site.raised] == ["http.response.body came out of turn"]


class Kept:
    """Something large that belongs to one request."""


async def test_what_is_kept_in_the_scope_goes_with_its_request() -> None:
    kept: list[weakref.ref[Kept]] = []

    async def app(call: Call) -> None:
        call.scope["kept"] = thing = Kept()
        kept.append(weakref.ref(thing))
        await says(start(), piece(b"a", more=True), piece())(call)

    async with serving(app) as site, talking(site) as (reader, writer):
        gc.disable()
        try:
            writer.write(GET)
            await reader.readuntil(b"0\r\n\r\n")
            while not site.ended:  # noqa: ASYNC110  the end is what is waited for
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.02)
            gone = [one() is None for one in kept]
        finally:
            gc.enable()

    assert gone == [True]


async def echo(call: Call) -> None:
    body = call.scope["path"].encode()
    await asyncio.sleep(0.02 if body.endswith(b"0") else 0)
    await call.send(start(sized(body)))
    await call.send(piece(body))


async def test_a_connection_serves_many_requests() -> None:
    async with serving(echo) as site, talking(site) as (reader, writer):
        for number in range(1, 60, 2):
            writer.write(b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % number)
            assert split(await reader.read(65536))[2] == b"/%d" % number


async def test_pipelined_requests_are_answered_in_order() -> None:
    requests = [b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n" % number for number in range(20, 30)]
    async with serving(echo) as site:
        answer = await site.ask(b"".join(requests[:-1]) + closing(requests[-1]))

    assert [part[:3] for part in answer.split(b"\r\n\r\n")[1:]] == [b"/%d" % number for number in range(20, 30)]


@pytest.mark.parametrize("reads", [False, True])
async def test_the_body_is_asked_for_only_when_it_is_read(reads: bool) -> None:
    async def app(call: Call) -> None:
        body = (await call.receive())["body"] if reads else b"no"
        await call.send(start(sized(body)))
        await call.send(piece(body))

    async with serving(app) as site, talking(site) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        first = await reader.readuntil(b"\r\n\r\n")
        if reads:
            assert first == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hi")
            first = await reader.readuntil(b"\r\n\r\n")
        assert first.startswith(b"HTTP/1.1 200 OK\r\n")
        assert await reader.readexactly(2) == (b"hi" if reads else b"no")


@pytest.mark.parametrize("body", [b"", b"hi", b"x" * 100_000])
async def test_a_body_that_came_whole_is_there_at_once_and_once(body: bytes) -> None:
    taken: list[bytes | None] = []

    async def app(call: Call) -> None:
        await asyncio.sleep(0.05)
        taken.extend([call.receive.whole(), (await call.receive())["body"]])  # type: ignore[attr-defined]
        await call.send(start(sized(b"")))
        await call.send(piece())

    async with serving(app) as site:
        await site.ask(
            b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )

    assert taken == [body, b""]


async def test_a_body_that_is_still_to_come_is_received_as_ever() -> None:
    seen: list[object] = []

    async def app(call: Call) -> None:
        seen.append(call.receive.whole())  # type: ignore[attr-defined]
        while not seen[-1] or seen[-1] == b"h":
            seen.append((await call.receive())["body"])
        await call.send(start(sized(b"")))
        await call.send(piece())

    async with serving(app) as site, talking(site) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nh")
        await asyncio.sleep(0.05)
        writer.write(b"i")
        await reader.readuntil(b"\r\n\r\n")

    assert seen == [None, b"h", b"i"]


async def test_a_client_that_is_gone_has_no_body_to_take() -> None:
    taken: list[object] = []
    gone = asyncio.Event()

    async def app(call: Call) -> None:
        await gone.wait()
        taken.extend([call.receive.whole(), (await call.receive())["type"]])  # type: ignore[attr-defined]

    async with serving(app) as site:
        async with talking(site) as (_, writer):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi")
            protocol = await site.connection()
            while protocol.newest is None or not protocol.newest.is_whole:  # noqa: ASYNC110  there is no event for it
                await asyncio.sleep(0.005)
        while not protocol.is_lost:  # noqa: ASYNC110  likewise
            await asyncio.sleep(0.005)
        gone.set()
        while not site.ended:  # noqa: ASYNC110  likewise
            await asyncio.sleep(0.005)

    assert taken == [None, "http.disconnect"]


@WAYS
@pytest.mark.parametrize("requests", [1, 2])
@pytest.mark.parametrize("started", [False, True])
async def test_what_is_sent_to_a_client_that_is_gone_is_nothing(requests: int, started: bool, go_on: GoOn) -> None:
    """With two pipelined requests uvicorn tells the first one nothing, and a closed transport raises."""
    here, gone = asyncio.Event(), asyncio.Event()

    async def app(call: Call) -> None:
        if started:
            await call.send(start())
        here.set()
        await gone.wait()
        if not started:
            await call.send(start())
        for _ in range(10):
            await go_on(call, b"x" * 1000)
            await asyncio.sleep(0)
        await call.send(piece())

    async with serving(app) as site:
        async with talking(site) as (_, writer):
            writer.write(GET * requests)
            await here.wait()
        await asyncio.sleep(0.1)
        gone.set()
        await asyncio.sleep(0.1)

    assert (site.raised, site.ended) == ([], ["/"])


@WAYS
async def test_a_client_that_does_not_read_makes_the_application_wait_until_it_leaves(go_on: GoOn) -> None:
    sent: list[int] = []

    async def app(call: Call) -> None:
        await call.send(start())
        for number in range(400):
            await go_on(call, bytes(100_000))
            sent.append(number)

    async with serving(app) as site:
        with socket.create_connection(("127.0.0.1", site.port)) as client:
            client.sendall(GET)
            await asyncio.sleep(0.5)
            waiting_at = len(sent)
            await asyncio.sleep(0.1)
            assert len(sent) == waiting_at < 400
            assert site.ended == []
        with anyio.fail_after(5):
            while not site.ended:  # noqa: ASYNC110  the end is what is waited for
                await asyncio.sleep(0.01)

    assert site.raised == []


OTHER: Message = {"type": "http.response.trailers", "headers": []}


@pytest.mark.parametrize(
    "messages",
    [
        [piece()],
        [start(), start()],
        [start(), OTHER],
        [start(), piece(), piece()],
        [start(), piece(), start()],
        [OTHER],
    ],
)
async def test_messages_out_of_turn_raise(messages: list[Message]) -> None:
    async with serving(says(*messages)) as site:
        await site.ask()

    assert [str(error) for error in site.raised] == [f"{messages[-1]['type']} came out of turn"]


async def test_an_application_that_ends_too_soon_gets_uvicorns_answer_or_a_closed_connection() -> None:
    async def fails(_: Call) -> None:
        raise LookupError

    for app in (fails, says()):
        async with serving(app) as site:
            assert (await site.ask()).startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    async with serving(says(start(), piece(b"a", more=True))) as site:
        assert split(await site.ask())[2] == b"1\r\na\r\n"
    async with serving(says(start(sized(b"abc")))) as site:
        assert await site.ask() == b""


@pytest.mark.parametrize("started", [False, True])
async def test_an_answer_that_runs_at_the_end_finishes_and_ends_its_connection(started: bool) -> None:
    here, go = asyncio.Event(), asyncio.Event()

    async def app(call: Call) -> None:
        if started:
            await call.send(start(sized(b"bye")))
        here.set()
        await go.wait()
        if not started:
            await call.send(start(sized(b"bye")))
        await call.send(piece(b"bye"))

    async with serving(app) as site, talking(site) as (reader, writer):
        writer.write(GET)
        await here.wait()
        assert site.server is not None
        site.server.should_exit = True
        await asyncio.sleep(0.3)
        go.set()
        _, lines, body = split(await reader.read())

    assert body == b"bye"
    assert (b"connection: close" in lines) is not started


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("framed", [False, True])
async def test_large_bodies_arrive_whole(kind: Callable[[bytes], Any], framed: bool) -> None:
    body = bytes(range(256)) * 20_000
    async with serving(says(start(sized(body) if framed else []), piece(kind(body)))) as site:
        got = split(await site.ask(closing(GET)))[2]

    assert got == (body if framed else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))


@pytest.mark.parametrize("body", [b"", b"hi"])
@pytest.mark.parametrize(("reads", "answers"), [("whole", False), ("message", False), ("", False), ("whole", True)])
async def test_who_wants_to_know_is_told_that_the_client_left(body: bytes, reads: str, answers: bool) -> None:
    """Once its body was taken, and before its answer is over."""
    told: list[object] = []
    here, gone = asyncio.Event(), asyncio.Event()

    async def app(call: Call) -> None:
        call.scope["request"].when_gone = told.append
        if reads == "whole":
            assert call.receive.whole() == body  # type: ignore[attr-defined]
        elif reads:
            assert (await call.receive())["body"] == body
        if answers:
            await says(start(), piece(b"a", more=True), piece())(call)
        here.set()
        await gone.wait()
        assert told == ([] if answers or not reads else [asyncio.current_task()])

    async with serving(app) as site:
        async with talking(site) as (_, writer):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            await here.wait()
            connection = await site.connection()
        while not connection.is_lost:  # noqa: ASYNC110  there is no event for it
            await asyncio.sleep(0.005)
        gone.set()
        while not site.ended:  # noqa: ASYNC110  likewise
            await asyncio.sleep(0.005)

    assert site.raised == []


def whole(body: bytes) -> Message:
    return {"type": WHOLE, "status": 201, "lines": b"x: y\r\ncontent-length: %d\r\n" % len(body), "body": body}


async def test_an_answer_may_be_one_message() -> None:
    async with serving(says(whole(b"hello"))) as site, talking(site) as (reader, writer):
        connection = await site.connection()
        connection.transport = counting = Counting(connection.transport)
        answers = []
        for _ in range(2):
            writer.write(GET)
            answers.append(await reader.readuntil(b"hello"))

    assert counting.writes == answers
    assert split(answers[1]) == (b"HTTP/1.1 201 Created", [b"x: y", b"content-length: 5"], b"hello")


@pytest.mark.parametrize(("method", "body"), [(b"GET", b"hello"), (b"HEAD", b"")])
async def test_a_whole_answer_says_that_it_is_the_connections_last(method: bytes, body: bytes) -> None:
    async with serving(says(whole(b"hello"))) as site:
        answer = await site.ask(closing(GET.replace(b"GET", method)))

    assert split(answer) == (b"HTTP/1.1 201 Created", [b"x: y", b"content-length: 5", b"connection: close"], body)


@pytest.mark.parametrize("before", [[start()], [start(), piece()], [whole(b"a")]])
async def test_a_whole_answer_is_the_first_and_the_last(before: list[Message]) -> None:
    async with serving(says(*before, whole(b"hello"))) as site:
        await site.ask(closing(GET))

    assert [str(error) for error in site.raised] == ["http.response.whole came out of turn"]
