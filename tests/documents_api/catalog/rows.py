"""Rows as the database has them."""

from datetime import UTC, datetime

from llmgateway.storage.admin.rows import DeploymentRow

AT = datetime(2026, 1, 1, tzinfo=UTC)


def deployment(**fields: object) -> DeploymentRow:
    return DeploymentRow(id="dep_1", model="chat", fields={"provider": "main", **fields}, created_at=AT, updated_at=AT)
