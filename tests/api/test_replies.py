"""What goes out: whole answers, and streams with their silences, their ends and their readers."""

import asyncio
import time
import weakref

import pytest
from starlette.types import Message
from typing_extensions import override

from llmgateway.api.replies import EventStream, send_complete
from llmgateway.errors import ClientGoneError, GatewayError, InvalidRequestError, ProviderTimeoutError, UpstreamError
from llmgateway.exchange import Attempt, Complete, Exchange, Streamed, Usage
from llmgateway.headers import read_lines
from llmgateway.outgoing import WHOLE, Outgoing
from llmgateway.wire.sse import WholeStream
from tests.api.answering import Chunks
from tests.asgi import Client, Stalling
from tests.conftest import Serve
from tests.deployments import deployment
from tests.stores.waiting import until
from tests.upstreams.server import Player
from tests.upstreams.step import Piece, Step

A, B, DONE = b'data: {"a":1}\n\n', b'data: {"b":2}\n\n', b"data: [DONE]\n\n"
COMMENT = b": keep-alive\n\n"


def answered() -> Exchange:
    """An exchange whose model call was answered."""
    exchange = Exchange(operation="chat", provider="main", upstream_model="gpt-4o")
    exchange.attempts = [Attempt(deployment(), exchange.started, exchange.started)]
    return exchange


def opened(
    exchange: Exchange, client: Client, *, commit_after_s: float = 5.0, keep_alive_s: float = 5.0
) -> EventStream:
    return EventStream(exchange, client.send, commit_after_s=commit_after_s, keep_alive_s=keep_alive_s)


def bodies(client: Client) -> list[bytes]:
    return [message["body"] for message in client.sent if message["type"] == "http.response.body"]


async def test_a_whole_answer_goes_out_with_its_length_and_what_is_known_of_it() -> None:
    client, exchange = Client(), answered()
    reply = Complete('{"text":"grüße"}'.encode(), headers=[(b"x-upstream-request-id", b"up-1")], model="gpt-4o-0806")
    exchange.reply = reply

    await send_complete(exchange, reply, client.send)

    assert (client.status, client.body) == (200, reply.body)
    assert client.headers["content-type"] == "application/json"
    assert client.headers["content-length"] == str(len(reply.body))
    assert (client.headers["x-provider"], client.headers["x-model"]) == ("main", "gpt-4o-0806")
    assert (client.headers["x-attempts"], client.headers["x-upstream-request-id"]) == ("1", "up-1")
    assert len(client.sent) == 2
    assert client.complete


async def test_an_empty_answer_is_whole_too() -> None:
    client = Client()

    await send_complete(Exchange(), Complete(b""), client.send)

    assert client.headers == {"content-type": "application/json", "content-length": "0"}
    assert client.complete


async def test_a_stream_goes_out_chunk_by_chunk_unchanged() -> None:
    client, exchange, chunks = Client(), answered(), Chunks(A, B, A + DONE)
    stream = opened(exchange, client)
    assert not stream.started

    await stream.relay(Streamed(chunks, Usage()))

    assert stream.started
    assert bodies(client) == [A, B, A + DONE]
    assert [message.get("more_body", False) for message in client.sent[1:]] == [True, True, False]
    assert chunks.closed == 1


async def test_a_reply_that_was_given_holds_its_chunks_no_more() -> None:
    """They hold the reply, and the exchange with its body: none would be given back before the collector comes."""
    client, exchange, chunks = Client(), answered(), Chunks(A + DONE)
    reply = exchange.reply = Streamed(chunks, Usage())
    held = weakref.ref(chunks)
    del chunks

    await opened(exchange, client).relay(reply)

    assert held() is None
    assert [chunk async for chunk in reply.chunks] == []
    await reply.chunks.aclose()


async def test_pitfall_008_the_headers_of_a_stream_keep_proxies_from_buffering_it() -> None:
    client, exchange = Client(), answered()

    await opened(exchange, client).relay(Streamed(Chunks(A)))

    assert client.status == 200
    assert client.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert client.headers["cache-control"] == "no-cache, no-transform"
    assert client.headers["x-accel-buffering"] == "no"
    assert (client.headers["x-provider"], client.headers["x-attempts"]) == ("main", "1")
    assert "content-length" not in client.headers


