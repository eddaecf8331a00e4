import asyncio
from collections.abc import AsyncGenerator

import pytest
from typing_extensions import override

from llmgateway.catalog.model import Deployment, Prices
from llmgateway.errors import ProviderTimeoutError, UpstreamError
from llmgateway.exchange import Attempt, Call, Exchange, Streamed, Usage
from llmgateway.routing.charge import Charge
from llmgateway.routing.health.begun import Begun
from llmgateway.routing.health.book import HealthBook
from llmgateway.routing.meter import MeteredChunks
from llmgateway.tokens import TokenCounter
from tests.deployments import deployment
from tests.routing.scripted import CHARGE, DEPLOYMENT, STREAM, exchange, pieces


async def paced(pause_s: float, count: int = 3) -> AsyncGenerator[bytes]:
    for number in range(count):
        await asyncio.sleep(pause_s)
        yield b"%d" % number


def begun_at(attempt: Attempt) -> Begun:
    return Begun(attempt, HealthBook().of(attempt.deployment))


def metered(
    chunks: AsyncGenerator[bytes], *, idle_s: float = 5, within_s: float | None = None
) -> tuple[MeteredChunks, Attempt]:
    attempt = Attempt(DEPLOYMENT, 0.0)
    made: Exchange = exchange(within_s)
    return MeteredChunks(Streamed(chunks), STREAM, begun_at(attempt), made, idle_s=idle_s, charge=CHARGE), attempt


async def test_pitfall_007_a_pause_below_the_limit_passes() -> None:
    chunks, attempt = metered(paced(0.15), idle_s=0.4)

    assert [chunk async for chunk in chunks] == [b"0", b"1", b"2"]
    assert attempt.outcome == "ok"


async def test_pitfall_006_a_silence_above_the_limit_ends_the_stream() -> None:
    source = paced(0.3)
    chunks, attempt = metered(source, idle_s=0.1)

    with pytest.raises(ProviderTimeoutError, match=r"silent for 0\.1 s"):
        await anext(chunks)

    assert attempt.outcome == "provider_timeout"
    assert [chunk async for chunk in source] == [], "the upstream was closed"
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


async def test_the_time_that_the_reader_takes_is_not_silence() -> None:
    chunks, _ = metered(paced(0.01), idle_s=0.4)

    assert await anext(chunks) == b"0"
    await asyncio.sleep(0.6)
    assert await anext(chunks) == b"1"
    await chunks.aclose()


async def test_the_requests_time_ends_a_stream_that_never_pauses() -> None:
    chunks, _ = metered(paced(0.01, count=1000), within_s=0.15)

    with pytest.raises(ProviderTimeoutError, match="did not complete its answer in time"):
        async for _ in chunks:
            pass


async def test_the_total_limit_does_not_fire_early() -> None:
    chunks, _ = metered(paced(0.05), within_s=0.6)

    assert len([chunk async for chunk in chunks]) == 3


async def test_a_reader_that_stops_ends_the_upstream() -> None:
    source = pieces(b"a", b"b")
    chunks, attempt = metered(source)

    await anext(chunks)
    await chunks.aclose()

    assert attempt.outcome == "cancelled"
    assert [chunk async for chunk in source] == []


async def test_a_cancelled_reader_is_no_timeout() -> None:
    chunks, attempt = metered(paced(5))
    task = asyncio.ensure_future(anext(chunks))
    await asyncio.sleep(0.01)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert attempt.outcome == "cancelled"


async def test_an_upstreams_failure_is_written_down() -> None:
    async def broken() -> AsyncGenerator[bytes]:
        yield b"a"
        raise UpstreamError("lost")

    chunks, attempt = metered(broken())

    await anext(chunks)
    with pytest.raises(UpstreamError):
        await anext(chunks)

    assert attempt.outcome == "provider_unavailable"


DONE = b"data: [DONE]\n\n"


async def test_usage_and_cost_are_there_before_the_last_chunk_is() -> None:
    stream = Streamed(pieces(b"data: {}\n\n", DONE), usage=Usage(7, 3))
    asked = exchange()
    attempt = Attempt(deployment(prices=Prices(0.5, 1.0)), 0.0)
    chunks = MeteredChunks(stream, STREAM, begun_at(attempt), asked, idle_s=5, charge=CHARGE)

    await anext(chunks)
    before = asked.usage
    assert await anext(chunks) == DONE

    assert (before, asked.usage, asked.cost_usd, attempt.outcome) == (None, Usage(7, 3), 6.5, "ok")
    await chunks.aclose()
    assert (asked.usage, attempt.outcome) == (Usage(7, 3), "ok"), "an end after the end changes nothing"


async def test_pitfall_024_what_was_sent_before_the_client_left_is_counted() -> None:
    said = b'data: {"choices":[{"index":0,"delta":{"content":"one two three four five"}}]}\n\n'
    stream = Streamed(pieces(said, said, DONE))
    asked = exchange()
    chunks = MeteredChunks(stream, STREAM, begun_at(Attempt(DEPLOYMENT, 0.0)), asked, idle_s=5, charge=CHARGE)

    await anext(chunks)
    await chunks.aclose()
    await chunks.aclose()

    assert asked.usage is not None
    assert asked.usage.estimated
    assert 4 <= asked.usage.completion_tokens <= 6


class SlowCharge(Charge):
    """Counts for as long as a test likes, the first time."""

    counts = 0

    @override
    async def counted(self, call: Call, answer: str, deployment: Deployment, told: Usage | None = None) -> Usage:
        self.counts += 1
        if self.counts == 1:
            await asyncio.Event().wait()
        return await super().counted(call, answer, deployment, told)


async def test_pitfall_024_a_client_that_leaves_while_its_answer_is_counted_has_it_counted() -> None:
    said = b'data: {"choices":[{"index":0,"delta":{"content":"one two three four five"}}]}\n\n'
    asked, attempt = exchange(), Attempt(DEPLOYMENT, 0.0)
    charge = SlowCharge(TokenCounter())
    chunks = MeteredChunks(Streamed(pieces(said, DONE)), STREAM, begun_at(attempt), asked, idle_s=5, charge=charge)
    await anext(chunks)
    last = asyncio.ensure_future(anext(chunks))
    while not charge.counts:  # noqa: ASYNC110  a turn of the loop, no time
        await asyncio.sleep(0)

    last.cancel()
    with pytest.raises(asyncio.CancelledError):
        await last
    await chunks.aclose()

    assert asked.usage is not None
    assert asked.usage.completion_tokens >= 4
    assert attempt.outcome == "ok"


async def test_what_passed_can_be_asked_for() -> None:
    said = b'data: {"choices":[{"index":0,"delta":{"content":"hello"}}]}\n\n'
    stream = Streamed(pieces(said, DONE))
    chunks = MeteredChunks(stream, STREAM, begun_at(Attempt(DEPLOYMENT, 0.0)), exchange(), idle_s=5, charge=CHARGE)

    assert [chunk async for chunk in chunks] == [said, DONE]

    assert stream.heard is not None
    assert stream.heard.text() == "hello"
    assert b"[DONE]" in stream.heard.tail()
