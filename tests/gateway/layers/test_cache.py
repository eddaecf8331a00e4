import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from llmgateway.caller import CacheAsk, Caller
from llmgateway.catalog.model import Model
from llmgateway.errors import UpstreamError
from llmgateway.exchange import Call, Complete, Exchange, Reply, Streamed, Usage
from llmgateway.gateway.answers.entry import Kept, unpack
from llmgateway.gateway.cache_admin import CacheAdmin, Tally
from llmgateway.gateway.coalescing import Flights
from llmgateway.gateway.layers.cache import Cache
from llmgateway.stores.memory.values import MemoryValues
from llmgateway.wire.sse import WholeStream
from tests.deployments import deployment

KEY = "answer:" + "ab" * 32
ASKED = Call("chat", "chat", b"{}", user="alice")
ASKED_STREAM = Call("chat", "chat", b"{}", stream=True)
MODEL = Model("chat", (deployment(),))
DONE = b"data: [DONE]\n\n"


def body(text: str = "Paris", finish: str | None = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o"}
    return json.dumps({**head, "choices": [choice]}, separators=(",", ":")).encode()


def chunk(text: str | None, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    return b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n"


async def stream(*chunks: bytes, error: Exception | None = None) -> AsyncGenerator[bytes, None]:
    for each in chunks:
        yield each
    if error is not None:
        raise error


@dataclass
class Upstream:
    """Answers as it is told, once it may."""

    answer: Callable[[], Reply | Exception] = lambda: Complete(body(), Usage(3, 1), model="gpt-4o-2024")
    asked: int = 0
    may: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may.set()

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        self.asked += 1
        await self.may.wait()
        exchange.provider, exchange.upstream_model, exchange.cost_usd = "main", "gpt-4o", 0.25
        found = self.answer()
        if isinstance(found, Exception):
            raise found
        exchange.usage = found.usage
        return found


@dataclass
class World:
    upstream: Upstream = field(default_factory=Upstream)
    values: MemoryValues = field(default_factory=MemoryValues)
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self.flights = Flights(self.values, unpack)
        self.cache = Cache(self.upstream, values=self.values, flights=self.flights, tally=self.tally, ttl_s=60)

    async def ask(self, call: Call = ASKED, **exchange: Any) -> tuple[Exchange, bytes | list[bytes]]:
        """Ask as the limits would have it: what is kept is read beforehand."""
        asked = Exchange(**{"model": MODEL, "cache_key": KEY, **exchange})
        asked.cached = self.values.find(KEY)
        try:
            reply = await self.cache.send(asked, call)
            if isinstance(reply, Complete):
                return asked, reply.body
            return asked, [each async for each in reply.chunks]
        finally:
            for end in asked.at_end:
                end()

    async def statuses(self, *calls: Call, **exchange: Any) -> list[str]:
        return [(await self.ask(call, **exchange))[0].cache_status for call in calls]


async def test_the_second_time_nobody_is_asked() -> None:
    world = World()
    await world.ask()

    exchange, answer = await world.ask()

    assert (answer, world.upstream.asked) == (body(), 1)
    assert (exchange.cache_status, exchange.cache_type, exchange.cost_usd) == ("HIT", "exact", 0.0)
    assert (exchange.provider, exchange.upstream_model, exchange.usage) == ("main", "gpt-4o", None)
    assert exchange.cached is None
    assert (world.tally.hits, world.tally.misses, world.tally.stored) == (1, 1, 1)


async def test_a_short_answer_is_kept_unpacked_and_read_as_bytes_all_the_same() -> None:
    world = World()
    await world.ask()
    kept, packed = world.values.find(KEY), world.values.look(KEY)
    assert isinstance(kept, Kept)
    assert packed is not None
    assert kept.body == body()
    assert unpack(packed) == kept

    # As a store that other processes share gives it.
    exchange = Exchange(model=MODEL, cache_key=KEY, cached=packed)
    reply = await world.cache.send(exchange, ASKED)

    assert isinstance(reply, Complete)
    assert (reply.body, exchange.cache_status, world.upstream.asked) == (body(), "HIT", 1)


@pytest.mark.parametrize(
    ("answer", "call"),
    [
        (lambda: Complete(body("Paris " * 1000)), ASKED),
        (lambda: Streamed(stream(chunk("Paris"), chunk(None, "stop"), DONE)), ASKED_STREAM),
    ],
)
async def test_long_answers_and_streams_are_kept_packed(answer: Callable[[], Reply], call: Call) -> None:
    world = World(Upstream(answer))
    _, first = await world.ask(call)

    assert isinstance(world.values.find(KEY), bytes)
    assert (await world.ask(call))[1] == first
    assert world.upstream.asked == 1


async def test_a_stream_that_came_whole_is_kept_at_once() -> None:
    events = chunk("Paris") + chunk(None, "stop") + DONE
    world = World(Upstream(lambda: Streamed(WholeStream(events), Usage(3, 1))))
    asked = Exchange(model=MODEL, cache_key=KEY)

    reply = await world.cache.send(asked, ASKED_STREAM)

    assert isinstance(reply, Streamed)
    assert isinstance(reply.chunks, WholeStream)
    assert asked.at_end == []
    exchange, again = await world.ask(ASKED_STREAM)
    assert (again, exchange.cache_status, world.upstream.asked) == ([events], "HIT", 1)
    assert [chunk async for chunk in reply.chunks] == [events]


async def test_a_stream_that_came_whole_and_was_cut_is_not_kept() -> None:
    world = World(Upstream(lambda: Streamed(WholeStream(chunk("Pa") + chunk(None, "length") + DONE), Usage(3, 1))))

    assert await world.statuses(ASKED_STREAM, ASKED_STREAM) == ["MISS", "MISS"]
    assert world.values.find(KEY) is None


async def test_a_call_without_a_key_passes_by() -> None:
    world = World()

    assert await world.statuses(ASKED, ASKED, cache_key=None) == ["BYPASS", "BYPASS"]
    assert world.upstream.asked == 2


async def test_pitfall_053_a_kept_stream_comes_with_the_same_pieces() -> None:
    pieces = [chunk("Pa"), chunk("ris") + chunk(None, "stop"), DONE]
    world = World(Upstream(lambda: Streamed(stream(*pieces))))

    assert (await world.ask(ASKED_STREAM))[1] == pieces
    assert (await world.ask(ASKED_STREAM))[1] == pieces
    assert world.upstream.asked == 1


async def test_a_stream_is_answered_from_a_whole_answer_and_the_other_way_round() -> None:
    world = World()
    await world.ask(ASKED)
    exchange, replayed = await world.ask(ASKED_STREAM)
    assert isinstance(replayed, list)
    assert exchange.cache_status == "HIT"
    assert (replayed[-1], len(replayed)) == (DONE, 4)

    other = World(Upstream(lambda: Streamed(stream(*replayed), Usage(3, 1))))
    await other.ask(ASKED_STREAM)
    exchange, whole = await other.ask(ASKED)

    assert exchange.cache_status == "HIT"
    found = json.loads(bytes(whole) if isinstance(whole, bytes) else b"")
    assert found.pop("usage")["prompt_tokens"] == 3
    assert found == json.loads(body())


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (ASKED, lambda: Complete(body(finish="length"))),
        (ASKED, lambda: Complete(body(finish="content_filter"))),
        (ASKED, lambda: Complete(body(finish=None))),
        (ASKED, lambda: UpstreamError("away")),
        (ASKED_STREAM, lambda: Streamed(stream(chunk("Pa"), error=UpstreamError("cut")))),
        (ASKED_STREAM, lambda: Streamed(stream(chunk("Pa"), chunk(None, "stop")))),
        (ASKED_STREAM, lambda: Streamed(stream(chunk("Pa"), chunk(None, "length"), DONE))),
        (ASKED_STREAM, lambda: Streamed(stream(chunk("Pa"), DONE))),
    ],
)
async def test_pitfall_055_what_was_cut_or_failed_is_not_kept(call: Call, answer: Callable[[], Reply]) -> None:
    world = World(Upstream(answer))
    with contextlib.suppress(UpstreamError):
        await world.ask(call)
    world.upstream.answer = Upstream().answer if call is ASKED else lambda: Streamed(stream(chunk("a", "stop"), DONE))

    assert await world.statuses(call, call) == ["MISS", "HIT"]
    assert len(world.flights) == 0


