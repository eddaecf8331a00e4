"""A job's events over SSE."""

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest

from llmgateway.ids import new_uuid
from tests.documents_api.stage import ADMIN, Stage, staged
from tests.lines import Lines
from tests.stores.waiting import until

Event = dict[str, Any]


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    yield lines
    lines.close()


@pytest.fixture
async def stage(lines: Lines) -> AsyncIterator[Stage]:
    async with staged(lines) as stage:
        yield stage


@pytest.fixture
async def client(stage: Stage) -> AsyncIterator[httpx2.AsyncClient]:
    async with stage.client() as client:
        yield client


def path(job_id: str) -> str:
    return f"/api/v1/jobs/{job_id}/events"


@asynccontextmanager
async def watching(client: httpx2.AsyncClient, job_id: str, **options: Any) -> AsyncIterator[AsyncIterator[Event]]:
    """Watch a job: its events as an EventSource would give them, and comments as `{"comment": …}`."""
    async with client.stream("GET", path(job_id), **options) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        yield _events(answer)


async def _events(answer: httpx2.Response) -> AsyncIterator[Event]:
    event: Event = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if not line:
            yield event
            event = {}
        elif not name:
            event["comment"] = value
        else:
            event[name] = json.loads(value) if name == "data" else value


async def whole(client: httpx2.AsyncClient, job_id: str, **options: Any) -> list[Event]:
    async with watching(client, job_id, **options) as events:
        return [event async for event in events]


async def test_every_event_comes_with_its_number_its_name_and_its_body(
    stage: Stage, client: httpx2.AsyncClient
) -> None:
    job_id = stage.job()
    async with watching(client, job_id) as events:
        seen = [await anext(events)]
        stage.book.commit(job_id, "processing")
        seen.append(await anext(events))
        stage.book.commit(job_id, "completed", size=100_000)
        seen += [event async for event in events]

    assert [event["id"] for event in seen] == ["1", "2", "3"]
    assert {event["event"] for event in seen} == {"output"}
    assert [event["data"] for event in seen] == [json.loads(row.body) for row in stage.book.rows[job_id]]
    assert stage.live.watched == len(stage.audience) == 0


async def test_the_answer_is_a_stream_that_nobody_keeps(stage: Stage, client: httpx2.AsyncClient) -> None:
    job_id = stage.job()
    stage.book.commit(job_id, "cancelled")

    answer = await client.get(path(job_id))

    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.text.count("data: ") == 2


async def test_pitfall_125_whoever_comes_back_gets_exactly_what_was_missed_at_every_event(
    stage: Stage, client: httpx2.AsyncClient
) -> None:
    job_id = stage.job()
    seen: list[str] = []
    headers: dict[str, str] = {}
    for number in range(2, 30):
        stage.book.commit(job_id, "completed" if number == 29 else "processing")
    while len(seen) < 29:
        async with watching(client, job_id, headers=headers) as events:
            seen.append((await anext(events))["id"])
        headers = {"Last-Event-ID": seen[-1]}

    assert seen == [str(number) for number in range(1, 30)]
    answer = await client.get(path(job_id), headers=headers)
    assert (answer.status_code, answer.content) == (204, b""), "an EventSource does not ask again after that"


async def test_whoever_drops_at_every_event_of_a_running_job_misses_nothing(
    stage: Stage, client: httpx2.AsyncClient
) -> None:
    job_id, last = stage.job(), "0"
    for number in range(1, 30):
        async with watching(client, job_id, params={"last_event_id": last}) as events:
            last = (await anext(events))["id"]
            assert last == str(number)
            # The next one comes while the client is away, or while it is still there.
            if number % 2:
                stage.book.commit(job_id, "processing")
        if not number % 2:
            stage.book.commit(job_id, "processing")


async def test_the_header_counts_more_than_the_query(stage: Stage, client: httpx2.AsyncClient) -> None:
    job_id = stage.job()
    stage.book.commit(job_id, "processing", "processing", "failed")

    events = await whole(client, job_id, params={"last_event_id": 1}, headers={"Last-Event-ID": "3"})

    assert [event["id"] for event in events] == ["4"]


