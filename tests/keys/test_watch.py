import anyio
import anyio.lowlevel
import pytest

from llmgateway.keys.watch import Watch
from llmgateway.storage.admin.rows import ChangeKind
from tests.keys.people import People
from tests.middleware.conftest import Log


class Heard:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.everything = 0
        self.news = anyio.Event()

    def changed(self, kind: ChangeKind, subject: str) -> None:
        self.told.append((kind, subject))
        self.news.set()

    def everything_changed(self) -> None:
        self.everything += 1


class Ringing:
    """A bell for one who waits."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self, name: str) -> None:
        assert name == "changes"
        self._rung.set()

    async def wait(self, name: str, timeout_s: float) -> bool:
        assert name == "changes"
        with anyio.move_on_after(timeout_s):
            await self._rung.wait()
            self._rung = anyio.Event()
            return True
        return False


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
def heard() -> Heard:
    return Heard()


async def test_what_was_before_the_start_is_not_told_and_what_comes_after_is_told_once(
    people: People, heard: Heard, log: Log
) -> None:
    people.write("key", "old")
    watch = Watch(people, Ringing(), [heard], log.logger)
    await watch.look()
    assert (heard.told, heard.everything) == ([], 1)

    people.write("key", "a")
    people.write("organization", "b")
    await watch.look()
    await watch.look()

    assert heard.told == [("key", "a"), ("organization", "b")]
    assert heard.everything == 1


async def test_every_listener_hears_in_the_order_of_the_commits(people: People, log: Log) -> None:
    first, second = Heard(), Heard()
    watch = Watch(people, Ringing(), [first, second], log.logger)
    await watch.look()

    for number in range(5):
        people.write("deployment", str(number))
    await watch.look()

    assert first.told == second.told == [("deployment", str(number)) for number in range(5)]


async def test_a_change_is_heard_by_looking_and_at_once_by_the_bell(people: People, heard: Heard, log: Log) -> None:
    bell = Ringing()
    async with anyio.create_task_group() as group:
        group.start_soon(Watch(people, bell, [heard], log.logger, every_s=0.02).run)
        with anyio.fail_after(5):
            while not heard.everything:
                await anyio.lowlevel.checkpoint()
            people.write("key", "by looking")
            await heard.news.wait()
        group.cancel_scope.cancel()
    assert heard.told == [("key", "by looking")]

    heard.news, heard.everything = anyio.Event(), 0
    async with anyio.create_task_group() as group:
        group.start_soon(Watch(people, bell, [heard], log.logger, every_s=3600).run)
        with anyio.fail_after(5):
            while not heard.everything:
                await anyio.lowlevel.checkpoint()
            people.write("key", "by the bell")
            bell.ring("changes")
            await heard.news.wait()
        group.cancel_scope.cancel()
    assert heard.told[1:] == [("key", "by the bell")]


async def test_while_the_database_is_away_it_looks_on_and_misses_nothing(
    people: People, heard: Heard, log: Log
) -> None:
    watch = Watch(people, Ringing(), [heard], log.logger, tell_after_s=0.0)
    await watch.look()

    people.away = True
    people.write("key", "a")
    for _ in range(20):
        await watch.look()
    assert heard.told == []
    people.away = False
    await watch.look()

    assert heard.told == [("key", "a")]
    assert heard.everything == 1
    assert [line["event"] for line in log.lines()] == ["changes_unheard", "changes_heard_again"]
    assert "internal" not in str(log.lines())


async def test_a_database_that_opens_a_moment_later_is_not_worth_a_line(people: People, heard: Heard, log: Log) -> None:
    watch = Watch(people, Ringing(), [heard], log.logger)
    people.away = True
    await watch.look()
    people.away = False
    await watch.look()

    assert log.lines() == []


async def test_pitfall_091_what_was_read_before_the_first_number_was_known_is_forgotten(
    people: People, heard: Heard, log: Log
) -> None:
    watch = Watch(people, Ringing(), [heard], log.logger)
    people.away = True
    await watch.look()
    assert heard.everything == 0

    people.away = False
    people.write("key", "changed before anybody listened")
    await watch.look()

    assert (heard.told, heard.everything) == ([], 1)


async def test_what_was_missed_for_good_is_made_up_by_reading_everything_again(
    people: People, heard: Heard, log: Log
) -> None:
    """Changes that are long gone, or a database that was put back from a copy."""
    watch = Watch(people, Ringing(), [heard], log.logger)
    for number in range(9):
        people.write("key", str(number))
    await watch.look()

    del people.changes[3:]
    await watch.look()
    assert (heard.told, heard.everything) == ([], 2)
    people.write("key", "again")
    await watch.look()

    assert heard.told == [("key", "again")]


async def test_a_bug_ends_no_watch_and_is_told_once(people: People, heard: Heard, log: Log) -> None:
    watch = Watch(people, Ringing(), [heard], log.logger)
    await watch.look()
    people.broken, before = KeyError("seq"), heard.everything
    for _ in range(10):
        await watch.look()
    assert heard.everything == before + 10  # as long as nobody can say what changed
    people.broken = None
    await watch.look()
    people.write("key", "a")
    await watch.look()

    assert heard.told == [("key", "a")]
    assert [line["event"] for line in log.lines()] == ["changes_unreadable", "changes_heard_again"]
