import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.storage import shipping
from llmgateway.storage.entry import LedgerEntry
from llmgateway.storage.journal import Journal
from llmgateway.storage.segments import Segment, adopt
from llmgateway.storage.shipping import Shipper
from llmgateway.storage.storage import Storage
from tests.storage.journals import Database, Log, entry, files, journal_in

QUICK: dict[str, Any] = {"every_s": 0.01, "longest_delay_s": 0.02}


@asynccontextmanager
async def shipping_to(journal: Journal, database: Database, log: Log, **options: Any) -> AsyncIterator[Shipper]:
    shipper = Shipper(journal, database.add, log.logger, **(QUICK | options))
    async with anyio.create_task_group() as group:
        group.start_soon(shipper.run)
        yield shipper
        group.cancel_scope.cancel()


async def until(condition: Any) -> None:
    with anyio.fail_after(5):
        while not condition():  # noqa: ASYNC110  the condition is the event
            await anyio.sleep(0.005)


async def test_entries_reach_the_database_and_their_files_go(tmp_path: Path) -> None:
    journal, database, log = journal_in(tmp_path), Database(), Log()
    entries = [entry(number) for number in range(2500)]
    async with shipping_to(journal, database, log):
        for each in entries:
            journal.append(each)
        await until(lambda: journal.idle)

    assert database.ids == [each.id for each in entries]
    assert database.times >= 3
    assert (files(tmp_path), journal.backlog_bytes, journal.shipped, log.events) == ([], 0, 2500, [])


async def test_a_flush_lets_a_caller_read_its_own_writes(tmp_path: Path) -> None:
    journal, database = journal_in(tmp_path), Database()
    async with shipping_to(journal, database, Log(), every_s=60) as shipper:
        for _ in range(3):
            journal.append(entry())
            assert await shipper.flush(within_s=2)

            assert database.ids[-1:]
        assert len(database.ids) == 3
        assert await shipper.flush(within_s=0)


async def test_a_flush_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    journal = journal_in(tmp_path)
    journal.append(entry())

    assert not await Shipper(journal, Database().add, Log().logger).flush(within_s=0.01)


async def test_an_idle_gateway_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, database = journal_in(tmp_path), Database()
    rounds: list[bool] = []
    close_current = journal.close_current

    def count() -> None:
        rounds.append(True)
        close_current()

    monkeypatch.setattr(journal, "close_current", count)
    async with shipping_to(journal, database, Log()):
        await anyio.sleep(0.2)  # twenty times the pace

    assert (len(rounds), database.times, files(tmp_path)) == (1, 0, [])


async def test_database_away_is_said_once_and_loses_nothing(tmp_path: Path) -> None:
    journal, database, log = journal_in(tmp_path), Database(), Log()
    database.away()
    entries = [entry(number) for number in range(20)]
    async with shipping_to(journal, database, log) as shipper:
        for each in entries:
            journal.append(each)
            await anyio.sleep(0.002)
        await until(lambda: database.times > 5)
        assert (shipper.away, await shipper.flush(within_s=5)) == (True, False)
        assert journal.backlog_s > 0
        database.back()
        await until(lambda: journal.idle)
        assert not shipper.away

    assert database.ids == [each.id for each in entries]
    assert log.events == ["ledger_database_away", "ledger_database_back"]


async def test_nothing_is_tried_before_the_database_was_reached(tmp_path: Path) -> None:
    journal, database, log, ready = journal_in(tmp_path), Database(), Log(), anyio.Event()
    journal.append(entry())
    async with shipping_to(journal, database, log, ready=ready):
        await anyio.sleep(0.05)
        assert database.times == 0
        ready.set()
        await until(lambda: journal.idle)

    assert (database.times, log.events) == (1, [])


async def test_the_waits_grow_up_to_five_seconds(tmp_path: Path) -> None:
    shipper = Shipper(journal_in(tmp_path), Database().add, Log().logger)
    longest = []
    for failures in range(2000):
        shipper._failures = failures  # noqa: SLF001
        longest.append(shipper._delay_s())  # noqa: SLF001

    assert longest[1] < 0.6
    assert 2.5 <= min(longest[10:]) < 3
    assert 4.5 < max(longest) <= 5


async def test_the_end_ships_what_is_there(tmp_path: Path) -> None:
    journal, database = journal_in(tmp_path), Database()
    journal.append(entry())

    await Shipper(journal, database.add, Log().logger).close()

    assert (len(database.ids), files(tmp_path)) == (1, [])


async def test_the_end_does_not_wait_for_a_database_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "_FAREWELL_S", 0.05)
    journal = journal_in(tmp_path)
    journal.append(entry())

    async def hang(_: Sequence[LedgerEntry]) -> None:
        await asyncio.Event().wait()

    with anyio.fail_after(2):
        await Shipper(journal, hang, Log().logger).close()

    assert len(adopt(tmp_path)) == 1


