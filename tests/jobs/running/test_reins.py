"""Ending a run from outside."""

import asyncio

import pytest

from llmgateway.jobs.running.reins import PulledError, Reins
from tests.jobs.rig import until


async def called(reins: Reins, ends: list[str]) -> None:
    try:
        with reins.calling():
            await asyncio.Event().wait()
    except PulledError:
        ends.append("pulled")


async def test_a_call_goes_on_after_a_mere_stop_and_ends_when_it_is_let_go() -> None:
    reins, ends = Reins(), list[str]()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(called(reins, ends))
        await asyncio.sleep(0)
        reins.pull("stop")
        await asyncio.sleep(0)
        assert not task.done()
        reins.pull("let_go")

    assert ends == ["pulled"]


async def test_what_is_lost_is_not_handed_back_again() -> None:
    reins = Reins()
    reins.pull("lost")
    reins.pull("stop")

    assert reins.why == "lost"


async def test_whoever_cancels_for_another_reason_cancels() -> None:
    reins, ends = Reins(), list[str]()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(called(reins, ends))
        await asyncio.sleep(0)
        task.cancel()

    assert task.cancelled()
    assert ends == []


async def test_a_task_that_is_cancelled_twice_is_cancelled() -> None:
    reins, ends = Reins(), list[str]()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(called(reins, ends))
        await asyncio.sleep(0)
        task.cancel()
        reins.pull("lost")

    assert task.cancelled()


async def test_nothing_begins_after_a_stop_but_what_is_paid_for_is_kept() -> None:
    reins = Reins()
    reins.pull("stop")

    with pytest.raises(PulledError), reins.calling():
        pass
    with pytest.raises(PulledError):
        await reins.pause(60)
    reins.hold()
    reins.pull("let_go")
    with pytest.raises(PulledError):
        reins.hold()


async def test_whoever_waits_notices_soon() -> None:
    reins, ends = Reins(), list[str]()

    async def wait() -> None:
        try:
            await reins.pause(60)
        except PulledError:
            ends.append("pulled")

    async with asyncio.TaskGroup() as group:
        group.create_task(wait())
        await asyncio.sleep(0)
        reins.pull("stop")
        await until(lambda: ends == ["pulled"], 2)
