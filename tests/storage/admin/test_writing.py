import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from llmgateway.storage.admin import writing
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.admin.outcomes import ChangesGoneError
from llmgateway.storage.admin.rows import Change
from llmgateway.storage.storage import StorageAwayError
from tests.lines import Lines
from tests.services import postgres_server
from tests.storage.admin.given import behind, deed, key_row, run_sql
from tests.storage.conftest import opened

WRITER = """
    import asyncio, sys, structlog
    from pathlib import Path
    from llmgateway.storage.admin.admin import AdminStorage
    from llmgateway.storage.storage import Storage
    from tests.storage.admin.given import deed, key_row
    async def main():
        storage = Storage({url!r}, Path({folder!r}), logger=structlog.get_logger())
        await storage.open()
        admin = AdminStorage(storage)
        for _ in range(15):
            row = key_row()
            await admin.add_key(row, deed(row.id))
            await admin.note([deed(row.id, action='x'), deed(row.id, action='y')])
        await storage.close()
    asyncio.run(main())
"""
HALF_DONE = """
    import asyncio, sys, time
    from pathlib import Path
    from sqlalchemy import text
    from llmgateway.storage.address import locate
    from llmgateway.storage.database import open_engine
    async def main():
        database = open_engine(locate({url!r}, Path({folder!r})))
        async with database.engine.begin() as connection:
            await connection.execute(text('UPDATE heads SET change_seq = change_seq + 1, audit_seq = audit_seq + 1'))
            await connection.execute(text("INSERT INTO changes VALUES (1, 'key', 'lost')"))
            print('half done', flush=True)
            sys.stdin.read()
    asyncio.run(main())
"""


def command(program: str, url: str, folder: Path) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(program).format(url=url, folder=str(folder))]


async def follow(admin: AdminStorage, ended: anyio.Event, seen: list[Change]) -> None:
    """Read the changes as a gateway does, all the time."""
    last = False
    while not last:
        last = ended.is_set()
        seen += await admin.changes_after(seen[-1].seq if seen else 0)
        await anyio.sleep(0.001)


async def test_processes_that_write_at_once_leave_one_order_and_one_chain(
    admin: AdminStorage, url: str, tmp_path: Path
) -> None:
    """A reader of the changes never meets one whose number is lower than one that it saw before."""
    seen: list[Change] = []
    ended = anyio.Event()
    async with anyio.create_task_group() as readers:
        readers.start_soon(follow, admin, ended, seen)
        async with anyio.create_task_group() as writers:
            for _ in range(2):
                writers.start_soon(anyio.run_process, command(WRITER, url, tmp_path))
            for _ in range(15):
                row = key_row()
                await admin.add_key(row, deed(row.id))
        ended.set()

    assert [change.seq for change in seen] == list(range(1, 46))
    assert (await admin.keys()).total == len({change.subject for change in seen}) == 45
    assert (await admin.verify()).rows == 45 + 60


async def test_many_that_write_at_once_in_one_process_all_do(admin: AdminStorage) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(admin.add_key, key_row(), deed())

    assert [change.seq for change in await admin.changes_after(0)] == list(range(1, 21))
    assert (await admin.verify()).rows == 20


async def test_writer_that_is_killed_half_way_leaves_nothing_and_holds_up_nobody(
    admin: AdminStorage, url: str, tmp_path: Path
) -> None:
    with subprocess.Popen(  # noqa: S603, ASYNC220  ours; its output is waited for in a thread
        command(HALF_DONE, url, tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert await to_thread.run_sync(writer.stdout.readline) == b"half done\n"
        async with anyio.create_task_group() as group:
            group.start_soon(admin.add_key, row := key_row(), deed())
            writer.kill()

    assert await admin.changes_after(0) == [Change(1, "key", row.id)]
    assert (await admin.verify()).rows == 1


async def test_whoever_leaves_while_it_is_written_finds_it_written_whole(admin: AdminStorage) -> None:
    row = key_row()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(admin.add_key, row, deed())
            await anyio.lowlevel.checkpoint()
            scope.cancel()

    keys, changes, audit = (await admin.keys()).rows, await admin.changes_after(0), (await admin.audit()).rows
    assert (len(keys), len(changes), len(audit)) in {(1, 1, 1), (0, 0, 0)}
    assert (await admin.verify()).ok


async def test_whoever_is_cancelled_while_it_is_written_finds_it_written_whole(admin: AdminStorage) -> None:
    # By its task, as a request is whose client leaves: no cancel scope shields from that.
    for number in range(20):
        writing = asyncio.ensure_future(admin.add_key(key_row(), deed()))
        await asyncio.sleep(number * 0.0005)
        writing.cancel()
        await asyncio.wait([writing], timeout=5)
        assert writing.done()

    keys, changes, audit = (await admin.keys()).total, await admin.changes_after(0), (await admin.audit()).rows
    assert keys == len(changes) == len(audit) > 0
    assert (await admin.verify()).ok


async def test_what_fails_half_way_leaves_neither_row_nor_change_nor_deed(
    admin: AdminStorage, url: str, tmp_path: Path
) -> None:
    await run_sql(url, tmp_path, "DROP TABLE audit")

    with pytest.raises(StorageAwayError):
        await admin.add_key(key_row(), deed())

    assert (await admin.keys()).total == 0
    assert await admin.changes_after(0) == []


async def test_old_changes_are_removed_by_and_by(
    admin: AdminStorage, monkeypatch: pytest.MonkeyPatch, url: str, tmp_path: Path
) -> None:
    monkeypatch.setattr(writing, "_KEPT_CHANGES", 4)
    monkeypatch.setattr(writing, "_PRUNE_EVERY", 5)
    row = key_row()
    await admin.add_key(row, deed())
    async with behind(url, tmp_path) as database:
        for _ in range(9):
            await writing.replace(database, "key", row, deed())

    assert [change.seq for change in await admin.changes_after(7)] == [8, 9, 10]
    for seq in (0, 6):
        with pytest.raises(ChangesGoneError):
            await admin.changes_after(seq)
    assert (await admin.verify()).rows == 10


async def test_deeds_are_written_together_or_not_at_all(admin: AdminStorage) -> None:
    bad: Sequence[object] = [object()]

    with pytest.raises(ValueError, match="no JSON"):
        await admin.note([deed("a"), deed("b", details={"x": bad})])
    await admin.note([deed("c"), deed("d")])

    assert [row.subject for row in (await admin.audit()).rows] == ["d", "c"]


@pytest.mark.timeout(60)
async def test_pitfall_084_database_that_goes_and_comes_has_an_unbroken_chain(tmp_path: Path, lines: Lines) -> None:
    with postgres_server() as server:
        async with opened(server.url, tmp_path, lines.logger) as storage:
            admin = AdminStorage(storage)
            await admin.add_key(key_row(), deed())
            await to_thread.run_sync(server.stop)

            for question in (admin.add_key(key_row(), deed()), admin.changes_after(1), admin.key_by_hash("a")):
                with pytest.raises(StorageAwayError):
                    await question

            await to_thread.run_sync(server.start)
            await admin.add_key(key_row(), deed())
            assert [change.seq for change in await admin.changes_after(0)] == [1, 2]
            assert (await admin.verify()).rows == 2
