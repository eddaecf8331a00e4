"""Writing down what is paid for, whatever the database does meanwhile."""

import asyncio

import pytest

from llmgateway.jobs.running.commits import Commits, state_of
from llmgateway.jobs.running.reins import PulledError, Reins
from llmgateway.storage.jobs.rows import Step, Totals
from tests.jobs.rig import QUICK, Rig, until
from tests.jobs.scripted import Kept, RunningJobs, Says, job_of, lines_of, recipe_of


class Desk:
    """The commits of one claimed job."""

    def __init__(self, jobs: RunningJobs, kept: Kept, commits: Commits, reins: Reins) -> None:
        self.jobs, self.kept, self.commits, self.reins = jobs, kept, commits, reins


@pytest.fixture
async def desk() -> Desk:
    jobs, reins = RunningJobs(), Reins()
    kept = jobs.submit(job_of("text"))
    claimed = await jobs.claim("worker-1", 15)
    assert claimed is not None
    return Desk(jobs, kept, Commits(jobs, QUICK, state_of(claimed), reins), reins)


async def test_what_was_said_and_told_goes_with_the_next_step(desk: Desk) -> None:
    desk.commits.say("One, ")
    desk.commits.tell({"event_type": "retry"})
    desk.commits.say("two.")
    await desk.commits.commit(lambda: Step(events=({"event_type": "progress"},)))

    assert [event["event_type"] for event in desk.kept.events] == ["retry", "output", "progress"]
    assert desk.kept.row.partial == desk.kept.shown == "One, two."
    assert len(desk.kept.commits) == 1


async def test_nothing_is_written_when_there_is_nothing(desk: Desk) -> None:
    await desk.commits.flush()

    assert desk.kept.commits == []


async def test_text_is_shown_once_wherever_it_comes_from(desk: Desk) -> None:
    desk.commits.say("One, ")
    desk.commits.show(0, "One, two")
    desk.commits.show(0, "One")
    desk.commits.show(8, ", three")
    await desk.commits.flush()

    assert desk.kept.shown == "One, two, three"
    assert desk.commits.shown_from(5) == "two, three"
    assert desk.commits.shown_from(15) == ""


async def test_a_database_that_is_away_is_waited_for(desk: Desk) -> None:
    desk.jobs.away = True
    async with asyncio.TaskGroup() as group:
        group.create_task(desk.commits.commit(lambda: Step(output="Kept.")))
        await until(lambda: desk.jobs.asked >= 3)
        desk.jobs.away = False

    assert desk.kept.row.partial == "Kept."
    assert len(desk.kept.commits) == 1


@pytest.mark.parametrize("at", range(1, 8))
async def test_a_commit_that_was_done_although_nobody_heard_so_is_not_done_again(at: int) -> None:
    rig = Rig(lambda asked: Says(f"<{asked.prompt.strip()}>"))
    kept = rig.jobs.submit(job_of(lines_of(3), recipe_of(reduce_summary=True)))
    commit, done = rig.jobs.commit, 0

    async def lost(lease: object, step: Step) -> None:
        nonlocal done
        done += 1
        rig.jobs.in_doubt = 1 if done == at else 0
        await commit(lease, step)  # type: ignore[arg-type]

    rig.jobs.commit = lost  # type: ignore[method-assign]
    assert await rig.runner.run_next()

    assert kept.row.status == "completed"
    assert kept.row.result == kept.shown
    assert len(rig.model.calls) == len(kept.passes) == 4
    assert kept.row.totals.passes == 4


async def test_a_lost_lease_ends_the_run(desk: Desk) -> None:
    desk.jobs.lose(desk.kept.row.id)

    with pytest.raises(PulledError):
        await desk.commits.commit(lambda: Step(output="Mine."))
    assert desk.reins.why == "lost"


async def test_what_runs_beside_ends_with_the_run(desk: Desk) -> None:
    desk.jobs.lose(desk.kept.row.id)
    desk.commits.say("Mine.")

    async with asyncio.timeout(5):
        await desk.commits.keep()


async def test_nobody_waits_for_a_database_once_the_grace_is_over(desk: Desk) -> None:
    desk.jobs.away = True
    desk.commits.say("Not kept.")
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(desk.commits.keep())
        await until(lambda: desk.jobs.asked >= 2)
        desk.reins.pull("let_go")

    assert desk.kept.row.totals == Totals()