async def test_no_cache_asks_again_and_keeps_the_newer_answer() -> None:
    world = World()
    await world.ask()
    world.upstream.answer = lambda: Complete(body("Berlin"))

    exchange, answer = await world.ask(cache_ask=CacheAsk(no_cache=True))

    assert (exchange.cache_status, answer) == ("MISS", body("Berlin"))
    assert (await world.ask())[1] == body("Berlin")


@pytest.mark.parametrize(
    ("ask", "model_ttl_s", "kept_s"),
    [(None, None, 60.0), (None, 600.0, 600.0), (CacheAsk(ttl_s=5), 600.0, 5.0), (CacheAsk(no_cache=True), None, 60.0)],
)
async def test_how_long_an_answer_is_kept(ask: CacheAsk | None, model_ttl_s: float | None, kept_s: float) -> None:
    clock = [0.0]
    world = World(values=MemoryValues(clock=lambda: clock[0]))
    await world.ask(cache_ask=ask, model=Model("chat", (deployment(),), cache_ttl_s=model_ttl_s))

    clock[0] = kept_s - 0.5
    assert world.values.look(KEY) is not None
    clock[0] = kept_s
    assert world.values.look(KEY) is None


async def test_a_damaged_entry_is_a_miss() -> None:
    world = World()
    await world.ask()
    world.values.put(KEY, b"\x01nonsense", 60)

    assert await world.statuses(ASKED, ASKED) == ["MISS", "HIT"]


