"""What this process takes of the machine: processor time, memory, open files."""

import resource
from pathlib import Path

from llmgateway.telemetry.metrics.figures import Figures

_SELF = Path("/proc/self")


def measure(figures: Figures) -> None:
    """Add what this process takes; what the system does not tell is left out."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures.counters["process_cpu_seconds_total"] = {(): used.ru_utime + used.ru_stime}
    try:
        pages = int((_SELF / "statm").read_text("ascii").split()[1])
        open_files = sum(1 for _ in (_SELF / "fd").iterdir())
    except OSError:  # not Linux
        return
    figures.gauges["process_resident_memory_bytes"] = {(): float(pages * resource.getpagesize())}
    figures.gauges["process_open_fds"] = {(): float(open_files)}
