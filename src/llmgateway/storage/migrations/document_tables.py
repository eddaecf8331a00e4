"""The tables of document services and their jobs, in the same metadata as the others; the migrations make them so."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)

from llmgateway.storage.migrations.tables import LONGEST, metadata

# An owner, a slash and a name: as much as an index of PostgreSQL takes in any script.
LONGEST_UNIQUE = 600


def _text(name: str, length: int | None = LONGEST, *, given: bool = False) -> Column[str]:
    return Column(name, Text() if length is None else String(length), nullable=not given)


def _given(name: str, length: int | None = LONGEST) -> Column[str]:
    return _text(name, length, given=True)


def _time(name: str, *, given: bool = False) -> Column[int]:
    """Make a column of microseconds since 1970; it has the name of the row's field, and its unit."""
    return Column(f"{name}_us", BigInteger, nullable=not given)


def _number(name: str, *, given: bool = True) -> Column[int]:
    return Column(name, BigInteger, nullable=not given)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _structure(name: str) -> Column[Any]:
    return Column(name, JSON(none_as_null=True), nullable=False)


def _key(name: str = "id") -> Column[str]:
    return Column(name, String(LONGEST), primary_key=True)


# Columns of the six tables that follow are the fields of their rows in `storage/documents/rows.py`.
services = Table(
    "services",
    metadata,
    _key(),
    _given("name"),
    _given("route"),
    _given("service_type"),
    _given("unique_name", LONGEST_UNIQUE),
    _given("unique_route", LONGEST_UNIQUE),
    _time("created_at", given=True),
    _time("updated_at", given=True),
    _text("organization_id"),
    _text("description", None),
    _flag("is_active"),
    _text("default_template_id"),
    _structure("metadata"),
)
Index("services_unique_name", services.c.unique_name, unique=True)
Index("services_unique_route", services.c.unique_route, unique=True)

flavors = Table(
    "flavors",
    metadata,
    _key(),
    _given("service_id"),
    _given("name"),
    _given("unique_name", LONGEST_UNIQUE),
    _structure("settings"),
    _time("created_at", given=True),
    _time("updated_at", given=True),
    _text("description", None),
    _flag("is_default"),
    _flag("is_active"),
)
Index("flavors_unique_name", flavors.c.unique_name, unique=True)

prompts = Table(
    "prompts",
    metadata,
    _key(),
    _given("name"),
    _given("unique_name", LONGEST_UNIQUE),
    _given("content", None),
    _time("created_at", given=True),
    _time("updated_at", given=True),
    _given("category"),
    _given("type"),
    _text("service_type"),
    _text("organization_id"),
    _text("description", None),
)
Index("prompts_unique_name", prompts.c.unique_name, unique=True)

service_types = Table(
    "service_types",
    metadata,
    _key(),
    _given("code"),
    _given("name"),
    _time("created_at", given=True),
    _time("updated_at", given=True),
    _text("description", None),
    _flag("built_in"),
    _flag("supports_reduce"),
    _flag("supports_chunking"),
    _given("default_processing_mode"),
)
Index("service_types_code", service_types.c.code, unique=True)

presets = Table(
    "presets",
    metadata,
    _key(),
    _given("name"),
    _given("unique_name", LONGEST_UNIQUE),
    _structure("settings"),
    _time("created_at", given=True),
    _time("updated_at", given=True),
    _text("description", None),
    _flag("built_in"),
    _text("organization_id"),
)
Index("presets_unique_name", presets.c.unique_name, unique=True)

service_templates = Table(
    "service_templates",
    metadata,
    _key(),
    _given("name"),
    _given("unique_name", LONGEST_UNIQUE),
    _structure("service"),
    _structure("flavors"),
    _time("created_at", given=True),
    _time("updated_at", given=True),
    _text("description", None),
    _flag("built_in"),
    _text("organization_id"),
)
Index("service_templates_unique_name", service_templates.c.unique_name, unique=True)

