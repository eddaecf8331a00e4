import asyncio
import json
from typing import Any

from typing_extensions import override

from bench import payloads
from bench.load import Answer, post
from bench.mock import Provider, chunk, declared_bytes, plain


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    @override
    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)


def provider() -> tuple[Provider, Wire]:
    """Connect a provider to a wire that keeps what it is sent; its timer fires when the loop gets to it."""
    wire, connected = (
        Wire(),
        Provider(lambda _, called, *given: asyncio.get_running_loop().call_later(0, called, *given)),
    )
    connected.connection_made(wire)
    return connected, wire


def test_a_declared_length_is_found_in_any_case() -> None:
    assert declared_bytes(b"POST / HTTP/1.1\r\nContent-LENGTH: 12\r\nx: y") == 12
    assert declared_bytes(b"POST / HTTP/1.1\r\ncontent-length: 3") == 3
    assert declared_bytes(b"POST / HTTP/1.1\r\nx: y") is None


def test_a_small_chat_is_answered_once_its_body_is_whole() -> None:
    connected, wire = provider()
    request = post("/v1/chat/completions", payloads.question(payloads.SMALL))

    connected.data_received(request[:-1])
    assert wire.written == b""
    connected.data_received(request[-1:])

    assert wire.written == plain(payloads.answer())
    assert 400 < len(payloads.answer()) < 600


def test_a_burst_holds_all_events_and_the_usage_only_when_it_is_asked() -> None:
    for asked in ({}, {"stream_options": {"include_usage": True}}):
        connected, wire = provider()
        body = json.dumps(json.loads(payloads.question(payloads.BURST, stream=True)) | asked).encode()
        connected.data_received(post("/v1/chat/completions", body))

        assert wire.written.count(b"data: {") == payloads.EVENTS + len(asked)
        assert wire.written.endswith(chunk(payloads.DONE) + b"0\r\n\r\n")


def test_a_long_body_is_read_to_its_end_and_answered_as_the_small_chat() -> None:
    connected, wire = provider()
    request = post(
        "/v1/chat/completions", payloads.question(payloads.BURST, stream=True, size_bytes=payloads.BIG_BYTES)
    )
    for at in range(0, len(request), 65536):
        connected.data_received(request[at : at + 65536])

    assert wire.written == plain(payloads.answer())


async def test_a_paced_stream_stamps_each_event() -> None:
    connected, wire = provider()
    connected.data_received(post("/v1/chat/completions", payloads.question(payloads.PACED, stream=True)))
    answer = Answer()
    async with asyncio.timeout(5):
        seen = 0
        while not answer.feed(wire.written[seen:]):
            seen = len(wire.written)
            await asyncio.sleep(0)

    assert wire.written.count(b'"content":"@') == payloads.EVENTS


async def test_an_answer_takes_as_long_as_it_is_told() -> None:
    wire, delays = Wire(), list[float]()

    def later(delay_s: float, called: Any, *given: Any) -> asyncio.TimerHandle:
        delays.append(delay_s)
        return asyncio.get_running_loop().call_later(0, called, *given)

    slow = Provider(later, delay_s=0.2)
    slow.connection_made(wire)
    slow.data_received(post("/v1/chat/completions", payloads.question(payloads.SMALL)))

    assert wire.written == b""
    await asyncio.sleep(0.001)  # the loop's next turn
    assert (delays, Answer().feed(wire.written)) == ([0.2], True)
