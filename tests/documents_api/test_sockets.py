"""Jobs watched over WebSockets."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from llmgateway.ids import new_uuid
from tests.documents_api.stage import ADMIN, Stage, staged
from tests.lines import Lines
from tests.stores.waiting import until


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    yield lines
    lines.close()


@pytest.fixture
async def stage(lines: Lines) -> AsyncIterator[Stage]:
    async with staged(lines) as stage:
        yield stage


def path(job_id: str, after: int | None = None) -> str:
    return f"/ws/jobs/{job_id}" + ("" if after is None else f"?last_event_id={after}")


async def told(socket: websockets.ClientConnection) -> dict[str, Any]:
    """Give the next message: JSON, as text."""
    message = await socket.recv()
    assert isinstance(message, str)
    body: dict[str, Any] = json.loads(message)
    return body


async def rest(socket: websockets.ClientConnection) -> tuple[list[dict[str, Any]], int | None]:
    """Give all messages until the socket is closed, and the code."""
    found = []
    try:
        while True:
            found.append(await told(socket))
    except ConnectionClosed as closed:
        return found, None if closed.rcvd is None else closed.rcvd.code


async def refused(stage: Stage, where: str, **options: Any) -> tuple[int, dict[str, Any]]:
    """Open one in vain: the status and the error."""
    with pytest.raises(InvalidStatus) as caught:
        async with stage.open(where, **options):
            pass
    answer = caught.value.response
    return answer.status_code, json.loads(answer.body or b"")


async def test_each_event_is_a_message_and_the_last_one_closes(stage: Stage, lines: Lines) -> None:
    job_id = stage.job()
    async with stage.open(path(job_id)) as socket:
        seen = [await told(socket)]
        stage.book.commit(job_id, "processing")
        seen.append(await told(socket))
        stage.book.commit(job_id, "completed", "completed", size=3_000_000)
        others, code = await rest(socket)

    assert seen + others == [json.loads(row.body) for row in stage.book.rows[job_id]]
    assert code == 1000
    await until(lambda: stage.live.watched == len(stage.audience) == 0)
    await until(lambda: "socket_closed" in lines.events())


async def test_pitfall_125_whoever_drops_and_comes_back_at_every_event_misses_nothing(stage: Stage) -> None:
    job_id, seen = stage.job(), [0]
    while seen[-1] < 30:
        async with stage.open(path(job_id, seen[-1])) as socket:
            seen.append((await told(socket))["id"])
            if seen[-1] % 2:
                stage.book.commit(job_id, "processing" if seen[-1] < 29 else "completed")
        if not seen[-1] % 2 and seen[-1] < 30:
            stage.book.commit(job_id, "processing")

    assert seen == list(range(31))
    async with stage.open(path(job_id, 30)) as socket:
        assert await rest(socket) == ([], 1000)


async def test_an_unknown_job_is_told_and_then_the_socket_is_closed(stage: Stage) -> None:
    for job_id in (new_uuid(), "no id", "a/b"):
        async with stage.open(path(job_id.replace(" ", "%20"))) as socket:
            messages, code = await rest(socket)

        assert [message["event_type"] for message in messages] == ["error"]
        assert messages[0]["error"]["code"] == "NOT_FOUND"
        assert code == 4404


async def test_a_wrong_question_is_told_with_what_is_right(stage: Stage) -> None:
    job_id = stage.job()
    for where in (f"{path(job_id)}?last_event_id=x", f"{path(job_id)}?after=1", "/ws/jobs?organization_id=a%20b"):
        async with stage.open(where) as socket:
            messages, code = await rest(socket)

        assert code == 4422
        assert messages[0]["error"]["code"] == "VALIDATION_ERROR"


async def test_a_path_that_is_not_served_is_no_socket(stage: Stage) -> None:
    status, error = await refused(stage, "/v1/realtime")

    assert (status, error["error_code"]) == (404, "NOT_FOUND")


async def test_a_database_that_is_away_is_told(stage: Stage) -> None:
    job_id = stage.job()
    stage.book.away = True

    async with stage.open(path(job_id)) as socket:
        messages, code = await rest(socket)

    assert (messages[0]["error"]["code"], code) == ("LEDGER_UNAVAILABLE", 4503)


async def test_pitfall_109_another_ones_job_is_an_unknown_one(lines: Lines) -> None:
    async with staged(lines, "client", admin_key=ADMIN) as stage:
        own, other = (stage.people.add(organization_id=name) for name in ("acme", "other"))
        job_id, unknown = stage.job("acme"), new_uuid()
        stage.book.commit(job_id, "completed")

        async def ask(job: str, key: str, after: int | None = None) -> tuple[list[dict[str, Any]], int | None]:
            async with stage.open(path(job, after), additional_headers={"Authorization": f"Bearer {key}"}) as socket:
                messages, code = await rest(socket)
                return [json.loads(json.dumps(one).replace(job, "…")) for one in messages], code

        answers = [await ask(job, other, after) for job in (job_id, unknown) for after in (None, 1, 2)]
        assert answers == [answers[0]] * 6
        assert answers[0][1] == 4404
        assert len((await ask(job_id, own))[0]) == 2
        assert len((await ask(job_id, ADMIN, 1))[0]) == 1


class TestDoor:
    """Who may come in."""

    async def test_nobody_without_a_key_or_with_a_wrong_one_gets_a_socket(self, lines: Lines) -> None:
        async with staged(lines, "client") as stage:
            where = path(stage.job())

            assert (await refused(stage, where))[0] == 401
            status, error = await refused(stage, where, additional_headers={"X-API-Key": "lgw_unknown"})
            assert (status, error["error_code"]) == (401, "INVALID_API_KEY")
            assert (await refused(stage, where, subprotocols=[Subprotocol("bearer.lgw_unknown")]))[0] == 401
            assert len(stage.audience) == 0

    async def test_a_browser_sends_its_key_as_a_subprotocol_and_gets_that_back(self, lines: Lines) -> None:
        async with staged(lines, "client") as stage:
            key = stage.people.add(organization_id="acme")
            offered = [Subprotocol("other"), Subprotocol(f"bearer.{key}")]
            async with stage.open(path(stage.job("acme")), subprotocols=offered) as socket:
                assert socket.subprotocol == f"bearer.{key}"
                assert (await told(socket))["id"] == 1
            assert key not in lines.text()

    async def test_two_different_keys_are_refused(self, lines: Lines) -> None:
        async with staged(lines, "client") as stage:
            key = stage.people.add()
            options = {"subprotocols": [Subprotocol("bearer.x")], "additional_headers": {"X-API-Key": key}}

            assert (await refused(stage, path(stage.job()), **options))[0] == 400

    async def test_a_foreign_page_is_refused_unless_it_may_call(self, lines: Lines) -> None:
        async with staged(lines, origins=["https://app.example.com"]) as stage:
            where = path(stage.job())
            for origin in ("https://evil.example.com", "null", "http://[", f"http://127.0.0.1:{stage.port + 1}"):
                status, error = await refused(stage, where, origin=origin)
                assert (status, error["error_code"]) == (403, "ORIGIN_NOT_ALLOWED")
            for allowed in ("https://app.example.com", f"http://127.0.0.1:{stage.port}", None):
                async with stage.open(where, origin=allowed) as socket:
                    assert (await told(socket))["id"] == 1


class TestEverything:
    """All jobs of an organization."""

    async def test_an_organization_sees_its_jobs_and_no_others(self, lines: Lines) -> None:
        async with staged(lines, "client", admin_key=ADMIN) as stage:
            key = stage.people.add(organization_id="acme")
            mine, foreign = stage.job("acme"), stage.job("other")
            headers = {"Authorization": f"Bearer {key}"}
            async with stage.open("/ws/jobs?organization_id=acme", additional_headers=headers) as socket:
                seen = [await told(socket)]
                stage.book.commit(foreign, "completed")
                new = stage.job("acme")
                seen.append(await told(socket))
                stage.book.commit(mine, "completed")
                seen.append(await told(socket))

            assert [(one["job_id"], one["id"]) for one in seen] == [(mine, 1), (new, 1), (mine, 2)]
            async with stage.open("/ws/jobs?organization_id=other", additional_headers=headers) as socket:
                messages, code = await rest(socket)
            assert (messages[0]["error"]["code"], code) == ("NOT_FOUND", 4404)

    async def test_an_administrator_sees_everything_or_whom_he_names(self, lines: Lines) -> None:
        async with staged(lines, "client", admin_key=ADMIN) as stage:
            jobs = {stage.job("acme"), stage.job(), stage.job("other")}
            headers = {"Authorization": f"Bearer {ADMIN}"}
            async with stage.open("/ws/jobs", additional_headers=headers) as socket:
                assert {(await told(socket))["job_id"] for _ in range(3)} == jobs
            async with stage.open("/ws/jobs?organization_id=acme", additional_headers=headers) as socket:
                first = await told(socket)
                stage.book.add("new", organization="acme")
                assert {first["job_id"], (await told(socket))["job_id"]} < jobs | {"new"}


class TestEnds:
    """How a socket ends."""

    async def test_a_client_that_leaves_frees_everything(self, stage: Stage) -> None:
        job_id = stage.job()
        async with stage.open(path(job_id)) as socket, stage.open("/ws/jobs") as everything:
            await told(socket)
            await told(everything)
            assert (stage.live.watched, len(stage.audience)) == (1, 2)
            socket.transport.abort()

        await until(lambda: stage.live.watched == len(stage.audience) == 0)

    async def test_when_the_gateway_ends_each_socket_is_told_to_go(self, stage: Stage) -> None:
        job_id = stage.job()
        async with stage.open(path(job_id)) as socket, stage.open("/ws/jobs") as everything:
            await told(socket)
            await told(everything)
            stage.audience.send_away()

            assert await rest(socket) == ([], 1001)
            assert await rest(everything) == ([], 1001)

    async def test_a_client_that_does_not_read_is_sent_away(self, lines: Lines) -> None:
        async with staged(lines, stalled_s=0.2) as stage:
            job_id = stage.job()
            async with stage.open(path(job_id), max_queue=1, ping_interval=None, close_timeout=0.1) as deaf:
                await told(deaf)
                deaf.transport.pause_reading()
                with anyio.fail_after(10):
                    while len(stage.audience):
                        stage.book.commit(job_id, "processing", size=1_000_000)
                        await anyio.sleep(0.01)
                assert stage.live.watched == 0
                deaf.transport.abort()

    async def test_what_a_client_says_is_not_listened_to(self, stage: Stage) -> None:
        job_id = stage.job()
        async with stage.open(path(job_id)) as socket:
            for message in ("hello", b"\x00\xff", "x" * 60_000):
                await socket.send(message)
            stage.book.commit(job_id, "completed")
            messages, code = await rest(socket)
        assert ([one["id"] for one in messages], code) == ([1, 2], 1000)

        job_id = stage.job()
        async with stage.open(path(job_id)) as socket:
            await told(socket)
            await socket.send("x" * 1_000_000)
            assert (await rest(socket))[1] == 1009


@pytest.mark.alone
@pytest.mark.timeout(120)
async def test_a_thousand_watch_over_one_process(lines: Lines) -> None:
    found: list[list[int]] = []
    async with staged(lines) as stage:
        job_id = stage.job()

        async def watch() -> None:
            async with stage.open(path(job_id), compression=None, open_timeout=60) as socket:
                messages, code = await rest(socket)
                assert code == 1000
                found.append([one["id"] for one in messages])

        async with anyio.create_task_group() as group:
            for number in range(1000):
                group.start_soon(watch)
                if number % 50 == 0:
                    stage.book.commit(job_id, "processing")
                    await anyio.lowlevel.checkpoint()
            await until(lambda: len(stage.audience) == 1000, within_s=60)
            for _ in range(10):
                stage.book.commit(job_id, "processing")
                await anyio.lowlevel.checkpoint()
            stage.book.commit(job_id, "completed")

    assert len(found) == 1000
    assert all(ids == list(range(1, len(stage.book.rows[job_id]) + 1)) for ids in found)
