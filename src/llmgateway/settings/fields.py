"""Every setting: its path, type, default and what it is for. The environment names follow from the paths."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

PREFIX = "LLMGATEWAY_"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def _split(text: object) -> object:
    if isinstance(text, str):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def _expressions(text: object) -> object:
    """Read a JSON list, or one expression a line: within an expression a comma says something."""
    if not isinstance(text, str):
        return text
    if re.match(r'\[\s*"', text) is None:
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    try:
        found = json.loads(text)
    except ValueError:
        raise ValueError("no JSON list: write each backslash twice, or one expression a line without quotes") from None
    return tuple(found)


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Expressions = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_expressions)]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(_split)]
Origins = Annotated[tuple[Annotated[str, Field(pattern=r"^(\*|https?://[^/\s]+)$")], ...], BeforeValidator(_split)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


def _setting(default: Any, description: str, example: str | None = None, **limits: Any) -> Any:
    """Describe one setting; `example` is what a right value looks like when the default does not show it."""
    return Field(default, description=description, examples=[example] if example else None, **limits)


def _secret(default: Any, description: str, example: str, **limits: Any) -> Any:
    """Describe a setting whose value is never shown and may stand in a file named by `<NAME>_FILE`."""
    return _setting(default, description, example, repr=False, json_schema_extra={"secret": True}, **limits)


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Auth(_Group):
    """Who may call."""

    mode: Literal["none", "gateway", "client", "hybrid"] = _setting(
        "none", "none: whoever reaches it; gateway: shared keys; client: own keys; hybrid: both"
    )
    gateway_keys: Secrets = _secret((), "Shared keys of mode gateway and hybrid", "first-key,second-key")


class JobRetry(_Group):
    """Retries of document jobs."""

    max_retries: int = _setting(6, "Retries of a document job after its first try", ge=0)
    min_delay_s: Seconds = _setting(1.0, "First wait before a job's retry, seconds")
    max_delay_s: Seconds = _setting(60.0, "Longest wait before a job's retry, seconds")


class Retry(_Group):
    """Retries of one call at the same deployment."""

    max_retries: int = _setting(2, "Retries after the first try, same deployment", ge=0)
    min_delay_s: Seconds = _setting(0.5, "First wait before a retry, seconds")
    max_delay_s: Seconds = _setting(30.0, "Longest wait before a retry, seconds")
    factor: float = _setting(2.0, "Each wait is this many times the one before", ge=1)
    jitter: bool = _setting(True, "Wait a random part of each delay, so that clients do not return together")
    jobs: JobRetry = JobRetry()


class Cache(_Group):
    """Answers kept for the same question."""

    enabled: bool = _setting(True, "Keep answers and give them again")
    mode: Literal["deterministic", "all", "opt_in"] = _setting("deterministic", "Which answers are kept")
    ttl_s: Seconds = _setting(3600.0, "How long an answer is kept, seconds")
    max_bytes: Count = _setting(256 * 1024**2, "Memory for kept answers, bytes")
    max_entries: Count | None = _setting(None, "Most answers kept; unset: only max_bytes counts", "10000")
    scope: Literal["organization", "key", "global"] = _setting(
        "organization", "Who shares kept answers; global: everybody, whoever asked first"
    )


class Limits(_Group):
    """Rate limits for callers."""

    enabled: bool | None = _setting(None, "Limit callers; unset: off in auth mode none, on otherwise", "true")
    default_tier: str = _setting("default", "Tier of keys that name none")
    requests_per_minute: Count | None = _setting(None, "Of the default tier; unset: the catalog's", "60")
    requests_per_hour: Count | None = _setting(None, "Of the default tier; unset: the catalog's", "1000")
    tokens_per_minute: Count | None = _setting(None, "Of the default tier; unset: the catalog's", "100000")
    burst: Count | None = _setting(None, "Requests at once above the rate; unset: the catalog's", "10")
    cooldown_s: Annotated[float, Field(ge=0)] | None = _setting(
        None, "Rest after many refusals, seconds; unset: the catalog's", "60"
    )
    fail_open: bool = _setting(True, "While Redis is away: count per process; false: refuse calls with 503")
    unpriced: Literal["deny", "allow"] = _setting("deny", "Models without a price, for callers with a budget")


class Idempotency(_Group):
    """Answers kept for requests that are sent twice."""

    ttl_s: Seconds = _setting(86_400.0, "How long an Idempotency-Key is remembered, seconds")
    max_bytes: Count = _setting(64 * 1024**2, "Memory for such answers without Redis, bytes")


class Sensitivity(_Group):
    """What is done with sensitive prompts."""

    enabled: bool = _setting(False, "Look for personal data and secrets in prompts")
    threshold: float = _setting(0.7, "Score from which a prompt counts as sensitive, 0 to 1", ge=0, le=1)
    action: Literal["reroute", "refuse", "redact"] = _setting("reroute", "What is done with a sensitive prompt")
    patterns: Expressions = _setting(
        (),
        "Further regular expressions (RE2) of what is secret: one a line, or a JSON list",
        r'["EMP-\\d{6}", "ACME-[A-Z]{2,8}"]',
    )
    keywords: Names = _setting((), "Further words that make a prompt sensitive", "salary,diagnosis")
    secure_only_models: Names = _setting(
        (), "Models that may see sensitive prompts; unset: by security_level", "ollama/llama3.2"
    )


class Audit(_Group):
    """What is written down about calls."""

    content: Literal["none", "redacted", "full"] = _setting("none", "Whether prompts and answers are written down")


class Ledger(_Group):
    """What is kept of every request: its tokens and cost, never its content."""

    retention_days: int = _setting(365, "How long the usage ledger is kept, days; 0 keeps it for ever", ge=0)


class Jobs(_Group):
    """How soon a job goes on whose worker died."""

    lease_s: float = _setting(15.0, "A dead worker's job is free after this, seconds; same for all", ge=1, le=600)
    sweep_s: Seconds = _setting(5.0, "How often each process looks for waiting jobs and dead workers, seconds")


class Settings(_Group):
    """Every setting of a process, by its path; the environment name is `LLMGATEWAY_` and the path with `__`."""

    host: str = _setting("127.0.0.1", "Address to listen on; 0.0.0.0 for every interface")
    port: int = _setting(8000, "Port to listen on; 0 takes a free one", ge=0, le=65535)
    worker_port: int = _setting(
        8001, "Port of `llmgateway worker`: its health and figures; 0 takes a free one", ge=0, le=65535
    )
    workers: int = _setting(1, "Web processes", ge=1, le=256)
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "Least severity that is logged")
    log_format: Literal["auto", "json", "console"] = _setting("auto", "auto: console on a terminal, json otherwise")
    catalog: Path = _setting(Path("gateway.yaml"), "The catalog: providers and models on offer")
    data_dir: Path = _setting(Path("data"), "Where files and the SQLite database are kept")
    database_url: str | None = _secret(
        None,
        "Database; unset: SQLite in data_dir",
        "postgresql://user@db:5432/llmgateway",
        pattern=r"^(sqlite|postgres(ql)?)(\+\w+)?://",
    )
    redis_url: str | None = _secret(
        None,
        "Redis shared by all processes; unset: memory of each",
        "redis://redis:6379/0",
        pattern=r"^rediss?://",
    )
    queue_url: str | None = _secret(
        None, "Queue for jobs; unset: redis_url", "amqp://queue:5672", pattern=r"^(redis|amqp)s?://[^/?#\s]+"
    )
    embedded_worker: Literal["auto", "on", "off"] = _setting("auto", "Run jobs inside serve; auto: without a queue URL")
    worker_processes: int = _setting(1, "Processes of `llmgateway worker`", ge=1, le=256)
    worker_threads: Count = _setting(8, "Jobs at once in a worker process")
    encryption_keys: Secrets = _secret(
        (), "The first encrypts, all decrypt; unset: a key file in data_dir", "new-key,old-key"
    )
    admin_key: SecretStr | None = _secret(None, "Key for /admin; unset: no admin", "at-least-32-random-characters...")
    metrics_key: SecretStr | None = _secret(None, "Key for /metrics and /health/detailed", "a-random-key")
    cors_origins: Origins = _setting((), "Web origins that may call, or *; unset: none", "https://app.example.com")
    max_body_bytes: Count = _setting(20 * 1024**2, "Longest request body, bytes")
    max_inflight_body_bytes: Count = _setting(512 * 1024**2, "All bodies in memory together, bytes; then 503")
    max_concurrent_requests: Count = _setting(4000, "Requests at once in one process; then 503 with Retry-After")
    request_timeout_s: Seconds = _setting(590.0, "Longest time for one request, seconds; just under the SDKs' 600")
    first_token_timeout_s: Seconds = _setting(300.0, "Longest wait for a stream's first event, seconds")
    stream_idle_timeout_s: Seconds = _setting(60.0, "Longest silence inside a stream, seconds")
    stream_commit_after_s: Seconds = _setting(
        15.0, "A stream's 200 is held back this long for its first event, seconds"
    )
    connect_timeout_s: Seconds = _setting(5.0, "Longest wait for a connection to a provider, seconds")
    silence_s: float = _setting(
        2.5, "Shortest silence of a deployment after which the next is asked beside it, seconds; 0: never", ge=0
    )
    shutdown_grace_s: float = _setting(30.0, "Time for running requests after SIGTERM, seconds", ge=0)
    openai_use_responses_api: bool = _setting(False, "Ask OpenAI through its Responses API")
    prometheus: bool = _setting(True, "Serve /metrics")
    propagate_trace: bool = _setting(False, "Send traceparent and baggage on to providers of OpenAI's wire")
    slow_request_s: Seconds = _setting(10.0, "From here on a request is listed as slow, seconds")
    auth: Auth = Auth()
    retry: Retry = Retry()
    cache: Cache = Cache()
    limits: Limits = Limits()
    idempotency: Idempotency = Idempotency()
    sensitivity: Sensitivity = Sensitivity()
    audit: Audit = Audit()
    ledger: Ledger = Ledger()
    jobs: Jobs = Jobs()

    otel: Mapping[str, str] = _setting({}, "OTEL_*, as OpenTelemetry defines them", repr=False)
    sources: Mapping[str, str] = _setting({}, "Setting path -> environment name it was read from", repr=False)

    @property
    def binds_wider(self) -> bool:
        """Whether others than this machine can connect."""
        return self.host not in _LOOPBACK

    @property
    def limits_enabled(self) -> bool:
        """Whether callers are limited: as set, otherwise by the auth mode."""
        return self.auth.mode != "none" if self.limits.enabled is None else self.limits.enabled

    @property
    def embeds_worker(self) -> bool:
        """Whether `serve` runs jobs itself."""
        return self.effective_queue_url is None if self.embedded_worker == "auto" else self.embedded_worker == "on"

    @property
    def effective_queue_url(self) -> str | None:
        """The queue's URL, Redis when none is named."""
        return self.queue_url or self.redis_url


