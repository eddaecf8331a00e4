import anyio
import redis

from llmgateway.stores.base import Store
from llmgateway.stores.memory.limiter import MemoryLimiter
from llmgateway.stores.redis.link import RedisLink
from llmgateway.stores.redis.store import RedisStore
from tests.lines import Lines
from tests.services import Server
from tests.stores.waiting import until


async def test_everything_runs_over_one_link(redis_service: Server, lines: Lines, client: "redis.Redis") -> None:
    store = RedisStore(RedisLink(redis_service.url, logger=lines.logger), MemoryLimiter())
    seen: Store = store

    async with anyio.create_task_group() as group:
        group.start_soon(store.run)
        await until(lambda: client.pubsub_numsub("llmgw:bell")[0][1] == 1)
        seen.values.put("answer:1", b"x", 60.0)
        await until(lambda: client.get("llmgw:answer:1") == b"x")
        assert seen.up
        assert seen.shared
        assert await store.check() is True
        seen.values.put("answer:2", b"last", 60.0)
        await seen.close()
        group.cancel_scope.cancel()

    assert client.get("llmgw:answer:2") == b"last"


async def test_readiness_says_why_redis_is_away_and_not_where_it_is(redis_service: Server, lines: Lines) -> None:
    store = RedisStore(RedisLink(redis_service.url, logger=lines.logger), MemoryLimiter())
    redis_service.stop()

    await store.link.connect()

    said = await store.check()
    assert isinstance(said, str)
    assert "refused" in said
    assert "127.0.0.1" not in said.partition("(")[0]
    assert not store.up
    await store.close()
