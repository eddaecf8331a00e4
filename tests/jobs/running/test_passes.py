"""What a call has cost and brought."""

from datetime import UTC, datetime, timedelta, timezone

from msgspec import structs

from llmgateway.documents.question import Answer, Question
from llmgateway.exchange import Exchange, Usage
from llmgateway.jobs.running.passes import Said, added, figures, free_step, pass_of, question_step, totals_of, wasted
from llmgateway.storage.jobs.rows import Claimed, Lease, PassRow, Totals
from tests.jobs.scripted import RunningJobs, job_of

QUESTION = Question(step="batch:0-9", type="map", messages=(), max_tokens=10)
NOON = datetime(2026, 1, 1, 13, tzinfo=timezone(timedelta(hours=1)))


def row(**exchanged: object) -> PassRow:
    exchange = Exchange()
    for name, value in exchanged.items():
        setattr(exchange, name, value)
    said = Said(answer=Answer(text="raw"), exchange=exchange, began=NOON, duration_ms=12.34)
    return pass_of(QUESTION, said, Answer(text="whole"), step="batch:0-9", number=3, flavor="fast")


def test_a_pass_has_what_the_exchange_tells() -> None:
    usage = Usage(100, 20, cached_tokens=7, reasoning_tokens=5)
    done = row(usage=usage, cost_usd=0.5, provider="main", upstream_model="gpt-4o")

    assert figures(done) == {
        "pass_number": 3,
        "pass_type": "map",
        "started_at": "2026-01-01T12:00:00.000Z",
        "completed_at": figures(done)["completed_at"],
        "duration_ms": 12.3,
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "cached_tokens": 7,
        "reasoning_tokens": 5,
        "cost": 0.5,
        "model": "gpt-4o",
        "provider": "main",
        "attempts": 1,
    }
    assert (done.output, done.flavor_name) == ("whole", "fast")
    assert done.completed_at.tzinfo is UTC


def test_a_call_that_nobody_counted_has_no_tokens_and_no_price() -> None:
    assert figures(row())["cost"] is None
    assert row().prompt_tokens == 0


def test_the_sum_knows_a_price_as_soon_as_one_is_known() -> None:
    unknown, known = row(usage=Usage(10, 1)), row(usage=Usage(10, 1), cost_usd=0.001)

    assert added(Totals(), unknown).cost_nusd is None
    assert added(added(Totals(), unknown), known).cost_nusd == 1_000_000
    assert added(added(Totals(), known), unknown).cost_nusd == 1_000_000
    assert added(added(Totals(), known), known).completion_tokens == 2


def test_a_call_that_failed_is_paid_for_but_is_no_pass() -> None:
    paid = wasted(added(Totals(), row(usage=Usage(10, 1), cost_usd=0.001)), Exchange(usage=Usage(5, 1), cost_usd=0.001))

    assert (paid.passes, paid.prompt_tokens, paid.cost_nusd) == (1, 15, 2_000_000)
    assert wasted(Totals(), Exchange()) == Totals()


def test_a_job_that_resumes_another_begins_with_what_that_one_has_cost() -> None:
    kept = RunningJobs().submit(job_of("text"), (row(usage=Usage(10, 1), cost_usd=0.001),))
    claimed = Claimed(lease=Lease(kept.row.id, 1), job=kept.row, text="", work=b"", passes=tuple(kept.passes))
    counted = structs.replace(kept.row, totals=Totals(passes=1, cost_nusd=2_000_000))

    assert totals_of(claimed).cost_nusd == 1_000_000
    assert totals_of(structs.replace(claimed, job=counted)).cost_nusd == 2_000_000


def test_steps_are_free_names_that_lead_back_to_their_question() -> None:
    assert free_step("batch:0-9", set(), number=1, rejected=False) == "batch:0-9"
    anew = free_step("batch:0-9", {"batch:0-9"}, number=4, rejected=False)
    none = free_step("batch:0-9", set(), number=4, rejected=True)

    assert question_step(anew) == "batch:0-9"
    assert question_step(none) == none != "batch:0-9"
