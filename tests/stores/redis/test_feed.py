import contextlib

import anyio
import pytest
import redis

from llmgateway.stores.base import Feed, StoreAwayError
from llmgateway.stores.redis.feed import RedisFeed
from llmgateway.stores.redis.link import RedisLink
from tests.services import Server
from tests.stores.conftest import StartLink
from tests.stores.waiting import until


def waiting(client: "redis.Redis") -> int:
    return int(client.info("clients")["blocked_clients"])


def connections(client: "redis.Redis") -> int:
    return int(client.info("clients")["connected_clients"])


async def test_all_processes_read_what_one_tells_in_order(start_link: StartLink) -> None:
    here, there = await start_link(), await start_link()
    told: Feed = RedisFeed(here)
    for number in (1, 2, 3):
        told.append("job:a", number, b"%d \xff\r\n" % number, 60.0)
    told.append("job:b", 1, b"", 60.0)
    assert await here.drain(5)
    feed = RedisFeed(there)

    assert await feed.read({"job:a": 1, "job:c": 0}, 1.0) == {"job:a": [(2, b"2 \xff\r\n"), (3, b"3 \xff\r\n")]}
    assert await feed.read({"job:a": 3, "job:b": 0}, 1.0) == {"job:b": [(1, b"")]}
    assert await feed.read({"job:a": 3}, 0.05) == {}
    feed.close()


async def test_a_reader_waits_for_the_first_that_comes(start_link: StartLink, client: "redis.Redis") -> None:
    here, there = await start_link(), await start_link()
    feed, found = RedisFeed(there), []

    async def read() -> None:
        found.append(await feed.read({"job:a": 0}, 5.0))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await until(lambda: waiting(client) == 1)
        RedisFeed(here).append("job:a", 1, b"first", 60.0)

    assert found == [{"job:a": [(1, b"first")]}]
    feed.close()


async def test_a_number_that_is_there_already_is_no_error_and_hurts_nobody(
    link: RedisLink, client: "redis.Redis"
) -> None:
    feed = RedisFeed(link)
    for number in (2, 2, 1, 3):
        feed.append("job:a", number, b"%d" % number, 60.0)
    assert await link.drain(5)

    assert await feed.read({"job:a": 0}, 1.0) == {"job:a": [(2, b"2"), (3, b"3")]}
    assert link.up
    assert link.failures == 0
    assert 59_000 < client.pttl("llmgw:feed:job:a") <= 60_000
    feed.close()


async def test_a_topic_is_bounded(link: RedisLink, client: "redis.Redis") -> None:
    feed = RedisFeed(link)
    for number in range(1, 3001):
        feed.append("job:a", number, b"x", 60.0)
    assert await link.drain(10)

    assert 1000 <= client.xlen("llmgw:feed:job:a") <= 1200


async def test_a_reader_who_asks_anew_waits_in_redis_for_nothing_old(link: RedisLink, client: "redis.Redis") -> None:
    feed = RedisFeed(link)
    await feed.read({"job:a": 0}, 0.01)
    before = connections(client)

    async with anyio.create_task_group() as group:
        for number in range(20):
            with anyio.CancelScope() as scope:
                group.start_soon(until_waiting, client, scope)
                await feed.read({f"job:{number}": 0}, 60.0)
        feed.append("job:new", 1, b"at once", 60.0)
        with anyio.fail_after(1):
            assert await feed.read({"job:old": 0, "job:new": 0}, 60.0) == {"job:new": [(1, b"at once")]}

    assert connections(client) == before, "the connection serves one reader after the other"
    feed.close()


async def until_waiting(client: "redis.Redis", scope: anyio.CancelScope) -> None:
    await until(lambda: waiting(client) == 1)
    scope.cancel()


async def test_several_readers_do_not_wait_for_each_other(link: RedisLink, client: "redis.Redis") -> None:
    feed, found = RedisFeed(link), []

    async def read(topic: str) -> None:
        found.append(await feed.read({topic: 0}, 10.0))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(read, "job:a")
            group.start_soon(read, "job:b")
            await until(lambda: waiting(client) == 2)
            feed.append("job:b", 1, b"b", 60.0)
            await until(lambda: len(found) == 1)
            feed.append("job:a", 1, b"a", 60.0)

    assert found == [{"job:b": [(1, b"b")]}, {"job:a": [(1, b"a")]}]
    feed.close()


async def test_a_connection_that_nobody_reads_from_is_given_back(link: RedisLink, client: "redis.Redis") -> None:
    before = connections(client)
    feed = RedisFeed(link, idle_s=0.05)

    await feed.read({"job:a": 0}, 0.01)

    await until(lambda: connections(client) == before)
    assert await feed.read({"job:a": 0}, 0.01) == {}
    feed.close()
    await until(lambda: connections(client) == before)


async def test_while_redis_is_away_reading_fails_and_what_is_told_is_not_kept_for_later(
    link: RedisLink, redis_service: Server, client: "redis.Redis"
) -> None:
    feed = RedisFeed(link)
    refused = anyio.Event()

    async def read() -> None:
        with contextlib.suppress(StoreAwayError):
            await feed.read({"job:a": 0}, 60.0)
        refused.set()

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await until(lambda: waiting(client) == 1)
        await anyio.to_thread.run_sync(redis_service.stop)
        with anyio.fail_after(5):
            await refused.wait()
    await until(lambda: not link.up)
    feed.append("job:a", 1, b"lost", 60.0)
    with pytest.raises(StoreAwayError):
        await feed.read({"job:a": 0}, 60.0)

    await anyio.to_thread.run_sync(redis_service.start)
    await until(lambda: link.up)
    feed.append("job:a", 2, b"heard", 60.0)
    assert await feed.read({"job:a": 0}, 5.0) == {"job:a": [(2, b"heard")]}
    feed.close()


async def test_a_redis_that_refuses_says_so(link: RedisLink, client: "redis.Redis") -> None:
    client.set("llmgw:feed:job:a", "no stream")
    feed = RedisFeed(link)

    with pytest.raises(StoreAwayError, match="WRONGTYPE"):
        await feed.read({"job:a": 0}, 1.0)
    feed.close()


async def test_one_that_is_read_from_is_closed_when_its_reader_leaves(link: RedisLink, client: "redis.Redis") -> None:
    before = connections(client)
    feed = RedisFeed(link)

    async with anyio.create_task_group() as group:
        group.start_soon(feed.read, {"job:a": 0}, 60.0)
        await until(lambda: waiting(client) == 1)
        feed.close()
        group.cancel_scope.cancel()

    await until(lambda: connections(client) == before)
