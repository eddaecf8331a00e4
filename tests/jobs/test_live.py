"""Watching jobs: every event, once, in order, whenever somebody comes and whatever is lost on the way."""

import random
from collections.abc import Mapping, Sequence
from contextlib import aclosing

import anyio
import anyio.lowlevel
import msgspec
from typing_extensions import override

from llmgateway.jobs.live import Live
from llmgateway.storage.jobs.rows import EventRow, Wanted
from tests.jobs.watching.book import Book, all_of, came
from tests.jobs.watching.processes import Process, memory, running
from tests.lines import Lines
from tests.stores.waiting import until


async def test_whoever_comes_late_gets_everything_and_the_end(process: Process) -> None:
    book = Book()
    book.commit("j", "queued", "started")
    book.commit("j", "processing")
    book.commit("j", "completed", "completed")
    live = await process(book)

    assert await all_of(live.watch("j")) == [1, 2, 3, 4, 5]
    for after in range(6):
        assert await all_of(live.watch("j", after)) == list(range(after + 1, 6))
    assert live.watched == 0


async def test_an_event_that_there_never_was_counts_as_none(process: Process) -> None:
    book = Book()
    book.commit("j", "queued", "failed")
    live = await process(book)

    assert await all_of(live.watch("j", 77)) == [1, 2]


async def test_events_come_as_they_are_committed(process: Process) -> None:
    book = Book()
    book.commit("j", "queued")
    live = await process(book, compare_every_s=60.0)
    book.told.append(live.published)
    seen: list[int] = []

    async with anyio.create_task_group() as group:
        group.start_soon(all_of, live.watch("j"), seen)
        for number in range(2, 20):
            await came(seen, number - 1)
            book.commit("j", "processing")
        book.commit("j", "processing", "completed")

    assert seen == list(range(1, 22))
    assert live.watched == 0


async def test_pitfall_108_a_thousand_who_come_at_random_moments_miss_nothing(process: Process) -> None:
    book, chance = Book(), random.Random(108)
    live = await process(book, compare_every_s=0.05)
    book.told.append(live.published)
    book.commit("j", "queued")
    found: list[list[int]] = []
    committed = 1

    async def come() -> None:
        after = chance.randrange(committed + 1)
        for _ in range(chance.randrange(200)):
            await anyio.lowlevel.checkpoint()
        found.append([after, *await all_of(live.watch("j", after))])

    async with anyio.create_task_group() as group:
        for _ in range(1000):
            group.start_soon(come)
            for _ in range(chance.randrange(3)):
                await anyio.lowlevel.checkpoint()
            if chance.random() < 0.3:
                # Every fifth commit is told to nobody.
                book.commit("j", *["processing"] * chance.randrange(1, 4), lost=chance.random() < 0.2)
            committed = len(book.rows["j"])
        book.commit("j", "completed")

    last = len(book.rows["j"])
    assert len(found) == 1000
    assert all(ids == list(range(ids[0], last + 1)) for ids in found)
    assert live.watched == 0


async def test_pitfall_110_each_watcher_has_a_place_of_its_own(process: Process) -> None:
    book = Book()
    book.commit("j", *["processing"] * 300)
    live = await process(book)
    book.told.append(live.published)
    slow = live.watch("j")
    first = [(await anext(slow)).id for _ in range(3)]
    quick: list[int] = []

    async with anyio.create_task_group() as group:
        group.start_soon(all_of, live.watch("j", 290), quick)
        await until(lambda: quick == list(range(291, 301)))
        for _ in range(500):
            book.commit("j", "processing")
        book.commit("j", "completed")

    assert quick == list(range(291, 802))
    assert first + await all_of(slow) == list(range(1, 802))


