"""One request and its reply: what goes in (`Call`), what comes out (`Reply`), and all that was learned on the way.

Everything a client can ask of a model is a `Call`; everything it can get is a `Complete` or a `Streamed`.
The `Exchange` is made at the door, filled room by room and read at the end. Each field names its one writer.
"""

import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Literal, Protocol

from msgspec import Struct, field

from llmgateway.caller import ANYONE, CacheAsk, Caller, RouteAsk
from llmgateway.catalog.model import Deployment, Model, SecurityLevel
from llmgateway.errors import GatewayError
from llmgateway.headers import read_lines, usd, who_answered, write_lines
from llmgateway.ids import new_id
from llmgateway.wire.codec import TopFields

Operation = Literal["chat", "completion", "embedding"]
Header = tuple[bytes, bytes]
NO_NEEDS: frozenset[str] = frozenset()
# The loop's clock counts whole milliseconds: what a deadline ends may end a little before it.
_TIMER_S = 0.002
_OF_EVERY_CALL = (
    b"x-cache-status: %b\r\nx-attempts: %d\r\nopenai-processing-ms: %d\r\nx-overhead-ms: %b\r\n"
    b"server-timing: gateway;dur=%b, upstream;dur=%.2f\r\n"
)
_REQUESTS_LEFT = (
    b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: %.3fs\r\n"
)
_TOKENS_LEFT = _REQUESTS_LEFT.replace(b"requests", b"tokens")
_TIGHTEST = b"x-ratelimit-limit: %d\r\nx-ratelimit-remaining: %d\r\nx-ratelimit-reset: %d\r\n"


class Call(Struct, frozen=True):
    """What is asked of a model.

    Args:
        model: The name as the client wrote it.
        body: The client's JSON object, checked, as bytes.
        stream: Whether the answer is to come as server-sent events.
        include_usage: Whether the client itself asked for the usage chunk of a stream.
        user: OpenAI's `user` field: a label within the caller's own organization, never an identity.
        max_tokens: The longest answer that the client wants; `None` when it does not say.
        n: How many answers it wants.
        needs: What a deployment must be able to do for it, such as `vision` and `tools`.
        has_answers: Whether something that a model said may be in its messages.
        fields: The body's fields, found once; only where the body is long.
        trace_headers: W3C trace context for the upstream, when a setting says that it may know it.
    """

    operation: Operation
    model: str
    body: bytes
    stream: bool = False
    include_usage: bool = False
    user: str | None = None
    max_tokens: int | None = None
    n: int = 1
    needs: frozenset[str] = NO_NEEDS
    has_answers: bool = True
    fields: TopFields | None = None
    trace_headers: tuple[tuple[str, str], ...] = ()


class Usage(Struct):
    """Tokens as the upstream counted them.

    Cached, cache-written, audio and image ones of the prompt are part of `prompt_tokens`; reasoning, audio and image
    ones of the completion are part of `completion_tokens`.

    Args:
        cache_write_tokens: Kept by the provider for five minutes; `cache_write_1h_tokens` for an hour, not part of it.
        service_tier: As the provider reports it, such as `priority` or `flex`: some cost more or less.
        estimated: Counted here, because the upstream told nothing.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_prompt_tokens: int = 0
    audio_completion_tokens: int = 0
    image_prompt_tokens: int = 0
    image_completion_tokens: int = 0
    service_tier: str | None = None
    estimated: bool = False


class Complete(Struct):
    """A whole answer: JSON in OpenAI's shape for the call's operation.

    Args:
        headers: Headers of the upstream that may be passed on, renamed to `x-upstream-*`.
        model: The model as the provider reports it; `None` when it does not.
        whole: Whether it came to its own end in every choice; `None` when nobody has looked.
    """

    body: bytes
    usage: Usage | None = None
    headers: list[Header] = field(default_factory=list)
    model: str | None = None
    whole: bool | None = None


class Chunks(Protocol):
    """The pieces of a stream: an async generator, or a class that does less work per piece."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __anext__(self) -> bytes: ...

    async def aclose(self) -> None:
        """End the upstream call at once; a second call, or one after the end, does nothing."""
        ...


