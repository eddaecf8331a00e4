from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from llmgateway.keys.used import Used
from tests.keys.people import People
from tests.middleware.conftest import Log


async def test_of_many_uses_the_last_of_each_key_is_written_once() -> None:
    people = People()
    used = Used(people.touched)
    before = datetime.now(UTC)
    for _ in range(100):
        used.note("a")
    used.note("b")

    assert await used.flush()
    assert await used.flush()

    [times] = people.touches
    assert set(times) == {"a", "b"}
    slack = timedelta(milliseconds=50)
    assert all(before - slack <= at <= datetime.now(UTC) + slack for at in times.values())


async def test_what_could_not_be_written_is_written_later_and_newer_uses_win() -> None:
    people = People()
    used = Used(people.touched)
    used.note("a")
    used.note("b")
    people.away = True
    assert not await used.flush()
    later = datetime.now(UTC)
    used.note("a")
    people.away = False

    await used.flush()

    [times] = people.touches
    assert times["a"] >= later - timedelta(milliseconds=1)
    assert times["b"] <= times["a"]


async def test_a_use_during_a_writing_that_fails_is_not_taken_back() -> None:
    written: list[Mapping[str, datetime]] = []
    later: list[datetime] = []

    async def touched(times: Mapping[str, datetime]) -> None:
        written.append(times)
        if len(written) == 1:
            await anyio.sleep(0.01)  # it takes its time, so that the uses are apart
            later.append(datetime.now(UTC))
            used.note("a")
            raise OSError

    used = Used(touched)
    used.note("a")
    assert not await used.flush()
    assert await used.flush()

    assert written[1]["a"] >= later[0] - timedelta(milliseconds=1)


async def test_it_is_written_from_time_to_time_and_at_the_end() -> None:
    people, written = People(), anyio.Event()

    async def touched(times: Mapping[str, datetime]) -> None:
        await people.touched(times)
        written.set()

    used = Used(touched, every_s=0.01)
    used.note("a")
    async with anyio.create_task_group() as group:
        group.start_soon(used.run)
        with anyio.fail_after(5):
            await written.wait()
        group.cancel_scope.cancel()
    used.note("b")
    await used.close()

    assert [set(times) for times in people.touches] == [{"a"}, {"b"}]


async def test_a_writing_that_is_cut_off_loses_nothing() -> None:
    people, stuck = People(), True

    async def touched(times: Mapping[str, datetime]) -> None:
        if stuck:
            await anyio.sleep_forever()
        await people.touched(times)

    used = Used(touched)
    used.note("a")
    with anyio.move_on_after(0.01):
        await used.flush()
    stuck = False

    await used.flush()

    assert [set(times) for times in people.touches] == [{"a"}]


async def test_an_end_waits_for_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck(_: Mapping[str, datetime]) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr("llmgateway.keys.used._LAST_S", 0.01)
    used = Used(stuck)
    used.note("a")

    with anyio.fail_after(5):
        await used.close()


async def test_a_bug_in_the_writing_ends_nothing_and_is_told(log: Log) -> None:
    async def touched(_: Mapping[str, datetime]) -> None:
        raise KeyError("column")

    used = Used(touched, log.logger)
    used.note("a")
    await used.flush()
    silent = Used(touched)
    silent.note("a")
    await silent.flush()

    assert [line["event"] for line in log.lines()] == ["last_used_not_written"]
    await used.flush()
    assert len(log.lines()) == 1
