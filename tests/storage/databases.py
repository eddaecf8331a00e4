"""Both databases for the tests of this room, and entries to put into them."""

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from llmgateway.ids import new_id
from llmgateway.storage.address import Address
from llmgateway.storage.database import open_engine
from llmgateway.storage.entry import AttemptEntry, LedgerEntry
from llmgateway.storage.migrations.tables import ledger
from tests.services import postgres_server

START = datetime(2026, 11, 20, tzinfo=UTC)
END = START + timedelta(days=3)
_START_US = int(START.timestamp()) * 1_000_000


def entry(**fields: Any) -> LedgerEntry:
    """Make an entry of a request that was answered."""
    given = {
        "id": new_id("req"),
        "at_us": _START_US,
        "operation": "chat",
        "requested_model": "chat",
        "status": 200,
        "duration_ms": 120.5,
        "overhead_ms": 0.4,
        "model": "chat",
        "upstream_model": "gpt-4o",
        "response_model": "gpt-4o-2024-11-20",
        "provider": "main",
        "deployment": "main/gpt-4o",
        "prompt_tokens": 11,
        "completion_tokens": 7,
        "cached_tokens": 3,
        "reasoning_tokens": 2,
        "cache_write_tokens": 0,
        "audio_tokens": 0,
        "image_tokens": 0,
        "cost_nusd": 97_500,
        "upstream_ms": 120.1,
        "attempts": [AttemptEntry("main", "gpt-4o", 0.2, 120.1, "ok", 200)],
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    }
    return LedgerEntry(**{**given, **fields})


def random_entries(count: int, seed: int) -> list[LedgerEntry]:
    """Make entries of three days that differ in all that can be grouped by."""
    chance = random.Random(seed)
    return [_random_entry(chance) for _ in range(count)]


def _random_entry(chance: random.Random) -> LedgerEntry:
    failed, counted = chance.random() < 0.2, chance.random() < 0.8
    return entry(
        at_us=_START_US + chance.randrange(3 * 86_400_000_000),
        operation=chance.choice(["chat", "embedding"]),
        model=chance.choice(["chat", "embed", "other"]),
        provider=chance.choice(["main", "backup", None]),
        organization_id=chance.choice(["acme", "other", None]),
        key_id=chance.choice(["key_1", "key_2", None]),
        user_label=chance.choice(["ann", "bob", None]),
        status=chance.choice([400, 429, 499, 502]) if failed else 200,
        error_code=chance.choice(["rate_limit_exceeded", None]) if failed else None,
        duration_ms=round(chance.uniform(1, 9000), 3),
        upstream_ms=round(chance.uniform(1, 9000), 3),
        prompt_tokens=chance.randrange(5000) if counted else None,
        completion_tokens=chance.randrange(5000) if counted else None,
        cached_tokens=chance.randrange(500) if counted else None,
        reasoning_tokens=chance.randrange(500) if counted else None,
        estimated=chance.random() < 0.1,
        cost_nusd=chance.randrange(10**10) if counted and chance.random() < 0.8 else None,
    )


async def double(address: Address, times: int) -> None:
    """Write each row of the ledger again, under an id that no row has yet, so many times."""
    others = ", ".join(column.name for column in ledger.columns if column.name != "id")
    database = open_engine(address)
    try:
        for place in range(5, 5 + times):
            anew = f"substr(id, 1, {place - 1}) || 'z' || substr(id, {place + 1})"
            copy = text(f"INSERT INTO ledger (id, {others}) SELECT {anew}, {others} FROM ledger")  # noqa: S608  ours
            async with database.engine.begin() as connection:
                await connection.execute(copy)
    finally:
        await database.engine.dispose()


def fields_of(entries: Sequence[LedgerEntry], name: str) -> list[Any]:
    """Take one field of each."""
    return [getattr(one, name) for one in entries]


@contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL for all tests of this room, or use the one that is named; gives its address."""
    if (url := os.environ.get("TEST_POSTGRES_URL")) is not None:  # noqa: TID251  for tests run by hand
        yield url
        return
    with postgres_server() as server:
        yield server.url
