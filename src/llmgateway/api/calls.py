"""The model calls: a body becomes a `Call`, the gateway answers it, the reply goes out. Plain ASGI, for speed."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from llmgateway.api.replies import EventStream, Piece, send_complete
from llmgateway.errors import ClientGoneError, GatewayError, InvalidRequestError, MethodNotAllowedError
from llmgateway.exchange import Call, Complete, Exchange, Operation, Streamed
from llmgateway.gateway.cache_control import CACHE_HEADERS, cache_ask
from llmgateway.gateway.gateway import Gateway
from llmgateway.gateway.route_control import ROUTE_HEADERS, is_true, route_ask
from llmgateway.wire.codec import LONG_BYTES, TopFields
from llmgateway.wire.requests import Asked

# Above this size a body is parsed in a thread, so that others do not wait for it.
_LARGE_BYTES = 256 * 1024
# Most calls have none of them.
_ASKING = CACHE_HEADERS | ROUTE_HEADERS | {b"x-dry-run", b"x-timeout-seconds", b"idempotency-key"}

Started = Callable[[Exchange], None]


@dataclass(frozen=True, slots=True)
class ReplyTimes:
    """Seconds: what a request may take, when a silent stream is opened, how often a silence is commented on."""

    request_s: float = 590.0
    commit_after_s: float = 15.0
    keep_alive_s: float = 15.0


class ModelCalls:
    """One operation's endpoint.

    Args:
        read: Checks a body and returns what the gateway must know of it.
        started: Told of each call that begins; `None` when nobody wants to know.
        dry: Never call anybody: answer with the plan, as for `X-Dry-Run: true`.
    """

    def __init__(
        self,
        operation: Operation,
        read: Callable[[bytes], Asked],
        *,
        gateway: Gateway,
        times: ReplyTimes,
        started: Started | None = None,
        dry: bool = False,
    ) -> None:
        self._operation = operation
        self._read = read
        self._gateway = gateway
        self._times = times
        self._started = started
        self._dry = dry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            path, method = scope["path"], scope["method"]
            raise MethodNotAllowedError(f"{path} takes POST, not {method[:20]}.", details={"allow": "POST"})
        exchange: Exchange = scope["exchange"]
        headers: dict[bytes, bytes] = scope.get("named_headers") or dict(scope["headers"])
        dry = self._dry
        if dry or not _ASKING.isdisjoint(headers):
            dry = self._ask(exchange, headers)
        else:
            exchange.deadline = exchange.started + self._times.request_s
        body: bytes = scope["body"]
        read = self._read
        call = self._call(body, read(body) if len(body) <= _LARGE_BYTES else await asyncio.to_thread(read, body))
        if self._started is not None and not dry:
            exchange.requested_model, exchange.stream = call.model, call.stream
            self._started(exchange)
        if call.stream and not dry:
            await self._stream(exchange, call, send, scope.get("piece"))
            return
        reply = await (self._gateway.explain(exchange, call) if dry else self._gateway.send(exchange, call))
        if not isinstance(reply, Complete):
            raise TypeError("a stream came for a call that asked for none")
        await send_complete(exchange, reply, send)

    def _ask(self, exchange: Exchange, headers: dict[bytes, bytes]) -> bool:
        """Note what the headers ask for. Returns whether nobody is to be called."""
        dry = self._dry or (b"x-dry-run" in headers and is_true("X-Dry-Run", headers[b"x-dry-run"]))
        if dry:
            exchange.operation = None  # also when it is refused: it calls no model
        exchange.deadline = exchange.started + self._allowed_s(headers)
        if b"idempotency-key" in headers:
            exchange.idempotency_key = headers[b"idempotency-key"].decode("latin-1")
        exchange.cache_ask = cache_ask(headers)
        exchange.route_ask = route_ask(headers)
        return dry

    def _call(self, body: bytes, asked: Asked) -> Call:
        options = asked.stream_options
        return Call(
            operation=self._operation,
            model=asked.model,
            body=body,
            stream=bool(asked.stream) and self._operation != "embedding",
            include_usage=bool(options and options.include_usage),
            user=asked.user if isinstance(asked.user, str) else None,
            # Of two, some upstreams read the one and some the other.
            max_tokens=_most(asked.max_completion_tokens, asked.max_tokens) or None,
            n=(_most(asked.n, asked.best_of) or 1) * asked.questions(),
            needs=asked.needs(),
            has_answers=asked.has_answers(),
            fields=TopFields() if len(body) > LONG_BYTES else None,
        )

    async def _stream(self, exchange: Exchange, call: Call, send: Send, piece: Piece | None) -> None:
        times = self._times
        stream = EventStream(
            exchange, send, commit_after_s=times.commit_after_s, keep_alive_s=times.keep_alive_s, piece=piece
        )
        try:
            reply = await self._gateway.send(exchange, call)
            if not isinstance(reply, Streamed):
                raise TypeError(f"a whole answer came for a call that asked for a stream: {self._operation}")
            await stream.relay(reply)
        except GatewayError as error:
            if not stream.started:
                raise
            await stream.fail(error)
        except asyncio.CancelledError:
            cause = exchange.cancelled_by
            if not stream.started or cause is None or isinstance(cause, ClientGoneError):
                raise
            await _end(stream, cause)
        finally:
            stream.close()

    def _allowed_s(self, headers: dict[bytes, bytes]) -> float:
        text = headers.get(b"x-timeout-seconds")
        if text is None:
            return self._times.request_s
        try:
            asked_s = float(text)
        except ValueError:
            asked_s = math.nan
        if not asked_s > 0:
            raise InvalidRequestError(
                "X-Timeout-Seconds must be a number of seconds above 0, such as 30.", param="X-Timeout-Seconds"
            )
        return min(asked_s, self._times.request_s)


def _most(one: object, other: object) -> int:
    """Give the larger of two numbers; 0 is none."""
    return 0 if one is None and other is None else max(_count(one), _count(other))


def _count(given: object) -> int:
    """Read a number as upstreams do that are not strict: `500.0` and `"500"` are one. 0 is none."""
    if given is None:
        return 0
    try:
        return max(0, int(float(given))) if isinstance(given, int | float | str) else 0
    except (ValueError, OverflowError):
        return 0


async def _end(stream: EventStream, cause: GatewayError) -> None:
    """Say why on a stream whose task was cancelled, unless its client does not even read that."""
    stream.task.uncancel()
    started = time.perf_counter()
    try:
        async with asyncio.timeout(1.0):
            await stream.fail(cause)
    except TimeoutError:
        raise ClientGoneError(f"The client did not read for {time.perf_counter() - started:.0f} s.") from None
