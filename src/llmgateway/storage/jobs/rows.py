"""Jobs as values: read by rooms that need no database library. Times are in UTC, money in billionths of a dollar."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from llmgateway.caller import Caller

Status = Literal["queued", "started", "processing", "completed", "failed", "cancelled"]
LIVE: frozenset[Status] = frozenset({"queued", "started", "processing"})
ENDED: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})
EventType = Literal["status_change", "progress", "output", "retry", "failover", "error", "complete"]


class JobFault(Struct, frozen=True):
    """Why a job failed."""

    code: str
    message: str


class FailoverStep(Struct, frozen=True):
    """One change of flavor during a run: from which, and why."""

    flavor: str
    reason: str


class Records(Struct, frozen=True, kw_only=True):
    """How a job came to the flavor that ran, before its start (fallback) and during its run (failover)."""

    fallback_applied: bool = False
    original_flavor_id: str | None = None
    original_flavor_name: str | None = None
    fallback_reason: str | None = None
    failover_applied: bool = False
    failover_chain: tuple[FailoverStep, ...] = ()
    failover_reason: str | None = None
    final_flavor_name: str | None = None


class Progress(Struct, frozen=True, kw_only=True):
    """How far a job is; `percentage` never goes back."""

    current: int = 0
    total: int = 0
    percentage: float = 0.0
    phase: Literal["processing", "reducing", "extracting", "categorizing"] | None = None
    current_batch: int = 0
    total_batches: int = 0
    completed_turns: int = 0
    total_turns: int = 0
    estimated_seconds_remaining: float | None = None


class Totals(Struct, frozen=True, kw_only=True):
    """Of all passes together. `cost_nusd` `None`: no price is known."""

    passes: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    duration_ms: float = 0.0
    cost_nusd: int | None = 0


class Origin(Struct, frozen=True, kw_only=True):
    """Where a job comes from, and under which names it is found again.

    Args:
        caller: Whoever ordered it, without any secret; its key is looked up anew before each run.
        scope: Whose idempotency keys and repeats are one: the key's id, or the organization in auth mode none.
        idempotency_key: Together with the path, as `<path> <key>`; `body_digest` tells another body.
        joins: Digest of an order that, sent again while this job lives, gets this job; `None` is none.
        trace: `traceparent` of the request that ordered it.
        from_job: The job that this one repeats or resumes.
        inherited: What the passes took that it begins with: that job has paid for them.
    """

    caller: Caller
    scope: str = ""
    idempotency_key: str | None = None
    body_digest: str | None = None
    joins: str | None = None
    request_id: str | None = None
    trace: str | None = None
    from_job: str | None = None
    inherited: Totals = Totals()


class NewJob(Struct, frozen=True, kw_only=True):
    """A job as it is ordered.

    Args:
        work: Everything a run needs beside the text: recipes with their prompts, the plan, extras (`jobs/work.py`).
        text: The document, read.
        webhook_url: Told of the end.
        ttl_s: Deleted so long after its end; `None` is never.
    """

    id: str
    service_id: str
    service_name: str
    service_route: str
    flavor_id: str
    flavor_name: str
    priority: int
    text: str
    work: bytes
    origin: Origin
    created_at: datetime
    organization_id: str | None = None
    input_tokens: int = 0
    input_file_name: str | None = None
    records: Records = Records()
    progress: Progress = Progress()
    metadata: Mapping[str, Any] = {}
    webhook_url: str | None = None
    ttl_s: int | None = None


class JobRow(Struct, frozen=True, kw_only=True):
    """A job as it stands, without its document and without `work`.

    Args:
        preview: The first 500 characters of the document.
        result: The current version's content; of a job that was cancelled or failed, as much as there is.
        partial: What of the result is final already and was shown (it grows; the result begins with it).
        events: The id of its last event.
        kills: How many workers it has outlived.
    """

    id: str
    service_id: str
    service_name: str
    service_route: str
    flavor_id: str
    flavor_name: str
    organization_id: str | None
    status: Status
    priority: int
    origin: Origin
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    preview: str = ""
    input_chars: int = 0
    input_tokens: int = 0
    input_file_name: str | None = None
    records: Records = Records()
    progress: Progress = Progress()
    totals: Totals = Totals()
    warnings: tuple[str, ...] = ()
    fault: JobFault | None = None
    result: str | None = None
    partial: str = ""
    current_version: int = 0
    metadata: Mapping[str, Any] = {}
    webhook_url: str | None = None
    ttl_s: int | None = None
    events: int = 0
    kills: int = 0


class PassRow(Struct, frozen=True, kw_only=True):
    """One call of a model that is done and paid for: it is never made again.

    Args:
        step: Names it within its job.
        number: From 1, in the order of their ends.
        output, finish_reason, refusal: What came back.
    """

    step: str
    number: int
    type: str
    started_at: datetime
    completed_at: datetime
    duration_ms: float
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nusd: int | None = None
    model: str | None = None
    provider: str | None = None
    attempts: int = 1
    flavor_name: str = ""
    request_id: str | None = None
    output: str = ""
    finish_reason: str = "stop"
    refusal: str | None = None


class EventRow(Struct, frozen=True):
    """One event of a job; `body` is JSON, whole, in the contract's shape."""

    id: int
    body: bytes


class Lease(Struct, frozen=True):
    """The right to change a job, until it runs out or somebody else takes it: `fence` grows with each."""

    job_id: str
    fence: int


class Claimed(Struct, frozen=True, kw_only=True):
    """A job that is this worker's now, with all that it needs to go on where another one stopped."""

    lease: Lease
    job: JobRow
    text: str
    work: bytes
    passes: tuple[PassRow, ...] = ()


class Step(Struct, frozen=True, kw_only=True):
    """What changes in one commit of a running job; what is `None` stays as it is.

    Args:
        events: In order: `event_type` and what is of its own (`retry_info`, `current_pass_metrics`, `output`, `result`,
            `error`). The storage puts in `id`, `job_id`, `timestamp`, `status`, `progress` and `cumulative_metrics`,
            as they are after this commit, and null for what is not given.
        output: Text that is final from now on, appended to `partial`.
    """

    status: Status | None = None
    passes: tuple[PassRow, ...] = ()
    events: tuple[Mapping[str, Any], ...] = ()
    progress: Progress | None = None
    totals: Totals | None = None
    records: Records | None = None
    work: bytes | None = None
    output: str = ""
    warnings: tuple[str, ...] | None = None
    fault: JobFault | None = None
    result: str | None = None


class VersionRow(Struct, frozen=True, kw_only=True):
    """A result as it was at one time; the last ten and always the first are kept."""

    number: int
    content: str
    created_by: str
    created_at: datetime


class Wanted(Struct, frozen=True, kw_only=True):
    """Which jobs: `organization_id` is looked at unless `everyone`, and `None` is those without one."""

    organization_id: str | None = None
    everyone: bool = False
    status: Status | None = None
    service_id: str | None = None
    key_id: str | None = None


class Hook(Struct, frozen=True, kw_only=True):
    """A webhook that is due: which job's, where to, how often it was tried."""

    job_id: str
    url: str
    tries: int
    since: datetime


class Swept(Struct, frozen=True, kw_only=True):
    """What a sweep found: jobs to announce (queued ones and those whose worker died), and those given up."""

    queued: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


class FencedError(Exception):
    """Somebody else has the job by now, or it has ended: whoever holds this lease stops at once."""


class RepeatedError(ValueError):
    """The idempotency key was sent with another body."""
