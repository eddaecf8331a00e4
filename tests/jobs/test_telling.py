"""What metrics, log and traces are told of jobs."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from msgspec import structs

from llmgateway.caller import ANYONE
from llmgateway.jobs.telling import Telling
from llmgateway.storage.jobs.rows import JobFault, JobRow, Origin, PassRow, Totals
from llmgateway.telemetry.metrics.families import FAMILIES
from llmgateway.telemetry.metrics.series import Series
from llmgateway.telemetry.traces.export import Traces
from llmgateway.telemetry.traces.span import Span
from tests.lines import Lines

KEPT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CREATED = datetime(2026, 1, 1, tzinfo=UTC)
STARTED = CREATED + timedelta(seconds=3)
ENDED = STARTED + timedelta(seconds=40)
JOB = JobRow(
    id="0198f0c2-7c1e-7a51-9d7b-3f2a6c1e8b40",
    service_id="service",
    service_name="Summarize",
    service_route="summarize",
    flavor_id="flavor",
    flavor_name="iterative",
    organization_id="acme",
    status="queued",
    priority=3,
    origin=Origin(caller=ANYONE, request_id="req_1", trace=KEPT),
    created_at=CREATED,
    preview="the-violet-heron-4711",
    input_tokens=1234,
)
DONE = structs.replace(
    JOB,
    status="completed",
    started_at=STARTED,
    completed_at=ENDED,
    totals=Totals(passes=2, prompt_tokens=90, completion_tokens=10, cost_nusd=5_000_000),
    result="the-violet-heron-4711",
)
PASS = PassRow(
    step="batch:0-3",
    number=1,
    type="initial",
    started_at=STARTED,
    completed_at=ENDED,
    duration_ms=40_000.0,
    prompt_tokens=90,
    completion_tokens=10,
    cost_nusd=2_500_000,
    output="the-violet-heron-4711",
)


class Kept:
    """Takes spans."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def take(self, spans: Sequence[Span]) -> None:
        self.spans += spans


class Ears:
    """All that is told."""

    def __init__(self, lines: Lines) -> None:
        self.series, self.traces, self.lines = Series(FAMILIES), Kept(), lines
        self.telling = Telling(self.series, cast("Traces", self.traces), lines.logger)

    def counted(self, name: str) -> dict[tuple[str, ...], float]:
        return self.series.counters()[name]

    def measured(self, name: str) -> dict[tuple[str, ...], tuple[int, float]]:
        return {labels: (sum(counts), total) for labels, (counts, total) in self.series.histograms()[name].items()}


@pytest.fixture
def ears(lines: Lines) -> Ears:
    return Ears(lines)


def test_a_jobs_life_is_counted_measured_and_told(ears: Ears) -> None:
    ears.telling.submitted(JOB)
    ears.telling.started(structs.replace(JOB, started_at=STARTED), 3.0)
    ears.telling.passed(JOB, PASS)
    ears.telling.passed(JOB, structs.replace(PASS, type="reduce", cost_nusd=None))
    ears.telling.ended(DONE)

    assert ears.counted("llm_jobs_total")["summarize", "completed"] == 1
    assert ears.counted("llm_job_passes_total") == {("summarize", "initial"): 1, ("summarize", "reduce"): 1}
    assert ears.counted("llm_job_tokens_total") == {
        ("summarize", "acme", "input"): 180,
        ("summarize", "acme", "output"): 20,
    }
    assert ears.counted("llm_job_cost_usd_total") == {("summarize", "acme"): 0.0025}
    assert ears.measured("llm_job_wait_seconds") == {("summarize",): (1, 3.0)}
    assert ears.measured("llm_job_duration_seconds") == {("summarize",): (1, 40.0)}
    submitted, started, done = ears.lines.all()
    assert [line["event"] for line in (submitted, started, done)] == ["job_submitted", "job_started", "job_ended"]
    for line in (submitted, started, done):
        named = (line["job_id"], line["service"], line["flavor"], line["organization_id"], line["request_id"])
        assert named == (JOB.id, "summarize", "iterative", "acme", "req_1")
    assert (submitted["input_tokens"], started["waited_s"], started["kills"]) == (1234, 3.0, 0)
    told = (done["status"], done["error"], done["running_s"], done["passes"], done["tokens"], done["cost_usd"])
    assert told == ("completed", None, 40.0, 2, 100, 0.005)


