"""Rows and deeds to write, and the database behind them asked directly."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import text

from llmgateway.ids import new_id
from llmgateway.storage.address import locate
from llmgateway.storage.admin.rows import Deed, DeploymentRow, KeyRow, OrganizationRow, ProviderRow
from llmgateway.storage.database import Database, open_engine

NOW = datetime(2026, 11, 21, 8, 30, 0, 123457, tzinfo=UTC)
DEED = Deed(actor="admin", action="key.create", subject="key_1", organization_id="acme", details={"name": "app"})
NO_TRIGGERS = {
    "sqlite": ["DROP TRIGGER audit_refuses_update", "DROP TRIGGER audit_refuses_delete"],
    "postgresql": ["DROP TRIGGER audit_refuses ON audit"],
}


def key_row(**fields: Any) -> KeyRow:
    """Make a key that nobody holds."""
    key_id = new_id("key")
    given = {"id": key_id, "name": "app", "hash": key_id.ljust(64, "0"), "prefix": "lgw_12345678", "created_at": NOW}
    return KeyRow(**{**given, **fields})


def organization_row(**fields: Any) -> OrganizationRow:
    """Make an organization."""
    return OrganizationRow(**{"id": "acme", "name": "Acme", "created_at": NOW, **fields})


def provider_row(**fields: Any) -> ProviderRow:
    """Make a provider."""
    given = {"name": "main", "fields": {"provider": "openai"}, "created_at": NOW, "updated_at": NOW}
    return ProviderRow(**{**given, **fields})


def deployment_row(**fields: Any) -> DeploymentRow:
    """Make a deployment."""
    given = {"id": "dep_1", "model": "chat", "fields": {"provider": "main"}, "created_at": NOW, "updated_at": NOW}
    return DeploymentRow(**{**given, **fields})


def deed(subject: str = "key_1", **fields: Any) -> Deed:
    """Make a deed."""
    return Deed(**{"actor": "admin", "action": "key.create", "subject": subject, **fields})


@asynccontextmanager
async def behind(url: str, folder: Path) -> AsyncIterator[Database]:
    """Open the database of the test a second time."""
    database = open_engine(locate(url, folder))
    try:
        yield database
    finally:
        await database.engine.dispose()


async def run_sql(url: str, folder: Path, *statements: str) -> None:
    """Do to the database what nobody should."""
    async with behind(url, folder) as database, database.engine.begin() as connection:
        for statement in statements:
            await connection.execute(text(statement))


async def run_sql_without_triggers(url: str, folder: Path, *statements: str) -> None:
    """Do to the audit log what its triggers refuse."""
    await run_sql(url, folder, *NO_TRIGGERS[url.partition(":")[0]], *statements)
