import os
from pathlib import Path

import psutil
import pytest

from llmgateway.telemetry.metrics import footprint
from llmgateway.telemetry.metrics.figures import Figures


def test_it_is_what_the_system_says() -> None:
    figures = Figures(0.0)
    this = psutil.Process(os.getpid())

    footprint.measure(figures)

    assert figures.counters["process_cpu_seconds_total"][()] == pytest.approx(sum(this.cpu_times()[:2]), abs=0.5)
    assert figures.gauges["process_resident_memory_bytes"][()] == pytest.approx(this.memory_info().rss, rel=0.2)
    assert figures.gauges["process_open_fds"][()] == pytest.approx(this.num_fds(), abs=2)


def test_a_system_without_proc_tells_less(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(footprint, "_SELF", tmp_path)
    figures = Figures(0.0)

    footprint.measure(figures)

    assert figures.gauges == {}
    assert figures.counters["process_cpu_seconds_total"][()] > 0
