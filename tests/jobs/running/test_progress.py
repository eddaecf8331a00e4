"""How far a job is."""

from typing import Any

from msgspec import structs

from llmgateway.documents.question import Question
from llmgateway.jobs.running.progress import Pacing, ended
from llmgateway.storage.jobs.rows import Progress
from tests.jobs.scripted import lines_of, plan_of, recipe_of


def pacing(lines: int = 4, width: int = 2, before: Progress | None = None, **settings: Any) -> Pacing:
    recipe = recipe_of(**settings)
    return Pacing(recipe, plan_of(lines_of(lines), recipe), width=width, before=before or Progress())


def asked(batch: int | None, kind: str = "map") -> Question:
    return Question(step=f"step {batch}", type=kind, messages=(), max_tokens=1, batch=batch)  # type: ignore[arg-type]


def test_it_counts_batches_and_their_turns() -> None:
    counting = pacing()
    began = counting.began()
    counting.asks(1)
    counting.answered(asked(0), 1000, done=False)
    after = counting.answered(asked(0), 1000, done=True)

    assert (began.percentage, began.total, began.estimated_seconds_remaining) == (0.0, 4, None)
    assert (after.percentage, after.current, after.current_batch, after.total_batches) == (25.0, 2, 1, 4)
    assert (after.completed_turns, after.total_turns) == (1, 4)
    assert after.estimated_seconds_remaining == 3.0
    assert counting.steps_done == {"step 0"}


def test_side_by_side_goes_faster_and_what_follows_is_a_part_of_it() -> None:
    counting = pacing(processing_mode="map_reduce")
    counting.asks(4)
    for batch in (3, 0, 1):
        counting.answered(asked(batch), 1000, done=True)
    almost = counting.answered(asked(2), 1000, done=True)
    counting.asks(2)
    first = counting.answered(asked(None, "reduce"), 1000, done=True)
    counting.asks(1)
    last = counting.answered(asked(None, "reduce"), 1000, done=True)

    assert (almost.percentage, almost.phase, almost.estimated_seconds_remaining) == (90.0, "processing", 1.0)
    assert almost.percentage < first.percentage < last.percentage < 100.0
    assert first.phase == "reducing"
    assert ended(last).percentage == 100.0
    assert ended(last).estimated_seconds_remaining == 0.0


def test_it_never_goes_back() -> None:
    before = Progress(percentage=60.0, current=3, total_batches=2)

    assert pacing(before=before).began().percentage == 60.0
    assert pacing(before=before).answered(asked(0), 1, done=True).percentage == 60.0


def test_another_worker_begins_where_the_last_one_stopped() -> None:
    before = Progress(percentage=50.0, current=2, total=4, current_batch=2, total_batches=4)

    assert pacing(before=before).began() == before
    assert pacing(before=structs.replace(before, total_batches=9)).began().total_batches == 4
