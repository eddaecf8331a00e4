import asyncio
import json
import time
from itertools import pairwise
from typing import Any

import pytest

from llmgateway.catalog.model import Account, Deployment
from llmgateway.errors import InvalidJSONError, InvalidRequestError, UnsupportedParameterError
from llmgateway.exchange import Call, Complete, Operation, Streamed
from llmgateway.upstream.demo import DemoUpstream

ACCOUNT = Account(name="demo", provider="demo", wire="demo")
ECHO = Deployment(ACCOUNT, "echo")
SUMMARY = Deployment(ACCOUNT, "summary")


def ask(text: str = "Hello, wide world", **fields: Any) -> dict[str, Any]:
    return {"model": "demo/echo", "messages": [{"role": "user", "content": text}], **fields}


def call(body: dict[str, Any], *, operation: Operation = "chat", include_usage: bool = False) -> Call:
    return Call(
        operation=operation,
        model="demo/echo",
        body=json.dumps(body).encode(),
        stream=body.get("stream", False),
        include_usage=include_usage,
    )


async def complete(
    body: dict[str, Any], *, deployment: Deployment = ECHO, operation: Operation = "chat"
) -> dict[str, Any]:
    reply = await DemoUpstream(chunk_delay_s=0).send(deployment, call(body, operation=operation))
    assert isinstance(reply, Complete)
    answer: dict[str, Any] = json.loads(reply.body)
    return answer


async def streamed(
    body: dict[str, Any],
    *,
    deployment: Deployment = ECHO,
    operation: Operation = "chat",
    include_usage: bool = False,
) -> tuple[Streamed, list[dict[str, Any]]]:
    request = call({**body, "stream": True}, operation=operation, include_usage=include_usage)
    reply = await DemoUpstream(chunk_delay_s=0).send(deployment, request)
    assert isinstance(reply, Streamed)
    events = [event async for event in reply.chunks]
    assert all(event.startswith(b"data: ") and event.endswith(b"\n\n") for event in events)
    assert events[-1] == b"data: [DONE]\n\n"
    return reply, [json.loads(event[6:]) for event in events[:-1]]


def text_of(chunks: list[dict[str, Any]], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content", "") for choice in choices)


async def test_echo_gives_back_the_last_user_message() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": [{"type": "text", "text": "zweite 🧑🏽‍🚀"}, {"type": "text", "text": "Zeile"}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "not this"},
    ]

    answer = await complete({"model": "demo/echo", "messages": messages})

    assert answer["choices"][0]["message"] == {
        "role": "assistant",
        "content": "zweite 🧑🏽‍🚀\nZeile",
        "refusal": None,
    }
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["object"] == "chat.completion"
    assert answer["system_fingerprint"] == "demo"
    assert answer["model"] == "demo/echo"
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]


async def test_summary_sums_up_all_user_messages() -> None:
    first = "The harbour was closed on Monday. Ships waited outside the harbour."
    second = "The weather was fine. On Tuesday the harbour opened and the ships came in."
    messages = [{"role": "user", "content": first}, {"role": "user", "content": second}]

    answer = await complete({"model": "demo/summary", "messages": messages}, deployment=SUMMARY)

    said = answer["choices"][0]["message"]["content"]
    assert said in first + " " + second
    assert "harbour" in said
    assert answer["model"] == "demo/summary"


async def test_pitfall_014_a_stream_opens_with_the_role_and_joins_to_the_whole_answer() -> None:
    text = "Ein Satz mit Umlauten: äöü, 漢字かな, и кириллица 🧑🏽‍🚀 — ende."
    whole = await complete(ask(text))

    reply, chunks = await streamed(ask(text))

    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    assert all(chunk["system_fingerprint"] == "demo" for chunk in chunks)
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert len(chunks) > 10
    assert text_of(chunks) == text
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert not any("usage" in chunk for chunk in chunks)
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == whole["usage"]["prompt_tokens"]
    assert reply.usage.completion_tokens == whole["usage"]["completion_tokens"]


async def test_the_usage_chunk_comes_only_when_the_client_asked_for_it() -> None:
    whole = await complete(ask())

    _, chunks = await streamed(ask(), include_usage=True)

    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == whole["usage"]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


async def test_usage_of_a_stream_that_is_closed_early_counts_what_was_sent() -> None:
    reply = await DemoUpstream(chunk_delay_s=0).send(ECHO, call(ask("one two three four", stream=True)))
    assert isinstance(reply, Streamed)
    await anext(reply.chunks)
    await anext(reply.chunks)

    await reply.chunks.aclose()

    assert reply.usage is not None
    assert reply.usage.completion_tokens == 1


async def test_a_stream_is_paced_so_that_a_person_sees_it() -> None:
    reply = await DemoUpstream(chunk_delay_s=0.01).send(ECHO, call(ask("a b c d e f", stream=True)))
    assert isinstance(reply, Streamed)

    arrivals = [time.perf_counter() async for _ in reply.chunks]

    assert len(arrivals) == 9
    after_words = [later - earlier for earlier, later in pairwise(arrivals)][1:7]
    assert min(after_words) >= 0.01 - 0.001  # the loop counts in whole milliseconds


