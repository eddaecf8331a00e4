"""Workers that are killed with `kill -9`: what is paid for is kept, and another goes on (pitfalls 111 and 113)."""

import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio
import openai
import pytest

from tests.e2e.jobs.model import Model, document
from tests.e2e.jobs.servers import Servers
from tests.e2e.jobs.working import Worker, Works, without, works
from tests.running import NO_TLS

pytestmark = pytest.mark.timeout(180)
_DELAY_S = 0.1
_SIDE_BY_SIDE = 3
_AT_WORK = 6
# One more is for a machine that is so busy that a lease runs out.
_MOST_KILLS = 2


class Hunt:
    """Kills workers at moments that chance chooses; all jobs that one has are struck.

    Args:
        orders: Names of documents, by their jobs.
        kept: How often the model was asked, at the last kill, for what was written down by then.
    """

    def __init__(self, works: Works, servers: Servers, routes: list[str], seed: int, kills: int) -> None:
        self._works = works
        self._servers = servers
        self._routes = routes
        self._kills = kills
        self._chance = random.Random(seed)
        self.orders: dict[str, str] = {}
        self.kept: dict[str, int] = {}
        self.struck: Counter[str] = Counter()

    async def go(self) -> None:
        """Order as many jobs as it takes, and kill until enough of them were struck."""
        async with anyio.create_task_group() as group:
            while self.struck.total() < self._kills:
                running = await self._running()
                await anyio.sleep(self._chance.uniform(0, 2 * _DELAY_S))  # anywhere between two calls
                victims = [worker for worker, jobs in running.items() if self._may_strike(jobs)]
                if victims:
                    await self._strike(self._chance.choice(victims))
                    group.start_soon(partial(self._works.work, threads=2))

    async def _running(self) -> dict[Worker, list[str]]:
        """See to it that there is enough to do, and find who does it."""
        live = await self._servers.asked("SELECT id::text, worker FROM jobs WHERE completed_at_us IS NULL")
        for _ in range(_AT_WORK - len(live)):
            number = len(self.orders)
            name = f"hunted-{number}"
            self.orders[await self._works.order(name, self._routes[number % len(self._routes)])] = name
        return {
            worker: jobs
            for worker in self._works.workers
            if (jobs := [str(job_id) for job_id, name in live if str(name).endswith(f"-{worker.process_id}")])
        }

    def _may_strike(self, jobs: list[str]) -> bool:
        return all(self.struck[job_id] < _MOST_KILLS for job_id in jobs)

    async def _strike(self, victim: Worker) -> None:
        works = self._works
        works.workers.remove(victim)
        await victim.kill()
        query = "SELECT id::text FROM jobs WHERE worker LIKE $1 AND completed_at_us IS NULL"
        self.struck.update(str(job_id) for (job_id,) in await self._servers.asked(query, f"%-{victim.process_id}"))
        rows = await self._servers.asked("SELECT output FROM job_passes")
        self.kept = {str(text): works.model.calls_of(str(text)) for (text,) in rows}


@pytest.mark.parametrize("kills", [pytest.param(7, id="some"), pytest.param(20, id="many", marks=pytest.mark.long)])
async def test_jobs_whose_workers_are_killed_at_any_point_are_completed_and_no_pass_is_paid_for_twice(
    tmp_path: Path, servers: Servers, kills: int
) -> None:
    async with works(tmp_path, Model(delay_s=_DELAY_S), measured=False, **servers.settings, jobs__lease_s=3) as w:
        await w.offer("iterative")
        await w.offer("map-reduce", processing_mode="map_reduce", reduce_summary=True, max_concurrent_requests=3)
        await w.work(3, threads=2)
        routes = ["iterative", "map-reduce"]
        plain = {route: await w.plain(route) for route in routes}
        hunt = Hunt(w, servers, routes, seed=20, kills=kills)
        await hunt.go()

        for job_id, name in hunt.orders.items():
            job = await w.ended(job_id, within_s=120)
            assert without(name, job["result"]) == plain[job["service_route"]]
            repeated = Counter(called.text for called in w.model.of(name))
            width = 1 if job["service_route"] == "iterative" else _SIDE_BY_SIDE
            [(kills,)] = await servers.asked("SELECT kills FROM jobs WHERE id = $1", job_id)
            assert kills >= hunt.struck[job_id]
            assert repeated.total() - len(repeated) <= kills * width
            assert len(job["passes"]) == len(repeated)
        assert {text: w.model.calls_of(text) for text in hunt.kept} == hunt.kept


