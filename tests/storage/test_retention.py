import tracemalloc
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import pytest

from llmgateway.storage.retention import Retention
from llmgateway.storage.storage import Storage
from tests.lines import Lines
from tests.storage.conftest import opened
from tests.storage.databases import END, START, random_entries


def now() -> datetime:
    return START + timedelta(days=31)


async def total(storage: Storage) -> int:
    [totals] = await storage.usage(START, END, [])
    return totals.requests


async def test_only_what_is_older_is_deleted(storage: Storage, lines: Lines) -> None:
    entries = random_entries(500, seed=8)
    await storage.add(entries)
    limit_us = int((START + timedelta(days=1)).timestamp()) * 1_000_000

    deleted = await Retention(storage, 30, lines.logger, batch=50, pause_s=0, now=now).sweep()

    assert deleted == sum(one.at_us < limit_us for one in entries) > 100
    assert await total(storage) == 500 - deleted
    assert f'"deleted":{deleted}' in lines.text()


async def test_nothing_is_deleted_while_another_process_does(
    storage: Storage, url: str, tmp_path: Path, lines: Lines
) -> None:
    await storage.add(random_entries(50, seed=9))
    retention = Retention(storage, 1, lines.logger, pause_s=0, now=now)

    async with opened(url, tmp_path, lines.logger) as other, other.turn("retention") as mine:
        assert mine
        assert await retention.sweep() == 0

    assert await retention.sweep() == 50


async def test_it_runs_by_itself_once_the_database_is_there(url: str, tmp_path: Path, lines: Lines) -> None:
    storage = Storage(url, tmp_path, logger=lines.logger)
    retention = Retention(storage, 1, lines.logger, now=now)
    async with opened(url, tmp_path, lines.logger) as other:
        await other.add(random_entries(50, seed=10))

    async with anyio.create_task_group() as group:
        group.start_soon(retention.run)
        await storage.open()
        while "ledger_swept" not in lines.text():  # noqa: ASYNC110  the log has no event for it
            await anyio.sleep(0.01)
        group.cancel_scope.cancel()

    assert await total(storage) == 0
    await storage.close()


async def test_zero_days_keep_everything(storage: Storage, lines: Lines) -> None:
    with anyio.fail_after(5):
        await Retention(storage, 0, lines.logger).run()


@pytest.mark.timeout(120)
async def test_memory_stays_flat_however_much_is_old(storage: Storage, lines: Lines) -> None:
    """Pitfall 64."""
    chosen = random_entries(2000, seed=11)
    for number in range(25):
        for at, one in enumerate(chosen):
            one.id, one.at_us = f"req_{number:04d}{at:06d}", one.at_us + 1
        await storage.add(chosen)
    retention = Retention(storage, 1, lines.logger, pause_s=0, now=now)

    tracemalloc.start()
    try:
        assert await retention.sweep() == 50_000
        most_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert most_bytes < 8 * 1024**2
