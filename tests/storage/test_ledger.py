import random
from datetime import timedelta

import anyio
import msgspec
import pytest

from llmgateway.storage.entry import LedgerEntry
from llmgateway.storage.ledger import row_of
from llmgateway.storage.migrations.tables import COLUMNS, ledger
from llmgateway.storage.storage import Storage
from tests.lines import Lines
from tests.storage.databases import END, START, entry, random_entries


async def total(storage: Storage) -> int:
    [totals] = await storage.usage(START, END, [])
    return totals.requests


def test_columns_are_the_fields_of_an_entry() -> None:
    assert tuple(ledger.c.keys()) == COLUMNS == LedgerEntry.__struct_fields__


async def test_entry_comes_back_as_it_was(storage: Storage) -> None:
    written = entry(client_id="mine", organization_id="acme", stream=True, ttft_ms=12.25, user_label="Ännchen 🦊")
    bare = LedgerEntry("req_bare", written.at_us, "chat", "x", 404, 1.0, 1.0)

    await storage.add([written, bare])

    assert await storage.find(written.id) == written
    assert await storage.find("req_bare") == bare
    assert await storage.find("req_unknown") is None


async def test_entry_is_found_by_the_clients_id_newest_first_and_only_within_its_organization(storage: Storage) -> None:
    old = entry(client_id="same", organization_id="acme")
    new = entry(client_id="same", organization_id="acme", at_us=old.at_us + 1)
    theirs = entry(client_id="same", organization_id="rivals", at_us=old.at_us + 2)

    await storage.add([new, old, theirs])

    assert await storage.find("same") == theirs
    assert await storage.find("same", organization_id="acme") == new
    assert await storage.find(theirs.id, organization_id="acme") is None


async def test_entry_is_found_only_by_the_key_that_made_it_when_one_is_named(storage: Storage) -> None:
    mine = entry(client_id="same", organization_id="acme", key_id="key_1")
    colleagues = entry(client_id="same", organization_id="acme", key_id="key_2", at_us=mine.at_us + 1)

    await storage.add([mine, colleagues])

    assert await storage.find("same", organization_id="acme", key_id="key_1") == mine
    assert await storage.find("same", key_id="key_2") == colleagues
    assert await storage.find(mine.id, key_id="key_2") is None
    assert await storage.find(mine.id, organization_id="rivals", key_id="key_1") is None


async def test_entry_that_comes_again_is_kept_once(storage: Storage) -> None:
    entries = random_entries(1200, seed=1)

    await storage.add(entries)
    await storage.add(entries + entries[:10])
    await storage.add([])

    assert await total(storage) == 1200


async def test_ten_writers_of_the_same_ids_neither_block_nor_lose(storage: Storage) -> None:
    """Pitfall 83."""
    hot = random_entries(200, seed=2)
    own = [random_entries(800, seed=seed) for seed in range(10, 20)]

    async def write(entries: list[LedgerEntry], seed: int) -> None:
        random.Random(seed).shuffle(entries)
        for start in range(0, len(entries), 100):
            await storage.add(entries[start : start + 100])

    async with anyio.create_task_group() as group:
        for seed, entries in enumerate(own):
            group.start_soon(write, entries + hot, seed)

    assert await total(storage) == 10 * 800 + 200


async def test_row_that_no_database_takes_is_cleaned_and_holds_nobody_up(storage: Storage, lines: Lines) -> None:
    nul = entry(user_label="a\0b")
    surrogate = entry(user_label="a\ud800b")
    huge = entry(prompt_tokens=2**70, status=10**6)
    impossible = msgspec.structs.replace(entry(), operation=None)
    good = entry()

    await storage.add([nul, surrogate, huge, impossible, good])

    assert await storage.find(good.id) == good
    found = await storage.find(surrogate.id)
    assert found is not None
    assert found.user_label == "a?b"
    found = await storage.find(nul.id)
    assert found is not None
    assert found.user_label == "ab"
    found = await storage.find(huge.id)
    assert found is not None
    assert found.prompt_tokens == 2**63 - 1
    assert await storage.find(impossible.id) is None
    assert lines.text().count("ledger_entry_refused") == 1
    assert storage.up


async def test_row_is_bounded_whatever_a_client_wrote(storage: Storage) -> None:
    """Pitfall 87."""
    texts = dict.fromkeys(("requested_model", "upstream_model", "user_label", "error_code"), "🦊" * 100000)
    long = entry(**texts)

    await storage.add([long])

    assert sum(len(str(value)) for value in row_of(long)) < 4000
    found = await storage.find(long.id)
    assert found is not None
    assert found.upstream_model == "🦊" * 256


async def test_oldest_are_deleted_first_and_no_more_than_a_batch(storage: Storage) -> None:
    entries = sorted(random_entries(300, seed=3), key=lambda one: one.at_us)
    await storage.add(entries)

    assert await storage.delete_before(END, batch=100) == 100
    assert await storage.find(entries[99].id) is None
    assert await storage.find(entries[100].id) is not None
    assert await storage.delete_before(START, batch=100) == 0
    assert await storage.delete_before(END + timedelta(days=1)) == 200


@pytest.mark.parametrize("value", ["x" * 300, "é" * 300])
def test_row_cuts_text_by_characters(value: str) -> None:
    assert row_of(entry(user_label=value))[COLUMNS.index("user_label")] == value[:256]
