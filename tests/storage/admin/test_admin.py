import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct, structs

from llmgateway.caller import Budget
from llmgateway.storage.address import changes_in
from llmgateway.storage.admin import admin as module
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.admin.outcomes import OvertakenError, TakenError
from llmgateway.storage.admin.rows import Change, EntityKind
from llmgateway.storage.storage import Storage, StorageAwayError
from tests.lines import Lines
from tests.storage.admin.entities import ENTITIES, service_row
from tests.storage.admin.given import NOW, deed, deployment_row, key_row, organization_row, provider_row
from tests.storage.conftest import opened
from tests.storage.test_address import age

KINDS = {
    "key": key_row(),
    "organization": organization_row(),
    "provider": provider_row(),
    "deployment": deployment_row(),
}


def five(admin: AdminStorage, kind: str) -> list[Callable[..., Awaitable[Any]]]:
    return [getattr(admin, name.format(kind)) for name in ("{}", "{}s", "add_{}", "replace_{}", "remove_{}")]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_row_is_added_read_replaced_and_removed(admin: AdminStorage, kind: str) -> None:
    row: Any = KINDS[kind]
    name = getattr(row, "id", None) or row.name
    get, page, add, replace, remove = five(admin, kind)
    assert await get(name) is None
    assert await replace(row, deed()) is False
    assert await remove(name, deed()) is False

    await add(row, deed("one"))
    with pytest.raises(TakenError):
        await add(row, deed("two"))
    assert await get(name) == row
    changed = (
        structs.replace(row, metadata={"a": "b"})
        if hasattr(row, "metadata")
        else structs.replace(row, fields={"timeout_s": 5})
    )
    assert await replace(changed, deed("three")) is True
    assert await get(name) == changed
    found = await page()
    assert (found.rows, found.total) == ([changed], 1)
    assert await remove(name, deed("four")) is True

    assert await get(name) is None
    assert (await page()).total == 0
    assert await admin.changes_after(0) == [Change(seq, kind, name) for seq in (1, 2, 3)]  # type: ignore[arg-type]
    audit = await admin.audit()
    assert [row.subject for row in audit.rows] == ["four", "three", "one"]
    assert (await admin.verify()).ok


@pytest.mark.parametrize("kind", ENTITIES)
async def test_what_services_are_made_of_is_added_read_replaced_and_removed(
    admin: AdminStorage, kind: EntityKind
) -> None:
    built_in = await admin.every(kind)
    rows = ENTITIES[kind]
    for row in rows:
        assert await admin.entity(kind, row.id) is None
        assert await admin.replace_entity(kind, row, deed()) is False
        await admin.add_entity(kind, row, deed("one"))
        assert await admin.entity(kind, row.id) == row
        with pytest.raises(TakenError):
            await admin.add_entity(kind, row, deed("two"))
    first, second = rows
    changed = structs.replace(first, name="another")
    with pytest.raises(OvertakenError):
        await admin.replace_entity(kind, changed, deed(), instead_of=changed)
    assert await admin.replace_entity(kind, changed, deed("three"), instead_of=first) is True

    assert sorted(await admin.every(kind), key=str) == sorted([*built_in, changed, second], key=str)
    page = await admin.entities(kind, 1, 1)
    assert (len(page.rows), page.total) == (1, len(built_in) + 2)
    assert await admin.remove_entity(kind, second.id, deed("four")) is True
    assert await admin.remove_entity(kind, second.id, deed("five")) is False
    assert [(change.kind, change.subject) for change in await admin.changes_after(0)] == [
        (kind, first.id),
        (kind, second.id),
        (kind, first.id),
        (kind, second.id),
    ]
    assert (await admin.verify()).rows == 4


async def test_names_are_unique_in_their_organization_and_are_said_without_it(admin: AdminStorage) -> None:
    await admin.add_entity("service", service_row(organization_id="acme"), deed())
    await admin.add_entity("service", service_row(), deed())

    with pytest.raises(TakenError, match=r"^There is another with the name 'Minutes'$"):
        await admin.add_entity("service", service_row(organization_id="acme"), deed())
    with pytest.raises(TakenError, match=r"^There is another with the route 'minutes'$"):
        await admin.add_entity("service", service_row(organization_id="acme", unique_name="acme/x"), deed())
    with pytest.raises(TakenError, match=r"^There is another with the code 'summary'$"):
        await admin.add_entity("service_type", structs.replace(ENTITIES["service_type"][1], code="summary"), deed())


async def test_a_key_is_found_by_its_hash_and_the_one_before_with_its_organization(admin: AdminStorage) -> None:
    alone = key_row(hash="a" * 64)
    owned = key_row(hash="b" * 64, previous_hash="c" * 64, previous_until=NOW, organization_id="acme")
    lost = key_row(hash="d" * 64, organization_id="nobody")
    acme = organization_row(budget=Budget(5.0))
    for row in (alone, owned, lost):
        await admin.add_key(row, deed())
    await admin.add_organization(acme, deed())

    assert await admin.key_by_hash("a" * 64) == (alone, None)
    assert await admin.key_by_hash("b" * 64) == (owned, acme)
    assert await admin.key_by_hash("c" * 64) == (owned, acme)
    assert await admin.key_by_hash("d" * 64) == (lost, None)
    assert await admin.key_by_hash("e" * 64) is None
    asked = [*(letter * 64 for letter in "abcde"), *(f"{number:064}" for number in range(1_200))]
    assert await admin.keys_by_hash(asked) == {
        "a" * 64: (alone, None),
        "b" * 64: (owned, acme),
        "c" * 64: (owned, acme),
        "d" * 64: (lost, None),
    }


