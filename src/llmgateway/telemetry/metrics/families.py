"""Every metric there is: its name, its kind, what it says, its labels and its buckets. Read it top to bottom.

Label values are bounded: `model` is a name that the catalog or LiteLLM's table has, else `other`; `provider` is an
account of the catalog, `none` where no attempt was made, unless none was because all deployments rest: then the first
one's; never a user or a key; an organization only of jobs, and of only so many that all others are `other`. A metric
whose label values are all known beforehand is there from the start, at 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from llmgateway.telemetry.metrics.figures import Across

Kind = Literal["counter", "gauge", "histogram"]
_NONE: Mapping[str, tuple[str, ...]] = MappingProxyType({})

# Bounds in seconds. Those of requests and tokens are OpenTelemetry's (GenAI semantic conventions 1.41).
DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
OVERHEAD = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
LAG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
JOB = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
TOKENS = tuple(float(4**power) for power in range(14))


@dataclass(frozen=True, slots=True)
class Family:
    """One metric.

    Args:
        buckets: A histogram's upper bounds.
        values: What a label can be, where that is known beforehand.
        across: How the gauges of several processes become one.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NONE)
    across: Across = "sum"


def _counter(name: str, text: str, *labels: str, **values: tuple[str, ...]) -> Family:
    return Family(name, "counter", text, (*labels, *values), values=values)


def _gauge(name: str, text: str, *labels: str, across: Across = "sum", **values: tuple[str, ...]) -> Family:
    return Family(name, "gauge", text, (*labels, *values), values=values, across=across)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str, **values: tuple[str, ...]) -> Family:
    return Family(name, "histogram", text, (*labels, *values), buckets, values)