async def test_what_nobody_told_is_found_by_comparing_in_one_question_for_all(process: Process) -> None:
    book = Book()
    live = await process(book, compare_every_s=0.05)
    seen: dict[str, list[int]] = {f"job {number}": [] for number in range(50)}
    for job_id in seen:
        book.commit(job_id, "queued")

    async with anyio.create_task_group() as group:
        for job_id, ids in seen.items():
            group.start_soon(all_of, live.watch(job_id), ids)
        await until(lambda: all(ids == [1] for ids in seen.values()))
        before = book.asked.count("heads")
        await until(lambda: book.asked.count("heads") > before + 2)
        assert book.asked.count("heads") - before < 10
        for job_id in seen:
            book.commit(job_id, "completed", lost=True)

    assert all(ids == [1, 2] for ids in seen.values())


async def test_a_thousand_who_miss_the_same_ask_for_it_once(process: Process) -> None:
    book = Book()
    live = await process(book, compare_every_s=0.05)
    book.commit("j", "queued")
    seen: list[list[int]] = [[] for _ in range(1000)]

    async with anyio.create_task_group() as group:
        for ids in seen:
            group.start_soon(all_of, live.watch("j"), ids)
        await until(lambda: all(ids == [1] for ids in seen))
        book.asked.clear()
        book.commit("j", "processing", "completed", lost=True)

    assert all(ids == [1, 2, 3] for ids in seen)
    assert book.asked.count("events") <= 2


async def test_a_database_that_is_away_for_a_moment_is_waited_for(process: Process) -> None:
    book = Book()
    book.commit("j", "queued")
    live = await process(book, compare_every_s=0.05)
    seen: list[int] = []

    async with anyio.create_task_group() as group:
        group.start_soon(all_of, live.watch("j"), seen)
        await until(lambda: seen == [1])
        book.away = True
        book.commit("j", "processing", "completed")
        group.start_soon(all_of, live.watch("j"))
        before = len(book.asked)
        await until(lambda: len(book.asked) > before)
        book.away = False

    assert seen == [1, 2, 3]
    assert live.watched == 0


async def test_a_job_that_is_deleted_or_was_never_there_ends_its_watch(process: Process) -> None:
    book = Book()
    book.commit("j", "queued")
    live = await process(book, compare_every_s=0.05)
    seen: list[int] = []

    assert await all_of(live.watch("unknown")) == []
    async with anyio.create_task_group() as group:
        group.start_soon(all_of, live.watch("j"), seen)
        await until(lambda: seen == [1])
        book.delete("j")

    assert live.watched == 0


async def test_silence_is_told_of_to_whoever_asks_for_that(process: Process) -> None:
    book = Book()
    book.commit("j", "queued")
    live = await process(book)

    async with aclosing(live.follow("j", beat_s=0.02)) as events:
        assert [await anext(events) for _ in range(3)] == [book.rows["j"][0], None, None]


async def test_whoever_leaves_leaves_nothing_behind(process: Process) -> None:
    book = Book()
    book.add("j")
    live = await process(book)
    watching, everything = live.watch("j"), live.watch_all(Wanted(everyone=True))
    await anext(watching)
    await anext(everything)
    assert live.watched == 1

    await watching.aclose()
    assert live.watched == 1
    await everything.aclose()

    assert live.watched == 0


async def test_a_fault_of_ours_is_told_and_does_not_end_the_watching(process: Process, lines: Lines) -> None:
    class Faulty(Book):
        faulty = True

        @override
        async def heads(self, job_ids: Sequence[str]) -> Mapping[str, int]:
            if self.faulty:
                self.faulty = False
                raise RuntimeError("a bug")
            return await super().heads(job_ids)

    book = Faulty()
    book.commit("j", "queued")
    live = await process(book, compare_every_s=0.01)
    seen: list[int] = []

    async with anyio.create_task_group() as group:
        group.start_soon(all_of, live.watch("j"), seen)
        await until(lambda: "live_failed" in lines.events())
        book.commit("j", "completed", lost=True)

    assert seen == [1, 2]


