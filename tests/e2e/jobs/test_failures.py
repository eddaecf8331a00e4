"""What jobs live through: what they need goes away for a while, and nothing is lost or paid for twice."""

import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis
from anyio import to_thread

from llmgateway.jobs.queue.brokers import open_link, say
from tests.e2e.jobs.model import Model
from tests.e2e.jobs.servers import Servers, own_database
from tests.e2e.jobs.working import Watcher, Works, until, without, works
from tests.services import Server, rabbitmq_server

pytestmark = pytest.mark.timeout(120)
_DELAY_S = 0.05
_MOST_TRIES = 4


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory, servers: Servers) -> AsyncIterator[Works]:
    """A gateway and two workers on PostgreSQL and Redis."""
    settings = {**servers.settings, "retry__jobs__max_retries": _MOST_TRIES - 1}
    async with works(tmp_path_factory.mktemp("failures"), Model(delay_s=_DELAY_S), measured=True, **settings) as w:
        await w.offer()
        await w.work(2)
        yield w


@pytest.fixture(scope="module")
async def plain(shared: Works) -> str:
    """What comes out when nothing is in the way."""
    return await shared.plain()


async def watched(
    works: Works, name: str, trouble: Callable[[], Awaitable[None]]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Order a job, make trouble in the middle of it, and follow its events to its end."""
    events: list[dict[str, Any]] = []
    job_id = await works.order(name)

    async def watch() -> None:
        events.extend(await Watcher(works, job_id).all())

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await works.called(name, 4)
        await trouble()
        job = await works.ended(job_id)
    return job, events


def paid_once(works: Works, name: str) -> bool:
    """Tell whether each answer was asked for once."""
    return set(Counter(called.text for called in works.model.of(name)).values()) == {1}


def are_whole(events: list[dict[str, Any]], job: dict[str, Any]) -> bool:
    """Tell whether the events are all there, each once, and their pieces of output are the result."""
    pieces = "".join(event["output"]["text"] for event in events if event["event_type"] == "output")
    numbers = [int(event["id"]) for event in events]
    return numbers == list(range(1, len(numbers) + 1)) and pieces == job["result"]


async def test_redis_that_forgets_everything_in_the_middle_of_a_job_loses_nothing(
    shared: Works, servers: Servers, plain: str
) -> None:
    async def flush() -> None:
        with redis.Redis.from_url(servers.redis.url) as client:
            client.flushall()

    job, events = await watched(shared, "flushed", flush)

    assert without("flushed", job["result"]) == plain
    assert paid_once(shared, "flushed")
    assert are_whole(events, job)


async def test_redis_that_is_away_in_the_middle_of_a_job_and_when_one_is_ordered_loses_nothing(
    shared: Works, servers: Servers, plain: str
) -> None:
    await shared.offer("limited", max_concurrent_requests=2)

    async def restart() -> None:
        await to_thread.run_sync(servers.redis.stop)
        await shared.called("restarted", 8)
        for name, route in (("untold", "minutes"), ("uncounted", "limited")):
            job = await shared.ended(await shared.order(name, route))
            assert without(name, job["result"]) == plain
        await to_thread.run_sync(servers.redis.start)

    job, events = await watched(shared, "restarted", restart)

    assert without("restarted", job["result"]) == plain
    assert paid_once(shared, "restarted")
    assert paid_once(shared, "untold")
    assert are_whole(events, job)


async def test_redis_that_takes_connections_and_answers_nothing_stops_no_job(
    shared: Works, servers: Servers, plain: str
) -> None:
    async def hang() -> None:
        with servers.redis.hung():
            await shared.called("hung", 15)
            untold = await shared.ended(await shared.order("unheard"))
            assert without("unheard", untold["result"]) == plain

    job, events = await watched(shared, "hung", hang)

    assert without("hung", job["result"]) == plain
    assert paid_once(shared, "hung")
    assert are_whole(events, job)


async def test_a_database_that_is_away_is_waited_for_and_nothing_is_asked_meanwhile(
    shared: Works, servers: Servers, plain: str
) -> None:
    async def restart() -> None:
        await to_thread.run_sync(servers.database.stop)
        asked = len(shared.model.of("waiting"))
        # What is in flight comes to its end, and nothing more is asked for that cannot be written down.
        with anyio.move_on_after(2):
            await shared.called("waiting", asked + 2)
        assert len(shared.model.of("waiting")) <= asked + 1
        await to_thread.run_sync(servers.database.start)

    job, events = await watched(shared, "waiting", restart)

    assert without("waiting", job["result"]) == plain
    assert paid_once(shared, "waiting")
    assert are_whole(events, job)
    assert await servers.asked("SELECT max(kills) FROM jobs") == [(0,)]


async def test_pitfall_112_messages_that_come_many_times_change_nothing(
    shared: Works, servers: Servers, plain: str
) -> None:
    async def repeat() -> None:
        link = open_link(servers.redis.url)
        for (job_id,) in await servers.asked("SELECT id::text FROM jobs"):
            for _ in range(5):
                await to_thread.run_sync(say, link.broker, str(job_id))
        await until(lambda: link.waiting() == 0)

    job, events = await watched(shared, "repeated", repeat)
    await repeat()

    after = await shared.job(job["id"])
    assert after == job
    assert without("repeated", job["result"]) == plain
    assert paid_once(shared, "repeated")
    assert are_whole(events, job)
    versions = await shared.client.get(f"/api/v1/jobs/{job['id']}/versions")
    assert [one["number"] for one in versions.json()["items"]] == [1]
    assert job["metrics"]["cost"] == pytest.approx(sum(one["cost"] for one in job["passes"]))


async def test_a_provider_that_is_away_for_longer_than_the_retries_fails_the_job_and_it_can_be_resumed(
    shared: Works, plain: str
) -> None:
    job_id = await shared.order("refused")
    await shared.called("refused", 5)
    await shared.close_model()

    failed = await shared.ended(job_id, "failed")
    assert failed["error"]["code"] == "provider_unavailable", failed["error"]
    assert failed["error"]["message"]
    done = len(failed["passes"])
    assert 4 <= done < 15
    assert plain.startswith(without("refused", failed["result"]))

    await shared.open_model()
    asked = len(shared.model.of("refused"))
    answer = await shared.client.post(f"/api/v1/jobs/{job_id}/resume")
    assert answer.status_code == 202, answer.text
    job = await shared.ended(answer.json()["job_id"])
    assert without("refused", job["result"]) == plain
    assert len(shared.model.of("refused")) - asked == 15 - done
    assert (await shared.job(job_id))["status"] == "failed"


async def test_a_provider_that_fails_for_less_than_the_retries_is_waited_for(shared: Works, plain: str) -> None:
    job_id = await shared.order("patient")
    await shared.called("patient", 5)
    fault = shared.model.error(500, "The server had an error.")
    shared.player.script(*[fault] * (_MOST_TRIES - 1))

    job = await shared.ended(job_id)
    assert without("patient", job["result"]) == plain
    assert paid_once(shared, "patient")
    assert max(one["attempts"] for one in job["passes"]) == _MOST_TRIES
    events = await Watcher(shared, job_id).all()
    assert [event["retry_info"]["attempt"] for event in events if event["event_type"] == "retry"] == [1, 2, 3]


async def test_a_cancelled_job_ends_its_call_within_two_seconds_and_keeps_what_it_has(
    shared: Works, plain: str
) -> None:
    job_id = await shared.order("cancelled")
    await shared.called("cancelled", 5)
    shared.player.always(lambda step: step.delayed(60))
    asked = len(shared.model.of("cancelled"))
    await shared.called("cancelled", asked + 1)
    cancels = len(shared.player.cancels)

    await shared.client.post(f"/api/v1/jobs/{job_id}/cancel")
    await shared.player.until(lambda: len(shared.player.cancels) > cancels, 6)  # two, and a margin of three
    shared.player.always(None)

    job = await shared.ended(job_id, "cancelled")
    assert plain.startswith(without("cancelled", job["result"]))
    assert job["result"].count("\n\n") + 1 == len(job["passes"])
    assert len(shared.model.of("cancelled")) == asked + 1


async def test_a_worker_that_is_told_to_end_writes_its_call_down_and_another_goes_on(
    shared: Works, servers: Servers, plain: str
) -> None:
    name = "handed"
    job_id = await shared.order(name)
    await shared.called(name, 5)
    leaving = next(one for one in shared.workers if one.name == shared.model.of(name)[-1].worker)
    shared.workers.remove(leaving)
    leaving.signal(signal.SIGTERM)

    assert await leaving.ended() == 0
    job = await shared.ended(job_id)
    assert without(name, job["result"]) == plain
    assert paid_once(shared, name)
    assert {called.worker for called in shared.model.of(name)} == {leaving.name, shared.workers[0].name}
    assert await servers.asked("SELECT kills FROM jobs WHERE id = $1", job_id) == [(0,)]
    await shared.work()


async def test_rabbitmq_that_is_stopped_and_started_loses_nothing(tmp_path: Path, postgres: Server) -> None:
    with rabbitmq_server() as rabbitmq:
        async with own_database(postgres) as url:
            settings = {"database_url": url, "queue_url": rabbitmq.url, "encryption_keys": "0" * 43 + "="}
            async with works(tmp_path, Model(delay_s=_DELAY_S), measured=True, **settings) as w:
                await w.offer()
                await w.work()
                plain = await w.plain()

                async def restart() -> None:
                    await to_thread.run_sync(rabbitmq.stop)
                    untold = await w.ended(await w.order("untold"))
                    assert without("untold", untold["result"]) == plain
                    await to_thread.run_sync(rabbitmq.start)

                job, events = await watched(w, "restarted", restart)
                told = await w.ended(await w.order("told"))

            assert {without(name, one["result"]) for name, one in (("restarted", job), ("told", told))} == {plain}
            assert all(paid_once(w, name) for name in ("restarted", "untold", "told"))
            assert are_whole(events, job)
