"""What malloc keeps, seen from a process of its own: what tests have taken here would hide it."""

import subprocess
import sys

_THREADS = """
import sys, threading
from pathlib import Path
from llmgateway.malloc import give_back, one_arena

def resident_kb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4

if sys.argv[1] == "shared":
    one_arena()
everybody = threading.Barrier(12)

def work():
    everybody.wait()
    kept = [bytearray(4000) for _ in range(400)]
    last = bytearray(4000)
    del kept
    everybody.wait()
    return last

before_kb = resident_kb()
threads = [threading.Thread(target=work) for _ in range(12)]
for each in threads: each.start()
for each in threads: each.join()
if sys.argv[1] == "shared":
    give_back()
print(resident_kb() - before_kb)
"""


def _grown_kb(how: str) -> int:
    ran = subprocess.run(  # noqa: S603  our own interpreter
        [sys.executable, "-c", _THREADS, how], capture_output=True, text=True, timeout=60, check=True
    )
    return int(ran.stdout)


def test_threads_that_are_over_leave_a_fraction_of_what_they_leave_otherwise() -> None:
    assert _grown_kb("shared") * 4 < _grown_kb("apart")