def name_of(path: str) -> str:
    """Give a setting's environment name: `cache.ttl_s` is `LLMGATEWAY_CACHE__TTL_S`."""
    return PREFIX + path.replace(".", "__").upper()


def fields(group: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Walk over every setting as its path and pydantic's description of the field, in the order written here."""
    for name, field in group.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{prefix}{name}.")
        elif name not in {"otel", "sources"}:
            yield prefix + name, field


def is_secret(field: Any) -> bool:
    """Whether the field's value must never be shown."""
    return bool(field.json_schema_extra)


def secret_values(settings: Settings) -> Iterator[str]:
    """Give every value that no log line may hold: keys, and the passwords within addresses."""
    for path, field in fields():
        if is_secret(field):
            value: Any = settings
            for name in path.split("."):
                value = getattr(value, name)
            yield from _plain(value)
    for name, value in settings.otel.items():
        if name.endswith("_HEADERS"):
            yield from (unquote(pair.partition("=")[2].strip()) for pair in value.split(","))


def _plain(value: object) -> Iterator[str]:
    match value:
        case SecretStr():
            yield value.get_secret_value()
        case tuple():
            for each in value:
                yield from _plain(each)
        case str():
            # The rest of an address may be shown: it says what cannot be reached.
            password = urlsplit(value).password
            if password:
                yield unquote(password)
