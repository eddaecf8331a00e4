"""A provider's stream as it arrives, out as OpenAI's: an event leaves with the network read that brought its end."""

import asyncio
from collections import deque
from typing import Any, Self

import msgspec

from llmgateway.catalog.model import Account
from llmgateway.errors import GatewayError, UpstreamError
from llmgateway.exchange import Streamed
from llmgateway.upstream.errors import error_in_body
from llmgateway.upstream.http.response import Response
from llmgateway.upstream.litellm.answers import ChunkWriter
from llmgateway.upstream.litellm.errors import Reading
from llmgateway.upstream.litellm.pieces import usage_of
from llmgateway.upstream.litellm.translation import Event, Framing, Reader, Wire
from llmgateway.wire.sse import MAX_EVENT_BYTES, EventCutter, EventTooLongError, payload, split_events

# Of an event, with the blank line that ends it: its data, and maybe its name before that.
_USUAL_LINES = (3, 4)
# A connection is worth keeping if its end follows the last event this soon; the client does not wait longer.
_END_AFTER_LAST_S = 0.05


class LineCutter:
    """Bytes as they arrive in, whole lines out: the framing of providers that send one JSON object a line."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    @property
    def rest(self) -> bytes:
        """What is there of a line whose end has not come."""
        return bytes(self._rest)

    def feed(self, received: bytes) -> list[bytes]:
        """Return all whole lines so far. Raises: EventTooLongError."""
        if b"\n" not in received:
            self._rest += received
            if len(self._rest) > MAX_EVENT_BYTES:
                raise EventTooLongError
            return []
        *lines, rest = (bytes(self._rest) + received).split(b"\n")
        self._rest = bytearray(rest)
        return [line for line in lines if line.strip()]


class SentEventCutter:
    """The same for server-sent events: the data of each."""

    __slots__ = ("_cutter",)

    def __init__(self) -> None:
        self._cutter = EventCutter()

    @property
    def rest(self) -> bytes:
        """What is there of an event whose end has not come."""
        return self._cutter.rest

    def feed(self, received: bytes) -> list[bytes]:
        """Return the data of all whole events so far. Raises: EventTooLongError."""
        found = map(_content_of, split_events(self._cutter.feed(received)))
        return [content for content in found if content and content != b"[DONE]"]


def _content_of(event: bytes) -> bytes:
    """Do what `payload` does, at a third of its cost for an event of one line of data behind at most a name."""
    lines = event.split(b"\n")
    if len(lines) not in _USUAL_LINES or b"\r" in event or lines[-2]:
        return payload(event)
    content = lines[-3]
    is_usual = content.startswith(b"data: ") and (content is lines[0] or lines[0].startswith(b"event:"))
    return content[6:] if is_usual else payload(event)


class TranslatedChunks:
    """A stream's chunks as they arrive. Waiting for the next one may be cancelled and taken up again."""

    def __init__(self, response: Response, account: Account, wire: Wire, reader: Reader, writer: ChunkWriter) -> None:
        self._response = response
        self._account = account
        self._wire = wire
        self._reader = reader
        self._writer = writer
        self._cutter = _cutter(wire.framing)
        self._reading = Reading(account)
        self._ready: deque[bytes] = deque()
        self._held = b""
        self._failure: GatewayError | None = None
        self._last_seen = False
        self._over = False
        self._tier = _service_tier(response)
        self._noted: dict[str, Any] | None = None
        self.stream = Streamed(chunks=self, model=writer.model)

    def __aiter__(self) -> Self:
        return self

    async def prime(self) -> None:
        """Wait for the first event that is more than an announcement.

        Raises:
            UpstreamError: An error instead of it, or nothing at all.
        """
        self._ready.append(await self._read())

    async def __anext__(self) -> bytes:
        if self._ready:
            return self._ready.popleft()
        if self._over:
            await self._finish()
            raise StopAsyncIteration
        return await self._read()

    async def aclose(self) -> None:
        self._over = True
        self._response.close()

    async def _read(self) -> bytes:
        content = self._response.content
        while self._failure is None:
            try:
                with self._reading:
                    received = await content.readany()
                chunks = self._take(received) if received else self._end()
            except GatewayError as error:
                self._fail(error)
                raise
            if chunks:
                return chunks
        raise self._failure

    def _take(self, received: bytes) -> bytes:
        """Write what these bytes complete; a failure among them is raised by the next read, after what came before."""
        parts: list[bytes] = []
        try:
            with self._reading:
                for content in self._cutter.feed(received):
                    parts.append(self._event(content))
                    if self._over:
                        break
        except GatewayError as error:
            self._fail(error)
        self._note_usage()
        return b"".join(parts)

    def _event(self, content: bytes) -> bytes:
        error = error_in_body(content, self._response.headers, self._account)
        if error is not None:
            raise error
        plain = self._reader.plain(content)
        if plain is not None:
            text, usage = plain
            if usage is not None:
                self._writer.usage = usage
            chunks, self._held = self._held + self._writer.text(text), b""
            return chunks
        event: Event = msgspec.json.decode(content)
        chunks = b"".join(map(self._writer.write, self._reader.event(event)))
        if self._wire.is_preamble(event):
            self._held += chunks
            return b""
        chunks, self._held = self._held + chunks, b""
        if not self._wire.is_last(event):
            return chunks
        self._last_seen = True
        return chunks + self._whole() if self._wire.ends_at_last else chunks

    def _whole(self) -> bytes:
        self._over = True
        return self._writer.finish()

    def _end(self) -> bytes:
        """The connection ended: a whole answer only if the event that ends one has come."""
        rest = self._cutter.rest.strip()
        if rest and (error := error_in_body(rest, self._response.headers, self._account)) is not None:
            raise error
        # The last event's blank line may be missing; half an event is not JSON and fails.
        chunks = self._take(b"\n\n") if rest and not self._last_seen else b""
        if self._over:
            return chunks
        if not self._last_seen:
            raise UpstreamError(
                f"{self._account.provider} ended the stream before the answer was complete.", may_retry=True
            )
        return chunks + self._whole()

    def _fail(self, error: GatewayError) -> None:
        self._failure = error
        self._response.close()

    def _note_usage(self) -> None:
        self.stream.model = self._writer.model
        if self._writer.usage is self._noted:
            return
        self._noted = self._writer.usage
        usage = self.stream.usage = usage_of(self._noted)
        if usage is not None and usage.service_tier is None:
            usage.service_tier = self._tier

    async def _finish(self) -> None:
        """Give the connection back for the next call, if its end is near."""
        try:
            async with asyncio.timeout(_END_AFTER_LAST_S):
                while await self._response.content.readany():
                    continue
        except OSError:
            self._response.close()


def _service_tier(response: Response) -> str | None:
    """Read what Google says in a header alone, in the words that LiteLLM gives for a whole answer."""
    tier = response.headers.get("x-gemini-service-tier", "").lower()
    return "default" if tier == "standard" else tier or None


def _cutter(framing: Framing) -> Any:
    return LineCutter() if framing == "lines" else SentEventCutter()
