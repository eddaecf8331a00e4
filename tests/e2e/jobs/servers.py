"""PostgreSQL and Redis as several processes share them, for the tests of one module."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from llmgateway.ids import new_id
from tests.services import Server


@dataclass(frozen=True, slots=True)
class Servers:
    """What several processes share: a database of the test's own, and a Redis that holds nothing yet."""

    database: Server
    redis: Server
    database_url: str

    @property
    def settings(self) -> dict[str, object]:
        """Give the settings by which processes find them."""
        return {
            "database_url": self.database_url,
            "redis_url": self.redis.url,
            "encryption_keys": base64.urlsafe_b64encode(bytes(32)).decode(),
        }

    async def asked(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the database, past the gateway."""
        connection = await asyncpg.connect(self.database_url)
        try:
            return [tuple(row) for row in await connection.fetch(query, *values)]
        finally:
            await connection.close()


@asynccontextmanager
async def own_database(server: Server) -> AsyncIterator[str]:
    """Make a database for a test."""
    name = new_id("db")
    server.start()
    admin = await asyncpg.connect(server.url)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    yield server.url.rpartition("/")[0] + f"/{name}"
    server.start()
    admin = await asyncpg.connect(server.url)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()
