"""Keys, organizations, providers and deployments; the log of their changes and the audit log; what a key spent."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_REFUSAL = "The audit log is append-only"


def upgrade() -> None:
    """Make the tables, the rule of the audit log, and an index on the ledger."""
    _make_rows()
    _make_logs()
    if op.get_bind().dialect.name == "postgresql":
        _refuse_in_postgresql()
    else:
        _refuse_in_sqlite()
    # A build that broke off leaves an index that is never used, and in the way of the next.
    with op.get_context().autocommit_block():
        op.drop_index("ledger_key_at_us", "ledger", if_exists=True, postgresql_concurrently=True)
        given = sa.text("key_id IS NOT NULL")
        op.create_index(
            "ledger_key_at_us",
            "ledger",
            ["key_id", "at_us"],
            sqlite_where=given,
            postgresql_where=given,
            postgresql_concurrently=True,
        )


def _make_rows() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.String(256), primary_key=True),
        *_texts("name", nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        *_texts("prefix", nullable=False),
        *_numbers("created_at_us", nullable=False),
        *_texts("organization_id"),
        *_structures("models"),
        *_texts("tier"),
        *_structures("limits", "budget"),
        *_numbers("expires_at_us"),
        sa.Column("disabled", sa.Boolean, nullable=False),
        *_numbers("last_used_at_us"),
        *_structures("metadata", nullable=False),
        sa.Column("previous_hash", sa.String(64)),
        *_numbers("previous_until_us"),
        if_not_exists=True,
    )
    op.create_index("keys_hash", "keys", ["hash"], unique=True, if_not_exists=True)
    op.create_index("keys_previous_hash", "keys", ["previous_hash"], if_not_exists=True)
    op.create_index("keys_organization_id", "keys", ["organization_id"], if_not_exists=True)
    op.create_table(
        "organizations",
        sa.Column("id", sa.String(256), primary_key=True),
        *_texts("name", nullable=False),
        *_numbers("created_at_us", nullable=False),
        *_structures("limits", "budget"),
        *_structures("metadata", nullable=False),
        if_not_exists=True,
    )
    op.create_index("organizations_name", "organizations", ["name"], unique=True, if_not_exists=True)
    op.create_table(
        "providers",
        sa.Column("name", sa.String(256), primary_key=True),
        *_structures("fields", nullable=False),
        *_numbers("created_at_us", "updated_at_us", nullable=False),
        sa.Column("sealed_key", sa.Text),
        if_not_exists=True,
    )
    op.create_table(
        "deployments",
        sa.Column("id", sa.String(256), primary_key=True),
        *_texts("model", nullable=False),
        *_structures("fields", nullable=False),
        *_numbers("created_at_us", "updated_at_us", nullable=False),
        if_not_exists=True,
    )


def _make_logs() -> None:
    op.create_table(
        "changes",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(32), nullable=False),
        *_texts("subject", nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        *_numbers("at_us", nullable=False),
        *_texts("actor", "action", "subject", nullable=False),
        *_texts("organization_id"),
        *_structures("details", nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        if_not_exists=True,
    )
    op.create_index("audit_at_us", "audit", ["at_us"], if_not_exists=True)
    op.create_table(
        "heads",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        *_numbers("change_seq", "audit_seq", nullable=False),
        sa.Column("audit_hash", sa.String(64), nullable=False),
        if_not_exists=True,
    )
    op.execute(
        f"INSERT INTO heads SELECT 1, 0, 0, '{'0' * 64}' WHERE NOT EXISTS (SELECT 1 FROM heads)"  # noqa: S608  constants
    )


def _refuse_in_sqlite() -> None:
    for deed in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER IF NOT EXISTS audit_refuses_{deed.lower()} BEFORE {deed} ON audit "
            f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        )


def _refuse_in_postgresql() -> None:
    op.execute(
        "CREATE OR REPLACE FUNCTION audit_refuses() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
    )
    op.execute("DROP TRIGGER IF EXISTS audit_refuses ON audit")
    op.execute(
        "CREATE TRIGGER audit_refuses BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()"
    )


def _texts(*names: str, nullable: bool = True) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String(256), nullable=nullable) for name in names]


def _numbers(*names: str, nullable: bool = True) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=nullable) for name in names]


def _structures(*names: str, nullable: bool = True) -> list[sa.Column[object]]:
    return [sa.Column(name, sa.JSON, nullable=nullable) for name in names]
