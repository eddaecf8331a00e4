import anyio
import msgspec

from llmgateway.jobs.watching.listing import Listing, state_of
from llmgateway.storage.jobs.rows import Wanted
from tests.jobs.watching.book import Book, job

ALL = Wanted(everyone=True)


async def test_all_live_jobs_are_read_however_many() -> None:
    book = Book()
    for number in range(350):
        book.add(f"{number:03}", organization="acme" if number % 2 else None)
    for number in range(0, 350, 7):
        book.commit(f"{number:03}", "failed")

    found = await Listing(book).live(Wanted(organization_id="acme"))

    assert {one.id for one in found} == {f"{number:03}" for number in range(350) if number % 2 and number % 7}


async def test_new_jobs_are_read_until_one_that_is_known_the_oldest_first() -> None:
    book, known = Book(), 120
    for number in range(350):
        book.add(f"{number:03}")

    found = await Listing(book).new(ALL, lambda one: int(one.id) >= known)

    assert [one.id for one in found] == [f"{number:03}" for number in range(known, 350)]
    assert len(book.asked) == 3


async def test_many_who_look_in_the_same_turn_ask_once() -> None:
    book = Book()
    book.add("a")
    listing = Listing(book)

    async def look() -> None:
        assert len(await listing.new(ALL, lambda _: True)) == len(book.kept)

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(look)
    assert len(book.asked) == 1
    book.add("b")
    turn = listing.turn
    listing.look_again()
    await look()

    assert len(book.asked) == 2
    assert listing.turn > turn


def test_a_state_takes_the_place_of_the_events_before_it() -> None:
    state = state_of(job("j", status="processing", events=7))

    body = msgspec.json.decode(state.body)
    assert state.id == body["id"] == 7
    assert (body["event_type"], body["status"], body["job_id"]) == ("status_change", "processing", "j")
    assert body["progress"]["percentage"] == 0.0
    assert body["cumulative_metrics"]["total_cost"] == 0.0
    assert {"retry_info", "current_pass_metrics", "result", "error", "timestamp"} < body.keys()
