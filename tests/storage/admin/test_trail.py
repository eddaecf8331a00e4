from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from llmgateway.storage.admin import trail as module
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.admin.rows import Deed
from llmgateway.storage.admin.trail import Trail
from llmgateway.storage.storage import Storage, StorageAwayError
from tests.lines import Lines
from tests.services import postgres_server
from tests.storage.admin.given import deed
from tests.storage.conftest import opened


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TOGETHER_S", 0.01)
    monkeypatch.setattr(module, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(module, "_LONGEST_PAUSE_S", 0.05)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110  the trail has no event for it
            await anyio.sleep(0.005)


async def test_deeds_are_written_beside_the_requests_in_their_order(admin: AdminStorage, lines: Lines) -> None:
    trail = Trail(admin, lines.logger)
    async with anyio.create_task_group() as group:
        group.start_soon(trail.run)
        for number in range(1200):
            trail.note(deed(str(number), action="sensitivity.reroute"))
        await until(lambda: trail.waiting == 0)
        trail.note(deed("last"))
        await until(lambda: trail.waiting == 0)
        group.cancel_scope.cancel()
    await trail.close()

    found = await admin.audit(page_size=2000)
    assert [row.subject for row in found.rows] == ["last", *map(str, reversed(range(1200)))]
    assert (trail.dropped, lines.text()) == (0, "")
    assert (await admin.verify()).ok


async def test_what_still_waits_at_the_end_is_written_then(admin: AdminStorage, lines: Lines) -> None:
    trail = Trail(admin, lines.logger)
    trail.note(deed("a"))
    await trail.close()

    assert (await admin.audit()).total == 1
    assert trail.waiting == 0


async def test_deed_whose_details_are_no_json_is_dropped_alone_and_not_quoted(
    admin: AdminStorage, lines: Lines
) -> None:
    trail = Trail(admin, lines.logger)
    for number in range(5):
        trail.note(deed(str(number), details={"canary": object()} if number == 2 else {}))
    await trail.close()

    assert [row.subject for row in (await admin.audit()).rows] == ["4", "3", "1", "0"]
    assert trail.dropped == 1
    assert lines.text().count("audit_refused") == 1
    assert "canary" not in lines.text()


async def test_more_than_can_wait_are_dropped_counted_and_told_once(
    tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_WAITING", 10)
    trail = Trail(AdminStorage(Storage(None, tmp_path, logger=lines.logger)), lines.logger)

    for number in range(15):
        trail.note(deed(str(number)))

    assert (trail.waiting, trail.dropped) == (10, 5)
    assert lines.text().count("audit_dropped") == 1
    await trail.close()
    assert trail.dropped == 15
    assert "audit_not_written" in lines.text()


async def test_database_that_is_slow_does_not_hold_up_the_end(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck:
        async def note(self, _: Sequence[Deed]) -> None:
            await anyio.sleep_forever()

    monkeypatch.setattr(module, "_FAREWELL_S", 0.02)
    trail = Trail(Stuck(), lines.logger)  # type: ignore[arg-type]
    trail.note(deed())

    with anyio.fail_after(5):
        await trail.close()

    assert trail.dropped == 1


@pytest.mark.timeout(60)
async def test_pitfall_084_deeds_wait_while_the_database_is_away(tmp_path: Path, lines: Lines) -> None:
    with postgres_server() as server:
        async with opened(server.url, tmp_path, lines.logger) as storage:
            admin = AdminStorage(storage)
            trail = Trail(admin, lines.logger)
            await to_thread.run_sync(server.stop)
            async with anyio.create_task_group() as group:
                group.start_soon(trail.run)
                for number in range(3):
                    trail.note(deed(str(number)))
                await until(lambda: "database_away" in lines.text())
                with pytest.raises(StorageAwayError):
                    await admin.audit()
                trail.note(deed("3"))
                assert trail.waiting == 4
                await to_thread.run_sync(server.start)
                await until(lambda: trail.waiting == 0)
                group.cancel_scope.cancel()
            await trail.close()

            assert [row.subject for row in (await admin.audit()).rows] == ["3", "2", "1", "0"]
            assert trail.dropped == 0
