"""The usage ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NUMBERS = (
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "audio_tokens",
    "image_tokens",
)


def upgrade() -> None:
    """Make the table and its indexes."""
    op.create_table(
        "ledger",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        *_texts("operation", "requested_model", nullable=False),
        sa.Column("status", sa.SmallInteger, nullable=False),
        sa.Column("duration_ms", sa.Double, nullable=False),
        sa.Column("overhead_ms", sa.Double, nullable=False),
        *_texts("client_id", "organization_id", "key_id", "user_label"),
        *_texts("model", nullable=False),
        *_texts("upstream_model", "response_model", "provider", "deployment"),
        sa.Column("stream", sa.Boolean, nullable=False),
        *_texts("error_code"),
        *(sa.Column(name, sa.BigInteger) for name in _NUMBERS),
        sa.Column("estimated", sa.Boolean, nullable=False),
        sa.Column("cost_nusd", sa.BigInteger),
        sa.Column("ttft_ms", sa.Double),
        sa.Column("upstream_ms", sa.Double, nullable=False),
        sa.Column("attempts", sa.JSON, nullable=False),
        *_texts("cache", nullable=False),
        *_texts("route_reason", "trace_id"),
        if_not_exists=True,
    )
    op.create_index("ledger_at_us", "ledger", ["at_us"], if_not_exists=True)
    for name, column in (("organization", "organization_id"), ("client_id", "client_id")):
        given = sa.text(f"{column} IS NOT NULL")
        op.create_index(
            f"ledger_{name}_at_us",
            "ledger",
            [column, "at_us"],
            if_not_exists=True,
            sqlite_where=given,
            postgresql_where=given,
        )


def _texts(*names: str, nullable: bool = True) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String(256), nullable=nullable) for name in names]
