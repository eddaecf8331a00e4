"""Jobs watched by clients that lose their connection: each event once, whoever ran the job (pitfalls 108, 110, 125)."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.e2e.jobs.model import Model
from tests.e2e.jobs.working import works
from tests.e2e.services.asking import ask, ended, order
from tests.e2e.services.scribe import make_service
from tests.e2e.services.watching import Follow, all_of, check_whole, dropping, over_socket, over_sse
from tests.upstreams.server import Player

TEXT = "\n\n".join(f"Sentence number {number}." for number in range(8))
WAYS = pytest.mark.parametrize("follow", [over_sse, over_socket], ids=["sse", "socket"])


@WAYS
async def test_pitfall_125_who_drops_and_resumes_at_every_event_misses_nothing(
    gateway: Serve, catalog: str, follow: Follow
) -> None:
    g = await gateway(catalog)
    await make_service(g.client)

    job_id = await order(g.client, TEXT)
    seen = await dropping(follow, g.client, job_id)

    check_whole(seen)
    assert seen == await all_of(follow, g.client, job_id)
    for place in (0, 1, len(seen) // 2, len(seen) - 1):
        assert await all_of(follow, g.client, job_id, place) == seen[place:]


@WAYS
async def test_who_comes_late_gets_the_terminal_event(
    gateway: Serve, catalog: str, provider: Player, follow: Follow
) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    provider.script(lambda step: step)
    provider.always(lambda step: step.held(lambda: False))
    job_id = await order(g.client, TEXT)
    await provider.until(lambda: provider.requests_total == 2, 20)
    await ask(g.client, "POST", f"/jobs/{job_id}/cancel")

    seen = await all_of(follow, g.client, job_id)

    assert (seen[-1]["status"], seen[-1]["result"]) == ("cancelled", "SENTENCE NUMBER 0.")
    assert await all_of(follow, g.client, job_id, len(seen)) == []
    # A number from nowhere is no place.
    assert (await all_of(follow, g.client, job_id, len(seen) + 1000))[-1]["status"] == "cancelled"


async def test_pitfall_108_clients_that_attach_at_any_moment_see_each_event_once(
    gateway: Serve, catalog: str, provider: Player
) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    provider.always(lambda step: step.delayed(0.01))
    seen: list[list[dict[str, Any]]] = []

    async def attach(number: int) -> None:
        await provider.until(lambda: provider.requests_total >= number // 4, 20)
        follow = over_sse if number % 2 else over_socket
        seen.append(
            await (dropping(follow, g.client, job_id, kept=3) if number % 3 else all_of(follow, g.client, job_id))
        )

    job_id = await order(g.client, TEXT)
    async with asyncio.TaskGroup() as group:
        for number in range(32):
            group.create_task(attach(number))

    assert len(seen) == 32
    check_whole(seen[0])
    assert all(events == seen[0] for events in seen)


async def test_pitfall_110_two_who_read_at_different_speeds_both_come_to_the_end(
    gateway: Serve, catalog: str, provider: Player
) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    free: list[bool] = []
    provider.always(lambda step: step.held(lambda: bool(free)))
    job_id = await order(g.client, TEXT)

    slow = over_sse(g.client, job_id, 0)
    first = await anext(slow)
    async with asyncio.TaskGroup() as group:
        quick = group.create_task(all_of(over_socket, g.client, job_id))
        free.append(True)
        provider.note()
    rest = [event async for event in slow]

    check_whole(quick.result())
    assert [first, *rest] == quick.result()


@pytest.mark.timeout(120)
async def test_two_workers_tell_all_processes_what_they_do(tmp_path: Path, shared: dict[str, str]) -> None:
    async with works(tmp_path, Model(delay_s=0.1), measured=False, **shared) as w:
        await w.offer()
        await w.work(2, threads=1)
        # Whoever is ready first has room for one job, and keeps it until the other has asked, too.
        w.player.always(lambda step: step.held(lambda: len(workers()) == 2))

        def workers() -> set[str]:
            return {called.worker for called in w.model.calls}

        job_ids = [await w.order(name, lines=6) for name in ("one", "two", "three", "four")]
        ways = [(over_sse, 1), (over_socket, 1), (over_sse, 4), (over_socket, 100)]

        async with asyncio.TaskGroup() as group:
            watching = [
                group.create_task(dropping(follow, w.client, job_id, kept=kept))
                for job_id, (follow, kept) in zip(job_ids, ways, strict=True)
            ]
        for job_id, watched in zip(job_ids, watching, strict=True):
            job = await ended(w.client, job_id)
            check_whole(watched.result())
            assert watched.result()[-1]["result"] == job["result"]
            assert await all_of(over_sse, w.client, job_id) == watched.result()
