from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread

from llmgateway.storage.storage import Storage, StorageAwayError
from tests import services
from tests.lines import Lines
from tests.storage.databases import END, START, entry

AWAY = "away, entries wait in the journal"


@contextmanager
def stopped_postgres() -> Iterator[tuple[str, Callable[[], AbstractContextManager[object]]]]:
    """Prepare a PostgreSQL that can be run again and again; gives its address and what runs it."""
    port = services.free_port()
    with services.workplace() as folder:
        postgres = services.reachable(services.find(services.POSTGRES), folder)
        cluster = str(folder / "cluster")
        who = "--username", services.POSTGRES_USER, "--auth", "trust", "--encoding", "UTF8", "--no-sync"
        services.run(postgres.command("--pgdata", cluster, *who, name="initdb"), user=services.SERVICE_USER)
        options = "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"
        command = postgres.command("-D", cluster, "-p", str(port), *options)
        ready = partial(services.speaks, port, services.POSTGRES_STARTUP, b"R")
        url = f"postgresql://{services.POSTGRES_USER}@127.0.0.1:{port}/postgres"
        yield url, partial(services.running, command, folder, ready)


async def test_storage_that_was_not_reached_yet_is_not_ready_and_says_so(tmp_path: Path, lines: Lines) -> None:
    storage = Storage(None, tmp_path, logger=lines.logger)

    assert await storage.check() is False
    assert not storage.up
    for question in (storage.add([entry()]), storage.find("req_1"), storage.usage(START, END, [])):
        with pytest.raises(StorageAwayError):
            await question
    with pytest.raises(StorageAwayError):
        async with storage.turn("x"):
            pass
    await storage.close()


async def test_open_storage_is_ready_and_closes(storage: Storage) -> None:
    assert storage.opened.is_set()
    assert storage.up
    assert await storage.check() is True

    await storage.close()

    assert await storage.check() is False
    with pytest.raises(StorageAwayError):
        await storage.add([entry()])


@pytest.mark.timeout(120)
async def test_postgres_that_goes_and_comes_is_used_again_by_itself(tmp_path: Path, lines: Lines) -> None:
    """Pitfall 84: whoever writes hears at once that it is away, and the same works again when it is back."""
    kept = [entry() for _ in range(3)]
    with stopped_postgres() as (url, run):
        storage = Storage(url, tmp_path, logger=lines.logger)
        async with anyio.create_task_group() as group:
            group.start_soon(storage.open)
            while "database_away" not in lines.text():  # noqa: ASYNC110  the log has no event for it
                await anyio.sleep(0.01)
            assert await storage.check() is False
            server = run()
            await to_thread.run_sync(server.__enter__)
            with anyio.fail_after(20):
                await storage.opened.wait()
        await storage.add(kept[:1])

        await to_thread.run_sync(server.__exit__, None, None, None)

        for _ in range(5):
            with pytest.raises(StorageAwayError):
                await storage.add(kept[:2])
        assert await storage.check() == AWAY
        assert not storage.up
        with pytest.raises(StorageAwayError):
            await storage.usage(START, END, [])

        with run():
            await storage.add(kept)
            assert storage.up
            assert await storage.check() is True
            [totals] = await storage.usage(START, END, [])
            assert totals.requests == 3
            await storage.close()
    said = lines.text()
    assert (said.count("database_away"), said.count("database_back")) == (2, 2)


async def test_sqlite_that_cannot_be_written_yet_is_opened_when_it_can(tmp_path: Path, lines: Lines) -> None:
    folder = tmp_path / "own"
    folder.touch()
    storage = Storage(None, folder, logger=lines.logger)

    async with anyio.create_task_group() as group:
        group.start_soon(storage.open)
        while "cannot be written" not in lines.text():  # noqa: ASYNC110  the log has no event for it
            await anyio.sleep(0.01)
        folder.unlink()
        with anyio.fail_after(10):
            await storage.opened.wait()

    assert await storage.check() is True
    await storage.close()


async def test_url_that_leads_nowhere_is_said_without_its_password(tmp_path: Path, lines: Lines) -> None:
    storage = Storage("postgresql://gateway:canary@127.0.0.1:1/x", tmp_path, logger=lines.logger)

    async with anyio.create_task_group() as group:
        group.start_soon(storage.open)
        while "database_away" not in lines.text():  # noqa: ASYNC110  the log has no event for it
            await anyio.sleep(0.01)
        group.cancel_scope.cancel()

    assert "canary" not in lines.text()
    await storage.close()


async def test_sqlite_is_opened_by_its_first_question_once_and_says_so(tmp_path: Path, lines: Lines) -> None:
    told: list[str] = []
    storage = Storage(None, tmp_path, logger=lines.logger, loaded=lambda: told.append("loaded"))
    await storage.open()
    assert (await storage.check(), storage.up, await storage.delete_before(END)) == (True, True, 0)
    async with storage.turn("x") as mine:
        assert mine
    assert told == []

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(storage.add, [entry()])

    assert told == ["loaded"]
    [totals] = await storage.usage(START, END, [])
    assert totals.requests == 5
    assert await storage.delete_before(END) == 5
    await storage.close()


async def test_file_that_went_away_before_anybody_asked_is_away(tmp_path: Path, lines: Lines) -> None:
    folder = tmp_path / "own"
    storage = Storage(None, folder, logger=lines.logger)
    await storage.open()

    for left in folder.iterdir():
        left.unlink()
    folder.rmdir()
    folder.touch()

    assert await storage.check() == AWAY
    assert not storage.up
    with pytest.raises(StorageAwayError):
        await storage.add([entry()])
    with pytest.raises(StorageAwayError):
        await storage.delete_before(END)
    assert lines.text().count("database_away") == 1
    await storage.close()


async def test_glance_looks_at_the_file_until_the_database_was_asked(tmp_path: Path, lines: Lines) -> None:
    told: list[str] = []
    storage = Storage(None, tmp_path, logger=lines.logger, loaded=lambda: told.append("loaded"))

    def look(path: Path, value: int) -> str:
        return f"{path.name} {value}"

    async def question(_: object) -> str:
        return "asked"

    with pytest.raises(StorageAwayError):
        await storage.glance(look, question, 7)
    await storage.open()
    assert (await storage.glance(look, question, 7), told) == ("llmgateway.db 7", [])
    assert (await storage.ask(question), told) == ("asked", ["loaded"])
    assert await storage.glance(look, question, 7) == "asked"
    await storage.close()


async def test_a_full_disk_is_told_of_once_though_it_can_be_read(tmp_path: Path, lines: Lines) -> None:
    storage = Storage(None, tmp_path, logger=lines.logger)
    await storage.open()

    async def change(*statements: str) -> None:
        def work(connection: Any) -> None:
            for statement in statements:
                connection.exec_driver_sql(statement)

        await storage.ask(lambda database: database.change(work))

    full, room = ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000")
    await change("CREATE TABLE things (thing)")
    for _ in range(3):
        with pytest.raises(StorageAwayError, match="full"):
            await change(full, "INSERT INTO things VALUES (zeroblob(100000))")
        assert not storage.up
        await storage.ask(lambda database: database.ping())
        assert storage.up
    assert lines.events().count("database_away") == 1
    assert "database_back" not in lines.events()
    await change(room, "INSERT INTO things VALUES (zeroblob(100000))")
    assert lines.events().count("database_back") == 1
    await storage.close()
