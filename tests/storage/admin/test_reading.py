from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from llmgateway.storage.address import changes_in, locate
from llmgateway.storage.admin import reading
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.admin.outcomes import ChangesGoneError, Verdict
from llmgateway.storage.admin.rows import Change
from llmgateway.storage.storage import Storage
from tests.storage.admin.given import NOW, behind, deed, key_row, run_sql, run_sql_without_triggers
from tests.storage.databases import START, entry


async def test_changes_are_read_from_where_the_reader_was(admin: AdminStorage, url: str, tmp_path: Path) -> None:
    rows = [key_row() for _ in range(4)]
    assert await admin.changes_after(None) == []
    for row in rows:
        await admin.add_key(row, deed())
    expected = [Change(seq, "key", row.id) for seq, row in enumerate(rows, 1)]

    assert await admin.changes_after(None) == expected[3:]
    assert await admin.changes_after(0) == expected
    assert await admin.changes_after(2) == expected[2:]
    assert await admin.changes_after(4) == []
    if (path := locate(url, tmp_path).path) is not None:
        assert [changes_in(path, seq) for seq in (None, 0, 2)] == [expected[3:], expected, expected[2:]]


async def test_reader_whose_changes_are_gone_hears_of_it(admin: AdminStorage, url: str, tmp_path: Path) -> None:
    for _ in range(4):
        await admin.add_key(key_row(), deed())
    await run_sql(url, tmp_path, "DELETE FROM changes WHERE seq <= 2")

    for seq in (0, 1, 2, 5):
        with pytest.raises(ChangesGoneError):
            await admin.changes_after(seq)
    assert [change.seq for change in await admin.changes_after(3)] == [4]


async def test_audit_is_read_by_time_actor_action_and_organization(admin: AdminStorage) -> None:
    before = datetime.now(UTC)
    await admin.note([deed("a", organization_id="acme"), deed("b", actor="cli"), deed("c", action="cache.clear")])
    after = datetime.now(UTC) + timedelta(microseconds=1)
    await admin.note([])

    async def subjects(*between: datetime, **wanted: str) -> list[str]:
        return [row.subject for row in (await admin.audit(*between, **wanted)).rows]  # type: ignore[arg-type]

    assert await subjects() == ["c", "b", "a"]
    assert await subjects(before, after) == ["c", "b", "a"]
    assert await subjects(after) == []
    assert await subjects(before, before) == []
    assert await subjects(organization_id="acme") == ["a"]
    assert await subjects(actor="admin") == ["c", "a"]
    assert await subjects(actor="admin", action="key.create") == ["a"]
    second = await admin.audit(page=2, page_size=2)
    assert ([row.seq for row in second.rows], second.total) == ([1], 3)


async def test_the_log_is_followed_in_batches(admin: AdminStorage, url: str, tmp_path: Path) -> None:
    for _ in range(3):
        await admin.note([deed(str(number), details={"n": number / 7}) for number in range(7)])

    async with behind(url, tmp_path) as database:
        assert await reading.verify(database, batch=4) == Verdict(True, 21)
        assert await reading.verify(database, batch=7) == Verdict(True, 21)


@pytest.mark.parametrize(
    ("tampering", "bad", "reason"),
    [
        ("UPDATE audit SET actor = 'nobody' WHERE seq = 7", 7, "hash"),
        ("UPDATE audit SET details = '{\"n\": 8}' WHERE seq = 7", 7, "hash"),
        ("UPDATE audit SET at_us = at_us + 1 WHERE seq = 7", 7, "hash"),
        ("UPDATE audit SET organization_id = 'other' WHERE seq = 7", 7, "hash"),
        ("DELETE FROM audit WHERE seq = 7", 7, "missing"),
        ("DELETE FROM audit WHERE seq > 15", 16, "up to 20"),
        ("DELETE FROM audit", 1, "up to 20"),
        ("UPDATE audit SET seq = 99 WHERE seq = 20", 20, "missing"),
    ],
)
async def test_whatever_was_done_to_the_log_is_found(
    admin: AdminStorage, url: str, tmp_path: Path, tampering: str, bad: int, reason: str
) -> None:
    await admin.note([deed(str(number), details={"n": number}) for number in range(20)])

    await run_sql_without_triggers(url, tmp_path, tampering)

    verdict = await admin.verify()
    assert (verdict.ok, verdict.rows, verdict.first_bad_seq) == (False, bad - 1, bad)
    assert reason in verdict.reason


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit", "TRUNCATE audit"])
async def test_the_database_itself_refuses_to_change_the_log(
    admin: AdminStorage, url: str, tmp_path: Path, statement: str
) -> None:
    if statement.startswith("TRUNCATE") and url.startswith("sqlite"):
        statement = "DELETE FROM audit WHERE seq > 0"
    await admin.note([deed()])

    with pytest.raises(Exception, match="append-only"):
        await run_sql(url, tmp_path, statement)

    assert await admin.verify() == Verdict(True, 1)


async def test_what_was_spent_is_summed_exactly_from_a_moment_on(admin: AdminStorage, storage: Storage) -> None:
    at_us = int(START.timestamp()) * 1_000_000
    largest = 2**62
    await storage.add(
        [
            entry(key_id="key_1", organization_id="acme", cost_nusd=5, at_us=at_us - 1),
            entry(key_id="key_1", organization_id="acme", cost_nusd=largest, at_us=at_us),
            entry(key_id="key_1", organization_id="acme", cost_nusd=largest, at_us=at_us + 1),
            entry(key_id="key_1", organization_id="acme", cost_nusd=largest + 1, at_us=at_us + 2),
            entry(key_id="key_1", organization_id="acme", cost_nusd=None, at_us=at_us + 2),
            entry(key_id="key_2", organization_id="acme", cost_nusd=3, at_us=at_us),
            entry(cost_nusd=7, at_us=at_us),
        ]
    )

    assert await admin.spent_nusd("key", "key_1", START) == 3 * largest + 1
    assert await admin.spent_nusd("key", "key_2", START) == 3
    assert await admin.spent_nusd("organization", "acme", START) == 3 * largest + 4
    assert await admin.spent_nusd("key", "key_3", START) == 0
    assert await admin.spent_nusd("key", "key_1", NOW + timedelta(days=99)) == 0
