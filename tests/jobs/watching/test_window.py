import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.jobs.watching.window import Watcher, Window, is_final
from llmgateway.storage.jobs.rows import EventRow
from tests.jobs.watching.book import row


def rows(first: int, last: int) -> list[EventRow]:
    return [row(number) for number in range(first, last + 1)]


def ids(found: "list[EventRow] | None") -> list[int] | None:
    return None if found is None else [one.id for one in found]


def test_what_is_unknown_must_be_read() -> None:
    window = Window("j")
    assert window.after(0) is None

    window.add(rows(1, 5), whole=True)

    assert ids(window.after(0)) == [1, 2, 3, 4, 5]
    assert ids(window.after(3)) == [4, 5]
    assert ids(window.after(5)) == []
    assert window.after(6) is None


def test_a_gap_is_read_and_closes() -> None:
    window = Window("j")
    window.add(rows(1, 5), whole=True)
    window.add(rows(8, 9))
    assert window.after(5) is None
    assert ids(window.after(7)) == [8, 9]

    window.add(rows(6, 9), after=5, whole=True)

    assert ids(window.after(5)) == [6, 7, 8, 9]


def test_what_is_old_changes_nothing() -> None:
    window = Window("j")
    window.add(rows(1, 9), whole=True)
    window.add(rows(1, 4), whole=True)
    window.add([], after=4, whole=True)
    window.compare(7)

    assert window.head == 9
    assert ids(window.after(6)) == [7, 8, 9]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 10)), max_size=30), st.integers(0, 50))
def test_whatever_it_is_told_it_gives_no_gap(pieces: list[tuple[int, int]], at: int) -> None:
    window = Window("j")
    for first, count in pieces:
        if count:
            window.add(rows(first, first + count - 1))
        else:
            window.compare(first)

    found = ids(window.after(at))

    assert found is None or found == list(range(at + 1, at + 1 + len(found)))
    assert found is None or found or at == window.head, "or he would wait for what is there"


def test_only_a_few_events_are_remembered_and_the_newest_however_large() -> None:
    window = Window("j")
    window.add(rows(1, 500), whole=True)
    assert window.after(400) is None
    assert ids(window.after(490)) == list(range(491, 501))

    window.add([row(501, text="x" * 10_000_000)])

    assert window.after(499) is None
    assert ids(window.after(500)) == [501]


def test_the_end_is_certain_only_when_nothing_of_its_commit_is_missing() -> None:
    window = Window("j")
    window.add([*rows(1, 3), row(4, "completed")])
    assert not window.is_over(4)
    assert window.after(4) is None, "its commit may hold another one"

    window.add([row(5, "completed")], after=4, whole=True)

    assert not window.is_over(4)
    assert ids(window.after(4)) == [5]
    assert window.is_over(5)
    assert ids(window.after(5)) == []


def test_the_end_is_certain_when_the_database_has_no_more() -> None:
    window = Window("j")
    window.add([*rows(1, 3), row(4, "failed")])
    window.add([], after=4, whole=True)

    assert window.is_over(4)


def test_a_deleted_job_is_over() -> None:
    window = Window("j")
    window.compare(None)

    assert window.is_over(0)


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_an_end_is_told_by_its_status(status: str) -> None:
    assert is_final(EventRow(1, b'{"result": "\\"status\\": 1", "status": "%b"}' % status.encode()))
    assert not is_final(row(1))
    assert not is_final(EventRow(1, b'{"status": "unheard of"}'))
    assert not is_final(EventRow(1, b"no JSON"))


async def test_a_watcher_hears_of_each_window_once() -> None:
    watcher, windows = Watcher(), [Window(str(number)) for number in range(3)]
    for window in windows:
        window.watchers.add(watcher)
    windows[0].add(rows(1, 1))
    windows[0].add(rows(2, 2))
    windows[2].compare(4)
    random.choice(windows[:1]).add(rows(1, 2))

    assert watcher.take() == [windows[0], windows[2]]
    assert watcher.take() == []
    await watcher.wait(0.01)