async def test_a_stream_that_came_whole_goes_out_as_one_to_whoever_takes_it() -> None:
    client, exchange = Client(), answered()
    outgoing = Outgoing(client.send)
    outgoing.takes_whole = True
    stream = EventStream(exchange, outgoing, commit_after_s=5.0, keep_alive_s=5.0)
    reply = exchange.reply = Streamed(WholeStream(A + DONE), Usage())

    await stream.relay(reply)

    (message,) = client.sent
    assert (message["type"], message["status"], message["body"]) == (WHOLE, 200, A + DONE)
    headers = dict(read_lines(message["lines"]))
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert headers[b"content-length"] == b"%d" % len(A + DONE)
    assert (headers[b"x-accel-buffering"], headers[b"x-provider"]) == (b"no", b"main")
    assert stream.started
    assert [chunk async for chunk in reply.chunks] == []


async def test_a_stream_that_came_whole_goes_out_as_any_other_to_everybody_else() -> None:
    client = Client()

    await opened(answered(), client).relay(Streamed(WholeStream(A + DONE), Usage()))

    assert bodies(client) == [A + DONE]
    assert client.complete


async def test_a_reader_that_does_not_read_a_stream_that_came_whole_is_ended_with_its_time() -> None:
    client, exchange = Stalling(takes=0), answered()
    exchange.deadline = exchange.started + 0.15
    outgoing = Outgoing(client.send)
    outgoing.takes_whole = True

    async def relay() -> None:
        stream = EventStream(exchange, outgoing, commit_after_s=0.03, keep_alive_s=0.05)
        try:
            await stream.relay(Streamed(WholeStream(A + DONE), Usage()))
        finally:
            assert not stream.started
            stream.close()

    task = asyncio.get_running_loop().create_task(relay())
    await asyncio.wait([task], timeout=1.0)

    assert task.cancelled()
    assert isinstance(exchange.cancelled_by, ClientGoneError)
    assert client.sent == []


async def test_a_stream_that_came_whole_after_a_comment_goes_on_behind_it() -> None:
    client = Client()
    outgoing = Outgoing(client.send)
    outgoing.takes_whole = True
    stream = EventStream(answered(), outgoing, commit_after_s=0.01, keep_alive_s=5.0)
    await until(lambda: len(client.sent) == 2)

    await stream.relay(Streamed(WholeStream(A + DONE), Usage()))

    assert bodies(client) == [COMMENT, A + DONE]
    assert client.complete


async def test_streams_do_not_share_their_headers() -> None:
    clients = [Client() for _ in range(3)]
    for client in clients:
        await opened(answered(), client).relay(Streamed(Chunks(A)))

    assert len({len(client.sent[0]["headers"]) for client in clients}) == 1


async def test_the_200_is_held_back_until_the_first_event() -> None:
    client = Client()
    stream = opened(answered(), client, commit_after_s=1.0)
    await asyncio.sleep(0.05)

    assert client.sent == []
    assert not stream.started
    stream.close()


async def test_the_200_goes_out_after_a_while_without_an_event() -> None:
    client = Client()
    stream = opened(answered(), client, commit_after_s=0.05)

    await asyncio.sleep(0.1)
    assert stream.started
    assert (client.status, bodies(client)) == (200, [COMMENT])
    await stream.relay(Streamed(Chunks(A, DONE)))

    assert bodies(client) == [COMMENT, A, DONE]
    assert [message["type"] for message in client.sent].count("http.response.start") == 1


async def test_comments_keep_a_silent_stream_open() -> None:
    client = Client()

    await opened(answered(), client, commit_after_s=0.05, keep_alive_s=0.05).relay(Streamed(Chunks(A, 0.28, DONE)))

    assert bodies(client)[0] == A
    assert bodies(client)[-1] == DONE
    assert 3 <= bodies(client).count(COMMENT) <= 6


