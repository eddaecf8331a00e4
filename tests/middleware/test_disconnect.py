"""A client that leaves ends all that runs for it; nobody else is taken for one."""

import asyncio
import gc
import time
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from starlette.types import Message, Receive, Scope, Send

from llmgateway.errors import ClientGoneError, ShuttingDownError
from llmgateway.exchange import Exchange
from llmgateway.middleware.disconnect import Disconnect
from tests.asgi import GONE, Client, piece, scope_of

# Longer than a request must last before it is watched.
WATCHED_S = 0.2


async def read(receive: Receive) -> bytes:
    pieces: list[bytes] = []
    while True:
        message = await receive()
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)


@dataclass
class Works:
    """What lies behind: reads its body, then works."""

    seconds: float = 10.0
    body: bytes = b""
    finished: bool = False
    cancelled_after_s: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.body = await read(receive)
        started = time.perf_counter()
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled_after_s = time.perf_counter() - started
            raise
        self.finished = True


def start(app: Callable[[Scope, Receive, Send], Awaitable[None]], receive: Receive, scope: Scope) -> asyncio.Task[None]:
    async def run() -> None:
        await Disconnect(app)(scope, receive, Client().send)

    return asyncio.get_running_loop().create_task(run())


def cause(scope: Scope) -> object:
    exchange: Exchange = scope["exchange"]
    return exchange.cancelled_by


