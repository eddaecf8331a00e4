"""Bodies are read whole, within limits; what a body took of the total comes back, however its request ends."""

import asyncio
import contextlib
import time

import pytest
from starlette.types import Message, Receive, Scope, Send

from llmgateway.errors import ClientGoneError, InvalidRequestError, OverloadedError, RequestTooLargeError
from llmgateway.middleware.body import Body
from tests.asgi import GONE, Client, piece, scope_of


class Reached:
    """What lies behind: keeps the body, and ends as it is told."""

    def __init__(self, ends: Exception | None = None) -> None:
        self.bodies: list[bytes] = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        self._ends = ends

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.bodies.append(scope["body"])
        await self.may_end.wait()
        if self._ends is not None:
            raise self._ends


def bounded(app: Reached, *, one: int = 100, total: int = 1000, piece_timeout_s: float = 5.0) -> Body:
    return Body(app, max_bytes=one, max_total_bytes=total, piece_timeout_s=piece_timeout_s)


async def ask(body: Body, *messages: Message, headers: list[tuple[bytes, bytes]] | None = None) -> Client:
    client = Client(*messages)
    await body(scope_of(headers=headers), client.receive, client.send)
    return client


def length(size_bytes: int) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"application/json"), (b"content-length", b"%d" % size_bytes)]


