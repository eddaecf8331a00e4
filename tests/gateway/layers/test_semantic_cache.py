import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from llmgateway.caller import CacheAsk
from llmgateway.catalog.model import Model, SemanticCaching
from llmgateway.errors import UpstreamError
from llmgateway.exchange import Call, Complete, Exchange, Reply, Streamed
from llmgateway.gateway.answers.entry import unpack
from llmgateway.gateway.cache_admin import CacheAdmin, Tally
from llmgateway.gateway.coalescing import Flights
from llmgateway.gateway.layers.cache import Cache
from llmgateway.gateway.layers.cache_keys import CacheKeys, Scope
from llmgateway.gateway.layers.semantic_cache import SemanticCache, question_of
from llmgateway.gateway.target import Target
from llmgateway.stores.memory.values import MemoryValues
from tests.deployments import deployment
from tests.gateway.test_target import Offer

MODEL = Model("chat", (deployment(),), semantic=SemanticCaching("embed", 0.95))
# What each text means, as an angle.
MEANINGS = {"What is the capital of France?": 0.0, "France's capital?": 0.2, "And of Spain?": 1.0}


@dataclass
class Upstream:
    asked: list[str] = field(default_factory=list)
    finish: str = "stop"

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        question = json.loads(call.body)["messages"][-1]["content"]
        self.asked.append(question)
        exchange.provider, exchange.upstream_model = "main", "gpt-4o"
        message = {"role": "assistant", "content": f"answer to {question}"}
        choice = {"index": 0, "message": message, "finish_reason": self.finish}
        return Complete(json.dumps({"object": "chat.completion", "choices": [choice]}).encode())


@dataclass
class World:
    """The three layers together, and a model for embeddings that knows the meanings above."""

    scope: Scope = "organization"
    upstream: Upstream = field(default_factory=Upstream)
    values: MemoryValues = field(default_factory=MemoryValues)
    tally: Tally = field(default_factory=Tally)
    embedded: list[str] = field(default_factory=list)
    offer: Offer = field(default_factory=lambda: Offer(["embed"]))
    away: bool = False

    def __post_init__(self) -> None:
        semantic = SemanticCache(
            self.upstream,
            values=self.values,
            names=lambda: self.offer,
            embed=self._embed,
            scope=self.scope,
            ttl_s=60,
        )
        flights = Flights(self.values, unpack)
        cache: Target = Cache(semantic, values=self.values, flights=flights, tally=self.tally, ttl_s=60)
        self.outermost = CacheKeys(_Reads(cache, self.values), mode="all", scope=self.scope)

    async def _embed(self, exchange: Exchange, text: str, model: str) -> Sequence[float]:
        self.embedded.append(text)
        if self.away:
            raise UpstreamError("away")
        angle = MEANINGS.get(text, 2.0)
        return [3 * math.cos(angle), 3 * math.sin(angle)]

    async def ask(self, question: str, *before: str, stream: bool = False, **more: Any) -> tuple[Exchange, str]:
        turns = [{"role": "user" if n % 2 == 0 else "assistant", "content": each} for n, each in enumerate(before)]
        exchange = Exchange(**{"model": MODEL, **more.pop("exchange", {})})
        body = {"model": "chat", "messages": [*turns, {"role": "user", "content": question}], "stream": stream, **more}
        reply = await self.outermost.send(exchange, Call("chat", "chat", json.dumps(body).encode(), stream=stream))
        if isinstance(reply, Streamed):
            events = b"".join([chunk async for chunk in reply.chunks])
            return exchange, events.decode()
        return exchange, json.loads(reply.body)["choices"][0]["message"]["content"]


@dataclass
class _Reads:
    """Reads what is kept, as the limits do."""

    target: Target
    values: MemoryValues

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        exchange.cached = None if exchange.cache_key is None else self.values.look(exchange.cache_key)
        return await self.target.send(exchange, call)


FRANCE, LIKE_FRANCE, SPAIN = MEANINGS


async def test_a_question_that_means_the_same_has_the_same_answer() -> None:
    world = World()
    await world.ask(FRANCE)

    exchange, answer = await world.ask(LIKE_FRANCE)

    assert answer == f"answer to {FRANCE}"
    assert (exchange.cache_status, exchange.cache_type, exchange.cost_usd) == ("HIT", "semantic", 0.0)
    assert exchange.cache_similarity == pytest.approx(math.cos(0.2), abs=1e-4)
    assert (exchange.provider, world.tally.semantic_hits) == ("main", 1)


async def test_one_that_means_something_else_is_asked() -> None:
    world = World()
    await world.ask(FRANCE)

    assert (await world.ask(SPAIN))[1] == f"answer to {SPAIN}"
    assert world.upstream.asked == [FRANCE, SPAIN]


async def test_the_same_question_is_an_exact_hit_and_needs_no_vector() -> None:
    world = World()
    await world.ask(FRANCE)

    exchange, _ = await world.ask(FRANCE)

    assert (exchange.cache_type, len(world.embedded)) == ("exact", 1)