class TestEverything:
    """All jobs of an organization at once."""

    async def test_first_the_states_then_what_happens_and_what_is_new(self, process: Process) -> None:
        book = Book()
        for job_id in ("a", "b", "ended"):
            book.add(job_id, organization="acme")
        book.commit("b", "processing")
        book.commit("ended", "completed")
        book.add("foreign", organization="other")
        live = await process(book, look_every_s=0.02)
        book.told.append(live.published)
        events = live.watch_all(Wanted(organization_id="acme"))

        states = [await anext(events) for _ in range(2)]
        book.commit("a", "processing")
        later = [await anext(events)]
        book.add("new", organization="acme")
        book.add("newly foreign", organization="other")
        book.commit("new", "completed")
        later += [await anext(events) for _ in range(2)]
        book.commit("b", "failed")
        later.append(await anext(events))
        await events.aclose()

        assert [shown(one) for one in states] == [("a", 1, "queued"), ("b", 2, "processing")]
        told = [shown(one) for one in later]
        assert told == [("a", 2, "processing"), ("new", 1, "queued"), ("new", 2, "completed"), ("b", 3, "failed")]

    async def test_new_jobs_are_found_when_the_bell_rings(self, process: Process, lines: Lines) -> None:
        book, store = Book(), memory()
        book.add("a")
        async with running(Live(book, store, lines.logger, look_every_s=60.0), store) as live:
            events = live.watch_all(Wanted())
            await anext(events)
            book.add("b")
            store.bell.ring("jobs")

            with anyio.fail_after(5):
                assert shown(await anext(events)) == ("b", 1, "queued")
            await events.aclose()

    async def test_many_watch_everything_and_the_database_is_asked_once_a_turn(self, process: Process) -> None:
        book = Book()
        book.add("a")
        live = await process(book, look_every_s=0.2)
        watching = [live.watch_all(Wanted()) for _ in range(200)]
        for events in watching:
            await anext(events)
        book.asked.clear()
        found: list[tuple[object, ...]] = []

        async def next_of(events: object) -> None:
            found.append(shown(await anext(events)))  # type: ignore[call-overload]

        async with anyio.create_task_group() as group:
            for events in watching:
                group.start_soon(next_of, events)
            await anyio.wait_all_tasks_blocked()
            book.add("b")

        assert found == [("b", 1, "queued")] * 200
        assert book.asked.count("jobs") < 20
        for events in watching:
            await events.aclose()

    async def test_nothing_is_lost_or_doubled_while_jobs_come_and_go(self, process: Process) -> None:
        book, chance = Book(), random.Random(7)
        live = await process(book, compare_every_s=0.02, look_every_s=0.01)
        book.told.append(live.published)
        for number in range(30):
            book.add(f"job {number}")
        seen: dict[str, list[int]] = {}

        async def watch() -> None:
            async with aclosing(live.watch_all(Wanted(everyone=True))) as events:
                async for one in events:
                    job_id, number, _ = shown(one)
                    seen.setdefault(str(job_id), []).append(int(str(number)))

        def is_whole() -> bool:
            return all(job_id in seen and seen[job_id][-1] == len(rows) for job_id, rows in book.rows.items())

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await until(lambda: len(seen) == 30)
            for number in range(30, 300):
                book.add(f"job {number}")
                for job_id in chance.sample(sorted(book.rows), 5):
                    if book.kept[job_id].status == "queued":
                        status = chance.choice(["queued", "completed"])
                        book.commit(job_id, status, lost=chance.random() < 0.3)
                await anyio.lowlevel.checkpoint()
            await until(is_whole)
            group.cancel_scope.cancel()

        assert all(ids == list(range(ids[0], ids[-1] + 1)) for ids in seen.values())
        assert live.watched == 0


def shown(one: EventRow) -> tuple[object, ...]:
    body = msgspec.json.decode(one.body)
    return body["job_id"], body["id"], body["status"]
