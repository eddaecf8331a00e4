"""A job's span: of a trace of its own, linked to the request that made it, its passes below it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from llmgateway.exchange import Exchange
from llmgateway.telemetry.traces.jobs import job_span, pass_trace, trace_id_of
from llmgateway.telemetry.traces.span import INTERNAL
from llmgateway.telemetry.traces.spans import spans_of
from tests.api.ledger.books import ready
from tests.conftest import Serve
from tests.running import Running
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.otlp import Collected, attributes, http_collector
from tests.upstreams.server import Player

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
KEPT, NOT_KEPT = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
PLANTED = "the-violet-heron-4711"


def span_of(traceparent: str | None, *, failed: bool = False) -> Any:
    return job_span(
        "job",
        traceparent,
        name="summarize",
        started=BEGAN,
        ended=BEGAN + timedelta(seconds=2),
        attributes={"llmgateway.passes": 3},
        failed=failed,
    )


def test_a_job_is_the_first_span_of_its_own_trace_and_names_its_request() -> None:
    span = span_of(KEPT)

    assert (span.name, span.kind, span.parent_id) == ("job summarize", INTERNAL, 0)
    assert span.links == ((int(TRACE, 16), int(PARENT, 16)),)
    assert span.trace_id != int(TRACE, 16)
    assert f"{span.trace_id:032x}" == trace_id_of("job")
    assert span.ended_ns - span.started_ns == 2_000_000_000
    assert span.started_ns == int(BEGAN.timestamp()) * 1_000_000_000


@pytest.mark.parametrize("traceparent", [None, NOT_KEPT, "garbage"])
def test_a_job_is_kept_only_if_its_request_is(traceparent: str | None) -> None:
    assert span_of(traceparent) is None
    assert not pass_trace("job", traceparent).sampled


def test_every_worker_hangs_its_passes_below_the_same_span() -> None:
    one, other, anothers = (pass_trace(job, KEPT) for job in ("job", "job", "another"))

    span = span_of(KEPT)
    assert (one.trace_id, one.parent_id) == (other.trace_id, other.parent_id) == (span.trace_id, span.id)
    assert one.span_id != other.span_id
    assert anothers.trace_id != one.trace_id
    assert one.sampled


def test_a_pass_tells_its_fault_and_one_that_was_dropped_has_not_failed() -> None:
    spans = {}
    for code in (None, "provider_timeout", "client_closed_request"):
        exchange = Exchange(client_id="job", operation="chat", for_job=True, trace=pass_trace("job", KEPT))
        exchange.error_code = code
        (spans[code],) = spans_of(exchange)

    assert {span.name for span in spans.values()} == {"job.pass"}
    assert {code: span.failed for code, span in spans.items()} == {
        None: False,
        "provider_timeout": True,
        "client_closed_request": False,
    }
    assert spans["provider_timeout"].attributes["error.type"] == "provider_timeout"
    assert {span.attributes["llmgateway.job_id"] for span in spans.values()} == {"job"}
    assert not any(span.remote_parent for span in spans.values())


@pytest.fixture
def collected() -> Iterator[Collected]:
    with http_collector() as collecting:
        yield collecting


@pytest.fixture
async def traced(gateway: Serve, catalog: str, collected: Collected) -> Running:
    otel = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collected.endpoint}/v1/traces",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "20",
    }
    served = await gateway(catalog, environ=otel, retry__jobs__min_delay_s=0.01)
    await ready(served)
    return served


async def ordered(g: Running, headers: dict[str, str]) -> str:
    """Run a document service as a model, on a model of the catalog; gives the job's id."""
    flavor = {"name": "one", "model": "chat", "processing_mode": "single_pass"}
    made = await g.client.post("/api/v1/services", json={"name": "Traced", "flavors": [flavor]})
    assert made.status_code == 201, made.text
    answer = await g.openai.chat.completions.with_raw_response.create(
        model="service/traced", messages=[{"role": "user", "content": PLANTED}], extra_headers=headers
    )
    return str(answer.headers["x-job-id"])


async def test_a_request_its_job_and_the_jobs_calls_are_linked_in_the_collector(
    traced: Running, provider: Player, collected: Collected
) -> None:
    provider.script(OpenAIWire().error(500, "The server had an error"))
    job_id = await ordered(traced, {"traceparent": KEPT})
    names = ("POST /v1/chat/completions", "job traced", "job.pass")
    request, job, one = [await collected.named(name) for name in names]
    await collected.until(lambda: len(attempts(collected)) == 2)
    (generate,) = [
        span for span in collected.spans if span.name == "llm.generate" and span.parent_span_id == one.span_id
    ]

    assert request.trace_id.hex() == TRACE
    assert [(link.trace_id, link.span_id) for link in job.links] == [(request.trace_id, request.span_id)]
    assert (job.trace_id.hex(), job.parent_span_id) == (trace_id_of(job_id), b"")
    assert (one.trace_id, one.parent_span_id) == (job.trace_id, job.span_id)
    assert {span.parent_span_id for span in attempts(collected)} == {generate.span_id}
    assert sorted(span.status.code for span in attempts(collected)) == [
        Status.STATUS_CODE_UNSET,
        Status.STATUS_CODE_ERROR,
    ]
    assert [event.name for event in generate.events] == ["retry"]
    assert job.start_time_unix_nano <= one.start_time_unix_nano <= one.end_time_unix_nano <= job.end_time_unix_nano
    assert attributes(job.attributes) == {
        "llmgateway.job_id": job_id,
        "llmgateway.service": "traced",
        "llmgateway.flavor": "one",
        "llmgateway.job_status": "completed",
        "llmgateway.passes": 1,
    }
    assert all(PLANTED.encode() not in sent for sent in collected.raw)
    shown = (await traced.client.get(f"/api/v1/jobs/{job_id}")).json()
    assert shown["trace_id"] == job.trace_id.hex()


def attempts(collected: Collected) -> list[Span]:
    return [span for span in collected.spans if span.kind == Span.SPAN_KIND_CLIENT]


async def test_a_job_over_http_is_linked_to_its_request_and_one_that_fails_says_so(
    traced: Running, provider: Player, collected: Collected
) -> None:
    provider.always(OpenAIWire().error(400, "No such thing"))
    service = {"name": "Traced", "flavors": [{"name": "one", "model": "chat", "processing_mode": "single_pass"}]}
    assert (await traced.client.post("/api/v1/services", json=service)).status_code == 201

    accepted = await traced.client.post(
        "/api/v1/services/traced/execute", json={"input": PLANTED}, headers={"traceparent": KEPT}
    )

    job = await collected.named("job traced")
    assert accepted.status_code == 202
    assert [link.trace_id.hex() for link in job.links] == [TRACE]
    request = next(span for span in collected.spans if span.trace_id.hex() == TRACE and span.name == "POST")
    assert job.links[0].span_id == request.span_id
    assert job.status.code == Status.STATUS_CODE_ERROR
    assert attributes(job.attributes)["error.type"]


async def test_no_span_is_made_of_a_job_whose_request_is_not_kept(traced: Running, collected: Collected) -> None:
    await ordered(traced, {"traceparent": NOT_KEPT})
    await traced.openai.chat.completions.create(model="chat", messages=[{"role": "user", "content": "Hi"}])

    await collected.named("chat gpt-4o")
    assert not [span for span in collected.spans if "job" in span.name]
    assert len(attempts(collected)) == 1
