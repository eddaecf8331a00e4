import anyio

from llmgateway.stores.memory.bell import MemoryBell


async def waits(bell: MemoryBell, name: str, heard: list[str]) -> None:
    if await bell.wait(name, 5.0):
        heard.append(name)


async def test_a_ring_wakes_all_who_wait_for_it_and_nobody_else() -> None:
    bell, heard = MemoryBell(), list[str]()

    async with anyio.create_task_group() as group:
        for name in ("a", "a", "b"):
            group.start_soon(waits, bell, name, heard)
        await anyio.wait_all_tasks_blocked()
        bell.ring("a")
        bell.ring("nobody")
        await anyio.wait_all_tasks_blocked()
        assert heard == ["a", "a"]
        bell.ring_all()

    assert heard == ["a", "a", "b"]


async def test_the_time_passes_without_a_ring() -> None:
    bell = MemoryBell()

    assert not await bell.wait("a", 0.01)


async def test_who_was_cancelled_waits_no_more() -> None:
    bell = MemoryBell()

    async with anyio.create_task_group() as group:
        group.start_soon(waits, bell, "a", [])
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()

    bell.ring("a")
    assert not await bell.wait("a", 0.01)
