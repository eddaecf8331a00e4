from collections.abc import Mapping, Sequence

import anyio
import pytest

from llmgateway.keys.together import Found, Together
from llmgateway.storage.queries import StorageAwayError
from tests.keys.people import key_row


class Table:
    """Keys by their hashes; answers once it is let."""

    def __init__(self, *right: str) -> None:
        self.right = set(right)
        self.asked: list[list[str]] = []
        self.gate = anyio.Event()
        self.gate.set()
        self.away = False

    async def keys_by_hash(self, digests: Sequence[str]) -> Mapping[str, Found]:
        self.asked.append(list(digests))
        await self.gate.wait()
        if self.away:
            raise StorageAwayError("postgres.internal has too many clients already")
        return {digest: (key_row(digest), None) for digest in digests if digest in self.right}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_who_comes_while_a_question_is_under_way_shares_the_next_one() -> None:
    table, found = Table("a", "c"), dict[str, Found | None]()
    together = Together(table)
    table.gate = anyio.Event()

    async def ask(digest: str) -> None:
        found[digest] = await together.key_by_hash(digest)

    async with anyio.create_task_group() as group:
        for digest in "abcd":
            group.start_soon(ask, digest)
            await anyio.wait_all_tasks_blocked()
        table.gate.set()

    assert table.asked == [["a"], ["b", "c", "d"]]
    assert {digest for digest, key in found.items() if key is not None} == {"a", "c"}


async def test_right_keys_are_asked_for_at_once_however_many() -> None:
    table = Table(*map(str, range(100)))
    together = Together(table, every_s=3600, clock=Clock())

    with anyio.fail_after(5):
        for number in range(100):
            assert await together.key_by_hash(str(number)) is not None

    assert len(table.asked) == 100


async def test_pitfall_137_wrong_keys_are_asked_for_from_time_to_time_and_right_ones_with_them() -> None:
    table, clock = Table("right"), Clock()
    together = Together(table, every_s=1.0, clock=clock)
    for number in range(10):
        assert await together.key_by_hash(f"wrong {number}") is None
    clock.now += 0.95
    found = list[Found | None]()

    async def ask(digest: str) -> None:
        found.append(await together.key_by_hash(digest))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for number in range(500):
                group.start_soon(ask, f"flood {number}")
            group.start_soon(ask, "right")

    assert len(table.asked) == 11
    assert len(table.asked[-1]) == 501
    assert [key for key in found if key is not None] == [(key_row("right"), None)]


async def test_pitfall_137_whoever_hangs_up_has_asked_as_well() -> None:
    table, clock = Table(), Clock()
    together = Together(table, every_s=3600, clock=clock)
    table.gate = anyio.Event()

    for number in range(20):
        with anyio.move_on_after(0.01):
            await together.key_by_hash(f"wrong {number}")

    assert len(table.asked) == 10


async def test_when_the_one_who_asks_leaves_another_one_asks() -> None:
    table, found = Table("b"), list[Found | None]()
    together = Together(table)
    table.gate = anyio.Event()

    async def ask(digest: str) -> None:
        found.append(await together.key_by_hash(digest))

    async with anyio.create_task_group() as others:
        async with anyio.create_task_group() as first:
            first.start_soon(ask, "a")
            await anyio.wait_all_tasks_blocked()
            others.start_soon(ask, "b")
            await anyio.wait_all_tasks_blocked()
            first.cancel_scope.cancel()
        table.gate.set()

    assert table.asked == [["a"], ["b"]]
    assert [key is not None for key in found] == [True]


async def test_all_who_share_a_question_hear_that_the_database_is_away() -> None:
    table = Table()
    together = Together(table)
    table.away = True
    heard = list[str]()

    async def ask(digest: str) -> None:
        with pytest.raises(StorageAwayError) as away:
            await together.key_by_hash(digest)
        heard.append(str(away.value))

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(ask, str(number))

    assert len(heard) == 5
    assert len(table.asked) == 2
    table.away = False
    assert await together.key_by_hash("a") is None
