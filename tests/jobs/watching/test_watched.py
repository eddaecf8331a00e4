import pytest

from llmgateway.jobs.watching.watched import Beat, Watched
from llmgateway.jobs.watching.window import Watcher
from tests.jobs.watching.book import Book, row


class Rig:
    def __init__(self) -> None:
        self.book, self.told = Book(), 0
        self.watched = Watched(self.book, self._known)
        self.watcher = Watcher()

    def _known(self) -> None:
        self.told += 1


async def test_a_window_is_there_as_long_as_somebody_watches() -> None:
    rig, other = Rig(), Watcher()
    window = rig.watched.enter("j", rig.watcher)
    assert rig.watched.enter("j", other) is window

    rig.watched.leave(window, rig.watcher)
    assert rig.watched.find("j") is window
    rig.watched.leave(window, other)

    assert rig.watched.find("j") is None
    assert len(rig.watched) == 0


async def test_the_feed_is_read_from_what_is_known_and_no_longer_than_to_the_end() -> None:
    rig = Rig()
    rig.book.commit("j", "queued", "processing")
    window = rig.watched.enter("j", rig.watcher)
    rig.watched.enter("k", rig.watcher, 7)
    assert rig.watched.heads() == {"k": 7}
    assert rig.told == 1

    assert await rig.watched.rows(window, 0) == rig.book.rows["j"]
    assert rig.watched.heads() == {"j": 2, "k": 7}
    assert rig.told == 2

    window.add([row(3, "completed")], whole=True)
    assert rig.watched.heads() == {"k": 7}


@pytest.mark.parametrize(("after", "begins"), [(0, 0), (1, 1), (3, 3), (4, 0), (999, 0)])
async def test_a_place_that_there_never_was_is_the_beginning(after: int, begins: int) -> None:
    rig = Rig()
    rig.book.commit("j", "queued", "processing", "completed")
    window = rig.watched.enter("j", rig.watcher)

    assert await rig.watched.start(window, after) == begins
    assert [one.id for one in await rig.watched.rows(window, begins) or ()] == list(range(begins + 1, 4))
    assert window.is_over(3)


async def test_a_long_past_is_read_in_pieces() -> None:
    rig, at, pieces = Rig(), 0, 0
    rig.book.commit("j", *["processing"] * 1000)
    window = rig.watched.enter("j", rig.watcher)

    while rows := await rig.watched.rows(window, at):
        assert rows[0].id == at + 1
        at, pieces = rows[-1].id, pieces + 1

    assert at == 1000
    assert 5 <= pieces <= 7


async def test_a_database_that_is_away_is_not_asked_by_everybody_at_once() -> None:
    rig = Rig()
    rig.book.away = True
    window = rig.watched.enter("j", rig.watcher)

    assert [await rig.watched.rows(window, 0) for _ in range(10)] == [None] * 10
    assert await rig.watched.start(window, 5) is None
    await rig.watched.compare()

    assert len(rig.book.asked) == 1


async def test_only_those_who_heard_nothing_are_compared() -> None:
    rig = Rig()
    rig.book.commit("j", "queued")
    window = rig.watched.enter("j", rig.watcher)
    await rig.watched.rows(window, 0)

    await rig.watched.compare()
    assert rig.book.asked == ["events"]
    rig.book.commit("j", "processing")
    await rig.watched.compare()

    assert rig.book.asked == ["events", "heads"]
    assert window.after(1) is None, "there is more, to be read"


async def test_a_beat_is_a_silence_of_its_length() -> None:
    watcher = Watcher()
    beat = Beat(watcher, 0.02)
    assert await beat.wait(late=False)

    watcher.touch()
    beat.start()
    assert not await beat.wait(late=True)
    watcher.take()
    assert await beat.wait(late=True)