async def test_a_stream_that_speaks_often_enough_has_no_comments() -> None:
    client = Client()
    chunks = Chunks(*(play for _ in range(8) for play in (A, 0.03)))

    await opened(answered(), client, commit_after_s=0.02, keep_alive_s=0.1).relay(Streamed(chunks))

    assert bodies(client) == [*[A] * 8, b""]


async def test_a_comment_never_cuts_an_event() -> None:
    """What is being written is waited for, whoever writes it."""

    class Slow(Client):
        writing = 0
        most_at_once = 0

        @override
        async def send(self, message: Message) -> None:
            self.writing += 1
            self.most_at_once = max(self.most_at_once, self.writing)
            try:
                await asyncio.sleep(0.02)
                await super().send(message)
            finally:
                self.writing -= 1

    client = Slow()
    plays = [play for _ in range(10) for play in (A, 0.012, B, 0.03)]
    await opened(answered(), client, commit_after_s=0.0, keep_alive_s=0.011).relay(Streamed(Chunks(*plays)))

    assert [body for body in bodies(client) if body not in {COMMENT, b""}] == [A, B] * 10
    assert COMMENT in bodies(client)
    assert client.most_at_once == 1


async def test_a_stream_that_breaks_closes_its_upstream_and_sends_no_end() -> None:
    client, chunks = Client(), Chunks(A, UpstreamError("cut"))
    stream = opened(answered(), client)

    with pytest.raises(UpstreamError):
        await stream.relay(Streamed(chunks))
    stream.close()

    assert bodies(client) == [A]
    assert chunks.closed == 1


async def test_a_stream_that_breaks_before_its_first_event_has_sent_nothing() -> None:
    client, chunks = Client(), Chunks(UpstreamError("cut"))
    stream = opened(answered(), client)

    with pytest.raises(UpstreamError):
        await stream.relay(Streamed(chunks))
    stream.close()

    assert not stream.started
    assert client.sent == []
    assert chunks.closed == 1


async def test_a_cancelled_stream_closes_its_upstream() -> None:
    client, chunks = Client(), Chunks(A, 10.0)
    stream = opened(answered(), client)
    relaying = asyncio.ensure_future(stream.relay(Streamed(chunks)))
    await asyncio.sleep(0.01)

    relaying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await relaying
    stream.close()

    assert chunks.closed == 1
    assert bodies(client) == [A]


async def test_a_failure_after_the_start_is_the_last_event() -> None:
    client, exchange = Client(), answered()
    stream = opened(exchange, client, commit_after_s=0.02)
    await asyncio.sleep(0.05)

    await stream.fail(ProviderTimeoutError("Too slow."))

    assert client.complete
    assert (client.error["code"], client.error["request_id"]) == ("provider_timeout", exchange.id)
    assert bodies(client)[-1].endswith(b"\n\n")
    assert b"[DONE]" not in client.body
    assert exchange.error_code == "provider_timeout"


@pytest.mark.parametrize("ending", ["relay", "fail", "close"])
async def test_nothing_is_written_after_the_end(ending: str) -> None:
    client, before = Client(), asyncio.all_tasks()
    stream = opened(answered(), client, commit_after_s=0.02, keep_alive_s=0.02)
    await asyncio.sleep(0.05)

    match ending:
        case "relay":
            await stream.relay(Streamed(Chunks(A, DONE)))
        case "fail":
            await stream.fail(UpstreamError("cut"))
        case _:
            stream.close()
    stream.close()
    sent = list(client.sent)
    await asyncio.sleep(0.1)

    assert client.sent == sent
    assert asyncio.all_tasks() == before


async def test_a_stream_closed_before_it_began_never_begins() -> None:
    client = Client()
    opened(answered(), client, commit_after_s=0.02).close()
    await asyncio.sleep(0.05)

    assert client.sent == []


