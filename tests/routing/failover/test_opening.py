from collections.abc import AsyncIterator

import pytest

from llmgateway.errors import UpstreamError
from llmgateway.routing.failover.opening import opened

ROLE = b'data: {"id":"a","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
WORD = b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"yes"},"finish_reason":null}]}\n\n'
FILTERED = b'data: {"id":"","choices":[],"prompt_filter_results":[]}\n\n'
COMMENT = b": still here\n\n"
DONE = b"data: [DONE]\n\n"


class Chunks:
    """A stream that gives these, notes how many were taken, and ends or breaks."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self.taken = 0
        self.closed = 0
        self._chunks = chunks
        self._error = error

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self.taken < len(self._chunks):
            self.taken += 1
            return self._chunks[self.taken - 1]
        raise self._error or StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1


def event(delta: str, finish: str = "null") -> bytes:
    return f'data: {{"choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}\n\n'.encode()


async def test_it_waits_for_the_first_word_and_gives_all_from_the_beginning() -> None:
    chunks = Chunks(FILTERED, ROLE, COMMENT, WORD, WORD, DONE)

    stream = await opened(chunks, "main")

    assert chunks.taken == 4
    assert [chunk async for chunk in stream] == [FILTERED + ROLE + COMMENT + WORD, WORD, DONE]
    assert chunks.closed == 0


@pytest.mark.parametrize(
    "first",
    [
        WORD,
        ROLE + WORD,
        DONE,
        event('{"role":"assistant","reasoning_content":"hm"}'),
        event('{"tool_calls":[{"index":0}]}'),
        event('{"refusal":"no"}'),
        event("{}", '"stop"'),
        b'data: {"choices":[{"index":0,"text":"yes","finish_reason":null}]}\n\n',
        b'data: {"object":"of another kind"}\n\n',
    ],
)
async def test_whatever_tells_something_passes_at_once(first: bytes) -> None:
    chunks = Chunks(first, WORD)

    stream = await opened(chunks, "main")

    assert chunks.taken == 1
    assert [chunk async for chunk in stream] == [first, WORD]


async def test_pitfall_003_what_breaks_before_its_first_word_raises_and_is_closed() -> None:
    chunks = Chunks(ROLE, error=UpstreamError("gone", may_retry=True))

    with pytest.raises(UpstreamError, match="gone"):
        await opened(chunks, "main")

    assert chunks.closed == 1


@pytest.mark.parametrize("broken", [b'data: {"id": "x", "choi\n\n', b"data: \xff\xfe\n\n", b"data: [[[\n\n"])
async def test_pitfall_003_a_first_event_that_is_no_json_is_a_failure(broken: bytes) -> None:
    chunks = Chunks(ROLE, broken, WORD)

    with pytest.raises(UpstreamError, match="main sent an event that is not JSON") as raised:
        await opened(chunks, "main")

    assert raised.value.may_retry
    assert chunks.closed == 1


async def test_a_stream_without_a_word_is_given_as_it_is() -> None:
    stream = await opened(Chunks(ROLE), "main")

    assert [chunk async for chunk in stream] == [ROLE]
    assert [chunk async for chunk in await opened(Chunks(), "main")] == []


async def test_an_upstream_that_only_says_that_it_lives_is_not_held_back_for_ever() -> None:
    many = Chunks(*[COMMENT] * 1000)

    await opened(many, "main")

    assert many.taken == 64


async def test_whoever_leaves_closes_it() -> None:
    chunks = Chunks(WORD, WORD)
    stream = await opened(chunks, "main")

    await stream.aclose()

    assert chunks.closed == 1
