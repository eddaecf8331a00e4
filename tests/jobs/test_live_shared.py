"""Watching jobs in processes that share a Redis, and what becomes of it when that is emptied or away."""

import random
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import redis

from llmgateway.jobs.live import Live
from tests.jobs.watching.book import Book, all_of, came
from tests.jobs.watching.processes import Process
from tests.services import Server
from tests.stores.waiting import until


@pytest.fixture
def client(redis_queue: Server) -> Iterator["redis.Redis"]:
    """Somebody else who looks into the same Redis."""
    with redis.Redis.from_url(redis_queue.url) as client:
        yield client


async def two(process: Process, book: Book, url: str, **options: float) -> tuple[Live, Live]:
    """One process that works, and one in which jobs are watched."""
    works, watches = await process(book, url, **options), await process(book, url, **options)
    book.told.append(works.published)
    return works, watches


async def test_events_come_from_another_process_at_once(process: Process, redis_queue: Server) -> None:
    book = Book()
    book.commit("j", "queued", "started")
    _, live = await two(process, book, redis_queue.url, compare_every_s=60.0)
    seen: list[int] = []

    async with anyio.create_task_group() as group:
        group.start_soon(all_of, live.watch("j"), seen)
        await until(lambda: seen == [1, 2])
        for number in range(3, 30):
            book.commit("j", "processing")
            await came(seen, number)
        book.commit("j", "processing", "completed", "completed")

    assert seen == list(range(1, 33))


async def test_each_job_that_is_watched_meanwhile_is_heard_of(process: Process, redis_queue: Server) -> None:
    book = Book()
    _, live = await two(process, book, redis_queue.url, compare_every_s=60.0)
    seen: dict[str, list[int]] = {f"job {number}": [] for number in range(100)}

    async with anyio.create_task_group() as group:
        for job_id, ids in seen.items():
            book.commit(job_id, "queued")
            group.start_soon(all_of, live.watch(job_id), ids)
            await anyio.lowlevel.checkpoint()
            book.commit(job_id, "processing")
        await until(lambda: all(ids == [1, 2] for ids in seen.values()))
        for job_id in seen:
            book.commit(job_id, "processing", "completed")

    assert all(ids == [1, 2, 3, 4] for ids in seen.values())


async def test_pitfall_108_nothing_is_lost_over_redis_either_nor_when_it_is_flushed(
    process: Process,
    redis_queue: Server,
    client: "redis.Redis",
) -> None:
    book, chance = Book(), random.Random(1)
    works, watches = await two(process, book, redis_queue.url, compare_every_s=0.1)
    book.commit("j", "queued")
    found: list[list[int]] = []

    async def come(live: Live) -> None:
        after = chance.randrange(len(book.rows["j"]) + 1)
        found.append([after, *await all_of(live.watch("j", after))])

    async with anyio.create_task_group() as group:
        for number in range(300):
            group.start_soon(come, chance.choice([works, watches]))
            book.commit("j", "processing")
            await anyio.sleep(chance.choice([0, 0.001]))
            if number in {100, 200}:
                client.flushall()
        book.commit("j", "completed")

    assert len(found) == 300
    assert all(ids == list(range(ids[0], 303)) for ids in found)


async def test_while_redis_is_away_the_database_tells_and_then_redis_again(
    process: Process,
    redis_queue: Server,
) -> None:
    book = Book()
    works, watches = await two(process, book, redis_queue.url, compare_every_s=0.2)
    book.commit("j", "queued")
    seen: list[int] = []

    async with anyio.create_task_group() as group:
        group.start_soon(all_of, watches.watch("j"), seen)
        await until(lambda: seen == [1])
        await anyio.to_thread.run_sync(redis_queue.stop)
        for number in (2, 3, 4):
            book.commit("j", "processing")
            await came(seen, number)
        await anyio.to_thread.run_sync(redis_queue.start)
        book.asked.clear()
        while "events" in book.asked or len(seen) < 8:
            book.asked.clear()
            book.commit("j", "processing")
            await until(lambda: seen[-1] == len(book.rows["j"]))
        book.commit("j", "completed")

    assert seen == list(range(1, len(book.rows["j"]) + 1))
    assert works.watched == watches.watched == 0


async def test_a_large_event_is_only_announced(process: Process, redis_queue: Server, client: "redis.Redis") -> None:
    book = Book()
    _, live = await two(process, book, redis_queue.url, compare_every_s=60.0)
    book.commit("j", "queued")
    seen: list[int] = []

    async with anyio.create_task_group() as group:
        group.start_soon(all_of, live.watch("j"), seen)
        await until(lambda: seen == [1])
        book.commit("j", "processing", size=3_000_000)
        await until(lambda: seen == [1, 2])
        book.commit("j", "completed", size=3_000_000)

    assert seen == [1, 2, 3]
    told: Any = client.xrange("llmgw:feed:job:j")
    assert [fields[b"b"] for _, fields in told][1:] == [b"", b""]
