"""One question becomes a call of a model like everyone's, and what comes back an answer."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from msgspec import Struct

from llmgateway.caller import CacheAsk, Caller
from llmgateway.documents.question import Answer, Question
from llmgateway.errors import ClientGoneError, GatewayError
from llmgateway.exchange import Call, Complete, Event, Exchange, Reply, Streamed
from llmgateway.flavor import Flavor
from llmgateway.jobs.running.means import Means
from llmgateway.jobs.running.passes import Said
from llmgateway.jobs.seams import Ask, Record
from llmgateway.storage.jobs.rows import JobRow
from llmgateway.telemetry.traces.jobs import pass_trace
from llmgateway.wire.sse import payload, split_events

# Above this size JSON is written and read in a thread, so that others do not wait for it.
_LARGE = 64 * 1024
# In the ledger, the log and traces: no address was called, and jobs have no end of names.
_PATH = "/jobs"
_OK, _BUG = 200, 500
_FAREWELL_S = 2.0
# What the run itself decides, and what is for whoever runs the gateway: never from a flavor's own parameters.
_OURS = frozenset({
    "model", "models", "messages", "prompt", "stream", "stream_options", "n", "best_of", "max_tokens", "fallbacks",
    "extra_body", "extra_headers", "extra_query",
})  # fmt: skip
_GUARDED = frozenset({
    "key", "keys", "apikey", "secret", "password", "credential", "credentials", "authorization", "headers", "base",
    "url", "uri", "endpoint", "host", "proxy", "provider",
})  # fmt: skip
_WORD = re.compile(r"[^a-z0-9]+")
_ENDS = {"max_tokens": "length", "max_output_tokens": "length", "safety": "content_filter"}
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

# Told of each piece of an answer that is shown while it is said.
Hear = Callable[[str], None]


def _nobody(piece: str) -> None:
    """Nobody listens."""


class _Message(Struct):
    content: Any = None
    refusal: Any = None


class _Choice(Struct):
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: Any = None
    index: Any = 0


class _Chat(Struct):
    choices: list[_Choice] = []


_CHAT = msgspec.json.Decoder(_Chat)


def exchange_of(job: JobRow, caller: Caller, request_s: float, listener: Callable[[Event], None]) -> Exchange:
    """Begin an exchange for one call of a job: for whoever ordered it, found in the ledger under the job's id."""
    exchange = Exchange(
        method="POST",
        path=_PATH,
        client_id=job.id,
        caller=caller,
        organization=job.organization_id,
        trace=pass_trace(job.id, job.origin.trace),
        # Each pass is kept with its job; another run is to be another answer.
        cache_ask=CacheAsk(no_cache=True, no_store=True),
        listener=listener,
        for_job=True,
    )
    exchange.deadline = exchange.started + request_s
    return exchange


async def call_of(question: Question, settings: Flavor, model: str, *, stream: bool) -> Call:
    """Put a question into a call, with the flavor's parameters."""
    fields = fields_of(question, settings, model, stream=stream)
    large = sum(len(str(message.get("content", ""))) for message in question.messages) > _LARGE
    body = await anyio.to_thread.run_sync(msgspec.json.encode, fields) if large else msgspec.json.encode(fields)
    return Call("chat", model, body, stream=stream, include_usage=stream, max_tokens=question.max_tokens)


def fields_of(question: Question, settings: Flavor, model: str, *, stream: bool) -> dict[str, Any]:
    """Give the fields of a call; a flavor's own parameters never replace what makes it this call."""
    fields: dict[str, Any] = {"temperature": settings.temperature, "top_p": settings.top_p}
    if settings.frequency_penalty:
        fields["frequency_penalty"] = settings.frequency_penalty
    if settings.presence_penalty:
        fields["presence_penalty"] = settings.presence_penalty
    if settings.stop:
        fields["stop"] = list(settings.stop)
    fields.update({name: value for name, value in settings.custom_params.items() if _is_free(name)})
    most = fields.get("max_completion_tokens")
    if isinstance(most, int) and not isinstance(most, bool):
        # Models that think take no other name for it.
        fields["max_completion_tokens"] = min(most, question.max_tokens)
    else:
        fields["max_tokens"] = question.max_tokens
    fields.update(model=model, messages=list(question.messages))
    if stream:
        fields.update(stream=True, stream_options={"include_usage": True})
    return fields


