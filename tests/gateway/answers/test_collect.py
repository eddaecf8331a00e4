import re
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.errors import UpstreamError
from llmgateway.exchange import Call
from llmgateway.gateway.answers import collect
from llmgateway.gateway.answers.collect import CollectedChunks, is_whole, is_whole_stream

CHAT = Call("chat", "chat", b"{}")
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
DONE = b"data: [DONE]\n\n"
SPACED = STOP.replace(b'"finish_reason":"stop"', b'"finish_reason": "length"')
TALK = TEXT.replace(b'"a"', rb'"\"finish_reason\": \"length\", \"finish_reason\":null"')


@pytest.mark.parametrize("reason", ["length", "content_filter", "MAX_TOKENS", "error"])
def test_pitfall_055_an_answer_that_was_cut_is_not_whole(reason: str) -> None:
    body = b'{"choices":[{"finish_reason":"stop"},{"finish_reason":"%b"}]}' % reason.encode()

    assert not is_whole(CHAT, body)
    assert not is_whole_stream(CHAT, [TEXT, STOP.replace(b"stop", reason.encode()), DONE])


@pytest.mark.parametrize("body", [b"", b"{}", b'{"choices":[]}', b'{"choices":[{"finish_reason":null}]}', b"\xff"])
def test_an_answer_that_does_not_say_why_it_ends_is_not_whole(body: bytes) -> None:
    assert not is_whole(CHAT, body)


def test_an_answer_that_came_to_its_end_is_whole() -> None:
    assert is_whole(CHAT, b'{"choices":[{"finish_reason":"stop"},{"finish_reason":"tool_calls"}]}')
    assert is_whole(Call("embedding", "embed", b"{}"), b'{"data":[]}')
    assert is_whole_stream(CHAT, [TEXT, STOP + DONE])


def test_a_stream_ends_in_each_of_its_choices() -> None:
    assert not is_whole_stream(Call("chat", "chat", b"{}", n=2), [TEXT, STOP, DONE])


def test_what_a_text_says_of_reasons_means_nothing() -> None:
    text = TEXT.replace(b'"a"', rb'"\"finish_reason\": \"length\""')

    assert is_whole_stream(CHAT, [text, STOP, DONE])


@pytest.mark.parametrize("colon", [b":", b": ", b" : "])
def test_a_reason_is_seen_among_many_words(colon: bytes) -> None:
    words, stop = TEXT * 100, STOP.replace(b"stop", b"length")
    both = (words + stop + STOP + DONE).replace(b'"finish_reason":', b'"finish_reason"' + colon)

    assert not is_whole_stream(Call("chat", "chat", b"{}", n=2), [both])
    assert is_whole_stream(Call("chat", "chat", b"{}", n=2), [both.replace(b"length", b"stop")])


@given(
    st.lists(
        st.sampled_from([TEXT, STOP, SPACED, TEXT.replace(b":null", b" : null"), STOP.replace(b'"stop"', b"7"), TALK])
    )
)
def test_reasons_are_found_as_an_expression_finds_them(events: list[bytes]) -> None:
    joined = b"".join(events)
    found = re.findall(rb'(?<!\\)"finish_reason"\s*:\s*"([^"\\]*)"', joined)

    ends = len(found) >= 1 and b"length" not in found
    assert is_whole_stream(CHAT, [joined]) is ends


def test_reasons_may_be_written_in_two_ways() -> None:
    spaced = STOP.replace(b'"finish_reason":"stop"', b'"finish_reason": "length"')

    assert not is_whole_stream(Call("chat", "chat", b"{}", n=2), [TEXT + spaced + STOP + DONE])


class Heard:
    def __init__(self) -> None:
        self.told: list[object] = []

    def whole(self, chunks: Sequence[bytes]) -> None:
        self.told.append(list(chunks))

    def broken(self) -> None:
        self.told.append("broken")

    def left(self) -> None:
        self.told.append("left")


class Scripted:
    """Chunks as they are named; an error among them is raised."""

    def __init__(self, *script: bytes | Exception) -> None:
        self.script = list(script)
        self.closed = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self.script:
            raise StopAsyncIteration
        match self.script.pop(0):
            case bytes(chunk):
                return chunk
            case error:
                raise error

    async def aclose(self) -> None:
        self.closed += 1


async def test_the_taker_has_the_whole_before_the_reader_has_the_end() -> None:
    heard = Heard()
    chunks = CollectedChunks(Scripted(TEXT, STOP, DONE), heard)

    assert await anext(chunks) + await anext(chunks) == TEXT + STOP
    assert heard.told == []
    assert await anext(chunks) == DONE
    assert heard.told == [[TEXT, STOP, DONE]]
    with pytest.raises(StopAsyncIteration):
        await anext(chunks)
    await chunks.aclose()
    assert heard.told == [[TEXT, STOP, DONE]]


async def test_pitfall_055_a_stream_that_breaks_off_is_broken_once() -> None:
    heard = Heard()
    chunks = CollectedChunks(Scripted(TEXT, UpstreamError("gone")), heard)

    with pytest.raises(UpstreamError):
        _ = [chunk async for chunk in chunks]
    await chunks.aclose()

    assert heard.told == ["broken"]


async def test_a_stream_that_ends_without_done_is_broken() -> None:
    heard = Heard()

    assert [chunk async for chunk in CollectedChunks(Scripted(TEXT, STOP), heard)] == [TEXT, STOP]
    assert heard.told == ["broken"]


async def test_a_reader_who_leaves_is_told_and_the_upstream_ended() -> None:
    heard, scripted = Heard(), Scripted(TEXT, STOP, DONE)
    chunks = CollectedChunks(scripted, heard)
    await anext(chunks)

    await chunks.aclose()

    assert (heard.told, scripted.closed) == (["left"], 1)


async def test_a_stream_that_is_too_large_passes_and_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "MOST_BYTES", 3 * len(TEXT))
    heard = Heard()
    chunks = CollectedChunks(Scripted(*[TEXT] * 10, STOP, DONE), heard)

    assert len([chunk async for chunk in chunks]) == 12
    assert heard.told == ["broken"]
    assert chunks.moves == 0
