from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
import redis

from llmgateway.stores.base import Ask, Claim, Held, Purse, Rate, Reservation, Rules, Slots, Store, StoreAwayError
from llmgateway.stores.fallback import FallbackStore
from llmgateway.stores.memory.limiter import MemoryLimiter
from llmgateway.stores.memory.store import MemoryStore
from llmgateway.stores.redis.limiter import RedisLimiter
from llmgateway.stores.redis.link import RedisLink
from llmgateway.stores.redis.store import RedisStore
from tests.lines import Lines
from tests.services import Server
from tests.stores.waiting import until

RULES = Rules(rates=(Rate("key.requests_per_minute", "rate:k", "requests", 60, 60.0, 3),))
PURSE = Purse("key.budget", "budget:k", "key", "k", 1000)


class Both:
    """A Redis, and the memory that stands in for it."""

    def __init__(self, url: str, lines: Lines, *, fail_open: bool) -> None:
        self.link = RedisLink(url, logger=lines.logger, probe_every_s=0.05)
        self.own = MemoryStore(MemoryLimiter())
        self.passed = 0
        shared = RedisStore(self.link, RedisLimiter(self.link))
        self.store = FallbackStore(shared, self.own, fail_open=fail_open, counted=self._count)
        self.seen: Store = self.store

    def _count(self) -> None:
        self.passed += 1


@asynccontextmanager
async def running(both: Both) -> AsyncIterator[Both]:
    await both.link.connect()
    async with anyio.create_task_group() as group:
        group.start_soon(both.store.run)
        yield both
        await both.store.close()
        group.cancel_scope.cancel()


@pytest.fixture
async def both(redis_service: Server, lines: Lines) -> AsyncIterator[Both]:
    async with running(Both(redis_service.url, lines, fail_open=True)) as both:
        yield both


@pytest.fixture
async def strict(redis_service: Server, lines: Lines) -> AsyncIterator[Both]:
    async with running(Both(redis_service.url, lines, fail_open=False)) as both:
        yield both


def ask(name: str, rules: Rules = RULES, cost_nusd: int = 0) -> Ask:
    return Ask(name, rules, 10, cost_nusd, 60.0)


async def stop(both: Both, server: Server) -> None:
    await anyio.to_thread.run_sync(server.stop)
    await until(lambda: not both.store.up)


async def start(both: Both, server: Server) -> None:
    await anyio.to_thread.run_sync(server.start)
    await until(lambda: both.store.up)


async def test_while_redis_is_there_it_alone_counts(both: Both) -> None:
    decisions = [(await both.seen.limiter.reserve(ask(f"r{n}")))[0].allowed for n in range(4)]

    assert decisions == [True, True, True, False]
    assert both.passed == 0
    assert both.store.shared
    assert not both.store.counts_apart
    assert len(both.own.limiter) == 0


async def test_while_redis_is_away_memory_counts_and_it_is_counted(both: Both, redis_service: Server) -> None:
    await stop(both, redis_service)

    decisions = [(await both.seen.limiter.reserve(ask(f"r{n}")))[0].allowed for n in range(4)]

    assert decisions == [True, True, True, False]
    assert both.passed == 3
    assert both.store.counts_apart
    await start(both, redis_service)
    assert both.store.counts_apart  # what was spent meanwhile is known to the ledger only


async def test_with_fail_closed_nothing_passes_uncounted(strict: Both, redis_service: Server) -> None:
    await stop(strict, redis_service)
    limiter = strict.seen.limiter

    with pytest.raises(StoreAwayError):
        await limiter.reserve(ask("r"))
    with pytest.raises(StoreAwayError):
        await limiter.seed(PURSE, 0)
    with pytest.raises(StoreAwayError):
        await limiter.look(RULES)
    assert strict.passed == 0


async def test_a_call_is_settled_where_it_was_let_pass(both: Both, redis_service: Server) -> None:
    rules = Rules(slots=(Slots("key.concurrent", "slots:k", 2),))
    first, second = ask("first", rules), ask("second", rules)
    assert (await both.seen.limiter.reserve(first))[0].allowed
    await stop(both, redis_service)
    assert (await both.seen.limiter.reserve(second))[0].allowed
    assert list((await both.own.limiter.look(rules)).slots) == [1]

    both.seen.limiter.settle(Reservation(second, 0), tokens=0, cost_nusd=0)
    both.seen.limiter.settle(Reservation(first, 0), tokens=0, cost_nusd=0)

    assert list((await both.own.limiter.look(rules)).slots) == [0]
    await start(both, redis_service)
    assert list((await both.seen.limiter.look(rules)).slots) == [0]


async def test_a_purse_is_seeded_where_it_is_asked_for(both: Both, redis_service: Server) -> None:
    rules = Rules(purses=(PURSE,))
    await both.seen.limiter.seed(PURSE, 400)
    assert list((await both.own.limiter.look(rules)).spent_nusd) == [None]
    await stop(both, redis_service)

    assert (await both.seen.limiter.reserve(ask("r", rules, 100)))[0].unseeded
    await both.seen.limiter.seed(PURSE, 950)

    assert not (await both.seen.limiter.reserve(ask("r", rules, 100)))[0].allowed
    assert list((await both.seen.limiter.look(rules)).spent_nusd) == [950]


