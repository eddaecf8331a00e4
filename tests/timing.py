"""What a piece of code costs, as a multiple of a fixed one in the same run: machines differ, and so do their moods."""

import json
import sys
import timeit
from collections.abc import Callable

_SMALL = {"model": "chat", "stream": False, "messages": [{"role": "user", "content": "hello"}], "temperature": 0.5}


def relative_cost(work: Callable[[], object], *, number: int) -> float:
    """Give the cost of one `work` in units of `json.dumps` of a small chat, some three microseconds; best of five."""
    tracer = sys.gettrace()
    sys.settrace(None)  # whoever measures coverage makes our own code slow, and C's not
    try:
        unit_s = min(timeit.repeat(lambda: json.dumps(_SMALL), number=2000, repeat=5)) / 2000
        work_s = min(timeit.repeat(work, number=number, repeat=5)) / number
    finally:
        sys.settrace(tracer)
    return work_s / unit_s
