"""Document services as models: OpenAI's SDK as the client."""

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import anyio
import msgspec
import openai
import pytest

from tests.conftest import Serve
from tests.e2e.services.scribe import Scribe, add_flavor, make_service
from tests.running import Running
from tests.upstreams.server import Player

LINES = ("One was said.", "Two was said.", "Three was said.")
TEXT = "\n\n".join(LINES)
WRITTEN = "\n\n".join(line.upper() for line in LINES)


def said(text: str = TEXT, *, system: str | None = None) -> list[Any]:
    before = [] if system is None else [{"role": "system", "content": system}]
    return [*before, {"role": "user", "content": text}]


async def job_of(g: Running, job_id: str) -> dict[str, Any]:
    answer = await g.client.get(f"/api/v1/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


async def refused(g: Running, model: str, text: str = TEXT, **more: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        await g.openai.chat.completions.create(model=model, messages=said(text), **more)
    return caught.value


async def test_a_document_goes_through_the_sdk_as_a_message(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog)
    await make_service(g.client)

    raw = await g.openai.chat.completions.with_raw_response.create(
        model="service/notes",
        messages=said(system="Write in capitals, {braces} %s and {{document}} are plain."),
        metadata={"ticket": "T-1", "priority": "7"},
    )

    answer, job = raw.parse(), await job_of(g, raw.headers["x-job-id"])
    assert answer.choices[0].message.content == job["result"] == WRITTEN
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "service/notes"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == sum(one["prompt_tokens"] for one in job["passes"]) > 0
    assert answer.usage.total_tokens == job["metrics"]["total_tokens"]
    assert float(raw.headers["x-cost-usd"]) == pytest.approx(job["metrics"]["cost"])
    assert job["metrics"]["cost"] > 0
    assert (job["metadata"], job["priority"]) == ({"ticket": "T-1"}, 7)
    assert job["request_id"] == raw.headers["x-request-id"]
    systems = [one.json["messages"][0]["content"] for one in provider.requests]
    assert len(systems) == 3
    assert all("Write in capitals, {braces} %s and {{document}} are plain." in system for system in systems)


async def test_each_part_is_streamed_as_soon_as_it_is_made_and_the_last_one_word_by_word(
    gateway: Serve, catalog: str, provider: Player
) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    allowed, pieces = [1], []
    provider.script(
        lambda step: step.held(lambda: allowed[0] > 0),
        lambda step: step.held(lambda: allowed[0] > 1),
        lambda step: step.held(lambda: allowed[0] > 3, pieces=2),
    )

    stream = await g.openai.chat.completions.create(
        model="service/notes", messages=said(), stream=True, stream_options={"include_usage": True}
    )
    chunks = aiter(stream)
    assert (await anext(chunks)).choices[0].delta.role == "assistant"
    for part in ("ONE WAS SAID.", "\n\nTWO WAS SAID.", "\n\nTHREE"):
        # The next is held back: what came is all that there can be.
        assert await _next_text(chunks, len(part)) == part
        pieces.append(part)
        allowed[0] += 1
        provider.note()
    rest = [chunk async for chunk in chunks]

    text = "".join(pieces) + "".join(choice.delta.content or "" for chunk in rest for choice in chunk.choices)
    assert text == WRITTEN
    job = await job_of(g, rest[-1].id.removeprefix("chatcmpl-"))
    assert rest[-1].choices == []
    assert rest[-1].usage is not None
    assert rest[-1].usage.total_tokens == job["metrics"]["total_tokens"] > 0
    assert [one.json.get("stream", False) for one in provider.requests] == [False, False, True]


async def _next_text(chunks: AsyncIterator[Any], chars: int) -> str:
    text = ""
    with anyio.fail_after(15):
        while len(text) < chars:
            chunk = await anext(chunks)
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
    return text


@pytest.mark.parametrize("uri", ["data:text/plain;base64,", "data:;base64,", ""])
async def test_a_document_may_be_a_file(gateway: Serve, catalog: str, uri: str) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    encoded = base64.b64encode(LINES[1].encode()).decode()
    parts: list[Any] = [
        {"type": "text", "text": LINES[0]},
        {"type": "file", "file": {"filename": "notes.txt", "file_data": uri + encoded}},
    ]

    answer = await g.openai.chat.completions.create(
        model="service/notes", messages=[{"role": "user", "content": parts}, {"role": "user", "content": LINES[2]}]
    )

    assert (answer.choices[0].message.content or "").split() == " ".join(LINES).upper().split()


async def test_a_flavor_is_named_in_three_ways(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog)
    service = await make_service(g.client)
    await add_flavor(g.client, service, "at-once", model="other", processing_mode="single_pass")

    async def model_and_calls(model: str, **more: Any) -> tuple[str, int]:
        before = provider.requests_total
        await g.openai.chat.completions.create(model=model, messages=said(), **more)
        return provider.last.json["model"], provider.requests_total - before

    assert await model_and_calls("service/notes") == ("gpt-4o", 3)
    assert await model_and_calls("service/notes:at-once") == ("gpt-4o-mini", 1)
    assert await model_and_calls("service/notes", extra_body={"service": {"flavor": "at-once"}}) == ("gpt-4o-mini", 1)
    assert await model_and_calls("service/notes", metadata={"flavor": "at-once"}) == ("gpt-4o-mini", 1)
    assert await model_and_calls(f"service/{service['id']}") == ("gpt-4o", 3)


async def test_what_is_not_there_is_no_model_and_its_neighbours_are_named(gateway: Serve, catalog: str) -> None:
    g = await gateway(catalog)

    no_service = await refused(g, "service/meting-minutes")
    no_flavor = await refused(g, "service/summarize:iteratif")
    no_plan = await refused(g, "service/sumarize", extra_headers={"X-Dry-Run": "true"})

    for error in (no_service, no_flavor, no_plan):
        assert isinstance(error, openai.NotFoundError)
        assert (error.code, error.param) == ("model_not_found", "model")
    near = [error.body["details"]["available_models"][0] for error in (no_service, no_flavor, no_plan)]  # type: ignore[index]
    assert near == ["service/meeting-minutes", "service/summarize:iterative", "service/summarize"]


async def test_what_cannot_be_run_is_refused_with_a_reason(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    wrong: list[dict[str, Any]] = [
        {"metadata": {"priority": "10"}},
        {"extra_body": {"service": {"priority": 10}}},
        {"extra_body": {"service": {"flavour": "x"}}},
        {"extra_body": {"metadata": {"ticket": 7}}},
    ]

    errors = [await refused(g, "service/notes", **more) for more in wrong]
    empty = await refused(g, "service/notes", " \n\t")

    assert [error.status_code for error in (*errors, empty)] == [400] * 5
    assert empty.code == "empty_input"
    assert provider.requests_total == 0


async def test_other_operations_than_chat_say_where_services_are_served(gateway: Serve, catalog: str) -> None:
    g = await gateway(catalog)

    for ask in (
        g.openai.completions.create(model="service/summarize", prompt=TEXT),
        g.openai.embeddings.create(model="service/summarize", input=TEXT),
    ):
        with pytest.raises(openai.BadRequestError, match="POST /v1/chat/completions") as caught:
            await ask
        assert caught.value.param == "model"


async def test_the_same_words_side_by_side_are_one_job_and_paid_once(
    gateway: Serve, catalog: str, provider: Player
) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    free: list[bool] = []
    provider.always(lambda step: step.held(lambda: bool(free)))

    async def ask(**more: Any) -> Any:
        create = g.openai.chat.completions.with_raw_response.create
        return await create(model="service/notes", messages=said(), **more)

    async with asyncio.TaskGroup() as group:
        first = group.create_task(ask())
        await provider.until(lambda: provider.requests_total == 1, 15)
        second, streamed = group.create_task(ask()), group.create_task(ask(stream=True))
        # The stream opens at once: by then it has joined.
        chunks = [chunk async for chunk in _opened(await streamed, free, provider)]

    ids = {one.result().headers["x-job-id"] for one in (first, second, streamed)}
    assert len(ids) == 1
    assert provider.requests_total == 3
    assert first.result().parse().choices[0].message.content == WRITTEN
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == WRITTEN
    usages = [one.result().parse().usage for one in (first, second)]
    assert usages[0] == usages[1]


async def _opened(raw: Any, free: list[bool], provider: Player) -> AsyncIterator[Any]:
    free.append(True)
    provider.note()
    async for chunk in raw.parse():
        yield chunk


async def test_an_ended_job_is_not_joined_and_no_answer_of_a_service_is_kept(
    gateway: Serve, catalog: str, provider: Player
) -> None:
    g = await gateway(catalog, cache__enabled="true")
    await make_service(g.client)

    answers = [
        await g.openai.chat.completions.with_raw_response.create(model="service/notes", messages=said(), temperature=0)
        for _ in range(2)
    ]

    assert len({answer.headers["x-job-id"] for answer in answers}) == 2
    assert [answer.headers["x-cache-status"] for answer in answers] == ["BYPASS", "BYPASS"]
    assert provider.requests_total == 6


async def test_a_call_whose_time_is_over_says_which_job_goes_on_and_the_same_call_joins_it(
    gateway: Serve, catalog: str, provider: Player
) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    free: list[bool] = []
    provider.always(lambda step: step.held(lambda: bool(free)))

    error = await refused(g, "service/notes", extra_headers={"X-Timeout-Seconds": "1"})
    assert error.status_code == 504
    assert error.response.headers["x-should-retry"] == "false"
    job_id = error.body["details"]["job_id"]  # type: ignore[index]
    assert (await job_of(g, job_id))["completed_at"] is None

    async def ask_again() -> Any:
        return await g.openai.chat.completions.with_raw_response.create(model="service/notes", messages=said())

    async with asyncio.TaskGroup() as group:
        again = group.create_task(ask_again())
        await _joined(g, job_id)
        free.append(True)
        provider.note()

    assert again.result().headers["x-job-id"] == job_id
    assert again.result().parse().choices[0].message.content == WRITTEN
    assert provider.requests_total == 3


async def _joined(g: Running, job_id: str) -> None:
    """Wait until the second call is at work."""
    with anyio.fail_after(15):
        while sum(line.get("model") == "service/notes" and "start" in line["event"] for line in g.logs()) < 2:  # noqa: ASYNC110
            await anyio.sleep(0.01)
    assert (await job_of(g, job_id))["completed_at"] is None


async def test_a_stream_whose_time_is_over_ends_with_an_error_and_no_done(
    gateway: Serve, catalog: str, provider: Player
) -> None:
    g = await gateway(catalog, shutdown_grace_s="0.1")
    await make_service(g.client)
    provider.script(lambda step: step, lambda step: step.held(lambda: False))

    body = {"model": "service/notes", "messages": said(), "stream": True}
    answer = await g.client.post("/v1/chat/completions", json=body, headers={"X-Timeout-Seconds": "5"})

    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    error = msgspec.json.decode(events[-1])["error"]
    assert error["details"]["job_id"] == answer.headers["x-job-id"]
    assert "[DONE]" not in answer.text
    assert "ONE WAS SAID." in answer.text


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_does_not_end_the_job(
    gateway: Serve, catalog: str, provider: Player, stream: bool
) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    free: list[bool] = []
    provider.always(lambda step: step.held(lambda: bool(free)))

    job_id = await _left(g, provider, stream=stream)
    free.append(True)
    provider.note()

    assert (await _ended(g, job_id))["result"] == WRITTEN


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_the_job_where_it_says_so(
    gateway: Serve, catalog: str, provider: Player, stream: bool
) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    provider.always(lambda step: step.held(lambda: False))

    job_id = await _left(g, provider, stream=stream, extra_body={"service": {"cancel_on_disconnect": True}})

    assert (await _ended(g, job_id))["status"] == "cancelled"
    await provider.until(lambda: provider.in_flight == 0, 6)


async def test_a_job_that_another_waits_for_too_is_not_ended_by_who_leaves(
    gateway: Serve, catalog: str, provider: Player
) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    free: list[bool] = []
    provider.always(lambda step: step.held(lambda: bool(free)))
    body = {"model": "service/notes", "messages": said(), "service": {"cancel_on_disconnect": True}, "stream": True}

    async with g.client.stream("POST", "/v1/chat/completions", json=body) as stays:
        async with g.client.stream("POST", "/v1/chat/completions", json=body) as leaves:
            await anext(leaves.aiter_raw())
        await g.logged("llm_request_error", 15, status=499)
        assert (await job_of(g, leaves.headers["x-job-id"]))["completed_at"] is None
        free.append(True)
        provider.note()
        text = "".join([piece async for piece in stays.aiter_text()])

    assert stays.headers["x-job-id"] == leaves.headers["x-job-id"]
    assert "[DONE]" in text


async def test_a_key_that_is_sent_again_gives_the_same_job(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    create: Any = g.openai.chat.completions.with_raw_response.create
    key = {"Idempotency-Key": "k-1"}

    answers = [
        await create(model="service/notes", messages=said(), extra_headers=key, stream=stream)
        for stream in (False, False, True)
    ]
    streamed = [chunk async for chunk in answers[2].parse()]
    other = await refused(g, "service/notes", "Another text.", extra_headers=key)

    assert len({answer.headers["x-job-id"] for answer in answers}) == 1
    assert answers[0].parse().choices == answers[1].parse().choices
    assert "".join(choice.delta.content or "" for chunk in streamed for choice in chunk.choices) == WRITTEN
    assert (other.status_code, provider.requests_total) == (409, 3)


async def _left(g: Running, provider: Player, *, stream: bool, **more: Any) -> str:
    """Ask, and leave as soon as the job is at work; gives the job's id."""

    async def ask() -> Any:
        return await g.openai.chat.completions.create(model="service/notes", messages=said(), stream=stream, **more)

    async with asyncio.TaskGroup() as group:
        call = group.create_task(ask())
        await provider.until(lambda: provider.requests_total == 1, 15)
        if stream:
            await (await call).close()
        call.cancel()
    jobs = (await g.client.get("/api/v1/jobs")).json()["items"]
    assert len(jobs) == 1
    job_id: str = jobs[0]["id"]
    return job_id


async def _ended(g: Running, job_id: str) -> dict[str, Any]:
    with anyio.fail_after(15):
        while (job := await job_of(g, job_id))["completed_at"] is None:  # noqa: ASYNC110  it is asked over HTTP
            await anyio.sleep(0.02)
    return job


async def test_a_job_that_fails_in_mid_stream_is_an_error_event_and_no_done(
    gateway: Serve, catalog: str, provider: Player, scribe: Scribe
) -> None:
    g = await gateway(catalog, retry__jobs__max_retries="0")
    await make_service(g.client, auto_fallback_to_iterative=False)
    refusal = scribe.error(400, "This cannot be done.")
    provider.script(lambda step: step, refusal)

    body = {"model": "service/notes", "messages": said(), "stream": True}
    answer = await g.client.post("/v1/chat/completions", json=body)

    assert answer.status_code == 200
    assert "ONE WAS SAID." in answer.text
    assert "[DONE]" not in answer.text
    error = msgspec.json.decode(answer.text.rstrip().rpartition("data: ")[2])["error"]
    assert error["details"]["job_id"] == answer.headers["x-job-id"]
    job = await job_of(g, answer.headers["x-job-id"])
    assert (job["status"], job["error"]["code"]) == ("failed", error["code"])


async def test_a_job_that_fails_is_an_error_for_who_waits_for_the_whole(
    gateway: Serve, catalog: str, provider: Player, scribe: Scribe
) -> None:
    g = await gateway(catalog, retry__jobs__max_retries="0")
    await make_service(g.client)
    provider.always(scribe.error(400, "This cannot be done."))

    error = await refused(g, "service/notes")

    assert error.status_code >= 400
    assert error.response.headers.get("x-should-retry") in {None, "false"}
    job = await job_of(g, error.body["details"]["job_id"])  # type: ignore[index]
    assert (job["status"], job["error"]["code"]) == ("failed", error.code)


async def test_a_dry_run_gives_the_plan_that_the_run_takes(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    body = {"model": "service/notes", "messages": said()}

    plan = (await g.client.post("/v1/chat/completions", json=body, headers={"X-Dry-Run": "true"})).json()
    assert provider.requests_total == 0
    assert (await g.client.get("/api/v1/jobs")).json()["total"] == 0
    answer = await g.client.post("/v1/chat/completions", json=body)
    asked = await g.client.post("/api/v1/services/notes/validate-execution", json={"input": TEXT})

    job = await job_of(g, answer.headers["x-job-id"])
    assert plan == asked.json()
    assert plan["batches"] == job["progress"]["total_batches"] == 3
    assert plan["calls"] == len(job["passes"]) == provider.requests_total
    assert plan["input_tokens"] == job["input_tokens"]
    assert job["metrics"]["cost"] <= plan["estimated_cost"]["high"]


async def test_services_are_listed_as_models(gateway: Serve, catalog: str) -> None:
    g = await gateway(catalog)

    listed = {model.id: model async for model in g.openai.models.list()}
    one = await g.openai.models.retrieve("service/summarize")

    for service in ("summarize", "meeting-minutes", "executive-summary", "structured-report", "translate"):
        for name in (f"service/{service}", f"service/{service}:single-pass", f"service/{service}:iterative"):
            assert listed[name].owned_by == "llmgateway"
    assert one == listed["service/summarize"]
    with pytest.raises(openai.NotFoundError) as caught:
        await g.openai.models.retrieve("service/sumarize")
    assert caught.value.code == "model_not_found"


async def test_progress_is_told_while_nothing_is_said(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    free: list[bool] = []
    provider.always(lambda step: step.held(lambda: bool(free)))
    body = {"model": "service/notes", "messages": said(), "stream": True}

    told: list[dict[str, Any]] = []
    async with g.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            if line.startswith(": progress "):
                told.append(msgspec.json.decode(line.removeprefix(": progress ")) or {})
            if len(told) == 2 and not free:
                free.append(True)
                provider.note()

    assert {"percentage", "current_batch", "total_batches"} <= told[-1].keys()
