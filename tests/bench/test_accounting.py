import os
import threading
import time
from pathlib import Path

import pytest

from bench import accounting
from bench.accounting import TICKS_PER_S, Reading, core_busy_s, cpu_s, others_share, rss_mb, tree

STAT = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 100 0 50 1000 7 1 2 3 40 0\ncpu1 0 0 0 5 0 0 0 0 0 0\nintr 1\n"


def test_a_core_is_busy_with_all_but_idling_and_waiting_for_disks() -> None:
    assert core_busy_s(0, STAT) == pytest.approx(156 / TICKS_PER_S)
    assert core_busy_s(1, STAT) == 0


def test_a_thread_that_ends_while_its_process_is_looked_at_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    class Listed:
        def glob(self, _: str) -> list[Path]:
            return [Path("/proc/self/task/0/children"), Path("/proc/self/task/self/children")]

    monkeypatch.setattr(accounting, "PROC", Listed())

    assert list(tree(os.getpid())) == [os.getpid()]


def test_a_core_that_is_not_there_is_refused() -> None:
    with pytest.raises(LookupError, match="cpu7"):
        core_busy_s(7, STAT)


def test_others_are_what_the_core_did_beyond_the_contestant() -> None:
    before, after = Reading(own_s=1.0, core_s=10.0), Reading(own_s=3.0, core_s=12.5)

    assert others_share(before, after, elapsed_s=5.0) == pytest.approx(0.1)


def test_a_contestant_counted_more_finely_than_its_core_has_no_others() -> None:
    assert others_share(Reading(0.0, 0.0), Reading(1.01, 1.0), elapsed_s=1.0) == 0.0


def test_cpu_time_and_memory_of_this_program_are_read_from_the_kernel() -> None:
    before_s = cpu_s(os.getpid())
    while cpu_s(os.getpid()) - before_s < 0.02:
        sum(range(100_000))

    assert rss_mb(os.getpid()) > 1


def test_what_a_thread_took_is_counted_after_its_end() -> None:
    took = []

    def work() -> None:
        while time.thread_time() < 0.05:
            sum(range(10_000))
        took.append(time.thread_time())

    before_s = cpu_s(os.getpid())
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert cpu_s(os.getpid()) - before_s >= took[0]