async def test_what_a_dead_process_left_is_shipped_at_the_start(tmp_path: Path) -> None:
    dead, database, log = journal_in(tmp_path), Database(), Log()
    entries = [entry(number) for number in range(3)]
    for each in entries:
        dead.append(each)
    dead.close()
    with files(tmp_path)[0].open("ab") as file:
        file.write(b'{"id":"req_half')
    journal = journal_in(tmp_path)
    async with shipping_to(journal, database, log):
        await until(lambda: len(database.ids) == 3)
        await until(lambda: not files(tmp_path))

    assert database.ids == [each.id for each in entries]
    assert log.events == ["journal_adopted", "journal_line_torn"]
    assert journal.lost == 1


async def test_what_dies_beside_a_running_process_is_adopted_while_it_runs(tmp_path: Path) -> None:
    journal, other, database = journal_in(tmp_path), journal_in(tmp_path), Database()
    other.append(entry())
    async with shipping_to(journal, database, Log(), adopt_every_s=0.02):
        await anyio.sleep(0.1)
        assert database.ids == []  # it lives
        other.close()
        await until(lambda: len(database.ids) == 1)


async def test_broken_lines_are_set_aside_and_hold_up_nothing(tmp_path: Path) -> None:
    dead, database, log = journal_in(tmp_path), Database(), Log()
    dead.append(entry(1))
    dead.close()
    path = files(tmp_path)[0]
    path.write_bytes(b"rubbish\n" + path.read_bytes() + b"{}\n")
    journal = journal_in(tmp_path)
    async with shipping_to(journal, database, log):
        await until(lambda: len(database.ids) == 1 and not files(tmp_path))

    assert files(tmp_path, ".broken")[0].read_bytes() == b"rubbish\n{}\n"
    assert journal.lost == 2
    assert "journal_lines_set_aside" in log.events


async def test_lines_that_cannot_be_set_aside_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, database, log = journal_in(tmp_path), Database(), Log()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("llmgateway.storage.segments.Segment.set_aside", refuse)
    poison = entry()
    database.fault = refusing(poison)
    async with shipping_to(journal, database, log):
        for each in (entry(), poison):
            journal.append(each)
        await until(lambda: journal.idle)

    assert log.events[-1] == "journal_lines_lost"


async def test_a_segment_that_cannot_be_read_holds_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, database, log = journal_in(tmp_path), Database(), Log()
    journal.append(entry(1))
    journal.close_current()
    journal.append(entry(2))
    bad, read = journal.closed[0], Segment.read

    def fail(segment: Segment, most: int) -> Any:
        if segment is bad:
            raise OSError(5, "Input/output error")
        return read(segment, most)

    monkeypatch.setattr(Segment, "read", fail)
    async with shipping_to(journal, database, log):
        await until(lambda: journal.idle)

    assert (len(database.ids), len(files(tmp_path, ".broken"))) == (1, 1)
    assert log.events == ["journal_segment_unreadable"]


def refusing(*poison: LedgerEntry) -> Any:
    def fail(entries: Sequence[LedgerEntry]) -> None:
        if {each.id for each in poison} & {each.id for each in entries}:
            raise ValueError("integer out of range")

    return fail


async def test_an_entry_that_the_database_refuses_is_set_aside(tmp_path: Path) -> None:
    journal, database, log = journal_in(tmp_path), Database(), Log()
    entries = [entry(number) for number in range(100)]
    database.fault = refusing(entries[0], entries[50])
    async with shipping_to(journal, database, log):
        for each in entries:
            journal.append(each)
        await until(lambda: journal.idle)

    assert sorted(database.ids) == sorted(each.id for number, each in enumerate(entries) if number not in {0, 50})
    assert (journal.lost, len(files(tmp_path, ".broken")[0].read_bytes().splitlines())) == (2, 2)


async def test_a_database_that_refuses_everything_loses_nothing(tmp_path: Path) -> None:
    """A table that is missing is not the fault of the entries."""
    journal, database, log = journal_in(tmp_path), Database(), Log()
    entries = [entry(number) for number in range(100)]
    database.fault = refusing(*entries)
    async with shipping_to(journal, database, log):
        for each in entries:
            journal.append(each)
        await until(lambda: database.times > 150)
        database.back()
        await until(lambda: journal.idle)

    assert sorted(database.ids) == sorted(each.id for each in entries)
    assert (journal.lost, files(tmp_path, ".broken")) == (0, [])
    assert log.events == ["ledger_database_away", "ledger_database_back"]


