"""Document services, their flavors and prompts, with those that come with the program; and jobs."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

from llmgateway.storage.admin.records import KINDS, values_of
from llmgateway.storage.documents.seeds import seeds

revision = "0004"
down_revision = "0003"

_UNIQUE = 600


def upgrade() -> None:
    """Make the tables and their indexes, and write the rows that come with the program."""
    _make_services()
    _make_prompts()
    _make_templates()
    _make_jobs()
    _index_jobs()
    _make_texts()
    _make_passes()
    _seed()


def _make_services() -> None:
    op.create_table(
        "services",
        _key(),
        *_texts("name", "route", "service_type", nullable=False),
        *_texts("unique_name", "unique_route", length=_UNIQUE, nullable=False),
        *_numbers("created_at_us", "updated_at_us", nullable=False),
        *_texts("organization_id"),
        *_texts("description", length=None),
        *_flags("is_active"),
        *_texts("default_template_id"),
        *_structures("metadata"),
        if_not_exists=True,
    )
    for name in ("unique_name", "unique_route"):
        op.create_index(f"services_{name}", "services", [name], unique=True, if_not_exists=True)
    op.create_table(
        "flavors",
        _key(),
        *_texts("service_id", "name", nullable=False),
        *_texts("unique_name", length=_UNIQUE, nullable=False),
        *_structures("settings"),
        *_numbers("created_at_us", "updated_at_us", nullable=False),
        *_texts("description", length=None),
        *_flags("is_default", "is_active"),
        if_not_exists=True,
    )
    op.create_index("flavors_unique_name", "flavors", ["unique_name"], unique=True, if_not_exists=True)


def _make_prompts() -> None:
    op.create_table(
        "prompts",
        _key(),
        *_texts("name", nullable=False),
        *_texts("unique_name", length=_UNIQUE, nullable=False),
        *_texts("content", length=None, nullable=False),
        *_numbers("created_at_us", "updated_at_us", nullable=False),
        *_texts("category", "type", nullable=False),
        *_texts("service_type", "organization_id"),
        *_texts("description", length=None),
        if_not_exists=True,
    )
    op.create_index("prompts_unique_name", "prompts", ["unique_name"], unique=True, if_not_exists=True)
    op.create_table(
        "service_types",
        _key(),
        *_texts("code", "name", nullable=False),
        *_numbers("created_at_us", "updated_at_us", nullable=False),
        *_texts("description", length=None),
        *_flags("built_in", "supports_reduce", "supports_chunking"),
        *_texts("default_processing_mode", nullable=False),
        if_not_exists=True,
    )
    op.create_index("service_types_code", "service_types", ["code"], unique=True, if_not_exists=True)


def _make_templates() -> None:
    op.create_table("presets", *_named("settings"), if_not_exists=True)
    op.create_index("presets_unique_name", "presets", ["unique_name"], unique=True, if_not_exists=True)
    op.create_table("service_templates", *_named("service", "flavors"), if_not_exists=True)
    op.create_index(
        "service_templates_unique_name", "service_templates", ["unique_name"], unique=True, if_not_exists=True
    )


def _named(*structures: str) -> list[sa.Column[Any]]:
    return [
        _key(),
        *_texts("name", nullable=False),
        *_texts("unique_name", length=_UNIQUE, nullable=False),
        *_structures(*structures),
        *_numbers("created_at_us", "updated_at_us", nullable=False),
        *_texts("description", length=None),
        *_flags("built_in"),
        *_texts("organization_id"),
    ]


def _make_jobs() -> None:
    op.create_table(
        "jobs",
        _key(),
        *_texts("service_id", "service_name", "service_route", "flavor_id", "flavor_name", nullable=False),
        *_texts("organization_id", nullable=False),
        *_texts("status", length=16, nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        *_texts("key_id"),
        *_texts("origin", length=None, nullable=False),
        *_numbers("created_at_us", nullable=False),
        *_numbers("started_at_us", "completed_at_us", "expires_at_us"),
        *_texts("preview", length=None, nullable=False),
        *_numbers("input_chars", "input_tokens", nullable=False),
        *_texts("input_file_name", length=None),
        *_texts("records", "progress", "totals", "warnings", length=None, nullable=False),
        *_texts("fault", length=None),
        *_numbers("current_version", nullable=False),
        *_texts("metadata", length=None, nullable=False),
        *_texts("webhook_url", length=None),
        *_numbers("ttl_s"),
        *_numbers("events", "kills", nullable=False),
        *_texts("repeats", "joins", length=64),
        *_numbers("lease_fence", nullable=False),
        *_numbers("lease_until_us"),
        *_texts("worker"),
        *_texts("receipt", length=32),
        *_numbers("hook_at_us"),
        *_numbers("hook_tries", nullable=False),
        if_not_exists=True,
    )


def _index_jobs() -> None:
    queued = sa.text("status = 'queued'")
    op.create_index(
        "jobs_queued",
        "jobs",
        ["priority", "organization_id", "created_at_us", "id"],
        if_not_exists=True,
        sqlite_where=queued,
        postgresql_where=queued,
    )
    for index, column in (
        ("leased", "lease_until_us"),
        ("repeats", "repeats"),
        ("joins", "joins"),
        ("hook_at", "hook_at_us"),
        ("expires_at", "expires_at_us"),
        ("completed_at", "completed_at_us"),
    ):
        given = sa.text(f"{column} IS NOT NULL")
        op.create_index(
            f"jobs_{index}",
            "jobs",
            [column],
            unique=column in {"repeats", "joins"},
            if_not_exists=True,
            sqlite_where=given,
            postgresql_where=given,
        )
    op.create_index("jobs_organization_created_at", "jobs", ["organization_id", "created_at_us"], if_not_exists=True)
    op.create_index("jobs_created_at", "jobs", ["created_at_us"], if_not_exists=True)


def _make_texts() -> None:
    op.create_table(
        "job_texts", _of_job(), *_texts("document", "work", length=None, nullable=False), if_not_exists=True
    )
    op.create_table(
        "job_results",
        _of_job(),
        *_texts("partial", length=None, nullable=False),
        *_texts("result", length=None),
        if_not_exists=True,
    )
    op.create_table(
        "job_versions",
        _of_job(),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        *_texts("content", "created_by", length=None, nullable=False),
        *_numbers("created_at_us", nullable=False),
        if_not_exists=True,
    )
    op.create_table("job_turns", _key("organization_id"), *_numbers("at_us", nullable=False), if_not_exists=True)


def _make_passes() -> None:
    op.create_table(
        "job_passes",
        _of_job(),
        _key("step"),
        *_numbers("number", nullable=False),
        *_texts("type", nullable=False),
        *_numbers("started_at_us", "completed_at_us", nullable=False),
        sa.Column("duration_ms", sa.Double, nullable=False),
        *_numbers("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", nullable=False),
        *_numbers("cost_nusd"),
        *_texts("model", "provider", length=None),
        *_numbers("attempts", nullable=False),
        *_texts("flavor_name", nullable=False),
        *_texts("request_id", length=None),
        *_texts("output", length=None, nullable=False),
        *_texts("finish_reason", nullable=False),
        *_texts("refusal", length=None),
        if_not_exists=True,
    )
    op.create_table(
        "job_events",
        _of_job(),
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        *_texts("body", length=None, nullable=False),
        if_not_exists=True,
    )


def _seed() -> None:
    """Write what is not there yet: once, so that what somebody changes or removes afterwards stays so."""
    connection = op.get_bind()
    for kind, rows in seeds(datetime.now(UTC)).items():
        its = KINDS[kind].table
        # Only what this step has made: the program's own table may have more columns by now.
        made = [column["name"] for column in sa.inspect(connection).get_columns(its.name)]
        table = sa.table(its.name, *(sa.column(name, its.c[name].type) for name in made))
        values = [values_of(its, row) for row in rows]
        connection.execute(_insert(table), [{name: one[name] for name in made} for one in values])


def _insert(table: sa.TableClause) -> Any:
    if op.get_bind().dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert  # noqa: PLC0415  the other one is not asked

        return insert(table).on_conflict_do_nothing()
    from sqlalchemy.dialects.sqlite import insert as insert_sqlite  # noqa: PLC0415

    return insert_sqlite(table).on_conflict_do_nothing()


def _key(name: str = "id") -> sa.Column[str]:
    return sa.Column(name, sa.String(256), primary_key=True)


def _of_job() -> sa.Column[str]:
    return sa.Column("job_id", sa.String(256), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)


def _texts(*names: str, length: int | None = 256, nullable: bool = True) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text() if length is None else sa.String(length), nullable=nullable) for name in names]


def _numbers(*names: str, nullable: bool = True) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=nullable) for name in names]


def _flags(*names: str) -> list[sa.Column[bool]]:
    return [sa.Column(name, sa.Boolean, nullable=False) for name in names]


def _structures(*names: str) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.JSON, nullable=False) for name in names]
