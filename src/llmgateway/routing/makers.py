"""Who made what is sealed: reasoning that a provider signed or encrypted is read by nobody else, so what follows on it
goes to the deployment that made it, in whatever process.

Sealed are Anthropic's `signature` and redacted `data`, OpenAI's and xAI's `encrypted_content`, Gemini's
`thought_signature`, and OpenRouter's encrypted `data`. What is kept is a digest of each and the deployment's id.
"""  # noqa: D205  one sentence

import re
from hashlib import blake2b
from typing import Self

from llmgateway.catalog.model import Deployment
from llmgateway.exchange import Call, Chunks, Complete, Exchange, Reply
from llmgateway.routing.health.book import HealthBook
from llmgateway.stores.base import StoreAwayError, Values
from llmgateway.wire.codec import holds
from llmgateway.wire.sse import WholeStream

_KEPT_S = 24 * 3600.0
_MOST = 16
_SEALED = re.compile(
    rb'"(?:signature|encrypted_content|thought_signature|thoughtSignature|data)"\s*:\s*"([A-Za-z0-9+/=_.-]{16})'
    rb"([A-Za-z0-9+/=_.-]{0,240})"
)


class Makers:
    """Remembers who made what.

    Args:
        values: The store's, so that other processes know it too.
    """

    def __init__(self, values: Values, book: HealthBook) -> None:
        self._values = values
        self._book = book

    async def find(self, call: Call) -> str | None:
        """Give the id of the deployment that made the newest of what is sealed in a call; `None` is not known."""
        for name in reversed(sealed(call.body)[-_MOST:]):
            try:
                found = await self._values.get(name)
            except StoreAwayError:
                return None
            if found is not None:
                return found.decode()
        return None

    def note(self, exchange: Exchange, reply: Reply) -> None:
        """Remember what is sealed in an answer, now or while it passes."""
        if not exchange.attempts or exchange.caller.provider_key is not None:
            return
        maker = exchange.attempts[-1].deployment
        if isinstance(reply, Complete):
            self.keep(reply.body, maker)
        elif isinstance(reply.chunks, WholeStream):
            self.keep(reply.chunks.events, maker)
        else:
            reply.chunks = NotedChunks(reply.chunks, self, maker)

    def keep(self, answer: bytes, maker: Deployment) -> None:
        """Remember the maker of what is sealed in an answer, or a piece of one."""
        # Its id costs more than all else here, and few answers need it.
        if names := sealed(answer)[-_MOST:]:
            found = self._book.of(maker).id.encode()
            for name in names:
                self._values.put(name, found, _KEPT_S)


class NotedChunks:
    """Passes chunks on and has what is sealed in them remembered."""

    __slots__ = ("_chunks", "_maker", "_makers")

    def __init__(self, chunks: Chunks, makers: Makers, maker: Deployment) -> None:
        self._chunks = chunks
        self._makers = makers
        self._maker = maker

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._chunks.__anext__()
        if b"ignature" in chunk or b"encrypted" in chunk or b"redacted_thinking" in chunk:
            self._makers.keep(chunk, self._maker)
        return chunk

    async def aclose(self) -> None:
        await self._chunks.aclose()


def holds_sealed(body: bytes) -> bool:
    """Whether there may be something sealed: one of these is in whatever holds it, and most calls hold none."""
    return holds(body, b"ignature") or holds(body, b"encrypted") or holds(body, b"redacted_thinking")


def sealed(body: bytes) -> list[str]:
    """Name what is sealed in a request or an answer, in its order."""
    if not holds_sealed(body):
        return []
    found = (first + rest for first, rest in _SEALED.findall(body))
    return [f"made:{blake2b(one, digest_size=16).hexdigest()}" for one in found]