class Heard(Protocol):
    """What has passed of a stream."""

    def text(self) -> str:
        """All that the model has said so far: text, reasoning, arguments of tool calls."""
        ...

    def tail(self) -> bytes:
        """The last events as they came."""
        ...


class Streamed(Struct):
    """An answer in pieces, returned once its first event is there.

    Args:
        chunks: Each item is one or more WHOLE server-sent events in OpenAI's shape; the last ends with `data: [DONE]`.
            It raises a `GatewayError` when the answer breaks off. `aclose` ends the upstream call at once.
        usage: Filled by the upstream while the chunks pass; whole before the chunk with `[DONE]` is given.
        heard: Set by routing.
    """

    chunks: Chunks
    usage: Usage | None = None
    headers: list[Header] = field(default_factory=list)
    model: str | None = None
    heard: Heard | None = None


Reply = Complete | Streamed


class Attempt(Struct):
    """One try at one deployment.

    Args:
        started, ended: `time.perf_counter` seconds; a stream's attempt ends with its last chunk.
        outcome: `ok`, `cancelled`, `superseded` (another was faster), or the error's `code`; `None` while it runs.
        span_id: Of its span in a trace, made early only when the upstream is told; 0 is none yet.
    """

    deployment: Deployment
    started: float
    ended: float | None = None
    first_chunk: float | None = None
    outcome: str | None = None
    upstream_status: int | None = None
    span_id: int = 0

    @property
    def provider(self) -> str:
        """The account's name in the catalog."""
        return self.deployment.account.name

    @property
    def model(self) -> str:
        """The upstream model."""
        return self.deployment.model


def upstream_s(attempts: Sequence[Attempt], now: float) -> float:
    """Give the seconds in which at least one attempt ran: two side by side wait together."""
    if len(attempts) == 1:  # as usual
        only = attempts[0]
        return (now if only.ended is None else only.ended) - only.started
    if not attempts:
        return 0.0
    total_s, until = 0.0, 0.0
    for attempt in sorted(attempts, key=lambda attempt: attempt.started):
        ended = now if attempt.ended is None else attempt.ended
        if ended > until:
            total_s += ended - max(attempt.started, until)
            until = ended
    return total_s


class Trace(Struct):
    """Where a request stands in its trace (W3C Trace Context).

    Args:
        parent_id: The client's span; 0 when the client sent no valid `traceparent`.
        sampled: Whether its spans are kept, decided before any is made.
        state, baggage: The client's `tracestate` and `baggage`, as they came.
        parent_sampled: Whether the client keeps its spans.
    """

    trace_id: int
    span_id: int
    parent_id: int = 0
    sampled: bool = False
    state: str = ""
    baggage: str = ""
    parent_sampled: bool = False


class Event(Struct):
    """Something that happened on the way, for the trace: `retry`, `failover`, `cache_hit`, `limit`.

    Args:
        at: `time.perf_counter` seconds.
    """

    name: str
    at: float
    attributes: dict[str, str | int | float | bool] = field(default_factory=dict)


class Plan(Protocol):
    """Who may answer a call, as routing has chosen: `ordered` gives all of them, best first."""

    def ordered(self) -> tuple[Deployment, ...]: ...


# Asks the limits of further deployments for room: gives the place of the first that has it, `None` when none has.
Leave = Callable[[Sequence[Deployment]], Awaitable[int | None]]


class Left(Struct, frozen=True, gc=False):
    """The tightest limit of a kind: what it is, what is left of it, and seconds until all of it is there again."""

    limit: int
    remaining: int
    reset_s: float


class Sensitivity(Struct, frozen=True, gc=False):
    """What was found in a call, never the text.

    Args:
        score: 0 to 1.
        action: `none` below the threshold, else `reroute`, `refuse` or `redact`.
    """

    score: float
    categories: tuple[str, ...] = ()
    action: str = "none"


