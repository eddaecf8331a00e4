"""Several jobs in one process: leases, cancelling, stopping, and who comes first."""

import asyncio
import time

import pytest
from typing_extensions import override

from llmgateway.jobs.running.means import Times
from llmgateway.storage.jobs.rows import Claimed
from llmgateway.storage.queries import StorageAwayError
from tests.jobs.rig import Rig, until
from tests.jobs.scripted import Asked, RunningJobs, Says, job_of, lines_of, recipe_of


def echoed(asked: Asked) -> Says:
    return Says(f"<{asked.prompt.strip()}>")


async def forever() -> None:
    await asyncio.Event().wait()


STUCK = Says(after=forever)


async def test_nothing_is_run_when_there_is_nothing() -> None:
    assert not await Rig(echoed).runner.run_next()


async def test_a_database_that_is_away_is_not_taken_for_an_empty_queue() -> None:
    rig = Rig(echoed)
    rig.jobs.away = True

    with pytest.raises(StorageAwayError):
        await rig.runner.run_next()


async def test_eight_slow_calls_are_in_flight_when_eight_run_side_by_side() -> None:
    all_there = asyncio.Event()

    async def together() -> None:
        if rig.model.in_flight == 8:
            all_there.set()
        await all_there.wait()

    rig = Rig(Says(after=together))
    for _ in range(8):
        rig.jobs.submit(job_of("text"))
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(rig.runner.run_next())

    assert rig.model.most_in_flight == 8
    assert {kept.row.status for kept in rig.jobs.kept.values()} == {"completed"}
    assert rig.runner.running == 0


async def test_a_cancelled_job_ends_its_call() -> None:
    rig = Rig(STUCK)
    kept = rig.jobs.submit(job_of(lines_of(3)))
    async with rig.running(leases=True):
        await until(lambda: rig.model.in_flight == 1)
        rig.jobs.cancel(kept.row.id)

    assert rig.model.ended_early == 1
    assert kept.row.status == "cancelled"
    assert [record.error_code for record in rig.model.records] == ["client_closed_request"]
    assert rig.told.ends == []


async def test_a_cancelled_job_ends_its_stream_and_keeps_what_was_shown() -> None:
    async def after_one(index: int) -> None:
        if index:
            await forever()

    rig = Rig(Says(pieces=["One, ", "two"], pause=after_one))
    kept = rig.jobs.submit(job_of("text", recipe_of(processing_mode="single_pass")))
    async with rig.running(leases=True):
        await until(lambda: kept.shown == "One, ")
        rig.jobs.cancel(kept.row.id)

    assert (kept.row.status, kept.row.result) == ("cancelled", "One, ")
    assert rig.model.ended_early == 1
    assert rig.model.in_flight == 0


async def test_the_bell_makes_it_notice_at_once() -> None:
    rig = Rig(STUCK, times=Times(look_every_s=60))
    kept = rig.jobs.submit(job_of("text"))
    async with asyncio.timeout(5), rig.running(leases=True):
        await until(lambda: rig.model.in_flight == 1)
        rig.jobs.cancel(kept.row.id)
        await asyncio.sleep(0)
        rig.store.bell.ring("jobs")

    assert rig.model.ended_early == 1


async def test_one_statement_keeps_all_leases() -> None:
    rig = Rig(STUCK)
    for _ in range(3):
        rig.jobs.submit(job_of("text"))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(rig.runner.run_next()) for _ in range(3)]
        await until(lambda: rig.model.in_flight == 3)
        await rig.runner.look()
        await rig.runner.hand_back_all()
        del tasks

    assert rig.jobs.renewals == [set(rig.jobs.kept)]


