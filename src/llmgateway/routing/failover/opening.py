"""The opening of a stream: until its first word is there, another deployment can answer and nobody sees that one broke.

Some providers tell who speaks before they know what to say: such events are held back, and with them nothing is lost.
"""

import re
from collections.abc import Coroutine
from typing import Any, Self

import msgspec

from llmgateway.errors import UpstreamError
from llmgateway.exchange import Chunks
from llmgateway.wire.sse import payload, split_events

# An event with a word of text, as most first events are; quotes within texts are escaped.
_WORD = re.compile(rb'"(?:content|text)":\s?"[^"]')
# Comments count: who sends so many without a word is not to fill the memory.
_MOST_HELD = 64


async def opened(chunks: Chunks, provider: str) -> Chunks:
    """Wait for the first event that tells something; give the stream with all that came before it.

    Raises:
        GatewayError: It broke off before; the stream is closed.
    """
    held: list[bytes] = []
    try:
        async for chunk in chunks:
            held.append(chunk)
            if _WORD.search(chunk) is not None or _tells(chunk, provider) or len(held) >= _MOST_HELD:
                break
    except BaseException:
        await chunks.aclose()
        raise
    return Opened(b"".join(held), chunks)


def check_whole(events: bytes, provider: str) -> None:
    """Look at a stream that has come whole as `opened` would.

    Raises:
        UpstreamError: One event is no JSON, of those up to the first that tells something.
    """
    if _WORD.search(events) is None:
        _tells(events, provider)


class Opened:
    """A stream whose first events have been read already."""

    __slots__ = ("_chunks", "_first")

    def __init__(self, first: bytes, chunks: Chunks) -> None:
        self._first = first
        self._chunks = chunks

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, bytes]:
        if self._first:
            first, self._first = self._first, b""
            return _given(first)
        return self._chunks.__anext__()

    async def aclose(self) -> None:
        self._first = b""
        await self._chunks.aclose()


async def _given(chunk: bytes) -> bytes:
    return chunk


def _tells(chunk: bytes, provider: str) -> bool:
    """Whether any of these events is more than an opening. Raises: UpstreamError: One is no JSON."""
    return any(_is_more(event, provider) for event in split_events(chunk) if not event.startswith(b":"))


def _is_more(event: bytes, provider: str) -> bool:
    content = payload(event)
    if content in {b"", b"[DONE]"}:
        return True
    try:
        fields = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UpstreamError(f"{provider} sent an event that is not JSON.", may_retry=True) from None
    choices = fields.get("choices") if isinstance(fields, dict) else None
    if not isinstance(choices, list):
        return True  # of an operation that is none of ours
    return any(_says(choice) for choice in choices)


def _says(choice: object) -> bool:
    if not isinstance(choice, dict) or choice.get("finish_reason") is not None or choice.get("text"):
        return True
    delta = choice.get("delta")
    return isinstance(delta, dict) and any(value for name, value in delta.items() if name != "role")
