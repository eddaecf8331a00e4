"""How the calls of a key choose among a model's deployments."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the column, unless a step that broke off has done so; no row is rewritten for it."""
    columns = sa.inspect(op.get_bind()).get_columns("keys")
    if not any(column["name"] == "strategy" for column in columns):
        op.add_column("keys", sa.Column("strategy", sa.String(256)))