# What is searched, sorted or changed often; JSON is written here as text, by msgspec: both databases keep it as it is.
# Texts without a length come from clients, and no index has them.
jobs = Table(
    "jobs",
    metadata,
    _key(),
    _given("service_id"),
    _given("service_name"),
    _given("service_route"),
    _given("flavor_id"),
    _given("flavor_name"),
    # Empty is none: two that are NULL are not equal, in no index either.
    _given("organization_id"),
    _given("status", 16),
    Column("priority", SmallInteger, nullable=False),
    _text("key_id"),
    _given("origin", None),
    _time("created_at", given=True),
    _time("started_at"),
    _time("completed_at"),
    _time("expires_at"),
    _given("preview", None),
    _number("input_chars"),
    _number("input_tokens"),
    _text("input_file_name", None),
    _given("records", None),
    _given("progress", None),
    _given("totals", None),
    _given("warnings", None),
    _text("fault", None),
    _number("current_version"),
    _given("metadata", None),
    _text("webhook_url", None),
    _number("ttl_s", given=False),
    _number("events"),
    _number("kills"),
    # From here on nobody but the storage reads them. The two digests find what was ordered before.
    _text("repeats", 64),
    _text("joins", 64),
    _number("lease_fence"),
    _time("lease_until"),
    _text("worker"),
    _text("receipt", 32),
    _time("hook_at"),
    _number("hook_tries"),
)


def _those(condition: str) -> dict[str, Any]:
    """Keep an index to the few rows that it is asked for."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


Index(
    "jobs_queued",
    jobs.c.priority,
    jobs.c.organization_id,
    jobs.c.created_at_us,
    jobs.c.id,
    **_those("status = 'queued'"),
)
Index("jobs_leased", jobs.c.lease_until_us, **_those("lease_until_us IS NOT NULL"))
Index("jobs_repeats", jobs.c.repeats, unique=True, **_those("repeats IS NOT NULL"))
Index("jobs_joins", jobs.c.joins, unique=True, **_those("joins IS NOT NULL"))
Index("jobs_hook_at", jobs.c.hook_at_us, **_those("hook_at_us IS NOT NULL"))
Index("jobs_expires_at", jobs.c.expires_at_us, **_those("expires_at_us IS NOT NULL"))
Index("jobs_completed_at", jobs.c.completed_at_us, **_those("completed_at_us IS NOT NULL"))
Index("jobs_organization_created_at", jobs.c.organization_id, jobs.c.created_at_us)
Index("jobs_created_at", jobs.c.created_at_us)


def _of_job() -> Column[str]:
    """Make the column that leads to the job: whoever deletes that one deletes the row."""
    return Column("job_id", String(LONGEST), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)


# Written once and large: no change of a job writes them again, and no list reads them.
job_texts = Table("job_texts", metadata, _of_job(), _given("document", None), _given("work", None))

job_results = Table("job_results", metadata, _of_job(), _given("partial", None), _text("result", None))

# Columns after the first are the fields of `PassRow`.
job_passes = Table(
    "job_passes",
    metadata,
    _of_job(),
    _key("step"),
    _number("number"),
    _given("type"),
    _time("started_at", given=True),
    _time("completed_at", given=True),
    Column("duration_ms", Double, nullable=False),
    _number("prompt_tokens"),
    _number("completion_tokens"),
    _number("cached_tokens"),
    _number("reasoning_tokens"),
    _number("cost_nusd", given=False),
    _text("model", None),
    _text("provider", None),
    _number("attempts"),
    _given("flavor_name"),
    _text("request_id", None),
    _given("output", None),
    _given("finish_reason"),
    _text("refusal", None),
)

job_events = Table(
    "job_events",
    metadata,
    _of_job(),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    _given("body", None),
)

job_versions = Table(
    "job_versions",
    metadata,
    _of_job(),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    _given("content", None),
    _given("created_by", None),
    _time("created_at", given=True),
)

# Whose turn it is among organizations: whoever had the last one longest ago.
job_turns = Table("job_turns", metadata, _key("organization_id"), _time("at", given=True))
