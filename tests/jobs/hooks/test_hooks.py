import base64
import hashlib
import hmac
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import anyio
import pytest

from llmgateway.caller import ANYONE
from llmgateway.catalog.snapshot import Webhooks as Rules
from llmgateway.jobs.hooks.address import resolved
from llmgateway.jobs.hooks.hooks import GIVEN_UP_AFTER_S, WAITS_S, Hooks
from llmgateway.jobs.hooks.post import Poster
from llmgateway.storage.jobs.rows import Hook, JobRow, Origin, Wanted
from llmgateway.storage.queries import StorageAwayError
from tests.lines import Lines
from tests.running import NO_TLS
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player
from tests.upstreams.step import Piece, Step

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
START = datetime(2026, 11, 21, 12, tzinfo=UTC)
JOB_ID = "019a0000-0000-7000-8000-000000000001"
OURS = Rules(SECRET, allow_private=True)


def row(job_id: str) -> JobRow:
    return JobRow(
        id=job_id,
        service_id="service",
        service_name="Summarize",
        service_route="summarize",
        flavor_id="flavor",
        flavor_name="iterative",
        organization_id=None,
        status="completed",
        priority=5,
        origin=Origin(caller=ANYONE),
        created_at=START,
        result="the minutes",
    )


class Jobs:
    """One webhook, and a clock that goes on when it is told."""

    def __init__(self, url: str, *, there: bool = True) -> None:
        self.url = url
        self.there = there
        self.now = START
        self.next_at: datetime | None = START
        self.tries = 0
        self.away = 0
        self.notes: list[datetime | None] = []

    async def due_hooks(self, now: datetime, most: int = 50) -> list[Hook]:
        if self.away:
            self.away -= 1
            raise StorageAwayError("away")
        due = self.next_at is not None and self.next_at <= now
        return [Hook(job_id=JOB_ID, url=self.url, tries=self.tries, since=START)] if due else []

    async def hook_tried(self, job_id: str, next_at: datetime | None) -> None:
        assert job_id == JOB_ID
        self.next_at = next_at
        self.tries += next_at is not None
        self.notes.append(next_at)

    async def job(self, job_id: str, wanted: Wanted) -> JobRow | None:
        assert wanted.everyone
        return row(job_id) if self.there else None

    def forward(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@asynccontextmanager
async def sending(jobs: Jobs, lines: Lines, rules: Callable[[], Rules] = lambda: OURS) -> AsyncIterator[Hooks]:
    def body(job: JobRow) -> bytes:
        return json.dumps({"id": job.id, "status": job.status, "result": job.result}).encode()

    hooks = Hooks(jobs, rules, body, lines.logger, poster=Poster(NO_TLS), clock=lambda: jobs.now, every_s=0.01)
    yield hooks
    await hooks.close()


def answering(player: Player, *statuses: int) -> None:
    for status in statuses:
        player.script(Step(status=status, pieces=(Piece(b"{}"),)))


def signature(headers: Any, body: bytes) -> str:
    """What the specification wants, computed by hand."""
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.digest(b"0123456789abcdef0123456789abcdef", text, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


async def test_the_job_arrives_signed(lines: Lines) -> None:
    async with Player(OpenAIWire()) as player:
        jobs = Jobs(f"{player.url}/hooks?token=planted")
        answering(player, 204)
        async with sending(jobs, lines) as hooks:
            await hooks.send_due()
            await hooks.send_due()

        (request,) = player.requests
        assert json.loads(request.body) == {"id": JOB_ID, "status": "completed", "result": "the minutes"}
        assert request.headers["webhook-signature"] == signature(request.headers, request.body)
        assert request.headers["webhook-id"] == "msg_019a0000000070008000000000000001"
    assert jobs.next_at is None
    assert [(line["event"], line["job_id"], line["tries"]) for line in lines.all()] == [("webhook_sent", JOB_ID, 1)]
    assert "planted" not in lines.text()


async def test_what_was_not_taken_is_sent_again_later_under_the_same_id(lines: Lines) -> None:
    async with Player(OpenAIWire()) as player:
        jobs = Jobs(f"{player.url}/hooks")
        answering(player, 500, 302, 200)
        async with sending(jobs, lines) as hooks:
            for _ in range(3):
                await hooks.send_due()
                await hooks.send_due()  # it is not due again before its time
                jobs.forward(40)

        assert len(player.requests) == 3
        assert len({request.headers["webhook-id"] for request in player.requests}) == 1
    assert jobs.next_at is None
    assert [(line["event"], line.get("reason")) for line in lines.all()] == [
        ("webhook_failed", "HTTP status 500"),
        ("webhook_failed", "HTTP status 302"),
        ("webhook_sent", None),
    ]


async def test_the_next_try_is_written_down_before_this_one_so_that_a_kill_loses_nothing(lines: Lines) -> None:
    async with Player(OpenAIWire()) as player:
        jobs = Jobs(f"{player.url}/hooks")
        player.always(Step(delay_s=30))
        async with sending(jobs, lines) as hooks:
            with anyio.move_on_after(5):
                async with anyio.create_task_group() as group:
                    group.start_soon(hooks.send_due)
                    while not player.requests:  # noqa: ASYNC110  the player has no event for it
                        await anyio.sleep(0.01)
                    assert await jobs.due_hooks(jobs.now) == []
                    group.cancel_scope.cancel()

    assert jobs.next_at is not None
    assert timedelta(seconds=4) <= jobs.next_at - START <= timedelta(seconds=6)


async def test_after_a_day_nobody_is_told_any_more(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda _low, _high: 1.0)
    async with Player(OpenAIWire()) as player:
        jobs = Jobs(f"{player.url}/hooks")
        player.always(Step(status=503, pieces=(Piece(b"{}"),)))
        async with sending(jobs, lines) as hooks:
            while jobs.next_at is not None:
                jobs.now = jobs.next_at
                await hooks.send_due()

    tried = [at - before for before, at in zip([START, *jobs.notes], jobs.notes[:-1], strict=False) if at and before]
    assert [wait.total_seconds() for wait in tried[: len(WAITS_S)]] == list(WAITS_S)
    assert jobs.now - START <= timedelta(seconds=GIVEN_UP_AFTER_S)
    assert jobs.now - START > timedelta(seconds=GIVEN_UP_AFTER_S - WAITS_S[-1] - 1)
    assert [line["given_up"] for line in lines.all()] == [False] * (len(tried) - 1) + [True]


async def test_whoever_is_gone_for_good_is_told_nothing_more(lines: Lines) -> None:
    async with Player(OpenAIWire()) as player:
        jobs = Jobs(f"{player.url}/hooks")
        answering(player, 410)
        async with sending(jobs, lines) as hooks:
            await hooks.send_due()

    assert jobs.next_at is None
    assert [line["given_up"] for line in lines.all()] == [True]


async def test_an_address_that_became_private_meanwhile_is_not_connected_to(lines: Lines) -> None:
    async with Player(OpenAIWire()) as player:
        # As it was ordered the name may have led elsewhere.
        jobs = Jobs(player.url.replace("127.0.0.1", "localhost"))
        async with sending(jobs, lines, lambda: Rules(SECRET)) as hooks:
            await hooks.send_due()

        assert player.connections == 0
    (line,) = lines.all()
    assert line["given_up"] is False
    assert "not public" in line["reason"]


async def test_a_name_is_looked_up_once_and_the_connection_goes_where_that_led(lines: Lines) -> None:
    asked: list[str] = []
    async with Player(OpenAIWire()) as player:
        port = player.url.rpartition(":")[2]
        answering(player, 200)

        async def rebinding(host: str, _port: int) -> list[str]:
            asked.append(host)
            return ["127.0.0.1"] if len(asked) == 1 else ["192.0.2.1"]

        jobs = Jobs(f"http://rebinds.invalid:{port}/hooks")
        hooks = Hooks(
            jobs,
            lambda: OURS,
            lambda _job: b"{}",
            lines.logger,
            poster=Poster(NO_TLS),
            find=partial(resolved, lookup=rebinding),
            clock=lambda: jobs.now,
        )
        await hooks.send_due()
        await hooks.close()

        assert player.last.headers["host"] == f"rebinds.invalid:{port}"
    assert asked == ["rebinds.invalid"]


@pytest.mark.parametrize(
    ("url", "rules", "reason", "given_up"),
    [
        ("ftp://example.com/", OURS, "its address must begin with", True),
        ("http://127.0.0.1:1/", OURS, "Client", False),
        ("https://example.com/", Rules(None), "no longer in the catalog", False),
    ],
)
async def test_why_nothing_could_be_sent_is_told(
    url: str, rules: Rules, reason: str, given_up: bool, lines: Lines
) -> None:
    jobs = Jobs(url)
    async with sending(jobs, lines, lambda: rules) as hooks:
        await hooks.send_due()

    (line,) = lines.all()
    assert reason in line["reason"]
    assert line["given_up"] is given_up
    assert (jobs.next_at is None) is given_up


async def test_a_job_that_was_deleted_meanwhile_is_told_to_nobody(lines: Lines) -> None:
    jobs = Jobs("http://127.0.0.1:1/", there=False)
    async with sending(jobs, lines) as hooks:
        await hooks.send_due()

    assert lines.all() == []


async def test_it_looks_by_itself_and_at_once_when_it_is_poked_and_outlives_its_database(lines: Lines) -> None:
    async with Player(OpenAIWire()) as player:
        jobs = Jobs(f"{player.url}/hooks")
        jobs.away = 2
        answering(player, 200, 200)
        async with sending(jobs, lines) as hooks, anyio.create_task_group() as group:
            group.start_soon(hooks.run)
            await _sent(jobs)
            jobs.next_at = jobs.now
            hooks.poke()
            await _sent(jobs)
            group.cancel_scope.cancel()

        assert len(player.requests) == 2
    assert lines.events() == ["webhook_sent", "webhook_sent"]


async def _sent(jobs: Jobs) -> None:
    with anyio.fail_after(10):
        while jobs.next_at is not None:  # noqa: ASYNC110  the database tells nobody
            await anyio.sleep(0.005)