async def test_answers_can_be_cleared_by_whose_they_are() -> None:
    world = World()
    admin = CacheAdmin(world.values, world.tally)
    whose: dict[str, Any] = {"organization": "acme", "caller": Caller(kind="client", key_id="key_1")}
    wanted: list[dict[str, str]] = [
        {"user": "alice"},
        {"model": "chat"},
        {"organization_id": "acme"},
        {"key_id": "key_1"},
        {"pattern": "alice_chat_abababababab"},
    ]
    for asked in wanted:
        await world.ask(**whose)

        assert await admin.clear(**asked) == 1, asked
        assert world.values.look(KEY) is None


async def test_a_large_answer_is_packed_beside_and_one_that_is_too_large_not_kept() -> None:
    large, huge = body("long " * 100_000), body("x" * 9 * 1024**2)
    world = World(Upstream(lambda: Complete(large)))
    await world.ask()
    with anyio.fail_after(3):
        while len(world.flights):
            # Those who come meanwhile have it all the same.
            await world.ask()
            await asyncio.sleep(0.001)

    assert (await world.ask())[1] == large
    assert world.upstream.asked == 1
    other = World(Upstream(lambda: Complete(huge)))
    assert await other.statuses(ASKED, ASKED) == ["MISS", "MISS"]


async def many(world: World, *calls: Call) -> "list[asyncio.Task[tuple[Exchange, bytes | list[bytes]]]]":
    asking = [asyncio.ensure_future(world.ask(call)) for call in calls]
    for _ in range(5):
        await asyncio.sleep(0)
    return asking


async def test_pitfall_054_a_hundred_at_once_are_one_call() -> None:
    world = World()
    world.upstream.may.clear()
    asking = await many(world, *[ASKED] * 60, *[ASKED_STREAM] * 40)

    world.upstream.may.set()
    found = await asyncio.gather(*asking)

    assert world.upstream.asked == 1
    assert [exchange.cache_status for exchange, _ in found] == ["MISS"] + ["COALESCED"] * 99
    assert {bytes(answer) for _, answer in found[:60] if isinstance(answer, bytes)} == {body()}
    assert all(isinstance(answer, list) and answer[-1] == DONE for _, answer in found[60:])
    assert [exchange.cost_usd for exchange, _ in found] == [0.25] + [0.0] * 99
    assert world.tally.coalesced == 99


async def test_when_the_leader_leaves_another_one_asks() -> None:
    world = World()
    world.upstream.may.clear()
    first, *others = await many(world, *[ASKED] * 5)

    first.cancel()
    await asyncio.sleep(0)
    world.upstream.may.set()
    found = await asyncio.gather(*others)

    assert world.upstream.asked == 2
    assert sorted(exchange.cache_status for exchange, _ in found) == ["COALESCED"] * 3 + ["MISS"]


async def test_when_the_leader_fails_each_asks_for_itself() -> None:
    world = World(Upstream(lambda: UpstreamError("away")))
    world.upstream.may.clear()
    asking = await many(world, *[ASKED] * 3)

    world.upstream.may.set()
    found = await asyncio.gather(*asking, return_exceptions=True)

    assert [type(each) for each in found] == [UpstreamError] * 3
    assert world.upstream.asked == 3


async def test_the_followers_of_a_stream_have_all_of_it_and_take_over_when_its_client_leaves() -> None:
    pieces = [chunk("Pa"), chunk("ris", "stop"), DONE]
    world = World(Upstream(lambda: Streamed(stream(*pieces))))
    exchange = Exchange(model=MODEL, cache_key=KEY)
    reply = await world.cache.send(exchange, ASKED_STREAM)
    assert isinstance(reply, Streamed)
    assert await anext(aiter(reply.chunks)) == pieces[0]
    asking = await many(world, ASKED_STREAM, ASKED)

    await reply.chunks.aclose()
    streamed, whole = await asyncio.gather(*asking)

    assert world.upstream.asked == 2
    assert (streamed[0].cache_status, whole[0].cache_status) == ("MISS", "COALESCED")
    assert streamed[1] == pieces
    assert json.loads(bytes(whole[1]) if isinstance(whole[1], bytes) else b"")["choices"][0]["message"]["content"] == (
        "Paris"
    )


async def test_an_answer_that_a_layer_within_found_is_not_kept_again() -> None:
    world = World()

    class Finds:
        async def send(self, exchange: Exchange, call: Call) -> Reply:
            exchange.cache_status = "HIT"
            return Complete(body())

    cache = Cache(Finds(), values=world.values, flights=world.flights, tally=world.tally, ttl_s=60)
    await cache.send(Exchange(model=MODEL, cache_key=KEY), ASKED)

    assert world.values.look(KEY) is None
    assert (world.tally.hits, world.tally.semantic_hits, world.tally.misses) == (1, 1, 0)
    assert len(world.flights) == 0