async def test_a_reset_is_of_both(both: Both, redis_service: Server) -> None:
    await stop(both, redis_service)
    for name in "abc":
        await both.seen.limiter.reserve(ask(name))

    with pytest.raises(StoreAwayError):
        await both.seen.limiter.reset(RULES)

    assert (await both.seen.limiter.reserve(ask("d")))[0].allowed


async def test_answers_that_are_away_are_missed_and_not_kept(both: Both, redis_service: Server) -> None:
    values = both.seen.values
    values.put("answer:there", b"x", 60.0)
    await both.link.drain()
    assert await values.get("answer:there") == b"x"
    await stop(both, redis_service)

    values.put("answer:new", b"x", 60.0)
    values.put("other", b"x", 60.0)

    assert await values.get("answer:there") is None
    assert await values.get("answer:new") is None
    assert await values.get("other") == b"x"
    with pytest.raises(StoreAwayError):
        await values.clear(())
    with pytest.raises(StoreAwayError):
        await values.status()


async def test_claims_hold_within_the_process_while_redis_is_away_and_after(both: Both, redis_service: Server) -> None:
    values = both.seen.values
    await stop(both, redis_service)
    assert await values.add("claim", b"mine", 60.0) is None
    assert await values.renew("claim", b"mine", 60.0)
    await start(both, redis_service)

    assert await values.add("claim", b"yours", 60.0) == b"mine"
    assert await values.renew("claim", b"mine", 60.0)
    values.put("claim", b"answer", 60.0)
    assert await values.add("claim", b"yours", 60.0) == b"answer"
    await both.link.drain()
    await values.remove("claim")
    assert await values.get("claim") is None


async def test_a_claim_goes_on_when_redis_goes(both: Both, redis_service: Server, client: "redis.Redis") -> None:
    values = both.seen.values
    assert await values.add("claim", b"mine", 60.0) is None
    assert client.get("llmgw:claim") == b"mine"
    await stop(both, redis_service)

    assert await values.renew("claim", b"mine", 60.0)
    assert await values.add("claim", b"yours", 60.0) == b"mine"
    await values.remove("claim", b"mine")
    assert await values.add("claim", b"yours", 60.0) is None


async def test_what_is_asked_is_claimed_as_long_as_redis_is_there(
    both: Both, redis_service: Server, client: "redis.Redis"
) -> None:
    values, limiter = both.seen.values, both.seen.limiter
    mine, yours = Claim("flight:1", b"mine", 60.0), Claim("flight:1", b"yours", 60.0)
    assert await values.get_or_claim("answer:1", mine) == Held(b"mine")
    assert (await limiter.reserve(ask("r"), "answer:1", yours))[1] == Held(b"mine")
    values.release("flight:1", b"mine")
    assert await both.link.drain(5)
    assert client.get("llmgw:flight:1") is None
    await stop(both, redis_service)

    assert await values.get_or_claim("answer:1", mine) is None
    decision, found = await limiter.reserve(ask("s"), "answer:1", yours)
    assert (decision.allowed, found) == (True, None)
    values.release("flight:1", b"yours")  # nothing is there to be given back


async def test_notes_are_read_from_memory_while_redis_is_away_and_hang_there_again_afterwards(
    both: Both, redis_service: Server, client: "redis.Redis"
) -> None:
    board = both.seen.board
    board.post("health", "before", b"1", 60.0)
    await until(lambda: client.hlen("llmgw:board:health") == 1)
    assert list(await board.read("health")) == ["before"]

    await stop(both, redis_service)
    board.post("health", "meanwhile", b"2", 60.0)
    assert sorted(await board.read("health")) == ["before", "meanwhile"]
    await start(both, redis_service)
    await board.read("health")

    await until(lambda: client.hlen("llmgw:board:health") == 2)
    assert sorted(await board.read("health")) == ["before", "meanwhile"]


async def test_what_another_process_put_in_its_place_is_not_replaced_by_what_is_remembered(
    both: Both, client: "redis.Redis"
) -> None:
    board = both.seen.board
    board.post("health", "a", b"ours", 60.0)
    await until(lambda: client.hlen("llmgw:board:health") == 1)
    await board.read("health")
    theirs = RedisStore(both.link, RedisLimiter(both.link)).board
    theirs.post("health", "a", b"theirs", 0.05)
    assert await both.link.drain(5)
    assert (await board.read("health"))["a"].text == b"theirs"

    with anyio.fail_after(5):
        while await board.read("health"):
            continue

    assert await both.link.drain(5)
    assert await board.read("health") == {}


async def test_the_feed_is_that_of_all_processes_and_says_so_when_it_is_away(both: Both, redis_service: Server) -> None:
    feed = both.seen.feed
    feed.append("job:a", 1, b"told", 60.0)
    assert await feed.read({"job:a": 0}, 5.0) == {"job:a": [(1, b"told")]}

    await stop(both, redis_service)

    with pytest.raises(StoreAwayError):
        await feed.read({"job:a": 1}, 5.0)