class Arrived:
    """A `receive` whose body is there already; it has no messages."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __call__(self) -> Message:
        raise AssertionError("nothing was to be received")

    def whole(self) -> bytes:
        return self._body


async def test_a_body_that_is_there_already_is_taken_without_a_message() -> None:
    app = Reached()

    await bounded(app)(scope_of(headers=length(3)), Arrived(b"012"), Client().send)

    assert app.bodies == [b"012"]


async def test_a_body_that_is_there_already_keeps_the_limits_all_the_same() -> None:
    with pytest.raises(RequestTooLargeError):
        await bounded(Reached(), one=2)(scope_of(headers=[]), Arrived(b"012"), Client().send)
    with pytest.raises(OverloadedError):
        await bounded(Reached(), total=2)(scope_of(headers=[]), Arrived(b"012"), Client().send)


@pytest.mark.parametrize(
    "messages",
    [
        [piece(b"0123456789")],
        [piece(b"01234", more=True), piece(b"56789")],
        [piece(more=True), piece(b"0123456789", more=True), piece()],
        [piece(bytes([byte]), more=byte != ord("9")) for byte in b"0123456789"],
    ],
)
async def test_a_body_is_whole_however_it_comes(messages: list[Message]) -> None:
    app = Reached()

    await ask(bounded(app), *messages)

    assert app.bodies == [b"0123456789"]
    assert isinstance(app.bodies[0], bytes)


async def test_no_body_is_an_empty_one() -> None:
    app = Reached()

    await ask(bounded(app), {"type": "http.request"})
    await ask(bounded(app), {"type": "http.request", "more_body": True}, {"type": "http.request"})

    assert app.bodies == [b"", b""]


async def test_a_body_as_long_as_the_limit_passes() -> None:
    app = Reached()

    await ask(bounded(app, one=10), piece(b"x" * 10), headers=length(10))
    await ask(bounded(app, one=10), piece(b"x" * 9, more=True), piece(b"x"))

    assert [len(body) for body in app.bodies] == [10, 10]


async def test_a_declared_length_above_the_limit_is_refused_unread() -> None:
    app, client = Reached(), Client(piece(b"x" * 11))

    with pytest.raises(RequestTooLargeError, match="larger than 10 bytes"):
        await bounded(app, one=10)(scope_of(headers=length(11)), client.receive, client.send)

    assert client.asked == 0
    assert not app.bodies


async def test_pitfall_142_a_body_without_a_length_is_read_no_further_than_the_limit() -> None:
    app, client = Reached(), Client(*(piece(b"x" * 4, more=True) for _ in range(1000)))

    with pytest.raises(RequestTooLargeError):
        await bounded(app, one=10)(scope_of(), client.receive, client.send)

    assert client.asked == 3
    assert not app.bodies


async def test_one_piece_above_the_limit_is_refused() -> None:
    with pytest.raises(RequestTooLargeError):
        await ask(bounded(Reached(), one=10), piece(b"x" * 11))


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ([(b"content-length", b"5"), (b"content-length", b"6")], "more than one Content-Length"),
        ([(b"content-length", b"5"), (b"content-length", b"5")], "more than one Content-Length"),
        ([(b"content-length", b"5, 5")], "not a number"),
        ([(b"content-length", b"-5")], "not a number"),
        ([(b"content-length", b"0x5")], "not a number"),
        ([(b"content-length", b"")], "not a number"),
        ([(b"content-length", "\N{ARABIC-INDIC DIGIT FIVE}".encode())], "not a number"),
        ([(b"content-encoding", b"gzip")], "send the JSON as it is"),
        ([(b"content-encoding", b"identity, br")], "send the JSON as it is"),
        ([(b"content-encoding", b"identity"), (b"content-encoding", b"gzip")], "send the JSON as it is"),
    ],
)
async def test_headers_that_say_nothing_sure_are_refused_unread(headers: list[tuple[bytes, bytes]], said: str) -> None:
    app, client = Reached(), Client(piece(b"hello"))

    with pytest.raises(InvalidRequestError, match=said):
        await bounded(app)(scope_of(headers=headers), client.receive, client.send)

    assert client.asked == 0
    assert not app.bodies


async def test_a_length_with_thousands_of_digits_is_too_large() -> None:
    with pytest.raises(RequestTooLargeError):
        await ask(bounded(Reached()), piece(), headers=[(b"content-length", b"9" * 5000)])


@pytest.mark.parametrize("encoding", [b"identity", b"Identity", b"IDENTITY"])
async def test_a_body_said_to_be_as_it_is_passes(encoding: bytes) -> None:
    app = Reached()

    await ask(bounded(app), piece(b"{}"), headers=[(b"content-encoding", encoding)])

    assert app.bodies == [b"{}"]


async def test_a_declared_body_counts_before_it_comes() -> None:
    app = Reached()
    body = bounded(app, one=10, total=15)
    slow = Client()
    first = asyncio.ensure_future(body(scope_of(headers=length(10)), slow.receive, slow.send))
    await asyncio.sleep(0)

    with pytest.raises(OverloadedError) as refused:
        await ask(body, piece(b"x" * 6), headers=length(6))
    await ask(body, piece(b"x" * 5), headers=length(5))

    assert (refused.value.retry_after_s, refused.value.should_retry) == (1.0, True)
    assert [len(passed) for passed in app.bodies] == [5]
    slow.leave()
    with pytest.raises(ClientGoneError):
        await first


async def test_a_body_counts_while_it_is_worked_on() -> None:
    app = Reached()
    app.may_end.clear()
    body = bounded(app, one=10, total=15)
    first = asyncio.ensure_future(ask(body, piece(b"x" * 10)))
    await asyncio.sleep(0)

    with pytest.raises(OverloadedError):
        await ask(body, piece(b"x" * 6))
    app.may_end.set()
    await first
    await ask(body, piece(b"x" * 10))

    assert [len(passed) for passed in app.bodies] == [10, 10]


async def test_what_grows_beyond_its_declared_length_is_counted_as_it_is() -> None:
    app = Reached()
    app.may_end.clear()
    body = bounded(app, one=10, total=15)
    first = asyncio.ensure_future(ask(body, piece(b"x" * 4, more=True), piece(b"x" * 6), headers=length(2)))
    await asyncio.sleep(0)

    with pytest.raises(OverloadedError):
        await ask(body, piece(b"x" * 3, more=True), piece(b"x" * 3))
    app.may_end.set()
    await first

    assert len(app.bodies) == 1


async def whole_total_is_free(body: Body, app: Reached, size_bytes: int) -> bool:
    """Whether one body may take all there is, and not a byte more."""
    before = len(app.bodies)
    with contextlib.suppress(RuntimeError):
        await ask(body, piece(b"x" * size_bytes))
    with pytest.raises(OverloadedError):
        await ask(body, piece(b"x" * (size_bytes + 1)))
    return len(app.bodies) == before + 1


@pytest.mark.parametrize("headers", [None, length(8)])
@pytest.mark.parametrize(
    ("messages", "raised"),
    [
        ([piece(b"x" * 8)], RuntimeError),
        ([piece(b"x" * 4, more=True), piece(b"x" * 4)], RuntimeError),
        ([piece(b"x" * 4, more=True), GONE], ClientGoneError),
        ([GONE], ClientGoneError),
        ([piece(b"x" * 4, more=True), piece(b"x" * 200)], RequestTooLargeError),
        ([piece(b"x" * 4, more=True), piece(b"x" * 70)], OverloadedError),
        ([piece(b"x" * 4, more=True)], InvalidRequestError),
    ],
)
async def test_what_a_body_took_comes_back_from_every_failure(
    messages: list[Message], raised: type[Exception], headers: list[tuple[bytes, bytes]] | None
) -> None:
    app = Reached(ends=RuntimeError("behind"))
    body = bounded(app, one=100, total=60, piece_timeout_s=0.05)

    with pytest.raises(raised):
        await ask(body, *messages, headers=headers)

    assert await whole_total_is_free(body, app, 60)


@pytest.mark.parametrize("reached", [False, True])
async def test_what_a_body_took_comes_back_from_a_cancellation(reached: bool) -> None:
    app = Reached()
    app.may_end.clear()
    body = bounded(app, one=100, total=60)
    running = asyncio.ensure_future(ask(body, piece(b"x" * 8, more=not reached)))
    await asyncio.sleep(0.01)
    assert bool(app.bodies) == reached

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    app.may_end.set()

    assert await whole_total_is_free(body, app, 60)


async def test_what_a_body_took_comes_back_after_an_answer() -> None:
    app = Reached()
    body = bounded(app, one=100, total=60)

    for _ in range(20):
        await ask(body, piece(b"x" * 30, more=True), piece(b"x" * 30), headers=length(50))

    assert await whole_total_is_free(body, app, 60)


async def test_a_request_that_was_refused_for_its_headers_took_nothing() -> None:
    app = Reached()
    body = bounded(app, one=100, total=60)

    for headers in ([(b"content-length", b"61")], [(b"content-length", b"50"), (b"content-length", b"50")]):
        with pytest.raises((OverloadedError, InvalidRequestError)):
            await ask(body, piece(), headers=headers)

    assert await whole_total_is_free(body, app, 60)


@pytest.mark.parametrize("messages", [[], [piece(b"{", more=True)]], ids=["nothing", "a beginning"])
async def test_a_body_that_stops_coming_is_given_up(messages: list[Message]) -> None:
    app = Reached()
    started = time.perf_counter()

    with pytest.raises(InvalidRequestError, match=r"No more of the body came for 0\.05 s"):
        async with asyncio.timeout(1.0):
            await ask(bounded(app, piece_timeout_s=0.05), *messages, headers=length(50))

    assert time.perf_counter() - started < 0.5
    assert not app.bodies


async def test_a_slow_body_is_taken_while_its_pieces_keep_coming() -> None:
    app = Reached()
    sent = 0

    async def receive() -> Message:
        nonlocal sent
        await asyncio.sleep(0.03)
        sent += 1
        return piece(b"x", more=sent < 6)

    await bounded(app, piece_timeout_s=0.1)(scope_of(), receive, Client().send)

    assert app.bodies == [b"x" * 6]


async def test_the_limit_on_a_silence_is_not_one_on_the_answer() -> None:
    app = Reached()
    app.may_end.clear()
    running = asyncio.ensure_future(ask(bounded(app, piece_timeout_s=0.02), piece(b"{", more=True), piece(b"}")))

    await asyncio.sleep(0.1)
    assert not running.done()
    app.may_end.set()
    await running

    assert app.bodies == [b"{}"]


async def test_a_client_that_leaves_before_its_body_is_complete_reaches_nobody() -> None:
    app = Reached()

    with pytest.raises(ClientGoneError, match="before its body was complete"):
        await ask(bounded(app), piece(b"{", more=True), GONE)

    assert not app.bodies


async def test_a_body_that_drips_for_ever_is_given_up() -> None:
    async def drip() -> Message:
        await asyncio.sleep(0.02)
        return piece(b"x", more=True)

    body = Body(Reached(), max_bytes=1000, max_total_bytes=1000, upload_timeout_s=0.1)

    with pytest.raises(InvalidRequestError, match=r"not complete within 0\.1 s"):
        await body(scope_of(), drip, Client().send)
