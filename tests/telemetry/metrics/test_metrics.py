import errno
from pathlib import Path

import anyio
import pytest

from llmgateway.telemetry.metrics import Metrics
from llmgateway.telemetry.metrics.lag import watch_lag
from llmgateway.telemetry.metrics.shared import Shared
from tests.telemetry.exchanges import MAIN, Scrape, ended, scraped, until
from tests.telemetry.metrics.test_shared import many


async def shown(metrics: Metrics) -> Scrape:
    return scraped((await metrics.render())[0])


async def seen(metrics: Metrics, name: str) -> bool:
    return bool((await shown(metrics)).of(name))


async def test_what_was_recorded_is_shown() -> None:
    metrics = Metrics("1.2.3", providers=lambda: ["main"])

    metrics.record(ended((MAIN, 1.0, "ok")))

    page = await shown(metrics)
    assert page.of("llm_requests_total", provider="main", status="200") == 1
    assert page.of("llm_build_info", version="1.2.3") == 1
    assert page.of("llm_workers") == 1
    assert page.of("process_cpu_seconds_total") is not None
    assert page.of("llm_start_time_seconds") == pytest.approx((await shown(metrics)).of("llm_start_time_seconds"))
    assert (await metrics.summary())["total_requests"] == 1
    await metrics.close()


async def test_others_are_asked_when_figures_are_wanted() -> None:
    metrics = Metrics("1", providers=lambda: ["main"])
    running = [1, 2]
    metrics.observe_from("llm_active_requests", lambda: len(running))
    metrics.observe_from("llm_spans_total", lambda: {"exported": 7})
    metrics.observe_from("llm_upstream_connections", lambda: {("main", "busy"): 3})
    running.append(3)

    page = await shown(metrics)

    assert page.of("llm_active_requests") == 3
    assert page.of("llm_spans_total", result="exported") == 7
    assert page.of("llm_spans_total", result="dropped") == 0
    assert page.of("llm_upstream_connections", provider="main", state="busy") == 3
    assert (await metrics.summary())["active_requests"] == 3


@pytest.mark.parametrize("name", ["llm_unheard_of_total", "llm_job_wait_seconds"])
def test_only_known_counters_and_gauges_can_be_asked_for(name: str) -> None:
    with pytest.raises(KeyError):
        Metrics("1").observe_from(name, lambda: 1)


async def test_the_lag_of_the_loop_is_measured() -> None:
    metrics = Metrics("1")
    async with anyio.create_task_group() as group:
        group.start_soon(metrics.watch)
        await until(lambda: seen(metrics, "llm_event_loop_lag_seconds_count"))
        group.cancel_scope.cancel()


async def test_one_worker_writes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    metrics = Metrics("1")

    metrics.record(ended())
    await metrics.summary()
    await metrics.close()

    assert not any(tmp_path.iterdir())  # noqa: ASYNC240  a folder of nothing


async def test_two_workers_add_up_and_never_go_backwards(tmp_path: Path) -> None:
    first, second = Metrics("1", folder=tmp_path), Metrics("1", folder=tmp_path)
    first.record(ended((MAIN, 1.0, "ok")))
    second.record(ended((MAIN, 1.0, "ok")))
    before = (await shown(second)).lasting()
    await until(lambda: len(list(tmp_path.glob("*.metrics"))) == 2)

    page = await shown(first)

    assert page.of("llm_requests_total") == 2
    assert page.of("llm_workers") == 2
    assert (await second.summary())["total_requests"] == 2
    assert all(page.lasting()[sample] >= value for sample, value in before.items())
    await second.close()
    assert (await shown(first)).of("llm_requests_total") == 2
    assert (await shown(first)).of("llm_workers") == 1
    await first.close()


async def test_what_was_shown_outlives_its_process(tmp_path: Path) -> None:
    """A scrape writes the snapshot first: nothing that it showed is lost when the process is killed just after."""
    first, second = Metrics("1", folder=tmp_path), Metrics("1", folder=tmp_path)
    second.record(ended((MAIN, 1.0, "ok")))
    assert (await shown(second)).of("llm_requests_total") == 1
    second._shared.close()  # type: ignore[union-attr]  # noqa: SLF001  its lock is gone, as after kill -9

    assert (await shown(first)).of("llm_requests_total") == 1
    await first.close()


async def test_the_last_figures_are_left_at_the_end(tmp_path: Path) -> None:
    first, second = Metrics("1", folder=tmp_path), Metrics("1", folder=tmp_path)
    second.record(ended())
    await second.close()

    assert (await shown(first)).of("llm_requests_total") == 1
    await first.close()


async def test_a_stream_that_runs_elsewhere_is_seen_before_it_ends(tmp_path: Path) -> None:
    first, second = Metrics("1", folder=tmp_path), Metrics("1", folder=tmp_path)
    streams: list[str] = []
    second.observe_from("llm_active_streams", lambda: len(streams))
    async with anyio.create_task_group() as group:
        group.start_soon(second.watch)
        streams.append("one")
        await until(lambda: seen(first, "llm_active_streams"))
        group.cancel_scope.cancel()
    await second.close()
    await first.close()


async def test_a_full_disk_is_told_once_and_hurts_nobody(tmp_path: Path) -> None:
    told: list[OSError] = []
    metrics = Metrics("1", folder=tmp_path / "workers", failed=told.append)
    for path in (tmp_path / "workers").iterdir():
        path.unlink()
    (tmp_path / "workers").rmdir()

    metrics.record(ended((MAIN, 1.0, "ok")))

    assert (await shown(metrics)).of("llm_requests_total") == 1
    assert (await shown(metrics)).of("llm_requests_total") == 1
    await metrics.close()
    assert [error.errno for error in told] == [errno.ENOENT]


@pytest.mark.alone
async def test_pitfall_097_a_large_scrape_holds_up_no_request(tmp_path: Path) -> None:
    others = [Shared(tmp_path) for _ in range(7)]
    for other in others:
        other.write(many(5_000))
    metrics = Metrics("1", folder=tmp_path)
    await metrics.render()
    lags: list[float] = []
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: watch_lag(lags.append, every_s=0.001))
        for _ in range(5):
            await metrics.render()
        group.cancel_scope.cancel()
    await metrics.close()

    lags.sort()
    # The interpreter lets the loop in every 5 ms.
    assert lags[int(len(lags) * 0.9)] < 0.02