async def test_leases_outlive_a_database_that_is_briefly_away() -> None:
    gate = asyncio.Event()
    rig = Rig(Says("Done.", after=gate.wait))
    kept = rig.jobs.submit(job_of("text"))
    async with rig.running(leases=True):
        await until(lambda: rig.model.in_flight == 1)
        rig.jobs.away = True
        asked = rig.jobs.asked
        await until(lambda: rig.jobs.asked > asked + 2)
        gate.set()
        await until(lambda: rig.model.in_flight == 0)
        rig.jobs.away = False

    assert kept.row.result == "Done."
    assert len(rig.model.calls) == 1


async def test_pitfall_112_a_job_that_somebody_else_has_by_now_is_dropped() -> None:
    gate = asyncio.Event()
    rig = Rig(Says("Mine.", after=gate.wait))
    kept = rig.jobs.submit(job_of(lines_of(2)))
    async with rig.running():
        await until(lambda: rig.model.in_flight == 1)
        rig.jobs.lose(kept.row.id)
        other = await rig.jobs.claim("worker-2", 15)
        gate.set()

    assert other is not None
    assert kept.row.status == "started"
    assert kept.passes == []
    assert len(rig.model.calls) == 1
    assert rig.told.ends == []


async def test_stop_lets_the_call_in_flight_end_and_hands_the_job_back() -> None:
    gate = asyncio.Event()
    rig = Rig(lambda asked: Says(f"<{asked.prompt.strip()}>", after=gate.wait))
    kept = rig.jobs.submit(job_of(lines_of(3)))
    async with rig.running():
        await until(lambda: rig.model.in_flight == 1)
        rig.runner.stop()
        gate.set()

    assert (kept.row.status, kept.row.kills) == ("queued", 0)
    assert [row.step for row in kept.passes] == ["batch:0-7"]
    assert not await rig.runner.run_next()

    other = Rig(echoed, jobs=rig.jobs)
    assert await other.runner.run_next()
    assert kept.row.result == kept.shown == "<line 1>\n\n<line 2>\n\n<line 3>"
    assert len(other.model.calls) == 2
    assert other.told.started_after == [None]


async def test_all_is_handed_back_at_once_when_the_grace_is_over() -> None:
    rig = Rig(STUCK)
    map_reduce = job_of(lines_of(20), recipe_of(processing_mode="map_reduce"))
    jobs = [rig.jobs.submit(new) for new in (job_of(lines_of(3)), map_reduce)]
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        tasks = [group.create_task(rig.runner.run_next()) for _ in range(2)]
        await until(lambda: rig.model.in_flight == 9)
        await rig.runner.hand_back_all()
        assert rig.model.in_flight == 0
        assert [kept.row.status for kept in jobs] == ["queued", "queued"]
        del tasks

    assert rig.runner.running == 0
    await rig.runner.hand_back_all()


async def test_whoever_finishes_waits_for_the_calls_in_flight_but_not_for_ever() -> None:
    gate = asyncio.Event()
    rig = Rig(Says("Done.", after=gate.wait))
    quick, slow = rig.jobs.submit(job_of(lines_of(2))), Rig(STUCK, jobs=RunningJobs())
    never = slow.jobs.submit(job_of("text"))
    async with rig.running(), slow.running():
        await until(lambda: rig.model.in_flight == slow.model.in_flight == 1)
        gate.set()
        await rig.runner.finish(60)
        await slow.runner.finish(0.01)

    assert len(quick.passes) == 1
    assert (quick.row.status, never.row.status) == ("queued", "queued")
    await rig.runner.finish(60)


async def test_a_job_claimed_while_the_process_stops_is_handed_back() -> None:
    class Slow(RunningJobs):
        @override
        async def claim(self, worker: str, lease_s: float) -> Claimed | None:
            rig.runner.stop()
            return await super().claim(worker, lease_s)

    rig = Rig(echoed, jobs=Slow())
    kept = await rig.run(job_of("text"))

    assert kept.row.status == "queued"
    assert rig.model.calls == []


async def test_a_job_that_cannot_be_handed_back_waits_for_its_lease_to_run_out() -> None:
    rig = Rig(STUCK)
    kept = rig.jobs.submit(job_of("text"))
    async with rig.running():
        await until(lambda: rig.model.in_flight == 1)
        rig.jobs.away = True
        await rig.runner.hand_back_all()

    assert kept.row.status == "processing"


