"""One request and its reply: what goes in (`Call`), what comes out (`Reply`), and all that was learned on the way.

Everything a client can ask of a model is a `Call`; everything it can get is a `Complete` or a `Streamed`.
The `Exchange` is made at the door, filled room by room and read at the end. Each field names its one writer.
"""

import time
from collections.abc import AsyncIterator
from typing import Literal, Protocol

from msgspec import Struct, field

from llmgateway.errors import GatewayError
from llmgateway.ids import new_id

Operation = Literal["chat", "completion", "embedding"]
Header = tuple[bytes, bytes]


class Call(Struct, frozen=True):
    """What is asked of a model.

    Args:
        model: The name as the client wrote it.
        body: The client's JSON object, checked, as bytes.
        stream: Whether the answer is to come as server-sent events.
        include_usage: Whether the client itself asked for the usage chunk of a stream.
    """

    operation: Operation
    model: str
    body: bytes
    stream: bool = False
    include_usage: bool = False


class Usage(Struct):
    """Tokens as the upstream counted them: cached ones are part of the prompt's, reasoning ones of the completion's."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class Complete(Struct):
    """A whole answer: JSON in OpenAI's shape for the call's operation.

    Args:
        headers: Headers of the upstream that may be passed on, renamed to `x-upstream-*`.
        model: The model as the provider reports it; `None` when it does not.
    """

    body: bytes
    usage: Usage | None = None
    headers: list[Header] = field(default_factory=list)
    model: str | None = None


class Chunks(Protocol):
    """The pieces of a stream: an async generator, or a class that does less work per piece."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __anext__(self) -> bytes: ...

    async def aclose(self) -> None:
        """End the upstream call at once; a second call, or one after the end, does nothing."""
        ...


class Streamed(Struct):
    """An answer in pieces, returned once its first event is there.

    Args:
        chunks: Each item is one or more WHOLE server-sent events in OpenAI's shape; the last ends with `data: [DONE]`.
            It raises a `GatewayError` when the answer breaks off. `aclose` ends the upstream call at once.
        usage: Filled by the upstream while the chunks pass; whole once they have ended.
    """

    chunks: Chunks
    usage: Usage | None = None
    headers: list[Header] = field(default_factory=list)
    model: str | None = None


Reply = Complete | Streamed


class Attempt(Struct):
    """One try at one deployment.

    Args:
        started, ended: `time.perf_counter` seconds; a stream's attempt ends with its last chunk.
        outcome: `ok`, `cancelled`, or the `code` of the error; `None` while it runs.
    """

    provider: str
    model: str
    started: float
    ended: float | None = None
    first_chunk: float | None = None
    outcome: str | None = None
    upstream_status: int | None = None


def _request_id() -> str:
    return new_id("req")


class Exchange(Struct):
    """One request on its way. Times are `time.perf_counter` seconds."""

    id: str = field(default_factory=_request_id)  # middleware/request_id
    client_id: str | None = None  # middleware/request_id: the client's own X-Request-ID, when valid
    started: float = field(default_factory=time.perf_counter)  # middleware/request_id
    deadline: float | None = None  # api, else gateway: `started` plus the time this request may take
    operation: Operation | None = None  # gateway; api already, so that the answer to a wrong body has its headers
    requested_model: str | None = None  # gateway
    stream: bool = False  # gateway
    provider: str | None = None  # routing: who really answered
    upstream_model: str | None = None  # routing: the name that was sent on
    attempts: list[Attempt] = field(default_factory=list)  # routing
    reply: Reply | None = None  # gateway
    status: int | None = None  # middleware/observe: the HTTP status that went out
    error_code: str | None = None  # middleware/errors, api/replies (after the first byte)
    # Why the task of this request is being cancelled, written just before by whoever is first to do so:
    # middleware/disconnect, middleware/inflight, api/replies.
    cancelled_by: GatewayError | None = None

    @property
    def upstream_s(self) -> float:
        """Seconds spent waiting for upstreams so far."""
        total_s = 0.0
        for attempt in self.attempts:
            total_s += (time.perf_counter() if attempt.ended is None else attempt.ended) - attempt.started
        return total_s

    def headers(self) -> list[Header]:
        """What a client may know of a model call so far, as response headers (times in milliseconds)."""
        if self.operation is None:
            return []
        total_ms = (time.perf_counter() - self.started) * 1e3
        upstream_ms = self.upstream_s * 1e3
        own_ms = max(0.0, total_ms - upstream_ms)
        headers = [
            (b"x-cache-status", b"BYPASS"),
            (b"x-attempts", b"%d" % len(self.attempts)),
            (b"openai-processing-ms", b"%d" % total_ms),
            (b"x-overhead-ms", b"%.2f" % own_ms),
            (b"server-timing", b"gateway;dur=%.2f, upstream;dur=%.2f" % (own_ms, upstream_ms)),
        ]
        if self.provider is not None and self.upstream_model is not None:
            model = (self.reply.model if self.reply else None) or self.upstream_model
            headers.append((b"x-provider", self.provider.encode("ascii", "replace")))
            headers.append((b"x-model", _one_line(model)))
        if self.reply is not None:
            headers += self.reply.headers
        return headers


def _one_line(text: str) -> bytes:
    """Make a header value of a name that a provider reported."""
    text = text[:200]
    if not (text.isascii() and text.isprintable()):
        text = "".join(char if " " <= char <= "~" else "?" for char in text)
    return text.encode()
