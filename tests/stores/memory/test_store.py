import anyio

from llmgateway.stores.base import Store
from llmgateway.stores.memory.limiter import MemoryLimiter
from llmgateway.stores.memory.store import MemoryStore
from llmgateway.stores.memory.values import MemoryValues
from tests.stores.waiting import until


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def test_memory_is_always_there_and_nobody_else_sees_it() -> None:
    store: Store = MemoryStore(MemoryLimiter())

    assert store.up
    assert not store.shared
    assert await MemoryStore(MemoryLimiter()).check() is True
    await store.close()


async def test_what_is_over_is_forgotten_although_nobody_asks_for_it() -> None:
    clock = Clock()
    values = MemoryValues(clock=clock)
    store = MemoryStore(MemoryLimiter(), values, sweep_every_s=0.005)
    values.put("answer:1", b"x", 10.0)
    clock.now_s += 20.0

    async with anyio.create_task_group() as group:
        group.start_soon(store.run)
        await until(lambda: not len(values))
        group.cancel_scope.cancel()
