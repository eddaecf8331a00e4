"""What is told of jobs: figures, a line in the log at the start and the end of each, and its span."""

from datetime import UTC, datetime

from structlog.typing import FilteringBoundLogger

from llmgateway.storage.jobs.rows import ENDED, JobRow, PassRow
from llmgateway.telemetry.metrics.series import Series
from llmgateway.telemetry.traces.export import Traces
from llmgateway.telemetry.traces.jobs import job_span
from llmgateway.telemetry.traces.span import Attributes

_NOBODY = "none"
_NUSD = 1e9


class Telling:
    """Tells metrics, log and traces of jobs; the event loop's thread only."""

    def __init__(self, series: Series, traces: Traces, logger: FilteringBoundLogger) -> None:
        self._series = series
        self._traces = traces
        self._logger = logger

    def submitted(self, job: JobRow) -> None:
        """A job waits."""
        self._foresee(job)
        self._logger.info("job_submitted", **_names(job), input_tokens=job.input_tokens)

    def started(self, job: JobRow, waited_s: float | None) -> None:
        """A worker has taken a job.

        Args:
            waited_s: Since its submission; `None` when it goes on where another worker stopped.
        """
        self._foresee(job)
        if waited_s is not None:
            waited_s = round(max(0.0, waited_s), 3)
            self._series.histogram("llm_job_wait_seconds", job.service_route).observe(waited_s)
        self._logger.info("job_started", **_names(job), waited_s=waited_s, kills=job.kills)

    def passed(self, job: JobRow, done: PassRow) -> None:
        """One call is done and written down."""
        series, route = self._series, job.service_route
        labels = (route, job.organization_id or _NOBODY)
        series.counter("llm_job_passes_total", route, done.type).value += 1
        series.counter("llm_job_tokens_total", *labels, "input").value += done.prompt_tokens
        series.counter("llm_job_tokens_total", *labels, "output").value += done.completion_tokens
        if done.cost_nusd is not None:
            series.counter("llm_job_cost_usd_total", *labels).value += done.cost_nusd / _NUSD

    def ended(self, job: JobRow) -> None:
        """A job has ended."""
        running_s = _running_s(job)
        self._series.counter("llm_jobs_total", job.service_route, job.status).value += 1
        if running_s is not None:
            self._series.histogram("llm_job_duration_seconds", job.service_route).observe(running_s)
        fault = None if job.fault is None else job.fault.code
        self._logger.info(
            "job_ended",
            **_names(job),
            status=job.status,
            error=fault,
            running_s=running_s,
            passes=job.totals.passes,
            tokens=job.totals.prompt_tokens + job.totals.completion_tokens,
            cost_usd=None if job.totals.cost_nusd is None else job.totals.cost_nusd / _NUSD,
        )
        self._trace(job, fault)

    def _foresee(self, job: JobRow) -> None:
        """Show every outcome at 0 before the first: a counter that begins at 1 has not risen, as Prometheus sees it."""
        for outcome in sorted(ENDED):
            self._series.counter("llm_jobs_total", job.service_route, outcome)

    def _trace(self, job: JobRow, fault: str | None) -> None:
        attributes: Attributes = {
            "llmgateway.job_id": job.id,
            "llmgateway.service": job.service_route,
            "llmgateway.flavor": job.records.final_flavor_name or job.flavor_name,
            "llmgateway.job_status": job.status,
            "llmgateway.passes": job.totals.passes,
        }
        if fault is not None:
            attributes["error.type"] = fault
        span = job_span(
            job.id,
            job.origin.trace,
            name=job.service_route,
            started=job.started_at or job.created_at,
            ended=job.completed_at or datetime.now(UTC),
            attributes=attributes,
            failed=job.status == "failed",
        )
        if span is not None:
            self._traces.take([span])


def _running_s(job: JobRow) -> float | None:
    """Give the seconds from a job's first start to its end; `None` when no worker had it."""
    if job.started_at is None:
        return None
    return round(max(0.0, ((job.completed_at or datetime.now(UTC)) - job.started_at).total_seconds()), 3)


def _names(job: JobRow) -> dict[str, object]:
    return {
        "job_id": job.id,
        "service": job.service_route,
        "flavor": job.flavor_name,
        "organization_id": job.organization_id,
        "priority": job.priority,
        "request_id": job.origin.request_id,
    }
