"""One request and its reply: what goes in (`Call`), what comes out (`Reply`), and all that was learned on the way.

Everything a client can ask of a model is a `Call`; everything it can get is a `Complete` or a `Streamed`.
The `Exchange` is made at the door, filled room by room and read at the end. Each field names its one writer.
"""

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Literal

from llmgateway.ids import new_id

Operation = Literal["chat", "completion", "embedding"]
Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Call:
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


@dataclass(slots=True)
class Usage:
    """Tokens as the upstream counted them; `cached_tokens` are part of the prompt's, `reasoning_tokens` of the completion's."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(slots=True)
class Complete:
    """A whole answer: JSON in OpenAI's shape for the call's operation.

    Args:
        headers: Headers of the upstream that may be passed on, renamed to `x-upstream-*`.
        model: The model as the provider reports it; `None` when it does not.
    """

    body: bytes
    usage: Usage | None = None
    headers: list[Header] = field(default_factory=list)
    model: str | None = None


@dataclass(slots=True)
class Streamed:
    """An answer in pieces, returned once its first event is there.

    Args:
        chunks: Each item is one or more WHOLE server-sent events in OpenAI's shape; the last ends with `data: [DONE]`.
            It raises a `GatewayError` when the answer breaks off. `aclose` ends the upstream call at once.
        usage: Filled by the upstream while the chunks pass; whole once they have ended.
    """

    chunks: AsyncGenerator[bytes]
    usage: Usage | None = None
    headers: list[Header] = field(default_factory=list)
    model: str | None = None


Reply = Complete | Streamed


@dataclass(slots=True)
class Attempt:
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


@dataclass(slots=True)
class Exchange:
    """One request on its way. Times are `time.perf_counter` seconds."""

    id: str = field(default_factory=lambda: new_id("req"))  # middleware/request_id
    client_id: str | None = None  # middleware/request_id: the client's own X-Request-ID, when valid
    started: float = field(default_factory=time.perf_counter)  # middleware/request_id
    deadline: float | None = None  # api: `started` plus the time this request may take
    operation: Operation | None = None  # api
    requested_model: str | None = None  # api
    stream: bool = False  # api
    provider: str | None = None  # routing: who really answered
    upstream_model: str | None = None  # routing: the name that was sent on
    attempts: list[Attempt] = field(default_factory=list)  # routing
    reply: Reply | None = None  # gateway
    status: int | None = None  # middleware/observe: the HTTP status that went out
    error_code: str | None = None  # middleware/errors, api/replies (after the first byte)

    @property
    def upstream_s(self) -> float:
        """Seconds spent waiting for upstreams so far."""
        now = time.perf_counter()
        return sum((attempt.ended or now) - attempt.started for attempt in self.attempts)
