import asyncio
import json
from typing import Any

from typing_extensions import override

from bench import payloads
from bench.load import Answer, post
from bench.mock import SEARCHED_BYTES, Provider, chunk, declared_bytes, plain


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


def test_a_tool_loop_is_asked_for_a_tool_until_the_last_result_is_there() -> None:
    answers = []
    for body in payloads.tool_loop():
        request = post("/v1/chat/completions", body)
        connected, wire = provider()
        connected.data_received(request)
        answers.append(json.loads(wire.written.partition(b"\r\n\r\n")[2])["choices"][0]["finish_reason"])

        assert len(request) < SEARCHED_BYTES - 1000  # gateways may say the same at greater length

    assert answers == ["tool_calls"] * payloads.TOOL_CALLS + ["stop"]


def test_a_translated_stream_has_as_many_deltas_as_the_others_events() -> None:
    connected, wire = provider()
    connected.data_received(post("/v1/messages", payloads.question(payloads.TRANSLATED_STREAM, stream=True)))

    assert wire.written.count(b"event: content_block_delta\ndata: {") == payloads.EVENTS
    assert wire.written.endswith(b"0\r\n\r\n")


def test_a_small_chat_can_be_streamed_as_the_last_pass_of_a_document_is() -> None:
    connected, wire = provider()
    connected.data_received(post("/v1/chat/completions", payloads.question(payloads.SMALL, stream=True)))

    assert wire.written.count(b"data: {") == 2
    assert b'"finish_reason":"stop"' in wire.written


def test_a_broken_deployment_fails_at_once() -> None:
    connected, wire = provider()
    connected.data_received(post("/broken/v1/chat/completions", payloads.question(payloads.FAILOVER)))

    assert wire.written.startswith(b"HTTP/1.1 503 ")


async def test_a_flood_stops_while_nobody_reads_and_goes_on_then() -> None:
    connected, wire = provider()
    connected.data_received(post("/v1/chat/completions", payloads.question(payloads.FLOOD, stream=True)))
    connected.pause_writing()
    for _ in range(3):
        await asyncio.sleep(0)
    held = len(wire.written)
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(wire.written) == held > 0

    connected.resume_writing()
    assert len(wire.written) > held
    connected.connection_lost(None)


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