async def test_a_refused_entry_alone_waits_until_the_database_has_taken_another(tmp_path: Path) -> None:
    journal, database, log = journal_in(tmp_path), Database(), Log()
    poison, good = entry(1), entry(2)
    database.fault = refusing(poison)
    async with shipping_to(journal, database, log):
        journal.append(poison)
        await until(lambda: database.times > 5)
        assert journal.lost == 0
        journal.append(good)
        await until(lambda: journal.idle)

    assert (database.ids, journal.lost) == ([good.id], 1)


async def test_a_full_disk_is_tried_again_without_a_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, log = Database(), Log()
    journal = journal_in(tmp_path, log)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with shipping_to(journal, database, log):
        with monkeypatch.context() as full:
            full.setattr("llmgateway.storage.journal.create", refuse)
            journal.append(entry())
            await until(lambda: log.events == ["journal_not_written"])
        await until(lambda: len(database.ids) == 1)


async def test_two_processes_on_one_folder_ship_each_entry(tmp_path: Path) -> None:
    database, log = Database(), Log()
    both = [journal_in(tmp_path), journal_in(tmp_path)]
    entries = [entry(number) for number in range(400)]
    options = {"adopt_every_s": 0.001, "every_s": 0.001}
    async with shipping_to(both[0], database, log, **options), shipping_to(both[1], database, log, **options):
        for number, each in enumerate(entries):
            both[number % 2].append(each)
            if number % 20 == 0:
                await anyio.sleep(0.001)
        await until(lambda: all(journal.idle for journal in both))

    assert sorted(database.ids) == sorted(each.id for each in entries)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.sampled_from(["append", "append", "append", "rotate", "crash", "ship"]), max_size=40),
    seed=st.integers(0, 2**32),
)
def test_every_entry_is_delivered_at_least_once(steps: list[str], seed: int) -> None:
    """Whatever the order of entries, new segments, crashes and a database that fails at random."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        anyio.run(play, Path(name), steps, chance)


class Play:
    """A folder, and the processes that come and go on it."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.database = Database()
        self.appended: list[str] = []
        self._folder = folder
        self._chance = chance
        self._start()

    def _start(self) -> None:
        self._journal = journal_in(self._folder)
        self._shipper = Shipper(self._journal, self.database.add, Log().logger, **QUICK)

    def fail(self, _: Sequence[LedgerEntry]) -> None:
        if self._chance.random() < 0.4:
            raise OSError("nobody answers")

    async def append(self) -> None:
        self.appended.append((made := entry()).id)
        self._journal.append(made)

    async def rotate(self) -> None:
        self._journal.close_current()

    async def ship(self) -> None:
        await self._shipper._adopt()  # noqa: SLF001
        await self._shipper._ship()  # noqa: SLF001

    async def crash(self) -> None:
        """Die, at times between a commit and the deletion."""
        if self._chance.random() < 0.5:
            with contextlib.suppress(OSError):
                for segment in self._journal.closed:
                    await self.database.add(segment.read(1000).entries)
        release(self._journal)
        self._start()

    async def end(self) -> None:
        self.database.back()
        await self.crash()
        await self._shipper._adopt()  # noqa: SLF001
        await self._shipper.close()


async def play(folder: Path, steps: list[str], chance: random.Random) -> None:
    played = Play(folder, chance)
    played.database.fault = played.fail
    for step in steps:
        await getattr(played, step)()
    await played.end()

    assert set(played.database.ids) == set(played.appended)
    assert files(folder) == []


def release(journal: Journal) -> None:
    """Give back what the system gives back when a process dies, and nothing more."""
    for segment in (journal._current, *journal.closed, *journal.adopted):  # noqa: SLF001
        if segment is not None:
            segment.close()


@pytest.mark.alone
@pytest.mark.timeout(60)
async def test_two_thousand_requests_a_second_are_kept_without_loss(tmp_path: Path) -> None:
    log = Log()
    storage = Storage(None, tmp_path, logger=log.logger)
    await storage.open()
    journal = journal_in(tmp_path / "journal")
    shipper = Shipper(journal, storage.add, log.logger)
    started, appended = time.perf_counter(), 0
    async with anyio.create_task_group() as group:
        group.start_soon(shipper.run)
        while (elapsed_s := time.perf_counter() - started) < 5:
            while appended < elapsed_s * 2000:
                journal.append(entry(appended))
                appended += 1
            await anyio.sleep(0.005)
        # It keeps up: what is left is what came since the last round.
        left = journal.journaled - journal.shipped
        assert await shipper.flush(within_s=10)
        group.cancel_scope.cancel()
    await shipper.close()
    await storage.close()

    assert appended >= 9_900
    assert left < 3 * 2000
    assert (journal.journaled, journal.shipped, journal.lost, log.events) == (appended, appended, 0, [])
