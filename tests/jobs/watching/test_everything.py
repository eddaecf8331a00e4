import msgspec

from llmgateway.jobs.watching.everything import Everything
from llmgateway.jobs.watching.listing import Listing
from llmgateway.jobs.watching.watched import Watched
from llmgateway.storage.jobs.rows import EventRow, Wanted
from tests.jobs.watching.book import Book


class Rig:
    def __init__(self) -> None:
        self.book = Book()
        self.watched = Watched(self.book, lambda: None)
        self.listing = Listing(self.book)
        self.everything = Everything(Wanted(everyone=True, status="completed"), self.watched, self.listing)
        self.book.told.append(self.tell)

    def tell(self, job_id: str, rows: object) -> None:
        if (window := self.watched.find(job_id)) is not None:
            window.add(rows, whole=True)  # type: ignore[arg-type]

    async def states(self) -> list[tuple[str, int]]:
        return [shown(one) for one in await self.everything.states() or ()]

    async def news(self) -> list[tuple[str, int]]:
        found = []
        while rows := await self.everything.next():
            found += [shown(one) for one in rows]
        return found


def shown(one: EventRow) -> tuple[str, int]:
    return msgspec.json.decode(one.body)["job_id"], one.id


async def test_it_begins_with_the_states_and_goes_on_from_them() -> None:
    rig = Rig()
    for job_id in ("a", "b", "ended"):
        rig.book.add(job_id)
    rig.book.commit("ended", "cancelled")
    rig.book.commit("b", "processing", "processing")

    assert await rig.states() == [("a", 1), ("b", 3)]
    assert await rig.news() == []
    rig.book.commit("b", "processing")
    rig.book.commit("a", "failed")
    assert await rig.news() == [("b", 4), ("a", 2)]
    assert len(rig.watched) == 1, "nothing comes of one that has ended"
    rig.everything.close()
    assert len(rig.watched) == 0


async def test_a_new_job_is_told_from_its_beginning_also_when_it_has_ended_meanwhile() -> None:
    rig = Rig()
    assert await rig.states() == []
    await rig.news()
    rig.book.add("quick")
    rig.book.commit("quick", "completed")
    rig.book.add("slow")
    assert await rig.news() == []

    rig.listing.look_again()

    assert sorted(await rig.news()) == [("quick", 1), ("quick", 2), ("slow", 1)]
    rig.listing.look_again()
    assert await rig.news() == []


async def test_one_that_never_stops_keeps_nobody_waiting() -> None:
    rig = Rig()
    for job_id in ("chatty", "quiet"):
        rig.book.add(job_id)
    await rig.states()
    await rig.news()
    rig.book.commit("chatty", "processing")
    rig.book.commit("quiet", "processing")
    told = []

    for _ in range(4):
        told += [shown(one)[0] for one in await rig.everything.next() or ()]
        rig.book.commit("chatty", "processing")

    assert "quiet" in told


async def test_while_the_database_is_away_nothing_can_be_told() -> None:
    rig = Rig()
    rig.book.away = True

    assert await rig.everything.states() is None
    assert await rig.everything.next() is None