async def test_a_long_answer_comes_in_longer_chunks_not_in_more() -> None:
    text = "word " * 20_000

    _, chunks = await streamed(ask(text))

    assert text_of(chunks) == text
    assert len(chunks) <= 252


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_a_limit_on_tokens_cuts_the_answer_and_says_so(field: str) -> None:
    whole = await complete(ask("one two three four", **{field: 2}))
    _, chunks = await streamed(ask("one two three four", **{field: 2}))

    assert whole["choices"][0]["message"]["content"] == text_of(chunks) == "one two"
    assert whole["choices"][0]["finish_reason"] == chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert whole["usage"]["completion_tokens"] == 2


async def test_stop_ends_the_answer_before_the_first_of_its_texts() -> None:
    answer = await complete(ask("one two three", stop=["three", "two"]))

    assert answer["choices"][0]["message"]["content"] == "one "
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_n_gives_as_many_choices_streamed_or_not() -> None:
    whole = await complete(ask("one two", n=3))
    _, chunks = await streamed(ask("one two", n=3))

    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    assert {choice["message"]["content"] for choice in whole["choices"]} == {"one two"}
    assert [text_of(chunks, index) for index in range(3)] == ["one two"] * 3
    assert whole["usage"]["completion_tokens"] == 6


async def test_json_object_wraps_the_answer_in_an_object() -> None:
    answer = await complete(ask('say "hi"', response_format={"type": "json_object"}))

    assert json.loads(answer["choices"][0]["message"]["content"]) == {"echo": 'say "hi"'}


async def test_offered_tools_are_not_called() -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]

    answer = await complete(ask(tools=tools, tool_choice="auto"))

    assert answer["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "weather"}}}, "tool_choice"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
    ],
)
async def test_what_a_demo_cannot_do_is_refused_by_name_unless_the_catalog_drops_it(
    fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(UnsupportedParameterError) as refused:
        await complete(ask(**fields))
    assert refused.value.param == param

    dropped = await complete(ask(**fields), deployment=Deployment(ACCOUNT, "echo", drop_unsupported=True))
    assert dropped["choices"][0]["message"]["content"] == "Hello, wide world"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": "hello"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "  "}]}, "messages"),
        ({"messages": [{"role": "user", "content": None}]}, "messages"),
        (ask(max_tokens=0), "max_tokens"),
        (ask(max_completion_tokens=1.5), "max_completion_tokens"),
        (ask(n=9), "n"),
        (ask(n=True), "n"),
        (ask(stop=5), "stop"),
        (ask(stop=["a", "b", "c", "d", "e"]), "stop"),
    ],
)
async def test_a_wrong_field_is_refused_with_its_path(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await complete(body)

    assert refused.value.status == 400
    assert refused.value.param == param


async def test_a_body_that_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidJSONError):
        await DemoUpstream().send(ECHO, Call(operation="chat", model="demo/echo", body=b"[1]"))


async def test_defaults_of_the_catalog_hold_unless_the_client_sets_the_field() -> None:
    deployment = Deployment(ACCOUNT, "echo", defaults={"max_tokens": 1})

    assert (await complete(ask("one two"), deployment=deployment))["usage"]["completion_tokens"] == 1
    assert (await complete(ask("one two", max_tokens=9), deployment=deployment))["usage"]["completion_tokens"] == 2


async def test_a_legacy_completion_echoes_each_prompt() -> None:
    body = {"model": "demo/echo", "prompt": ["one two", "three"], "n": 2}

    whole = await complete(body, operation="completion")
    _, chunks = await streamed(body, operation="completion", include_usage=True)

    assert [choice["text"] for choice in whole["choices"]] == ["one two", "one two", "three", "three"]
    assert whole["object"] == "text_completion"
    assert all(chunk["object"] == "text_completion" for chunk in chunks)
    said = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(choice["text"] for choice in said if choice["index"] == 0) == "one two"
    assert chunks[-1]["usage"] == whole["usage"]


async def test_a_legacy_completion_drops_what_it_cannot_do_when_the_catalog_says_so() -> None:
    deployment = Deployment(ACCOUNT, "echo", drop_unsupported=True)

    whole = await complete({"prompt": "one", "suffix": "two"}, deployment=deployment, operation="completion")

    assert whole["choices"][0]["text"] == "one"


async def test_a_legacy_completion_can_begin_with_its_prompt() -> None:
    whole = await complete({"prompt": "one. ", "echo": True}, operation="completion")

    assert whole["choices"][0]["text"] == "one. one. "


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x", "suffix": "y"}, "suffix"),
    ],
)
async def test_a_wrong_legacy_completion_is_refused_with_its_path(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await complete(body, operation="completion")

    assert refused.value.param == param


async def test_pitfall_067_other_requests_go_on_while_a_long_text_is_summed_up() -> None:
    body = call({**ask("All the ships came into the harbour at last. " * 22_000), "model": "demo/summary"})
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        reply = await DemoUpstream().send(SUMMARY, body)
        watching.cancel()

    assert isinstance(reply, Complete)
    assert longest < 0.25


async def test_closing_is_free() -> None:
    await DemoUpstream().close()