FAMILIES: tuple[Family, ...] = (
    # What clients ask
    _counter(
        "llm_requests_total", "Model calls, however they ended", "operation", "model", "provider", "status", "stream"
    ),
    _histogram(
        "llm_request_duration_seconds",
        "From the request to the last byte of its answer",
        DURATION,
        "operation",
        "model",
        "provider",
        "stream",
    ),
    _histogram(
        "llm_time_to_first_token_seconds",
        "Streams: from the request to the provider's first event",
        FIRST_TOKEN,
        "operation",
        "model",
        "provider",
    ),
    _histogram(
        "llm_time_per_output_token_seconds",
        "Whole streams: from the first event to the last, for each token after the first",
        PER_TOKEN,
        "operation",
        "model",
        "provider",
    ),
    _histogram(
        "llm_overhead_seconds",
        "The gateway's own share: a request's time without its attempts",
        OVERHEAD,
        stream=("false", "true"),
    ),
    _gauge("llm_active_requests", "Model calls that run now"),
    _gauge("llm_active_streams", "Those of them that are streams"),
    _counter(
        "llm_client_disconnects_total",
        "Clients that left before their answer was complete",
        phase=("before_first_byte", "streaming"),
    ),
    # What it costs
    _counter(
        "llm_tokens_total",
        "Tokens; cached and cache_write are part of input, reasoning of output",
        "model",
        "provider",
        "kind",
    ),
    _counter("llm_cost_usd_total", "US dollars, where the price is known", "model", "provider"),
    _counter(
        "llm_price_unknown_total", "Model calls whose cost is unknown, because their price is", "model", "provider"
    ),
    _counter(
        "llm_usage_estimated_total",
        "Model calls whose tokens were counted here, because the provider told none",
        "model",
        "provider",
    ),
    # What providers do
    _counter(
        "llm_attempts_total",
        "Attempts at providers; outcome is ok, cancelled or an error's code",
        "provider",
        "model",
        "outcome",
    ),
    _histogram(
        "llm_attempt_duration_seconds", "From an attempt's begin to its last byte", DURATION, "provider", "model"
    ),
    _counter("llm_retries_total", "Attempts at the same deployment once more", "provider"),
    _counter(
        "llm_failovers_total",
        "Calls that went on to another deployment, by the provider that had failed and the error's code",
        "provider",
        "cause",
    ),
    _counter("llm_fallbacks_total", "Calls that went on to another model, by the error's code", "from", "to", "reason"),
    _counter(
        "llm_hedges_total",
        "Calls that a second deployment was asked beside the first, why, and whether it was faster",
        "model",
        kind=("hedge", "silence", "probe"),
        result=("won", "lost"),
    ),
    _counter(
        "llm_rescues_total",
        "Streams that broke and another deployment was asked to go on with",
        "model",
        result=("ok", "failed"),
    ),
    _counter("llm_streams_truncated_total", "Streams that broke off after their first event", "provider"),
    _gauge("llm_upstream_connections", "Connections to providers", "provider", state=("idle", "busy")),
    _gauge(
        "llm_circuit_state", "Of the worst deployment: 0 closed, 1 half open, 2 open", "provider", "model", across="max"
    ),
    _counter(
        "llm_circuit_openings_total",
        "Deployments that were left alone for a while",
        "provider",
        cause=("failures", "rate_limit", "auth", "quota"),
    ),
    # What the gateway decides
    _counter(
        "llm_rate_limit_decisions_total", "Calls that a limit let through or held back", decision=("allowed", "limited")
    ),
    _counter(
        "llm_cache_requests_total", "Model calls by what the cache did", result=("hit", "miss", "bypass", "coalesced")
    ),
    _gauge("llm_budget_used_ratio", "Of the budget that is used up most, 1 is all", across="max"),
    _counter(
        "llm_budget_alerts_total",
        "Alerts that a budget is used up so far",
        threshold=("soft", "50", "80", "100"),
    ),
    _counter(
        "llm_sensitivity_decisions_total",
        "Model calls that were looked at, by what was done",
        action=("none", "reroute", "refuse", "redact"),
    ),
    _gauge("llm_cache_entries", "Answers that are kept", across="max"),
    _gauge("llm_cache_size_bytes", "What they take", across="max"),
    _gauge("llm_redis_up", "1 while Redis answers, or none is configured", across="min"),
    _counter("llm_redis_failures_total", "Round trips to Redis that failed"),
    _counter("llm_limits_guessed_total", "Calls that were counted per process, because Redis was away"),
    _counter("llm_audit_entries_lost_total", "Decisions that could not be written into the audit log"),
    # Jobs
    _gauge("llm_queue_depth", "Jobs that wait", across="max", priority=tuple(map(str, range(10)))),
    _gauge("llm_jobs_running", "Jobs that run now"),
    _histogram("llm_job_wait_seconds", "From a job's submission to its start", JOB, "service"),
    _histogram("llm_job_duration_seconds", "From a job's first start to its end", JOB, "service"),
    _counter("llm_jobs_total", "Jobs that ended", "service", outcome=("completed", "failed", "cancelled")),
    _counter("llm_job_passes_total", "Calls of models that jobs have made", "service", "type"),
    _counter("llm_job_tokens_total", "Tokens of jobs", "service", "organization", kind=("input", "output")),
    _counter("llm_job_cost_usd_total", "US dollars of jobs, where prices are known", "service", "organization"),
    # The gateway itself
    _gauge("llm_build_info", "Always 1; the labels say what runs", "version", "python", across="max"),
    _gauge("llm_workers", "Processes that are alive"),
    _gauge("llm_start_time_seconds", "When the gateway was started, seconds since 1970", across="min"),
    _histogram("llm_event_loop_lag_seconds", "How much later than due a timer runs, looked at twice a second", LAG),
    _counter("llm_config_reloads_total", "Times a process read the changed catalog", result=("ok", "failed")),
    _gauge(
        "llm_config_reload_failed", "1 while the catalog's file is faulty and the previous one serves", across="max"
    ),
    _counter(
        "llm_ledger_entries_total",
        "Entries of the usage ledger: written down, in the database, lost",
        result=("journaled", "shipped", "lost"),
    ),
    _gauge("llm_ledger_backlog_bytes", "Entries that are not in the database yet"),
    _gauge("llm_ledger_backlog_seconds", "Age of the oldest entry that is not in the database yet", across="max"),
    _gauge("llm_database_up", "1 while the database answers", across="min"),
    _counter(
        "llm_spans_total",
        "Spans of traces that were handed over, and those that could not be",
        result=("exported", "dropped"),
    ),
    _counter("llm_log_lines_dropped_total", "Log lines that nobody took in time"),
    _counter("process_cpu_seconds_total", "Processor time of all web processes, seconds"),
    _gauge("process_resident_memory_bytes", "Memory of all web processes, bytes"),
    _gauge("process_open_fds", "Open files of all web processes"),
)

# The names that tools for language models look for, sent over OTLP only (GenAI semantic conventions 1.41). The labels
# stand for `gen_ai.operation.name`, `gen_ai.provider.name`, `gen_ai.request.model`, `error.type`, `gen_ai.token.type`.
GENAI: tuple[Family, ...] = (
    _histogram(
        "gen_ai.client.operation.duration",
        "GenAI operation duration",
        DURATION,
        "operation",
        "provider",
        "model",
        "error",
    ),
    _histogram(
        "gen_ai.client.operation.time_to_first_chunk",
        "Time to receive the first chunk",
        DURATION,
        "operation",
        "provider",
        "model",
    ),
    _histogram(
        "gen_ai.client.token.usage",
        "Number of input and output tokens used",
        TOKENS,
        "operation",
        "provider",
        "model",
        "token",
    ),
    _histogram(
        "gen_ai.server.request.duration",
        "Generative AI server request duration",
        DURATION,
        "operation",
        "provider",
        "model",
        "error",
    ),
)

ACROSS: Mapping[str, Across] = {family.name: family.across for family in FAMILIES}
