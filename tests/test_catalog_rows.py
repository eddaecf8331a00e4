from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from llmgateway.catalog_rows import CatalogRows
from llmgateway.storage.admin.sealing import Seal, new_encryption_key
from llmgateway.storage.queries import StorageAwayError
from tests.api.admin.office import Office, opened

HOUSE = {"name": "house", "provider": "groq", "api_key": "sk-canary"}
SECOND = {"name": "chat", "provider": "house", "model": "llama"}


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with opened(tmp_path) as office:
        yield office


async def served(office: Office, names: set[str]) -> None:
    with anyio.fail_after(5):
        while set(office.source.current.accounts) != names:  # noqa: ASYNC110  nothing tells it
            await anyio.sleep(0.01)


async def test_a_change_is_served_without_anybody_asking(office: Office) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(office.source.watch)
        group.start_soon(office.rows.run)
        await office.ask("POST", "/admin/providers", HOUSE)
        office.rows.changed("provider", "house")
        await served(office, {"main", "demo", "house"})
        await office.ask("POST", "/admin/deployments", SECOND)
        await office.ask("DELETE", f"/admin/deployments/{(await _only(office))['id']}")
        await office.ask("DELETE", "/admin/providers/house")
        office.rows.everything_changed()
        await served(office, {"main", "demo"})
        group.cancel_scope.cancel()


async def _only(office: Office) -> Any:
    (only,) = (await office.ask("GET", "/admin/deployments"))["items"]
    return only


async def test_news_of_other_things_changes_nothing(office: Office) -> None:
    await office.ask("POST", "/admin/providers", HOUSE)
    async with anyio.create_task_group() as group:
        group.start_soon(office.source.watch)
        group.start_soon(office.rows.run)
        office.rows.changed("key", "key_1")
        office.rows.changed("organization", "acme")
        await anyio.wait_all_tasks_blocked()
        assert "house" not in office.source.current.accounts
        group.cancel_scope.cancel()


async def test_more_rows_than_a_page_are_all_read(office: Office) -> None:
    await office.ask("POST", "/admin/providers", HOUSE)
    for number in range(103):
        await office.ask("POST", "/admin/deployments", {**SECOND, "name": f"m{number}"})
    await office.reloaded()

    models = office.source.current.models
    assert sum(name.startswith("m") for name in models) == 103


async def test_a_key_that_cannot_be_opened_leaves_its_provider_out_and_is_told_once(office: Office) -> None:
    await office.ask("POST", "/admin/providers", HOUSE)
    await office.ask("POST", "/admin/providers", {"name": "open", "provider": "openai"})
    rows = CatalogRows(office.storage, Seal([new_encryption_key()]), office.source, office.logger)

    await rows.load()
    await rows.load()
    await office.source.look()

    assert set(office.source.current.accounts) == {"main", "demo", "open"}
    office.sink.flush()
    told = office.log.getvalue().decode()
    assert told.count("provider_key_unreadable") == 1
    assert "canary" not in told


async def test_while_the_database_is_away_what_was_read_last_is_served(office: Office) -> None:
    await office.ask("POST", "/admin/providers", HOUSE)
    await office.reloaded()
    await office.database.close()

    with pytest.raises(StorageAwayError):
        await office.rows.load()
    await office.source.look()

    assert "house" in office.source.current.accounts


async def test_it_reads_again_until_the_database_is_back(office: Office) -> None:
    await office.ask("POST", "/admin/providers", HOUSE)
    await office.database.close()
    async with anyio.create_task_group() as group:
        group.start_soon(office.source.watch)
        group.start_soon(office.rows.run)
        office.rows.everything_changed()
        await anyio.wait_all_tasks_blocked()
        office.database.opened = anyio.Event()
        await office.database.open()
        await served(office, {"main", "demo", "house"})
        group.cancel_scope.cancel()
