from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest
import redis

from llmgateway.stores.redis.bell import RedisBell
from llmgateway.stores.redis.link import RedisLink
from tests.lines import Lines
from tests.services import Server
from tests.stores.conftest import StartLink, linked
from tests.stores.waiting import until

Bells = Callable[[], Awaitable[RedisBell]]


@asynccontextmanager
async def heard_by(link: RedisLink) -> AsyncIterator[RedisBell]:
    bell = RedisBell(link, turn_s=0.05)
    async with anyio.create_task_group() as group:
        group.start_soon(bell.run)
        yield bell
        group.cancel_scope.cancel()


@pytest.fixture
async def new_bell(redis_service: Server, lines: Lines) -> AsyncIterator[Bells]:
    """A bell of another process, as it were."""
    async with AsyncExitStack() as stack:

        async def new() -> RedisBell:
            link = RedisLink(redis_service.url, logger=lines.logger, probe_every_s=0.05)
            return await stack.enter_async_context(heard_by(await stack.enter_async_context(linked(link))))

        yield new


async def waits(bell: RedisBell, name: str, heard: list[str]) -> None:
    if await bell.wait(name, 5.0):
        heard.append(name)


def listeners(client: "redis.Redis") -> int:
    return int(client.pubsub_numsub("llmgw:bell")[0][1])


async def test_a_ring_is_heard_in_all_processes(new_bell: Bells, client: "redis.Redis") -> None:
    here, there = await new_bell(), await new_bell()
    await until(lambda: listeners(client) == 2)
    heard: list[str] = []

    async with anyio.create_task_group() as group:
        await anyio.wait_all_tasks_blocked()
        for bell in (here, there):
            group.start_soon(waits, bell, "changes", heard)
        await anyio.wait_all_tasks_blocked()
        here.ring("changes")

    assert heard == ["changes", "changes"]


async def test_after_a_restart_everybody_looks_and_hears_again(
    new_bell: Bells, redis_service: Server, client: "redis.Redis"
) -> None:
    here, there = await new_bell(), await new_bell()
    await until(lambda: listeners(client) == 2)
    heard: list[str] = []

    async with anyio.create_task_group() as group:
        group.start_soon(waits, there, "changes", heard)
        await anyio.to_thread.run_sync(redis_service.stop)
        await until(lambda: here.fault is not None)
        await anyio.to_thread.run_sync(redis_service.start)
        # News may have been missed, so whoever waits is woken.
        await until(lambda: heard == ["changes"])
    await until(lambda: listeners(client) == 2 and here.fault is None)

    async with anyio.create_task_group() as group:
        group.start_soon(waits, there, "more", heard)
        await anyio.wait_all_tasks_blocked()
        here.ring("more")


async def test_a_redis_that_forbids_channels_is_told(
    redis_service: Server, client: "redis.Redis", start_link: StartLink
) -> None:
    client.acl_setuser("mute", enabled=True, nopass=True, commands=["+@all"], keys=["*"], reset_channels=True)
    link = await start_link(f"redis://mute:any@127.0.0.1:{redis_service.port}/0")

    async with heard_by(link) as bell:
        await until(lambda: bell.fault is not None)
        assert "NOPERM" in str(bell.fault)
    assert not link.up
