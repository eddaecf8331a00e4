"""The smallest gateway, SQLite and one process that runs its jobs itself: killed, told to end, locked out, and full."""

import resource
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from tests.e2e.jobs.model import Model
from tests.e2e.jobs.working import Works, until_so, without, works

pytestmark = pytest.mark.timeout(120)
_DELAY_S = 0.1


@pytest.fixture(scope="module")
async def alone(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Works]:
    """A gateway alone."""
    async with works(tmp_path_factory.mktemp("alone"), Model(delay_s=_DELAY_S)) as w:
        await w.offer()
        yield w


@pytest.fixture(scope="module")
async def plain(alone: Works) -> str:
    """What comes out when nothing is in the way."""
    return await alone.plain()


def database_of(works: Works) -> Path:
    (found,) = (works.folder / "data").glob("*.db")
    return found


def asked(works: Works, query: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(database_of(works), timeout=20)
    try:
        return list(connection.execute(query))
    finally:
        connection.close()


def repeated(works: Works, name: str) -> int:
    counted = Counter(called.text for called in works.model.of(name))
    return counted.total() - len(counted)


async def test_a_gateway_that_is_killed_goes_on_with_its_jobs_when_it_is_started_again(
    alone: Works, plain: str
) -> None:
    assert alone.front is not None
    names = [f"killed-{number}" for number in range(3)]
    job_ids = [await alone.order(name) for name in names]
    await alone.called(names[-1], 6)
    alone.front.signal(signal.SIGKILL)
    await alone.front.ended(within_s=10)
    committed = {
        str(text): alone.model.calls_of(str(text)) for (text,) in asked(alone, "SELECT output FROM job_passes")
    }

    await alone.serve()
    for name, job_id in zip(names, job_ids, strict=True):
        job = await alone.ended(job_id)
        assert without(name, job["result"]) == plain
        assert repeated(alone, name) <= 1
    assert {text: alone.model.calls_of(text) for text in committed} == committed


async def test_a_gateway_that_is_told_to_end_writes_its_call_down_and_goes_on_when_it_is_started_again(
    alone: Works, plain: str
) -> None:
    assert alone.front is not None
    job_id = await alone.order("ended")
    await alone.called("ended", 6)
    alone.front.signal(signal.SIGTERM)

    assert await alone.front.ended(within_s=20) == 0
    await alone.serve()
    job = await alone.ended(job_id)
    assert without("ended", job["result"]) == plain
    assert repeated(alone, "ended") == 0
    assert asked(alone, f"SELECT kills FROM jobs WHERE id = '{job_id}'") == [(0,)]  # noqa: S608  an id of ours


async def test_a_database_that_another_has_locked_is_waited_for(alone: Works, plain: str) -> None:
    job_id = await alone.order("locked")
    await alone.called("locked", 5)
    connection = sqlite3.connect(database_of(alone), timeout=20, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    asked_for = len(alone.model.of("locked"))
    with anyio.move_on_after(1.5):
        await alone.called("locked", asked_for + 2)
    assert len(alone.model.of("locked")) <= asked_for + 1
    connection.execute("ROLLBACK")
    connection.close()

    job = await alone.ended(job_id)
    assert without("locked", job["result"]) == plain
    assert repeated(alone, "locked") == 0


async def test_a_full_disk_is_told_of_and_jobs_go_on_when_there_is_room_again(alone: Works, plain: str) -> None:
    assert alone.front is not None
    process_id, unlimited = alone.front.process_id, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    job_id = await alone.order("full")
    await alone.called("full", 5)
    # No file of the process may grow beyond this: the log is shorter, the database's own are not.
    at_most = alone.front.log_file.stat().st_size + 20_000
    assert at_most < database_of(alone).stat().st_size
    resource.prlimit(process_id, resource.RLIMIT_FSIZE, (at_most, resource.RLIM_INFINITY))
    try:

        async def refuses() -> bool:
            body = {"input": "Line 1 of refused: too much."}
            answer = await alone.client.post("/api/v1/services/minutes/execute", json=body)
            if answer.status_code == 202:
                return False
            assert answer.status_code == 503, answer.text
            assert answer.json()["detail"]
            return True

        await until_so(refuses)
        # What is in flight comes to its end, and nothing more is asked for that cannot be written down.
        asked_for = len(alone.model.of("full"))
        with anyio.move_on_after(2):
            await alone.called("full", asked_for + 2)
        assert len(alone.model.of("full")) <= asked_for + 1
    finally:
        resource.prlimit(process_id, resource.RLIMIT_FSIZE, unlimited)

    job = await alone.ended(job_id)
    assert without("full", job["result"]) == plain
    assert repeated(alone, "full") == 0
    assert asked(alone, "PRAGMA integrity_check") == [("ok",)]
    (away,) = [line for line in alone.front.logs() if line["event"] == "database_away"]
    assert away["reason"], away
    assert "database_back" in [line["event"] for line in alone.front.logs()]