async def test_pitfall_113_a_worker_that_is_killed_is_noticed_and_its_stream_goes_on_within_30_s(
    tmp_path: Path, servers: Servers
) -> None:
    usual = {"jobs__lease_s": 15, "jobs__sweep_s": 5}
    async with works(tmp_path, Model(), measured=False, **{**servers.settings, **usual}) as w:
        await w.offer("usual")
        await w.work(2)
        w.model.delay_s = 0.3
        job_id = await w.order("noticed", "usual")
        await w.called("noticed", 5)
        killed_at = time.perf_counter()
        await w.kill_one("noticed")
        calls = len(w.model.of("noticed"))

        await w.called("noticed", calls + 1)
        assert time.perf_counter() - killed_at < 30
        w.model.delay_s = 0
        await w.ended(job_id)
        assert max(Counter(called.text for called in w.model.of("noticed")).values()) <= 2


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory, servers: Servers) -> AsyncIterator[Works]:
    """A gateway and two workers."""
    async with works(tmp_path_factory.mktemp("killed"), Model(delay_s=0.1), measured=False, **servers.settings) as w:
        await w.offer()
        await w.work(2)
        yield w


async def test_pitfall_111_a_job_that_kills_its_worker_three_times_is_given_up(shared: Works) -> None:
    # All there before: while one starts, another one could do all of the rest.
    await shared.work(3)
    job_id = await shared.order("deadly")
    for _ in range(3):
        asked = len(shared.model.of("deadly"))
        await shared.called("deadly", asked + 3)
        await shared.kill_one("deadly")

    job = await shared.ended(job_id, "failed")
    assert job["error"]["code"] == "worker_lost"
    assert "3 workers" in job["error"]["message"]
    # What it has made is there to be read, and to go on with.
    assert len(job["passes"]) >= 3
    assert job["result"].count("\n\n") + 1 == len(job["passes"])
    repeated = Counter(called.text for called in shared.model.of("deadly"))
    assert repeated.total() - len(repeated) <= 2
    again = await shared.client.post(f"/api/v1/jobs/{job_id}/resume")
    resumed = await shared.ended(again.json()["job_id"])
    assert without("deadly", resumed["result"]) == await shared.plain()


async def test_a_stream_of_a_service_goes_on_after_its_worker_was_killed_in_the_middle_of_its_last_answer(
    shared: Works,
) -> None:
    shared.model.sentences = 60
    await shared.offer("long")
    plain = await shared.plain("long", lines=2)
    shared.model.pause_s = 0.01
    shown, killed = "", False
    async with openai.AsyncOpenAI(
        base_url=f"{shared.url}/v1",
        api_key="none",
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(verify=NO_TLS),
    ) as client:
        stream = await client.chat.completions.create(
            model="service/long", messages=[{"role": "user", "content": document("shown", 2)}], stream=True
        )
        finish = None
        async for chunk in stream:
            if chunk.choices:
                shown += chunk.choices[0].delta.content or ""
                finish = chunk.choices[0].finish_reason or finish
            if not killed and shown.count("Sentence") > 80:
                assert plain.startswith(without("shown", shown))
                await shared.kill_one("shown")
                killed = True

    assert finish == "stop"
    assert without("shown", shown) == plain
    asked = shared.model.of("shown")
    assert len(asked) == 3
    # Whoever went on asked for the rest alone.
    assert len(asked[-1].rest) < len(asked[-1].text)
