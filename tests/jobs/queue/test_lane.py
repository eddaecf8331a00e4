import threading
from functools import partial

import pytest

from llmgateway.jobs.queue.lane import Lane


def test_one_thing_is_done_after_another_in_one_thread() -> None:
    lane, done = Lane("lane"), list[int]()
    threads = [lane.submit(threading.get_ident) for _ in range(3)]
    numbers = [lane.submit(partial(done.append, number)) for number in range(100)]

    numbers[-1].result(10)

    assert done == list(range(100))
    assert len({each.result(10) for each in threads}) == 1
    lane.end()


def test_what_went_wrong_is_told_to_whoever_waits_and_the_next_is_done() -> None:
    lane = Lane("lane")

    failed = lane.submit(lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        failed.result(10)
    assert lane.submit(lambda: 42).result(10) == 42
    lane.end()


def test_what_was_cancelled_before_its_turn_is_left_out() -> None:
    lane, going, done = Lane("lane"), threading.Event(), list[str]()
    lane.submit(lambda: going.wait(10))
    unwanted = lane.submit(lambda: done.append("unwanted"))

    assert unwanted.cancel()
    going.set()

    assert lane.submit(lambda: done.append("wanted")).result(10) is None
    assert done == ["wanted"]
    lane.end()
