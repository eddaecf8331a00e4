"""A limit on requests at once, and an end for those that run when the process must go."""

import asyncio
import json

import pytest
from starlette.types import Receive, Scope, Send

from llmgateway.errors import ClientGoneError, OverloadedError, ShuttingDownError
from llmgateway.middleware.inflight import Inflight, Running
from tests.asgi import Client, scope_of
from tests.conftest import Serve
from tests.upstreams.server import Player
from tests.upstreams.step import stream_step

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'


class Works:
    """What lies behind: works until it may end."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.entered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered += 1
        await self.may_end.wait()
        if scope["path"] == "/fails":
            raise LookupError


def enter(door: Inflight, scope: Scope | None = None) -> asyncio.Task[None]:
    client = Client()

    async def run() -> None:
        await door(scope or scope_of(), client.receive, client.send)

    return asyncio.get_running_loop().create_task(run())


async def test_as_many_as_the_limit_are_let_in() -> None:
    app, running = Works(), Running()
    door = Inflight(app, running=running, limit=3)

    tasks = [enter(door) for _ in range(4)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert app.entered == len(running.tasks) == 3
    with pytest.raises(OverloadedError, match="limit of 3 requests at once") as refused:
        await tasks[3]
    assert (refused.value.retry_after_s, refused.value.should_retry) == (1.0, True)
    app.may_end.set()
    await asyncio.gather(*tasks[:3])
    assert running.tasks == {}


@pytest.mark.parametrize("ending", ["answer", "error", "cancellation"])
async def test_pitfall_023_a_place_comes_back_however_a_request_ends(ending: str) -> None:
    app, running = Works(), Running()
    door = Inflight(app, running=running, limit=1)

    for _ in range(5):
        app.may_end.clear()
        task = enter(door, scope_of(path="/fails" if ending == "error" else "/works"))
        await asyncio.sleep(0)
        assert len(running.tasks) == 1
        if ending == "cancellation":
            task.cancel()
        app.may_end.set()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        assert (ended is None) == (ending == "answer")
        assert running.tasks == {}

    assert app.entered == 5


async def test_a_refused_request_takes_no_ones_place() -> None:
    app, running = Works(), Running()
    door = Inflight(app, running=running, limit=1)
    first = enter(door)
    await asyncio.sleep(0)

    for _ in range(3):
        with pytest.raises(OverloadedError):
            await enter(door)

    assert len(running.tasks) == 1
    app.may_end.set()
    await first
    await enter(door)


async def test_all_that_run_are_ended_with_the_reason() -> None:
    running = Running()
    door = Inflight(Works(), running=running, limit=10)
    scopes = [scope_of() for _ in range(3)]
    tasks = [enter(door, scope) for scope in scopes]
    await asyncio.sleep(0)

    assert running.end_all() == 3

    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    assert {type(scope["exchange"].cancelled_by) for scope in scopes} == {ShuttingDownError}
    assert running.end_all() == 0


async def test_who_is_being_ended_for_another_reason_keeps_it() -> None:
    app, running = Works(), Running()
    scope, gone = scope_of(), ClientGoneError("Gone.")
    task = enter(Inflight(app, running=running, limit=1), scope)
    await asyncio.sleep(0)
    scope["exchange"].cancelled_by = gone

    running.end_all()
    app.may_end.set()
    await task

    assert not task.cancelled()
    assert scope["exchange"].cancelled_by is gone


async def test_to_be_ended_twice_is_to_be_cancelled_once() -> None:
    running = Running()
    task = enter(Inflight(Works(), running=running, limit=1))
    await asyncio.sleep(0)

    running.end_all()
    running.end_all()

    assert task.cancelling() == 1
    await asyncio.wait([task])


async def test_without_a_task_there_is_nothing_to_end() -> None:
    """No server does that; a request that could not be cancelled must not slip in."""
    running, client, outcome = Running(), Client(), asyncio.get_running_loop().create_future()
    request = Inflight(Works(), running=running, limit=1)(scope_of(), client.receive, client.send)

    def drive() -> None:
        try:
            request.send(None)
        except RuntimeError as error:
            outcome.set_result(error)

    asyncio.get_running_loop().call_soon(drive)

    assert isinstance(await outcome, RuntimeError)
    assert running.tasks == {}


@pytest.mark.parametrize("stream", [False, True])
async def test_before_the_first_byte_the_end_is_a_503(
    gateway: Serve, provider: Player, catalog: str, stream: bool
) -> None:
    served = await gateway(catalog)
    provider.always(lambda step: step.delayed(10))
    asking = asyncio.ensure_future(served.client.post("/v1/chat/completions", json=CHAT | {"stream": stream}))
    await provider.until(lambda: provider.in_flight == 1)

    assert served.app.state.running.end_all() == 1

    answer = await asking
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
    assert (answer.headers["x-should-retry"], answer.headers["retry-after"]) == ("true", "1")
    await provider.until(lambda: len(provider.cancels) == 1, within_s=1)
    line = await served.logged("llm_request_error")
    assert (line["status"], line["error_code"]) == (503, "shutting_down")


async def test_inside_a_stream_the_end_is_an_error_event(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    provider.always(stream_step([EVENT, EVENT]).silent(pieces=2))

    async with served.client.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as response:
        pieces = response.aiter_raw()
        body = await anext(pieces)
        assert served.app.state.running.end_all() == 1
        body += b"".join([piece async for piece in pieces])

    events = body.strip().split(b"\n\n")
    assert response.status_code == 200
    assert json.loads(events[-1].removeprefix(b"data: "))["error"]["code"] == "shutting_down"
    assert b"[DONE]" not in body
    await provider.until(lambda: len(provider.cancels) == 1, within_s=1)
    assert (await served.logged("llm_request_error"))["error_code"] == "shutting_down"