async def test_a_slow_reader_slows_the_upstream() -> None:
    client, chunks = Stalling(takes=4), Chunks(*[A] * 100)
    stream = opened(answered(), client)
    relaying = asyncio.ensure_future(stream.relay(Streamed(chunks)))
    await asyncio.sleep(0.02)

    assert (chunks.given, client.waiting) == (4, 1)
    client.read_on()
    await relaying

    assert bodies(client) == [*[A] * 100, b""]


class Limited:
    """A stream that runs as a request does, with a deadline."""

    def __init__(
        self, client: Client, *plays: bytes | float | Exception, within_s: float = 0.15, keep_alive_s: float = 0.05
    ) -> None:
        self._keep_alive_s = keep_alive_s
        self.exchange, self.chunks = answered(), Chunks(*plays)
        self.exchange.deadline = self.exchange.started + within_s
        self._client = client

    async def run(self, *, fails: GatewayError | None = None) -> float:
        """Seconds until it was over; `TimeoutError` when nothing ended it."""
        started = time.perf_counter()
        task = asyncio.get_running_loop().create_task(self._relay(fails))
        _, pending = await asyncio.wait([task], timeout=1.0)
        for left in pending:
            left.cancel()
            await asyncio.wait([left])
        if pending:
            raise TimeoutError("nothing ended it")
        assert task.cancelled()
        assert isinstance(self.exchange.cancelled_by, InvalidRequestError)
        return time.perf_counter() - started

    async def _relay(self, fails: GatewayError | None) -> None:
        stream = opened(self.exchange, self._client, commit_after_s=0.03, keep_alive_s=self._keep_alive_s)
        try:
            if fails is None:
                await stream.relay(Streamed(self.chunks))
            else:
                await asyncio.sleep(0.1)
                await stream.fail(fails)
        finally:
            stream.close()


@pytest.mark.parametrize("takes", [0, 1, 2, 4])
async def test_a_reader_that_never_reads_is_ended_with_its_time(takes: int) -> None:
    client = Stalling(takes=takes)
    limited = Limited(client, *[A] * 100)

    ended_s = await limited.run()

    assert 0.1 < ended_s < 0.4
    assert client.waiting == 0
    assert limited.chunks.closed == 1


async def test_a_reader_is_ended_with_its_time_however_rare_comments_are() -> None:
    client = Stalling(takes=2)

    assert await Limited(client, *[A] * 100, keep_alive_s=5.0).run() < 0.4
    assert client.waiting == 0


async def test_a_reader_that_does_not_even_read_the_comment_is_ended_with_its_time() -> None:
    """The chunk fills the buffers, the comment waits behind it, and the next chunk behind the comment."""
    client = Stalling(takes=2)
    limited = Limited(client, A, 0.12, *[A] * 100)

    ended_s = await limited.run()

    assert ended_s < 0.4
    assert client.waiting == 0


async def test_a_reader_that_does_not_read_the_end_is_ended_with_its_time() -> None:
    """The last event fills the buffers: only the end is left to send, and it waits."""
    client = Stalling(takes=2)
    limited = Limited(client, A, DONE)

    assert await limited.run() < 0.4
    assert client.waiting == 0


async def test_a_reader_that_does_not_read_the_error_is_ended_with_its_time() -> None:
    client = Stalling(takes=2)
    limited = Limited(client)

    assert await limited.run(fails=UpstreamError("cut")) < 0.4
    assert client.waiting == 0


async def test_comments_to_a_reader_that_does_not_read_do_not_pile_up() -> None:
    client = Stalling(takes=2)
    stream = opened(answered(), client, commit_after_s=0.02, keep_alive_s=0.02)
    relaying = asyncio.ensure_future(stream.relay(Streamed(Chunks(A, 10.0))))
    await asyncio.sleep(0.25)

    assert client.waiting == 1
    relaying.cancel()
    await asyncio.wait([relaying])
    stream.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert client.waiting == 0, "none is left behind"


async def test_a_reader_that_reads_within_its_time_is_not_ended() -> None:
    client = Stalling(takes=2)
    limited = Limited(client, A, B, DONE, within_s=5.0)
    asyncio.get_running_loop().call_later(0.2, client.read_on)

    with pytest.raises(AssertionError):
        await limited.run()

    assert limited.exchange.cancelled_by is None
    assert [body for body in bodies(client) if body != COMMENT] == [A, B, DONE]


