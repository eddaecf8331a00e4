"""Answers a question with what another one was answered that means the same, where a model's owner wants that.

The whole conversation must be the same but for the last turn of the user, whose meaning is compared.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from llmgateway.catalog.model import Model, SemanticCaching
from llmgateway.errors import GatewayError
from llmgateway.exchange import Call, Event, Exchange, Reply
from llmgateway.gateway.answers.entry import LARGE_BYTES, unpack
from llmgateway.gateway.answers.give import give
from llmgateway.gateway.answers.similar import nearest, normalized, with_record
from llmgateway.gateway.cache_admin import tags_of
from llmgateway.gateway.layers.cache_keys import KeyMaker, Scope
from llmgateway.gateway.target import Answering, Names, Target
from llmgateway.routing.choosing.filters import trusted
from llmgateway.stores.base import StoreAwayError, Values
from llmgateway.wire.codec import FIELDS, Fields

# Gives the vector of a text, by a model of the catalog, on behalf of an exchange: sensitivity and limits hold for it.
Embed = Callable[[Exchange, str, str], Awaitable[Sequence[float]]]

_NOTHING = (b"null", b"[]", b"{}", b"false")
# A call with one of these is more than its text.
_MORE_THAN_TEXT = ("tools", "functions", "audio", "web_search_options", "prediction")
_ROLES = frozenset({"system", "developer", "user", "assistant"})
# Answers of the nearest questions may be gone: so many are looked for.
_MOST_TRIES = 3


class _Part(Struct):
    type: str
    text: str = ""


class _Message(Struct):
    role: str
    content: str | list[_Part] | None = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None


_MESSAGES = msgspec.json.Decoder(list[_Message])
_RAW_MESSAGES = msgspec.json.Decoder(list[msgspec.Raw])
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError)

T = TypeVar("T")


class SemanticCache:
    """The layer within `Cache`, which keeps the answers: this one keeps vectors, and the keys of those answers.

    Args:
        names: Gives the catalog served at this moment.
        embed: Asks the model for embeddings.
        scope: Who shares answers.
        ttl_s: How long an answer is kept of which nobody says anything.
    """

    def __init__(
        self,
        target: Target,
        *,
        values: Values,
        names: Callable[[], Names],
        embed: Embed,
        scope: Scope,
        ttl_s: float,
    ) -> None:
        self._target = target
        self._values = values
        self._names = names
        self._embed = embed
        self._keys = KeyMaker(scope)
        self._ttl_s = ttl_s

    def send(self, exchange: Exchange, call: Call) -> Answering:
        model, key = exchange.model, exchange.cache_key
        if model is None or model.semantic is None or key is None or call.operation != "chat":
            return self._target.send(exchange, call)
        return self._similar_or_new(exchange, call, key, model, model.semantic)

    async def _similar_or_new(
        self, exchange: Exchange, call: Call, key: str, model: Model, semantic: SemanticCaching
    ) -> Reply:
        reply = await self._similar(exchange, call, key, model, semantic)
        return await self._target.send(exchange, call) if reply is None else reply

    async def _similar(
        self, exchange: Exchange, call: Call, key: str, model: Model, semantic: SemanticCaching
    ) -> Reply | None:
        """Give a similar question's answer; when there is none, note this question for those that come."""
        question = await _beside(len(call.body), lambda: question_of(call.body))
        if question is None or not self._may_see(exchange, semantic.embedding_model):
            return None
        place = f"answer:semantic:{semantic.embedding_model}:{self._keys.digest(exchange, call, model, question.rest)}"
        try:
            numbers = await self._embed(exchange, question.text, semantic.embedding_model)
            vector = normalized(numbers)
            index = await self._values.get(place) or b""
            if vector is None:
                return None
            if exchange.cache_ask is None or not exchange.cache_ask.no_cache:
                near = await _beside(len(index), lambda: nearest(index, vector, semantic.threshold))
                if (reply := await self._first(exchange, call, near)) is not None:
                    return reply
            self._note(exchange, model, place, await _beside(len(index), lambda: with_record(index, key, vector)))
        except (GatewayError, StoreAwayError) as error:
            # The question is answered all the same.
            reason = error.code if isinstance(error, GatewayError) else "store_away"
            exchange.note(Event("semantic_cache_failed", time.perf_counter(), {"reason": reason}))
        return None

    def _may_see(self, exchange: Exchange, name: str) -> bool:
        """Whether the model for embeddings is there, and trusted with this text."""
        model = self._names().resolve(name)
        if model is None:
            return False
        level = exchange.min_security
        return bool(model.deployments if level is None else trusted(model.deployments, level))

    async def _first(self, exchange: Exchange, call: Call, near: Sequence[tuple[float, str]]) -> Reply | None:
        for similarity, key in near[:_MOST_TRIES]:
            value = await self._values.get(key)
            kept = None if value is None else await _beside(len(value), partial(unpack, value))
            reply = None if kept is None else await give(exchange, call, kept, "HIT", "semantic")
            if reply is not None:
                exchange.cache_similarity = similarity
                return reply
        return None

    def _note(self, exchange: Exchange, model: Model, place: str, index: bytes) -> None:
        asked_s = exchange.cache_ask.ttl_s if exchange.cache_ask is not None else None
        ttl_s = max(asked_s or 0.0, self._ttl_s if model.cache_ttl_s is None else model.cache_ttl_s)
        tags = tags_of(user=None, model=model.name, organization_id=exchange.organization, key_id=None)
        self._values.put(place, index, ttl_s, tags)


class Question(Struct):
    """The user's last turn, and the fields of the request without it."""

    text: str
    rest: Fields


def question_of(body: bytes) -> Question | None:
    """Take the last turn out of a chat; `None` when it is not the user's, or anything in the call is more than text."""
    try:
        fields = FIELDS.decode(body)
        if not _asks_text(fields):
            return None
        messages, raw = _MESSAGES.decode(fields["messages"]), _RAW_MESSAGES.decode(fields["messages"])
        last = FIELDS.decode(raw[-1])
    except _UNREADABLE:
        return None
    if messages[-1].role != "user" or not all(map(_is_text, messages)):
        return None
    content = messages[-1].content
    text = content if isinstance(content, str) else "\n".join(part.text for part in content or ())
    if not text.strip():
        return None
    last["content"] = msgspec.Raw(b"null")
    fields["messages"] = msgspec.Raw(msgspec.json.encode([*raw[:-1], last]))
    return Question(text, fields)


def _asks_text(fields: Fields) -> bool:
    if any(name in fields and bytes(fields[name]) not in _NOTHING for name in _MORE_THAN_TEXT):
        return False
    return _is_one_of(fields.get("n"), b"1") and _is_one_of(fields.get("modalities"), b'["text"]')


def _is_one_of(given: msgspec.Raw | None, usual: bytes) -> bool:
    return given is None or bytes(given) in {b"null", usual}


def _is_text(message: _Message) -> bool:
    if message.role not in _ROLES or message.tool_calls or message.function_call or message.audio:
        return False
    content = message.content
    return content is None or isinstance(content, str) or all(part.type == "text" for part in content)


async def _beside(size_bytes: int, work: Callable[[], T]) -> T:
    """Work in a thread when there is much to look at, so that others do not wait for it."""
    return work() if size_bytes <= LARGE_BYTES else await asyncio.to_thread(work)
