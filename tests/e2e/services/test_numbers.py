"""What jobs cost beside the models' own time, and how many calls they keep in flight.

How fast a million tokens are cut is measured in `tests/documents/cutting/test_batches.py`, how many may watch one
process in `tests/documents_api/test_sockets.py`.
"""

import statistics
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.conftest import Serve
from tests.e2e.jobs.model import Model
from tests.e2e.jobs.working import Works, until_so, works
from tests.e2e.services.asking import ask, ended, order, ran
from tests.e2e.services.scribe import make_service
from tests.upstreams.server import Player
from tests.upstreams.step import Step


def lines(count: int) -> str:
    return "\n\n".join(f"Sentence number {number}." for number in range(count))


@pytest.mark.alone
async def test_a_pass_costs_thirty_milliseconds_beside_its_call(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    await ran(g.client, lines(5))
    provider.requests.clear()

    job = await ran(g.client, lines(100))

    # This provider answers at once: what lies between two questions is the gateway's.
    gaps_s = [after.at - before.at for before, after in pairwise(provider.requests)]
    assert len(job["passes"]) == 100
    assert statistics.median(gaps_s) < 0.030


@pytest.mark.alone
async def test_forty_parts_eight_at_a_time_take_little_longer_than_their_calls(
    gateway: Serve, catalog: str, provider: Player
) -> None:
    g = await gateway(catalog)
    await make_service(g.client, processing_mode="map_reduce", max_concurrent_requests=8)
    await ran(g.client, lines(3))
    provider.requests.clear()
    delay_s = 0.8
    provider.always(lambda step: step.delayed(delay_s))

    job = await ran(g.client, lines(40))
    took_s = time.perf_counter() - provider.requests[0].at

    kinds = [one["pass_type"] for one in job["passes"]]
    assert (kinds.count("map"), kinds.count("reduce")) == (40, 1)
    assert took_s < 1.3 * (40 / 8 + 1) * delay_s


async def test_eight_threads_keep_eight_slow_calls_in_flight(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog, worker_threads=8)
    await make_service(g.client)
    free: list[bool] = []
    provider.always(lambda step: step.held(lambda: bool(free)))

    jobs = [await order(g.client, f"Job {number}.") for number in range(11)]
    await provider.until(lambda: provider.in_flight == 8, 20)
    waiting = (await ask(g.client, "GET", "/jobs", params={"status": "queued"}))["total"]
    free.append(True)
    provider.note()
    for job_id in jobs:
        await ended(g.client, job_id)

    assert waiting == 3


async def all_begun(works: Works, job_ids: list[str]) -> bool:
    return all([(await works.job(job_id))["status"] in {"started", "processing"} for job_id in job_ids])


@pytest.mark.timeout(120)
async def test_a_flavors_calls_at_once_are_kept_by_two_workers_together(tmp_path: Path, shared: dict[str, str]) -> None:
    async with works(tmp_path, Model(delay_s=0.1), measured=False, **shared) as w:
        await w.offer(processing_mode="map_reduce", max_concurrent_requests=3)
        await w.work(2, threads=2)
        at_once: list[int] = []
        free: list[bool] = []

        def counted(step: Step) -> Step:
            at_once.append(w.player.in_flight + 1)
            return step.held(lambda: bool(free))

        w.player.always(counted)
        jobs = [await w.order(name, lines=10) for name in ("one", "two", "three", "four")]
        # No worker has room for more than two: both have begun.
        await until_so(lambda: all_begun(w, jobs))
        free.append(True)
        w.player.note()
        with anyio.fail_after(60):
            done: list[dict[str, Any]] = [await w.ended(job_id) for job_id in jobs]

        assert sum(len(job["passes"]) for job in done) == len(at_once) == 4 * (10 + 1)
        assert max(at_once) == 3
        assert len({called.worker for called in w.model.calls}) == 2