async def test_two_organizations_never_have_one_name(admin: AdminStorage) -> None:
    other = organization_row(id="other", name="Other")
    await admin.add_organization(organization_row(), deed())
    await admin.add_organization(other, deed())

    with pytest.raises(TakenError, match="with the name 'Acme'"):
        await admin.add_organization(organization_row(id="third"), deed())
    with pytest.raises(TakenError, match="with the name 'Acme'"):
        await admin.replace_organization(structs.replace(other, name="Acme"), deed())
    with pytest.raises(TakenError, match="with the id 'acme'"):
        await admin.add_organization(organization_row(name="New"), deed())

    assert await admin.replace_organization(structs.replace(other, name="Others"), deed()) is True
    await admin.add_key(key_row(hash="a" * 64), deed())
    with pytest.raises(TakenError):
        await admin.add_key(key_row(hash="a" * 64), deed())
    assert (await admin.audit()).total == 4
    assert (await admin.verify()).rows == 4


async def test_pages_are_in_the_order_of_their_making(admin: AdminStorage) -> None:
    rows = [
        key_row(created_at=NOW + timedelta(seconds=number), organization_id=f"o{number % 2}", prefix=f"p{number}")
        for number in range(5)
    ]
    for row in reversed(rows):
        await admin.add_key(row, deed())

    first, last, beyond = [await admin.keys(page=page, page_size=2) for page in (1, 3, 4)]

    assert (first.rows, last.rows, beyond.rows) == (rows[:2], rows[4:], [])
    assert {first.total, last.total, beyond.total} == {5}
    assert (await admin.keys("o1")).rows == [rows[1], rows[3]]
    assert (await admin.keys(prefix="p3")).rows == [rows[3]]
    assert (await admin.keys("o0", prefix="p3")).total == 0


async def test_pitfall_091_a_change_decided_on_what_is_past_undoes_nothing(admin: AdminStorage) -> None:
    """Two administrators read a key; one disables it, the other gives it a name: it stays disabled."""
    seen = key_row()
    await admin.add_key(seen, deed())
    await admin.touched({seen.id: NOW})
    disabled = structs.replace(seen, disabled=True)

    assert await admin.replace_key(disabled, deed(), instead_of=seen) is True
    with pytest.raises(OvertakenError):
        await admin.replace_key(structs.replace(seen, name="new"), deed(), instead_of=seen)

    assert await admin.key(seen.id) == structs.replace(disabled, last_used_at=NOW)
    assert await admin.remove_key(seen.id, deed()) is True
    assert await admin.replace_key(seen, deed(), instead_of=seen) is False
    assert await admin.replace_key(seen, deed()) is False
    assert await admin.key(seen.id) is None


async def test_the_last_use_is_no_change_and_no_deed_and_never_goes_back(admin: AdminStorage) -> None:
    row = key_row()
    await admin.add_key(row, deed())

    await admin.touched({row.id: NOW, "key_nobody": NOW})
    await admin.touched({row.id: NOW - timedelta(seconds=1)})
    await admin.touched({})
    await admin.replace_key(structs.replace(row, last_used_at=None), deed())

    found = await admin.key(row.id)
    assert found is not None
    assert found.last_used_at == NOW
    assert len(await admin.changes_after(0)) == 2
    assert (await admin.audit()).total == 2


async def test_a_row_that_cannot_be_kept_is_refused_and_nothing_is_written(admin: AdminStorage) -> None:
    bad: list[Struct] = [key_row(name="x" * 300), key_row(name="a\0b"), provider_row(name="\ud800")]
    for row in bad:
        add = admin.add_key if hasattr(row, "hash") else admin.add_provider
        with pytest.raises(ValueError, match="name"):
            await add(row, deed())  # type: ignore[arg-type]

    assert await admin.changes_after(0) == []
    assert (await admin.verify()).rows == 0


async def test_storage_that_was_not_reached_is_away(tmp_path: Path, lines: Lines) -> None:
    admin = AdminStorage(Storage(None, tmp_path, logger=lines.logger))

    for question in (admin.key("x"), admin.changes_after(None), admin.note([deed()]), admin.verify()):
        with pytest.raises(StorageAwayError):
            await question


def test_changes_of_sqlite_are_looked_for_without_its_library(tmp_path: Path) -> None:
    program = f"""
        import asyncio, sys, structlog
        from pathlib import Path
        from llmgateway.storage.admin.admin import AdminStorage
        from llmgateway.storage.storage import Storage
        async def main():
            storage = Storage(None, Path({str(tmp_path)!r}), logger=structlog.get_logger())
            await storage.open()
            admin = AdminStorage(storage)
            print(await admin.changes_after(None), await admin.changes_after(0), 'sqlalchemy' in sys.modules)
            await storage.close()
        asyncio.run(main())
    """

    told = subprocess.run(  # noqa: S603  the arguments are ours
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )

    assert told.stdout == "[] [] False\n"


async def test_sqlite_that_nobody_writes_to_is_not_opened_every_second(
    tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int | None] = []

    def look(path: Path, seq: int | None) -> list[Change]:
        looks.append(seq)
        return changes_in(path, seq)

    monkeypatch.setattr(module, "changes_in", look)
    async with opened(None, tmp_path, lines.logger) as storage:
        admin = AdminStorage(storage)
        age(tmp_path / "llmgateway.db")
        for seq in (None, 0, 0, 0):
            assert await admin.changes_after(seq) == []
        assert looks == [None, 0]
        async with opened(None, tmp_path, lines.logger) as other:
            await AdminStorage(other).add_key(row := key_row(), deed())
            assert await admin.changes_after(0) == [Change(1, "key", row.id)]
            assert await admin.changes_after(1) == []
        age(tmp_path / "llmgateway.db")
        for seq in (1, 1, 1, 0):
            await admin.changes_after(seq)
        assert looks == [None, 0, 0, 1, 1, 0]
