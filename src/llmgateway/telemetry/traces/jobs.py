"""The span of a job: the first of a trace of its own, which is as long as the job, linked to the request that made it.

Its ids follow from the job's, so that every worker that has a part in the job knows them.
"""

from datetime import datetime
from hashlib import sha256

from llmgateway.exchange import Trace
from llmgateway.telemetry.traces.context import new_span_id, read_traceparent
from llmgateway.telemetry.traces.span import INTERNAL, Attributes, Span


def pass_trace(job_id: str, traceparent: str | None) -> Trace:
    """Give the place of one of a job's calls: it is kept if the trace of the request is."""
    parent = None if traceparent is None else read_traceparent(traceparent.encode())
    return Trace(_trace_id(job_id), new_span_id(), _span_id(job_id), parent is not None and parent.sampled)


def job_span(
    job_id: str,
    traceparent: str | None,
    *,
    name: str,
    started: datetime,
    ended: datetime,
    attributes: Attributes,
    failed: bool,
) -> Span | None:
    """Make the span of a job that has ended; `None` where its trace is not kept."""
    parent = None if traceparent is None else read_traceparent(traceparent.encode())
    if parent is None or not parent.sampled:
        return None
    times = (int(started.timestamp() * 1e9), int(ended.timestamp() * 1e9))
    links = ((parent.trace_id, parent.span_id),)
    return Span(
        _trace_id(job_id),
        _span_id(job_id),
        0,
        f"job {name}",
        INTERNAL,
        *times,
        attributes,
        [],
        failed=failed,
        links=links,
    )


def trace_id_of(job_id: str) -> str:
    """Give the id of a job's trace as collectors show it."""
    return f"{_trace_id(job_id):032x}"


def _trace_id(job_id: str) -> int:
    return int.from_bytes(sha256(job_id.encode()).digest()[:16]) or 1


def _span_id(job_id: str) -> int:
    return int.from_bytes(sha256(job_id.encode()).digest()[16:24]) or 1
