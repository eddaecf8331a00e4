"""What a piece of code costs, as a multiple of a fixed one in the same run: machines differ, and so do their moods."""

import json
import sys
import timeit
from collections.abc import Callable

_ROUNDS = 10
_SMALL = {"model": "chat", "stream": False, "messages": [{"role": "user", "content": "hello"}], "temperature": 0.5}


def relative_cost(work: Callable[[], object], *, number: int) -> float:
    """Give the cost of one `work` in units of `json.dumps` of a small chat, some three microseconds; best of ten.

    They take turns, so that a machine that is slow for a while is slow for both.
    """
    tracer = sys.gettrace()
    sys.settrace(None)  # whoever measures coverage makes our own code slow, and C's not
    try:
        units = timeit.Timer(lambda: json.dumps(_SMALL))
        works = timeit.Timer(work)
        rounds = [(units.timeit(1000), works.timeit(number)) for _ in range(_ROUNDS)]
    finally:
        sys.settrace(tracer)
    unit_s, work_s = min(unit for unit, _ in rounds), min(took for _, took in rounds)
    return (work_s / number) / (unit_s / 1000)