async def test_a_flavors_calls_at_once_hold_for_all_workers_together() -> None:
    async def briefly() -> None:
        in_flight.append(sum(rig.model.in_flight for rig in rigs))
        await asyncio.sleep(0.002)

    in_flight: list[int] = []
    first = Rig(lambda asked: Says(asked.prompt, after=briefly))
    rigs = [first, Rig(lambda asked: Says(asked.prompt, after=briefly), jobs=first.jobs, store=first.store)]
    for _ in range(2):
        first.jobs.submit(job_of(lines_of(10), recipe_of(processing_mode="map_reduce", max_concurrent_requests=3)))
    async with asyncio.TaskGroup() as group:
        for rig in rigs:
            group.create_task(rig.runner.run_next())

    assert max(in_flight) == 3
    assert {kept.row.status for kept in first.jobs.kept.values()} == {"completed"}


async def test_a_slot_of_a_worker_that_died_is_free_for_whoever_goes_on() -> None:
    rig = Rig(STUCK)
    kept = rig.jobs.submit(job_of("text", recipe_of(max_concurrent_requests=1)))
    claimed = await rig.jobs.claim("worker-1", 15)
    assert claimed is not None
    died = Rig(STUCK, jobs=rig.jobs, store=rig.store)

    with pytest.MonkeyPatch.context() as patch:
        # A worker that is killed gives nothing back: neither its slot nor its job.
        patch.setattr("llmgateway.jobs.running.leave.Room.leave", lambda *_: None)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(died.runner.run(claimed))
            await until(lambda: died.model.in_flight == 1)
            task.cancel()
    rig.jobs.lose(kept.row.id)
    rig.model.script = echoed

    async with asyncio.timeout(5):
        assert await rig.runner.run_next()
    assert kept.row.status == "completed"


async def test_a_stream_that_was_killed_leaves_no_slot_behind_that_whoever_goes_on_waits_for() -> None:
    async def at_the_second(index: int) -> None:
        if index == 1:
            await until(lambda: kept.shown == "One, ")
            await asyncio.Event().wait()

    rig = Rig(Says("two."))
    kept = rig.jobs.submit(job_of("text", recipe_of(processing_mode="single_pass", max_concurrent_requests=1)))
    claimed = await rig.jobs.claim("worker-1", 15)
    assert claimed is not None
    died = Rig(Says(pieces=["One, ", "never"], pause=at_the_second), jobs=rig.jobs, store=rig.store)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmgateway.jobs.running.leave.Room.leave", lambda *_: None)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(died.runner.run(claimed))
            await until(lambda: kept.shown == "One, ")
            task.cancel()
    rig.jobs.lose(kept.row.id)

    async with asyncio.timeout(5):
        assert await rig.runner.run_next()
    assert kept.row.result == "One, two."


@pytest.mark.alone
async def test_forty_batches_at_eight_take_hardly_longer_than_they_must() -> None:
    async def slowly() -> None:
        await asyncio.sleep(0.2)

    rig = Rig(lambda asked: Says(asked.prompt[:20], after=slowly))
    rig.jobs.submit(job_of(lines_of(40), recipe_of(processing_mode="map_reduce")))
    started = time.perf_counter()
    assert await rig.runner.run_next()

    ideal_s = 0.2 * (40 / 8 + 1)
    assert time.perf_counter() - started <= 1.3 * ideal_s


@pytest.mark.alone
async def test_a_pass_costs_little_beside_its_model() -> None:
    rig = Rig(Says("word " * 400))
    kept = rig.jobs.submit(job_of("".join(f"{'line ' * 400}{number}\n" for number in range(100))))
    started = time.perf_counter()
    assert await rig.runner.run_next()

    assert len(kept.passes) == 100
    assert (time.perf_counter() - started) / 100 <= 0.03
