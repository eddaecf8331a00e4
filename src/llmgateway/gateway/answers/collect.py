"""Takes down an answer while it passes, and says whether it may be given again."""

import re
from collections.abc import Sequence
from typing import Protocol, Self

from llmgateway.exchange import Call, Chunks
from llmgateway.gateway.answers.entry import MOST_BYTES
from llmgateway.wire.answers import is_end, read_answer
from llmgateway.wire.sse import ENDS

# JSON escapes quotes within text, so these can only be a field's name.
_REASON, _GOES_ON = b'"finish_reason"', b'"finish_reason":null'
# An answer has one for each of its choices, which are one as a rule.
_FEW = 8
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"([^"\\]*)"')


def is_whole(call: Call, body: bytes) -> bool:
    """Whether an answer came to its own end in every choice, and so may be given again."""
    if call.operation == "embedding":
        return True
    answer = read_answer(body)
    return answer is not None and answer.is_whole


def is_whole_stream(call: Call, chunks: Sequence[bytes]) -> bool:
    """Whether a stream that has ended came to its own end in every choice."""
    reasons = _reasons(b"".join(chunks))
    return len(reasons) >= (call.n or 1) and all(is_end(reason.decode(errors="replace")) for reason in reasons)


def _reasons(events: bytes) -> list[bytes]:
    """Find why a stream's choices ended.

    Nearly every event says that it goes on, and those that do not are the last: to count the first and look for the
    others from the end takes half the time of an expression, which goes through the bytes one by one.
    """
    left = events.count(_REASON) - events.count(_GOES_ON)
    if left > _FEW:  # or it is said in another way
        return _FINISHED.findall(events)
    reasons = []
    at = len(events)
    while left > 0:
        at = events.rfind(_REASON, 0, at)
        if not events.startswith(_GOES_ON, at):
            left -= 1
            if (found := _FINISHED.match(events, at)) is not None:
                reasons.append(found[1])
    return reasons


class Taker(Protocol):
    """Whoever is told how a stream ended: one of these is called, once."""

    def whole(self, chunks: Sequence[bytes]) -> None:
        """All of it is there; the last chunk has not been given yet."""
        ...

    def broken(self) -> None:
        """It broke off, or is too large to be kept."""
        ...

    def left(self) -> None:
        """Nobody wants the rest of it."""
        ...


class CollectedChunks:
    """Passes a stream on and keeps its chunks; a chunk costs a few assignments.

    `waits` says whether it waits for the upstream, and not for its own reader.
    """

    __slots__ = ("_append", "_chunks", "_kept", "_next", "_over", "_size_bytes", "_taker", "waits")

    def __init__(self, chunks: Chunks, taker: Taker) -> None:
        self._chunks = chunks
        self._next = chunks.__anext__
        self._taker = taker
        self._kept: list[bytes] = []
        self._append = self._kept.append
        self._size_bytes = 0
        self._over = False
        self.waits = False

    @property
    def moves(self) -> int:
        """How many chunks have come."""
        return len(self._kept)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self.waits = True
        try:
            chunk = await self._next()
        except Exception:
            # A cancelled wait may be taken up again; `aclose` says when it is not.
            self._end(broken=True)
            raise
        self.waits = False
        self._append(chunk)
        self._size_bytes += len(chunk)
        # Nearly every chunk ends with the brace of its JSON: one look tells that it is not the last.
        if chunk[-3:-2] != b"}" or self._size_bytes > MOST_BYTES:
            self._look(chunk)
        return chunk

    def _look(self, chunk: bytes) -> None:
        if self._over:
            self._kept.clear()
        elif self._size_bytes > MOST_BYTES:
            self._end(broken=True)
        elif chunk.endswith(ENDS):
            self._over = True
            self._taker.whole(self._kept)

    async def aclose(self) -> None:
        self._end(broken=False)
        await self._chunks.aclose()

    def _end(self, *, broken: bool) -> None:
        if self._over:
            return
        self._over = True
        self._kept.clear()
        if broken:
            self._taker.broken()
        else:
            self._taker.left()