async def test_a_silent_upstream_is_not_held_against_the_reader() -> None:
    """Past the deadline and nothing to write: it is the upstream's limits that end this."""
    client = Client()
    limited = Limited(client, A, 0.3, DONE, within_s=0.1)

    with pytest.raises(AssertionError):
        await limited.run()

    assert limited.exchange.cancelled_by is None
    assert client.complete


async def test_without_a_deadline_a_reader_may_take_for_ever() -> None:
    client = Stalling(takes=2)
    exchange = answered()
    stream = opened(exchange, client, commit_after_s=0.02, keep_alive_s=0.02)
    relaying = asyncio.ensure_future(stream.relay(Streamed(Chunks(A, B, DONE))))
    await asyncio.sleep(0.2)

    assert not relaying.done()
    assert exchange.cancelled_by is None
    client.read_on()
    await relaying


class Looked(float):
    """A deadline that counts how often it is held against the time."""

    looks = 0

    @override
    def __lt__(self, other: float) -> bool:
        self.looks += 1
        return super().__lt__(other)

    @override
    def __sub__(self, other: float) -> float:
        self.looks += 1
        return super().__sub__(other)


@pytest.fixture
def deadline() -> Looked:
    return Looked(time.perf_counter() + 60)


async def test_a_blocked_stream_is_looked_at_no_more_often_than_a_silent_one(deadline: Looked) -> None:
    """With a thousand slow readers, every needless look is one too many."""
    client, exchange = Stalling(takes=2), answered()
    exchange.deadline = deadline
    stream = opened(exchange, client, commit_after_s=0.02, keep_alive_s=0.1)
    relaying = asyncio.ensure_future(stream.relay(Streamed(Chunks(A, B, DONE))))

    await asyncio.sleep(0.6)
    client.read_on()
    await relaying

    assert 1 <= deadline.looks <= 8


async def test_the_clients_answer_ends_with_the_last_event_although_the_upstream_keeps_its_connection_open() -> None:
    client = Client()
    relaying = asyncio.ensure_future(opened(answered(), client).relay(Streamed(Chunks(A, DONE, 10.0))))

    await until(lambda: client.complete)

    assert bodies(client) == [A, DONE]
    relaying.cancel()
    await asyncio.wait([relaying])


async def test_a_socket_that_is_never_read_from_holds_no_place_for_ever(
    gateway: Serve, provider: Player, catalog: str
) -> None:
    """The whole stream is one event, larger than all buffers: only its end is left when they are full."""
    served = await gateway(catalog, stream_commit_after_s=0.1)
    event = b'data: {"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":"stop"}]}\n\n' % (b"x" * 20_000_000)
    provider.script(
        Step(headers={"content-type": "text/event-stream"}, pieces=(Piece(event), Piece(DONE, 0.2)), framing="chunked")
    )
    body = b'{"model":"chat","stream":true,"messages":[{"role":"user","content":"hi"}]}'
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]), limit=1024)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Timeout-Seconds: 4\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % len(body) + body)
    try:
        await reader.read(10)
        line = await served.logged("llm_request_error", within_s=15)
        assert (line["status"], line["error_code"]) == (499, "client_closed_request")
        assert line["duration_ms"] < 10_000
        assert served.app.state.running.tasks == {}
    finally:
        writer.close()


async def test_whoever_ends_a_request_first_says_why() -> None:
    exchange = answered()
    left = exchange.cancelled_by = ClientGoneError("left")
    exchange.deadline = time.perf_counter() + 0.03
    stream = opened(exchange, Stalling(takes=1), commit_after_s=0.02, keep_alive_s=0.02)
    relaying = asyncio.ensure_future(stream.relay(Streamed(Chunks(A, DONE))))

    await asyncio.sleep(0.15)

    assert exchange.cancelled_by is left
    stream.close()
    relaying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await relaying