class Exchange(Struct):
    """One request on its way. Times are `time.perf_counter` seconds."""

    id: str = field(default_factory=partial(new_id, "req"))  # middleware/request_id
    client_id: str | None = None  # middleware/request_id: the client's own X-Request-ID, when valid
    started: float = field(default_factory=time.perf_counter)  # middleware/request_id
    method: str = ""  # middleware/request_id
    path: str = ""  # middleware/request_id
    caller: Caller = ANYONE  # middleware/auth
    organization: str | None = None  # middleware/auth: the caller's, or one that it may act for
    trace: Trace | None = None  # middleware/tracing
    deadline: float | None = None  # api, else gateway: `started` plus the time this request may take
    operation: Operation | None = None  # gateway; api already, so that the answer to a wrong body has its headers
    requested_model: str | None = None  # gateway
    stream: bool = False  # gateway
    call: Call | None = None  # gateway
    cache_ask: CacheAsk | None = None  # api
    idempotency_key: str | None = None  # api
    route_ask: RouteAsk | None = None  # api
    model: Model | None = None  # gateway/layers/access; another one where a call is rerouted
    model_label: str = "other"  # gateway/layers/access: the model's name if the catalog or LiteLLM's table has it
    sensitivity: Sensitivity | None = None  # gateway/layers/sensitivity
    min_security: SecurityLevel | None = None  # gateway/layers/sensitivity: no provider below it may see this call
    only_models: tuple[str, ...] = ()  # gateway/layers/sensitivity: no other may see this call; empty is all
    cache_key: str | None = None  # gateway/layers/cache: where its answer is kept; `None` is not at all
    cached: object = None  # gateway/layers/limits, which reads it in its own round trip; bytes, or the answer itself
    claimed: bytes | None = None  # gateway/layers/limits: who asks this for all processes, when nothing was kept
    cache_status: str = "BYPASS"  # gateway/layers/cache
    cache_type: str | None = None  # gateway/layers/cache: `exact` or `semantic`, of a hit
    cache_similarity: float | None = None  # gateway/layers/semantic_cache
    replayed: bool = False  # gateway/layers/idempotency: it is the answer to an earlier request of the same key
    requests_left: Left | None = None  # gateway/layers/limits
    tokens_left: Left | None = None  # gateway/layers/limits
    plan: Plan | None = None  # routing: early for gateway/layers/limits, where deployments have limits of their own
    choice: int = 0  # gateway/layers/limits: the first of the plan that its own limits let be asked
    leave: Leave | None = None  # gateway/layers/limits: for those that are asked after it
    full: GatewayError | None = None  # gateway/layers/limits: no deployment has room, and another model may be asked
    refusal: GatewayError | None = None  # gateway/layers/limits: why only a kept answer may be given, and nobody asked
    at_end: list[Callable[[], None]] = field(default_factory=list)  # gateway/layers: called once by gateway/record
    maker: str | None = None  # gateway/layers/makers: the deployment that alone can read what is sealed in the call
    prompt_tokens: int | None = None  # routing: counted, where their exact number decides
    task: str | None = None  # routing/auto: what kind of task this is
    others: tuple[str, ...] = ()  # routing/auto: names of models that may answer instead
    route_reason: str | None = None  # routing
    job_s: float = 0.0  # gateway/virtual: seconds in which a job worked for it
    provider: str | None = None  # routing: who really answered
    upstream_model: str | None = None  # routing: the name that was sent on
    attempts: list[Attempt] = field(default_factory=list)  # routing
    usage: Usage | None = None  # routing: of all attempts together; `None` while nobody told or counted it
    cost_usd: float | None = None  # routing; `None` as long as the usage or the price is unknown
    events: list[Event] = field(default_factory=list)  # whoever made it happen, by `note`
    listener: Callable[[Event], None] | None = None  # jobs: hears of each event as it happens
    for_job: bool = False  # jobs: nobody holds a line for it, so it is tried again for longer
    may_administer: bool = False  # middleware/auth: the admin key, or a person at the machine where nobody has keys
    reply: Reply | None = None  # gateway
    status: int | None = None  # middleware/observe: the HTTP status that went out
    error_code: str | None = None  # middleware/errors, api/replies (after the first byte)
    ended: float | None = (
        None  # gateway/record: just before its last byte goes out; just after where that takes its time
    )
    recorded: bool = False  # gateway/record: it is over; everybody was told, or is at the end of the turn
    # Why the task of this request is being cancelled, written just before by whoever is first to do so:
    # middleware/disconnect, middleware/inflight, api/replies.
    cancelled_by: GatewayError | None = None

    def note(self, event: Event) -> None:
        """Write down that something happened, and tell whoever listens."""
        self.events.append(event)
        if self.listener is not None:
            self.listener(event)

    @property
    def is_late(self) -> bool:
        """Whether the time that it may take is over, or as good as."""
        return self.deadline is not None and time.perf_counter() >= self.deadline - _TIMER_S

    @property
    def upstream_s(self) -> float:
        """Seconds spent waiting for upstreams, or for a job, so far."""
        return upstream_s(self.attempts, time.perf_counter()) + self.job_s

    def headers(self) -> list[Header]:
        """What a client may know of a model call so far, as response headers."""
        return read_lines(self.lines())

    def lines(self) -> bytes:
        """The same as they are written (times in milliseconds)."""
        if self.operation is None:
            return b""
        now = time.perf_counter()
        total_ms = (now - self.started) * 1e3
        upstream_ms = (upstream_s(self.attempts, now) + self.job_s) * 1e3
        own_ms = b"%.2f" % (total_ms - upstream_ms if total_ms > upstream_ms else 0.0)
        lines = _OF_EVERY_CALL % (self.cache_status.encode(), len(self.attempts), total_ms, own_ms, own_ms, upstream_ms)
        reply = self.reply
        if self.provider is not None and self.upstream_model is not None:
            lines += who_answered(self.provider, (reply.model if reply else None) or self.upstream_model)
        if self.cost_usd is not None and not self.stream:
            lines += b"x-cost-usd: %b\r\n" % usd(self.cost_usd).encode()
        if reply is not None and reply.headers:
            lines += write_lines(reply.headers)
        if self.requests_left is not None or self.tokens_left is not None:
            lines += _limit_lines(self.requests_left, self.tokens_left)
        if self.cache_type is not None or self.sensitivity is not None or self.replayed:
            lines += self._seldom()
        return lines

    def _seldom(self) -> bytes:
        lines = b"" if self.cache_type is None else b"x-cache-type: %b\r\n" % self.cache_type.encode()
        if self.cache_similarity is not None:
            lines += b"x-cache-similarity: %.4f\r\n" % self.cache_similarity
        if self.sensitivity is not None:
            lines += b"x-sensitivity: %b\r\n" % _sensitivity_shown(self.sensitivity)
        return lines + b"idempotent-replayed: true\r\n" if self.replayed else lines


def _limit_lines(requests: Left | None, tokens: Left | None) -> bytes:
    """Tell the limits twice: both in OpenAI's form (durations), and the tightest in the older one (Unix seconds)."""
    lines, tightest = b"", requests
    if requests is not None:
        lines = _REQUESTS_LEFT % (requests.limit, requests.remaining, requests.reset_s)
    if tokens is not None:
        lines += _TOKENS_LEFT % (tokens.limit, tokens.remaining, tokens.reset_s)
        if requests is None or tokens.remaining * requests.limit < requests.remaining * tokens.limit:
            tightest = tokens
    if tightest is not None:
        reset = math.ceil(time.time_ns() / 1e9 + tightest.reset_s)
        lines += _TIGHTEST % (tightest.limit, tightest.remaining, reset)
    return lines


def _sensitivity_shown(found: Sensitivity) -> bytes:
    return f"score={found.score:.2f}; categories={','.join(found.categories) or 'none'}; action={found.action}".encode()
