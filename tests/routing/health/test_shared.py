from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio
import pytest
import redis

from llmgateway.catalog.model import Deployment
from llmgateway.routing.health.book import HealthBook
from llmgateway.routing.health.health import Change, Health
from llmgateway.routing.health.shared import SharedHealth
from llmgateway.stores.fallback import FallbackStore
from llmgateway.stores.memory.limiter import MemoryLimiter
from llmgateway.stores.memory.store import MemoryStore
from llmgateway.stores.redis.board import RedisBoard
from llmgateway.stores.redis.limiter import RedisLimiter
from llmgateway.stores.redis.link import RedisLink
from llmgateway.stores.redis.store import RedisStore
from tests.deployments import deployment
from tests.lines import Lines
from tests.services import Server, redis_server
from tests.stores.waiting import until

DEPLOYMENT = deployment("main", api_key="sk-of-main")


@dataclass
class Gateway:
    """What a process has of it: its own book, its own connection."""

    book: HealthBook
    link: RedisLink
    shared: SharedHealth
    changes: list[Change]

    @property
    def now(self) -> float:
        return self.book.clock()

    def health(self, of: Deployment = DEPLOYMENT) -> Health:
        return self.book.of(of)

    def limited(self, rest_s: float = 30.0, of: Deployment = DEPLOYMENT) -> None:
        self.health(of).failed(self.now, self.now, "rate_limit", rest_s=rest_s)

    def break_down(self) -> None:
        for _ in range(self.book.policy.failures_in_a_row):
            self.health().failed(self.now, self.now, "failures")

    def state(self, of: Deployment = DEPLOYMENT) -> str:
        return self.health(of).state(self.now)


@asynccontextmanager
async def started(url: str, lines: Lines) -> AsyncIterator[Gateway]:
    link = RedisLink(url, logger=lines.logger, probe_every_s=0.05)
    store = FallbackStore(RedisStore(link, RedisLimiter(link)), MemoryStore(MemoryLimiter()), fail_open=True)
    book = HealthBook()
    shared = SharedHealth(book, store, every_s=0.1)
    changes: list[Change] = []
    book.listeners.append(lambda _, change: changes.append(change))
    await link.connect()
    async with anyio.create_task_group() as group:
        group.start_soon(store.run)
        group.start_soon(shared.run)
        yield Gateway(book, link, shared, changes)
        group.cancel_scope.cancel()
    await store.close()


@pytest.fixture(scope="module")
def one_redis() -> Iterator[Server]:
    with redis_server() as server:
        yield server


@pytest.fixture
def redis_service(one_redis: Server) -> Iterator[Server]:
    one_redis.start()
    with redis.Redis.from_url(one_redis.url) as client:
        client.flushall()
    yield one_redis
    one_redis.start()


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    yield lines
    lines.close()


Start = Callable[[], Awaitable[Gateway]]


@pytest.fixture
async def start(redis_service: Server, lines: Lines) -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:
        yield lambda: stack.enter_async_context(started(redis_service.url, lines))


@pytest.mark.alone
async def test_a_rest_is_shared_within_a_second_with_the_time_that_is_left(start: Start) -> None:
    here, there = await start(), await start()
    assert there.state() == "closed"

    here.limited(30.0)
    await until(lambda: there.state() == "open", 1.0)

    assert there.health().cause == "rate_limit"
    assert there.health().until == pytest.approx(here.health().until, abs=0.5)
    assert there.changes == [], "what was heard is not told again"


async def test_a_deployment_met_later_rests_from_its_first_call_on(start: Start) -> None:
    here, there = await start(), await start()
    here.limited(30.0)
    late = await start()
    await until(lambda: there.state() == "open")

    await late.shared.look()

    assert late.state() == "open"
    assert late.state(deployment("main", api_key="another key")) == "closed"


async def test_a_closing_is_shared_after_the_rest_as_well(start: Start) -> None:
    here, there = await start(), await start()
    here.break_down()
    await until(lambda: there.state() == "half_open" and here.state() == "half_open")

    # The one that heard of it finds out first that it works again.
    began = there.now
    there.health().answered(there.now, began, stream=False, probe=there.health().begin(began))
    await until(lambda: here.state() == "closed")

    assert (here.changes, there.changes) == (["opened"], ["closed"])
    await here.shared.look()
    await there.shared.look()
    assert (here.state(), there.state()) == ("closed", "closed")


async def test_a_closing_before_the_rest_is_over_holds_although_the_note_still_hangs(start: Start) -> None:
    here, there = await start(), await start()
    here.health().failed(here.now, here.now, "auth")
    await until(lambda: there.state() == "open")

    there.health().well(there.now, there.now)  # somebody mended the key
    await there.shared.look()

    assert there.state() == "closed"
    await until(lambda: here.state() == "closed")


async def test_a_closing_ends_no_rest_that_began_later(start: Start) -> None:
    here, there = await start(), await start()
    here.limited(1.0)
    await until(lambda: there.state() == "open")
    await until(lambda: there.health().until < there.now)

    here.limited(30.0)
    there.health().well(there.now, there.now)  # of an answer that came before there was news
    await until(lambda: there.state() == "open")
    await there.shared.look()
    await here.shared.look()

    assert (here.state(), there.state()) == ("open", "open")


async def test_each_process_goes_on_alone_while_redis_is_away_and_tells_when_it_is_back(
    start: Start, redis_service: Server
) -> None:
    here, there = await start(), await start()
    other = deployment("spare")
    here.limited(60.0)
    await until(lambda: there.state() == "open")

    await anyio.to_thread.run_sync(redis_service.stop)
    await until(lambda: not here.link.up and not there.link.up)
    here.limited(60.0, other)
    assert there.state(other) == "closed"
    await anyio.to_thread.run_sync(redis_service.start)

    await until(lambda: there.state(other) == "open")
    assert (here.state(), there.state()) == ("open", "open"), "an empty Redis closes nothing"
    late = await start()
    await until(lambda: late.state() == "open" and late.state(other) == "open")


async def test_what_no_bell_told_of_is_found_by_looking(start: Start) -> None:
    here, there = await start(), await start()
    there.health()
    note = b'{"rest":1,"cause":"quota"}'

    RedisBoard(here.link).post("health", there.health().id, note, 30.0)

    await until(lambda: there.health().cause == "quota")
    assert there.state() == "open"


async def test_a_note_of_another_version_is_left_alone(start: Start, redis_service: Server) -> None:
    here = await start()
    with redis.Redis.from_url(redis_service.url) as client:
        client.hset("llmgw:board:health", here.health().id, f"{10**14}:not json")
        client.hset("llmgw:board:health", "other", f'{10**14}:{{"rest":1,"cause":"whims"}}')

    await here.shared.look()

    assert here.state() == "closed"


async def test_without_a_shared_store_nothing_is_told_and_nothing_runs() -> None:
    book, store = HealthBook(), MemoryStore(MemoryLimiter())
    shared = SharedHealth(book, store)
    health = book.of(DEPLOYMENT)

    health.failed(book.clock(), book.clock(), "auth")
    await shared.run()

    assert health.state(book.clock()) == "open"
    assert await store.board.read("health") == {}


async def test_nothing_secret_reaches_redis(start: Start, redis_service: Server) -> None:
    here = await start()
    here.limited(30.0)

    with redis.Redis.from_url(redis_service.url) as client:
        await until(lambda: bool(client.hlen("llmgw:board:health")))
        told = repr(client.hgetall("llmgw:board:health"))

    assert "main/gpt-4o" in told
    assert "sk-of-main" not in told