async def test_a_number_that_there_never_was_begins_anew(stage: Stage, client: httpx2.AsyncClient) -> None:
    job_id = stage.job()
    stage.book.commit(job_id, "failed")

    assert [event["id"] for event in await whole(client, job_id, params={"last_event_id": 999_999_999})] == ["1", "2"]


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "9" * 40, "1 2"])
async def test_what_is_no_number_is_refused_with_what_is_right(
    stage: Stage, client: httpx2.AsyncClient, given: str
) -> None:
    job_id = stage.job()
    for asked in ({"headers": {"Last-Event-ID": given}}, {"params": {"last_event_id": given}}):
        answer = await client.get(path(job_id), **asked)  # type: ignore[arg-type]

        assert answer.status_code == 422
        assert "whole number" in answer.json()["detail"]
    assert (await client.get(path(job_id), params={"after": 1})).status_code == 422


async def test_silence_is_filled_with_comments(lines: Lines) -> None:
    async with staged(lines, keep_alive_s=0.02) as stage, stage.client() as client:
        job_id = stage.job()
        async with watching(client, job_id) as events:
            seen = [await anext(events) for _ in range(3)]
            stage.book.commit(job_id, "completed")
            seen += [event async for event in events]

    assert [event.get("id", event.get("comment")) for event in seen][:3] == ["1", "keep-alive", "keep-alive"]
    assert seen[-1]["id"] == "2"


async def test_pitfall_109_another_ones_job_is_not_there_whatever_number_is_guessed(lines: Lines) -> None:
    async with staged(lines, "client", admin_key=ADMIN) as stage, stage.client() as client:
        own, other = (stage.people.add(organization_id=name) for name in ("acme", "other"))
        job_id, unknown = stage.job("acme"), new_uuid()
        stage.book.commit(job_id, "completed")

        async def asked(job: str, key: str, **headers: str) -> httpx2.Response:
            return await client.get(path(job), headers={"Authorization": f"Bearer {key}", **headers})

        told = [
            await asked(job, other, **headers)
            for job in (job_id, unknown)
            for headers in ({}, {"Last-Event-ID": "1"}, {"Last-Event-ID": "2"})
        ]
        assert {answer.status_code for answer in told} == {404}
        assert {answer.json()["detail"].replace(job_id, unknown) for answer in told} == {told[-1].json()["detail"]}
        assert (await asked(job_id, own)).status_code == 200
        assert (await asked(job_id, ADMIN)).status_code == 200
        assert (await client.get(path(job_id))).status_code == 401
        assert (await asked("no id", own)).status_code == 404


async def test_a_client_that_leaves_frees_everything(stage: Stage, client: httpx2.AsyncClient) -> None:
    job_id = stage.job()
    async with watching(client, job_id) as events:
        await anext(events)
        assert stage.live.watched == len(stage.audience) == 1

    await until(lambda: stage.live.watched == len(stage.audience) == 0)


async def test_a_client_that_does_not_read_is_sent_away(lines: Lines) -> None:
    async with staged(lines, stalled_s=0.2) as stage:
        job_id = stage.job()
        with socket.create_connection(("127.0.0.1", stage.port)) as deaf:
            deaf.sendall(f"GET {path(job_id)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await until(lambda: len(stage.audience) == 1)
            with anyio.fail_after(10):
                while len(stage.audience):
                    stage.book.commit(job_id, "processing", size=1_000_000)
                    await anyio.sleep(0.01)
            assert stage.live.watched == 0


async def test_when_the_gateway_ends_the_stream_ends_in_order_and_goes_on_elsewhere(
    stage: Stage, client: httpx2.AsyncClient
) -> None:
    job_id = stage.job()
    async with watching(client, job_id) as events:
        await anext(events)
        stage.audience.send_away()
        assert [event async for event in events] == []
    stage.book.commit(job_id, "completed")

    assert stage.live.watched == 0


async def test_a_database_that_is_away_is_told(stage: Stage, client: httpx2.AsyncClient) -> None:
    job_id = stage.job()
    stage.book.away = True

    answer = await client.get(path(job_id))

    assert answer.status_code == 503
    assert answer.json()["error_code"] == "LEDGER_UNAVAILABLE"
