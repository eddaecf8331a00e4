import anyio

from llmgateway.stores.base import Feed
from llmgateway.stores.memory.feed import MemoryFeed


async def test_what_came_after_a_number_is_read_in_order() -> None:
    feed: Feed = MemoryFeed()
    for number in (1, 2, 3):
        feed.append("job:a", number, b"%d" % number, 60.0)
    feed.append("job:b", 1, b"other", 60.0)

    assert await feed.read({"job:a": 1}, 1.0) == {"job:a": [(2, b"2"), (3, b"3")]}
    assert await feed.read({"job:a": 3, "job:b": 0, "job:c": 0}, 1.0) == {"job:b": [(1, b"other")]}


async def test_a_reader_waits_for_the_first_that_comes() -> None:
    feed = MemoryFeed()
    found = []

    async def read() -> None:
        found.append(await feed.read({"job:a": 0}, 5.0))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        feed.append("job:b", 1, b"of no interest", 60.0)
        await anyio.wait_all_tasks_blocked()
        assert found == []
        feed.append("job:a", 1, b"first", 60.0)

    assert found == [{"job:a": [(1, b"first")]}]
    assert await feed.read({"job:a": 1}, 0.01) == {}


async def test_a_number_that_is_there_already_is_no_error() -> None:
    feed = MemoryFeed()
    feed.append("job:a", 2, b"second", 60.0)
    feed.append("job:a", 2, b"again", 60.0)
    feed.append("job:a", 1, b"late", 60.0)

    assert await feed.read({"job:a": 0}, 1.0) == {"job:a": [(2, b"second")]}


async def test_a_topic_is_forgotten_when_its_time_is_over() -> None:
    now_s = 0.0
    feed = MemoryFeed(lambda: now_s)
    feed.append("job:a", 5, b"old", 60.0)
    now_s = 61.0

    assert await feed.read({"job:a": 0}, 0.01) == {}
    feed.append("job:a", 1, b"new", 60.0)
    assert await feed.read({"job:a": 0}, 1.0) == {"job:a": [(1, b"new")]}


async def test_memory_is_bounded_and_what_is_oldest_goes_first() -> None:
    feed = MemoryFeed(max_bytes=10_000)
    for number in range(1, 2001):
        feed.append("job:long", number, b"x", 60.0)
    ((_, events),) = (await feed.read({"job:long": 0}, 1.0)).items()
    assert [number for number, _ in events] == list(range(1001, 2001))

    for number in range(1, 10):
        feed.append(f"job:{number}", 1, b"x" * 3000, 60.0)

    found = await feed.read({"job:long": 0, **{f"job:{number}": 0 for number in range(1, 10)}}, 1.0)
    assert sorted(found) == ["job:7", "job:8", "job:9"]