async def test_a_stream_is_answered_too() -> None:
    world = World()
    await world.ask(FRANCE)

    exchange, events = await world.ask(LIKE_FRANCE, stream=True)

    assert exchange.cache_type == "semantic"
    assert events.endswith("data: [DONE]\n\n")


async def test_all_that_came_before_must_be_the_same() -> None:
    world = World()
    await world.ask(FRANCE, "Hello", "Hi")

    assert (await world.ask(LIKE_FRANCE, "Hello", "Hi"))[0].cache_status == "HIT"
    for before in ((), ("Hello", "Yes?"), ("hello", "Hi")):
        assert (await world.ask(LIKE_FRANCE, *before))[0].cache_status == "MISS", before


@pytest.mark.parametrize("field", [{"temperature": 0.5}, {"max_tokens": 9}, {"response_format": {"type": "text"}}])
async def test_every_other_field_must_be_the_same(field: dict[str, Any]) -> None:
    world = World()
    await world.ask(FRANCE)

    assert (await world.ask(LIKE_FRANCE, **field))[0].cache_status == "MISS"


@pytest.mark.parametrize(("scope", "status"), [("organization", "MISS"), ("global", "HIT")])
async def test_pitfall_052_answers_stay_within_their_organization(scope: Scope, status: str) -> None:
    world = World(scope)
    await world.ask(FRANCE, exchange={"organization": "acme"})

    assert (await world.ask(LIKE_FRANCE, exchange={"organization": "other"}))[0].cache_status == status


TOOL = {"type": "function", "function": {"name": "weather"}}


@pytest.mark.parametrize(
    "field",
    [
        {"tools": [TOOL]},
        {"functions": [{"name": "f"}]},
        {"n": 2},
        {"modalities": ["text", "audio"]},
        {"audio": {}, "n": 3},
    ],
)
async def test_calls_that_are_more_than_text_are_left_alone(field: dict[str, Any]) -> None:
    world = World()
    await world.ask(FRANCE, **field)
    await world.ask(LIKE_FRANCE, **field)

    assert world.embedded == []
    assert world.upstream.asked == [FRANCE, LIKE_FRANCE]


IMAGE = {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "assistant", "content": "a"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": "  "}],
        [{"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]}],
        [{"role": "user", "content": [{"type": "file", "file": {}}]}],
        [{"role": "user", "content": [IMAGE]}, {"role": "user", "content": "a"}],
        [{"role": "tool", "content": "a"}, {"role": "user", "content": "a"}],
        [{"role": "assistant", "tool_calls": [{}]}, {"role": "user", "content": "a"}],
    ],
)
def test_a_conversation_of_more_than_text_has_no_question(messages: list[dict[str, Any]]) -> None:
    assert question_of(json.dumps({"model": "chat", "messages": messages}).encode()) is None


def test_the_question_is_the_last_text_and_the_rest_is_all_else() -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "name": "bob", "content": "a"}]

    question = question_of(json.dumps({"messages": messages}).encode())

    assert question is not None
    assert question.text == "a"
    assert json.loads(bytes(question.rest["messages"])) == [messages[0], {**messages[1], "content": None}]


async def test_a_model_that_did_not_ask_for_it_has_none() -> None:
    world = World()
    plain = {"model": Model("chat", (deployment(),))}
    await world.ask(FRANCE, exchange=plain)

    assert (await world.ask(LIKE_FRANCE, exchange=plain))[0].cache_status == "MISS"
    assert world.embedded == []


async def test_a_text_that_the_model_for_embeddings_must_not_see_is_not_shown_to_it() -> None:
    world = World()

    await world.ask(FRANCE, exchange={"min_security": "high"})
    assert world.embedded == []
    await world.ask(FRANCE, exchange={"min_security": "medium"})
    assert world.embedded == [FRANCE]


@pytest.mark.parametrize("world", [World(offer=Offer([])), World(away=True)])
async def test_without_a_vector_the_question_is_answered_all_the_same(world: World) -> None:
    assert (await world.ask(FRANCE))[1] == f"answer to {FRANCE}"
    assert (await world.ask(LIKE_FRANCE))[0].cache_status == "MISS"


async def test_no_cache_reads_nothing_and_notes_the_newer_answer() -> None:
    world = World()
    await world.ask(FRANCE)

    exchange, _ = await world.ask(LIKE_FRANCE, exchange={"cache_ask": CacheAsk(no_cache=True)})

    assert exchange.cache_status == "MISS"
    assert (await world.ask(LIKE_FRANCE))[0].cache_type == "exact"


async def test_an_answer_that_was_not_kept_or_is_gone_is_not_given() -> None:
    world = World(upstream=Upstream(finish="length"))
    await world.ask(FRANCE)
    assert (await world.ask(LIKE_FRANCE))[0].cache_status == "MISS"

    world = World()
    await world.ask(FRANCE, exchange={"organization": "acme"})
    assert await CacheAdmin(world.values, world.tally).clear(organization_id="acme") == 2
    exchange, _ = await world.ask(LIKE_FRANCE, exchange={"organization": "acme"})
    assert exchange.cache_status == "MISS"