def test_every_outcome_is_there_at_0_before_the_first_job_has_ended(ears: Ears) -> None:
    ears.telling.submitted(JOB)

    zero = {("summarize", outcome): 0 for outcome in ("completed", "failed", "cancelled")}
    assert ears.counted("llm_jobs_total") == zero


def test_a_job_that_goes_on_elsewhere_has_not_waited_again(ears: Ears) -> None:
    ears.telling.started(structs.replace(JOB, started_at=STARTED, kills=1), None)

    assert ears.measured("llm_job_wait_seconds") == {}
    (line,) = ears.lines.all()
    assert (line["waited_s"], line["kills"]) == (None, 1)


def test_clocks_that_differ_make_no_time_negative(ears: Ears) -> None:
    ears.telling.started(JOB, -0.5)
    ears.telling.ended(structs.replace(DONE, completed_at=CREATED))

    assert ears.measured("llm_job_wait_seconds") == {("summarize",): (1, 0.0)}
    assert ears.measured("llm_job_duration_seconds") == {("summarize",): (1, 0.0)}


def test_a_job_that_nobody_began_has_no_running_time(ears: Ears) -> None:
    ears.telling.ended(structs.replace(DONE, status="cancelled", started_at=None))

    assert ears.counted("llm_jobs_total") == {("summarize", "cancelled"): 1}
    assert ears.measured("llm_job_duration_seconds") == {}
    assert ears.lines.all()[0]["running_s"] is None


def test_jobs_of_nobody_and_calls_that_cost_nothing_are_counted_too(ears: Ears) -> None:
    ears.telling.passed(structs.replace(JOB, organization_id=None), structs.replace(PASS, cost_nusd=0))

    assert ears.counted("llm_job_cost_usd_total") == {("summarize", "none"): 0.0}


def test_organizations_and_services_without_end_are_counted_together(lines: Lines) -> None:
    ears = Ears(lines)
    ears.series = Series(FAMILIES, most=6)
    telling = Telling(ears.series, cast("Traces", ears.traces), lines.logger)

    for number in range(50):
        telling.passed(
            structs.replace(JOB, organization_id=f"organization-{number}", service_route=f"service-{number}"), PASS
        )

    tokens = ears.counted("llm_job_tokens_total")
    assert len(tokens) <= 8
    assert sum(tokens.values()) == 50 * 100
    assert tokens["other", "other", "input"] > 0


def test_the_span_names_the_flavor_that_came_to_the_end_and_the_fault(ears: Ears) -> None:
    failed = structs.replace(
        DONE,
        status="failed",
        fault=JobFault("provider_timeout", "The time ran out."),
        records=structs.replace(DONE.records, final_flavor_name="spare"),
    )

    ears.telling.ended(failed)

    (span,) = ears.traces.spans
    assert span.failed
    assert span.attributes == {
        "llmgateway.job_id": JOB.id,
        "llmgateway.service": "summarize",
        "llmgateway.flavor": "spare",
        "llmgateway.job_status": "failed",
        "llmgateway.passes": 2,
        "error.type": "provider_timeout",
    }
    assert ears.lines.all()[0]["error"] == "provider_timeout"


@pytest.mark.parametrize("trace", [None, KEPT.removesuffix("01") + "00"])
def test_no_span_is_made_where_the_request_was_not_kept(ears: Ears, trace: str | None) -> None:
    ears.telling.ended(structs.replace(DONE, origin=Origin(caller=ANYONE, trace=trace)))

    assert ears.traces.spans == []


def test_the_document_and_its_result_are_told_to_nobody(ears: Ears) -> None:
    ears.telling.submitted(JOB)
    ears.telling.started(JOB, 1.0)
    ears.telling.passed(JOB, PASS)
    ears.telling.ended(DONE)

    assert "violet" not in str((ears.lines.all(), ears.traces.spans, ears.series.counters()))