async def others() -> set[asyncio.Task[object]]:
    """The tasks beside this one, once what is to end has ended."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


class Arrived:
    """A `receive` whose body is there already, and whose client leaves after it."""

    def __init__(self) -> None:
        self.leaves = asyncio.Event()

    async def __call__(self) -> Message:
        await self.leaves.wait()
        return GONE

    def whole(self) -> bytes:
        return b"{}"


async def test_who_left_after_a_body_that_was_taken_whole_is_seen() -> None:
    client, scope, works = Arrived(), scope_of(), asyncio.Event()

    async def app(_: Scope, receive: Receive, __: Send) -> None:
        assert receive.whole() == b"{}"  # type: ignore[attr-defined]
        works.set()
        await asyncio.sleep(10)

    running = start(app, client, scope)
    await works.wait()
    client.leaves.set()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert isinstance(cause(scope), ClientGoneError)


@pytest.mark.parametrize("why", ["nobody said", "another reason", "it is over"])
async def test_a_server_that_tells_by_itself_needs_no_watcher(why: str) -> None:
    client, server, works = Client(), SimpleNamespace(when_gone=None), asyncio.Event()

    async def app(_: Scope, receive: Receive, __: Send) -> None:
        assert receive == client.receive
        works.set()
        await asyncio.sleep(WATCHED_S)

    scope = scope_of(request=server)
    running = start(app, client.receive, scope)
    await works.wait()
    reason = ShuttingDownError("The gateway is shutting down.") if why == "another reason" else None
    scope["exchange"].cancelled_by, scope["exchange"].recorded = reason, why == "it is over"
    server.when_gone(running)
    (ended,) = await asyncio.gather(running, return_exceptions=True)

    assert client.asked == 0
    if why == "nobody said":
        assert isinstance(ended, asyncio.CancelledError)
        assert isinstance(cause(scope), ClientGoneError)
    else:
        assert (ended, cause(scope)) == (None, reason)


async def test_a_server_that_hands_nothing_over_has_nothing_to_take() -> None:
    taken: list[object] = []

    async def app(_: Scope, receive: Receive, __: Send) -> None:
        taken.append(receive.whole())  # type: ignore[attr-defined]

    await start(app, Client(piece(b"{}")).receive, scope_of())

    assert taken == [None]


async def test_a_fast_request_is_not_watched() -> None:
    client, scope, app = Client(piece(b"{}")), scope_of(), Works(seconds=0.0)
    before = await others()

    await Disconnect(app)(scope, client.receive, client.send)
    await asyncio.sleep(WATCHED_S)

    assert app.finished
    assert client.asked == 1, "only the app asked"
    assert await others() == before


@pytest.mark.parametrize("leaves_after_s", [0.0, 0.05, 0.25])
async def test_a_client_that_leaves_is_seen_within_a_second(leaves_after_s: float) -> None:
    client, scope, app = Client(piece(b"{}")), scope_of(), Works()
    running = start(app, client.receive, scope)
    await asyncio.sleep(leaves_after_s)

    client.leave()
    left = time.perf_counter()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert time.perf_counter() - left < 0.5
    assert isinstance(cause(scope), ClientGoneError)
    assert app.cancelled_after_s is not None


async def test_pitfall_025_a_body_still_uploading_is_not_taken_for_a_client_that_left() -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        if len(sent) == 4:
            await asyncio.Event().wait()
        await asyncio.sleep(0.08)
        sent.append(piece(b"x", more=len(sent) < 3))
        return sent[-1]

    scope, app = scope_of(), Works(seconds=0.3)
    await start(app, receive, scope)

    assert app.finished
    assert app.body == b"xxxx"
    assert cause(scope) is None


async def test_leaving_while_the_body_is_sent_is_told_not_cancelled() -> None:
    client, scope, app = Client(piece(b"{", more=True), GONE), scope_of(), Works(seconds=WATCHED_S)

    await start(app, client.receive, scope)

    assert app.finished, "who reads the body decides what that means"
    assert cause(scope) is None
    assert client.asked == 2


async def test_messages_after_the_body_are_not_taken_for_leaving() -> None:
    """A server may still say that nothing more comes."""
    client, scope, app = Client(piece(b"{}"), piece(), piece()), scope_of(), Works(seconds=0.3)

    await start(app, client.receive, scope)

    assert app.finished
    assert cause(scope) is None
    assert client.unread == 0


async def test_one_that_asks_again_after_its_body_is_told_that_the_client_left() -> None:
    client, scope = Client(piece(b"{}"), GONE), scope_of()
    told: list[Message] = []

    async def app(_: Scope, receive: Receive, __: Send) -> None:
        told.extend([await receive(), await receive()])

    await start(app, client.receive, scope)

    assert told == [piece(b"{}"), GONE]


async def test_the_watcher_ends_with_its_request() -> None:
    before = await others()
    client, scope, app = Client(piece(b"{}")), scope_of(), Works(seconds=WATCHED_S)
    running = start(app, client.receive, scope)
    await asyncio.sleep(0.15)
    assert client.asked == 2, "it is watched"

    await running

    assert await others() == before
    client.leave()
    await asyncio.sleep(0)
    assert cause(scope) is None


async def test_the_watcher_ends_with_a_request_that_fails() -> None:
    before = await others()
    client = Client(piece(b"{}"))

    async def app(_: Scope, receive: Receive, __: Send) -> None:
        await receive()
        await asyncio.sleep(WATCHED_S)
        raise LookupError

    with pytest.raises(LookupError):
        await start(app, client.receive, scope_of())

    assert client.asked == 2, "it was watched"
    assert await others() == before


async def test_the_watcher_ends_with_a_request_that_is_cancelled_from_elsewhere() -> None:
    before = await others()
    client, scope = Client(piece(b"{}")), scope_of()
    running = start(Works(), client.receive, scope)
    await asyncio.sleep(WATCHED_S)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert await others() == before
    assert cause(scope) is None


async def test_who_is_being_ended_for_another_reason_is_not_cancelled_again() -> None:
    client, scope = Client(piece(b"{}")), scope_of()
    reason = ShuttingDownError("The gateway is shutting down.")
    farewell: list[str] = []

    async def app(_: Scope, receive: Receive, __: Send) -> None:
        await receive()
        await asyncio.sleep(0.3)
        farewell.append("said")

    running = start(app, client.receive, scope)
    await asyncio.sleep(0.05)
    scope["exchange"].cancelled_by = reason
    client.leave()
    await running

    assert farewell == ["said"]
    assert cause(scope) is reason


async def test_what_is_no_request_passes() -> None:
    seen: list[tuple[Scope, Receive, Send]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    client, scope = Client(), {"type": "websocket", "path": "/"}
    receive, send = client.receive, client.send
    await Disconnect(app)(scope, receive, send)

    assert seen == [(scope, receive, send)]


async def test_after_its_last_byte_nobody_can_leave() -> None:
    """What still runs then gives the upstream's connection back, and must not be cut off from it."""
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, _: Send) -> None:
        await receive()
        await asyncio.sleep(0.15)
        scope["exchange"].recorded = True
        client.leave()
        await asyncio.sleep(0.1)
        ended.set()

    client = Client({"type": "http.request", "body": b"", "more_body": False})
    await Disconnect(app)(scope_of(), client.receive, client.send)

    assert ended.is_set()


async def test_what_a_watched_request_held_is_given_back_with_its_end() -> None:
    """Bodies are large, and the collector comes late."""

    async def request() -> weakref.ref[Receive]:
        watched = asyncio.Event()
        messages = [piece(b"{}")]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            watched.set()
            await asyncio.Event().wait()
            return GONE

        async def app(_: Scope, given: Receive, __: Send) -> None:
            await read(given)
            await watched.wait()

        await start(app, receive, scope_of())
        return weakref.ref(receive)

    gc.disable()
    try:
        held = await request()
        await others()

        assert held() is None
    finally:
        gc.enable()
