"""What the kernel says about a running program: CPU time and memory of its whole tree, and who else used its core."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# The kernel's number for the time that a process ran on any core (CPUCLOCK_SCHED).
_SCHEDULED = 2
# /proc/stat, proc_stat(5): user nice system idle iowait irq softirq steal
IDLE_COLUMNS = (3, 4)


def tree(pid: int) -> Iterator[int]:
    """Walk a program and all its children."""
    yield pid
    for children in PROC.glob(f"{pid}/task/*/children"):
        try:
            found = children.read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that has ended since it was listed
        for child in found:
            yield from tree(int(child))


def cpu_s(pid: int) -> float:
    """Sum the CPU time, user and system, of a program and its children, in seconds."""
    return sum(own_cpu_s(member) for member in tree(pid))


def own_cpu_s(pid: int) -> float:
    """Give the CPU time of one process without its children, in seconds, to the nanosecond.

    It is the process's clock that is read (clock_getcpuclockid(3)): `stat` counts hundredths of a second, and what
    threads have in `schedstat` is gone when they end.
    """
    return time.clock_gettime((~pid << 3) | _SCHEDULED)


def rss_mb(pid: int) -> float:
    """Sum the resident memory of a program and its children, in megabytes of 1024 * 1024 bytes."""
    return sum(_status_kb(PROC / str(member) / "status") for member in tree(pid)) / 1024


def _status_kb(status: Path) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1])


def core_busy_s(core: int, stat: str | None = None) -> float:
    """Give the seconds since boot that a core was not idle, whoever used it (time stolen by the host included).

    Args:
        core: Its number.
        stat: The text of /proc/stat; `None` reads it now.

    Raises:
        LookupError: There is no such core.
    """
    text = (PROC / "stat").read_text() if stat is None else stat
    for line in text.splitlines():
        name, *columns = line.split()
        if name == f"cpu{core}":
            # Columns after the eighth (guest time) are already part of the first two.
            busy = (int(ticks) for place, ticks in enumerate(columns[:8]) if place not in IDLE_COLUMNS)
            return sum(busy) / TICKS_PER_S
    raise LookupError(f"/proc/stat has no cpu{core}; pass the number of a core that is online")


@dataclass(frozen=True, slots=True)
class Reading:
    """CPU time so far of one program and of the core it is pinned to, in seconds."""

    own_s: float
    core_s: float

    @classmethod
    def of(cls, pid: int, core: int) -> "Reading":
        """Read both now."""
        return cls(cpu_s(pid), core_busy_s(core))


def others_share(before: Reading, after: Reading, elapsed_s: float) -> float:
    """Give the part of the elapsed time for which something else used the core; never below 0."""
    others_s = (after.core_s - before.core_s) - (after.own_s - before.own_s)
    return max(0.0, others_s / elapsed_s)