def _is_free(name: str) -> bool:
    return name not in _OURS and _GUARDED.isdisjoint(_WORD.split(name.lower()))


async def ask(means: Means, exchange: Exchange, call: Call, hear: Hear) -> Said:
    """Ask a model for a pass, as `asked` does."""
    began = datetime.now(UTC)
    answer = await asked(means.ask, means.record, exchange, call, hear)
    ended = time.perf_counter() if exchange.ended is None else exchange.ended
    duration_ms = (ended - exchange.started) * 1e3
    return Said(answer=answer, exchange=exchange, began=began, duration_ms=duration_ms, demo=_is_demo(exchange))


async def asked(ask: Ask, record: Record, exchange: Exchange, call: Call, hear: Hear = _nobody) -> Answer:
    """Ask a model once, through everything that everybody's calls go through, and have it written down.

    Args:
        ask: Answers one call as everybody's are answered.
        record: Writes its exchange down.
        hear: Told of the pieces of a stream.

    Raises:
        GatewayError: Nobody answered, or the answer broke off.
    """
    # Whoever leaves cancels it.
    exchange.status, exchange.error_code = ClientGoneError.status, ClientGoneError.code
    try:
        answer = await _answered(await ask(exchange, call), hear)
        exchange.status, exchange.error_code = _OK, None
    except GatewayError as error:
        exchange.status, exchange.error_code = error.status, error.code
        raise error.with_traceback(None) from error.__cause__
    except Exception:
        exchange.status, exchange.error_code = _BUG, GatewayError.code
        raise
    finally:
        record(exchange)
    return answer


async def _answered(reply: Reply, hear: Hear) -> Answer:
    if isinstance(reply, Complete):
        body = reply.body
        answer = answer_of(body) if len(body) <= _LARGE else await anyio.to_thread.run_sync(answer_of, body)
        hear(answer.text)
        return answer
    return await _streamed(reply, hear)


async def _streamed(reply: Streamed, hear: Hear) -> Answer:
    heard = Heard()
    try:
        async for chunk in reply.chunks:
            piece = heard.feed(chunk)
            if piece:
                hear(piece)
    finally:
        # Whoever is cancelled ends the upstream's call with it; in a scope that is over, nothing else is waited for.
        with anyio.move_on_after(_FAREWELL_S, shield=True):
            await reply.chunks.aclose()
    return heard.answer()


def answer_of(body: bytes) -> Answer:
    """Read a whole answer; what cannot be read is an empty one."""
    try:
        choices = _CHAT.decode(body).choices
    except _UNREADABLE:
        choices = []
    if not choices or choices[0].message is None:
        return Answer(text="")
    message = choices[0].message
    return Answer(
        text=_text(message.content),
        finish_reason=_reason(choices[0].finish_reason),
        refusal=message.refusal if isinstance(message.refusal, str) and message.refusal else None,
    )


class Heard:
    """Puts an answer together of the events of its stream."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._refusal: list[str] = []
        self._reason = "stop"

    def feed(self, events: bytes) -> str:
        """Take whole events; gives the text that they say."""
        said = "".join(piece for event in split_events(events) for piece in self._event(event))
        if said:
            self._pieces.append(said)
        return said

    def answer(self) -> Answer:
        """Give all of it."""
        refusal = "".join(self._refusal) or None
        return Answer(text="".join(self._pieces), finish_reason=self._reason, refusal=refusal)

    def _event(self, event: bytes) -> Iterator[str]:
        try:
            choices = _CHAT.decode(payload(event)).choices
        except _UNREADABLE:
            return
        for choice in choices:
            if choice.index != 0:
                continue
            if choice.finish_reason:
                self._reason = _reason(choice.finish_reason)
            if choice.delta is not None:
                if isinstance(choice.delta.refusal, str):
                    self._refusal.append(choice.delta.refusal)
                yield _text(choice.delta.content)


def _text(content: object) -> str:
    """Read a content: a text, or parts of which some are text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, Mapping))
    return "".join(text for text in texts if isinstance(text, str))


def _reason(given: object) -> str:
    return _ENDS.get(given.lower(), given) if isinstance(given, str) and given else "stop"


def _is_demo(exchange: Exchange) -> bool:
    return bool(exchange.attempts) and exchange.attempts[-1].deployment.account.wire == "demo"
