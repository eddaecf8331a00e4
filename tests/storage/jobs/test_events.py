from llmgateway.storage.jobs.events import cumulative
from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import Progress, Step, Totals
from tests.storage.jobs.given import Told, bodies, claimed, submitted

SHAPE = [
    "id",
    "event_type",
    "job_id",
    "status",
    "progress",
    "retry_info",
    "current_pass_metrics",
    "cumulative_metrics",
    "result",
    "error",
    "timestamp",
]


async def test_an_event_is_whole_and_says_how_the_job_stands_after_it(jobs: JobStorage, told: Told) -> None:
    job = await submitted(jobs, progress=Progress(total=4))
    mine = await claimed(jobs)
    output = {"event_type": "output", "output": {"text": "Minutes", "offset": 0}}
    retry = {"event_type": "retry", "retry_info": {"attempt": 2}, "id": 99, "status": "wrong"}
    progress, totals = Progress(current=1, total=4, percentage=25.0), Totals(passes=1, cost_nusd=2_500_000)

    await jobs.commit(
        mine.lease,
        Step(status="processing", events=(output, retry), progress=progress, totals=totals, output="Minutes"),
    )

    first, started, second, third = await bodies(jobs, job.id)
    assert list(first) == SHAPE
    assert (first["event_type"], first["status"], first["progress"]["total"]) == ("status_change", "queued", 4)
    assert list(started) == SHAPE
    assert (started["event_type"], started["status"], started["progress"]["total"]) == ("status_change", "started", 4)
    assert list(second) == [*SHAPE, "output"]
    assert second["output"] == {"text": "Minutes", "offset": 0}
    assert [(body["id"], body["status"]) for body in (second, third)] == [(3, "processing"), (4, "processing")]
    assert third["retry_info"] == {"attempt": 2}
    assert third["progress"]["percentage"] == 25.0
    assert third["cumulative_metrics"]["total_cost"] == 0.0025
    assert third["timestamp"].endswith("Z")
    assert told.events[job.id] == await jobs.events(job.id)


async def test_what_was_said_before_is_repeated_where_a_commit_says_nothing_of_it(jobs: JobStorage) -> None:
    job = await submitted(jobs)
    mine = await claimed(jobs)
    await jobs.commit(mine.lease, Step(progress=Progress(current=3), totals=Totals(prompt_tokens=7)))

    await jobs.commit(mine.lease, Step(events=({"event_type": "progress"},)))

    last = (await bodies(jobs, job.id))[-1]
    assert (last["id"], last["status"], last["progress"]["current"]) == (3, "started", 3)
    assert last["cumulative_metrics"]["total_prompt_tokens"] == 7


def test_a_cost_that_nobody_knows_is_null() -> None:
    told = cumulative(Totals(prompt_tokens=3, completion_tokens=4, duration_ms=1.5, cost_nusd=None))

    assert told == {
        "total_tokens": 7,
        "total_prompt_tokens": 3,
        "total_completion_tokens": 4,
        "total_duration_ms": 1.5,
        "total_cost": None,
    }
