"""Streams whose upstream dies in the middle, and the client that does not notice (pitfalls 3, 4 and 11)."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.conftest import Serve
from tests.running import Running
from tests.upstreams.anthropic_wire import AnthropicWire
from tests.upstreams.anthropic_wire import event as claude
from tests.upstreams.openai_wire import OpenAIWire, mistral
from tests.upstreams.server import Player
from tests.upstreams.step import Play, Step, compact, stream_step

WORDS = "one two three four five six seven eight nine ten"
SAID = "one two three"
QUESTION: list[Any] = [{"role": "user", "content": WORDS}]
DONE = b"data: [DONE]\n\n"


@pytest.fixture
async def second() -> AsyncIterator[Player]:
    """Another provider, which takes a prefix and sends it again: it echoes the whole question."""
    async with Player(mistral()) as player:
        yield player


def offered(
    first: Player, second: Player, provider: str = "mistral", key: str = "mistral-upstream", **model: Any
) -> str:
    """One model at two providers, the first always asked first; YAML, of which JSON is a part."""
    providers = {
        "one": {"provider": "openai", "api_key": "sk-upstream", "api_base": first.base},
        "two": {"provider": provider, "api_key": key, "api_base": second.base},
    }
    upstream = model.pop("upstream", "large")
    deployments = [{"provider": "one", "model": "gpt-4o"}, {"provider": "two", "model": upstream}]
    chat = {"name": "chat", "strategy": "priority", "rescue": True, "deployments": deployments, **model}
    return json.dumps({"providers": providers, "models": [chat]})


def cut(step: Step) -> Step:
    """Lose the connection after the role and three words."""
    return step.cut(pieces=4)


def goes_on(*texts: str, usage: dict[str, int] | None = None) -> Step:
    """The rest of an answer, as somebody says it who was asked for it."""
    head = {"id": "chatcmpl-second", "object": "chat.completion.chunk", "created": 2, "model": "other"}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return b"data: " + compact({**head, "choices": [choice]}) + b"\n\n"

    chunks = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": text}) for text in texts)]
    last = [] if usage is None else [b"data: " + compact({**head, "choices": [], "usage": usage}) + b"\n\n"]
    return stream_step([*chunks, chunk({}, "stop"), *last, DONE])


async def ask(served: Running, **fields: Any) -> list[Any]:
    """Every chunk of one answer."""
    headers = {"Cache-Control": "no-cache", **fields.pop("headers", {})}
    stream = await served.openai.chat.completions.create(
        model="chat", stream=True, messages=QUESTION, extra_headers=headers, **fields
    )
    return [chunk async for chunk in stream]


def text(chunks: list[Any]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


@pytest.mark.parametrize(
    "play",
    [
        cut,
        lambda step: step.cut(pieces=4, reset=True),
        lambda step: step.first(4),
        lambda step: step.silent(pieces=4),
        lambda step: step.first(4).then(b'data: {"error":{"message":"overloaded","type":"server_error"}}\n\n'),
        lambda step: step.cut(after_bytes=len(b"".join(one.content for one in step.pieces[:4])) + 20),
    ],
    ids=["closed", "reset", "ended", "silent", "error event", "half an event"],
)
async def test_pitfall_003_another_provider_goes_on_whatever_went_wrong(
    gateway: Serve, provider: Player, second: Player, play: Play
) -> None:
    served = await gateway(offered(provider, second), stream_idle_timeout_s=0.3)
    provider.script(play)

    chunks = await ask(served)

    assert text(chunks) == WORDS
    assert second.last.json["messages"][-1] == {"role": "assistant", "content": SAID, "prefix": True}
    line = await served.logged("llm_request_complete")
    assert (line["status"], line["attempts"]) == (200, 2)


@pytest.mark.parametrize("begins", ["exactly", "with its last words", "anew"])
async def test_pitfall_004_the_two_halves_are_one_answer(gateway: Serve, provider: Player, begins: str) -> None:
    async with Player(OpenAIWire()) as other:
        served = await gateway(offered(provider, other, provider="openai", key="sk-upstream"))
        provider.script(cut)
        said = {"exactly": "", "with its last words": "ne two three", "anew": SAID}[begins]
        other.script(goes_on(*[f"{said[:5]}", said[5:] + " four five", " six seven eight nine ten"]))

        chunks = await ask(served)

        assert text(chunks) == WORDS
        *_, before, last = other.last.json["messages"]
        assert before == {"role": "assistant", "content": SAID}
        assert last["role"] == "user"


async def test_pitfall_011_the_client_sees_one_stream(gateway: Serve, provider: Player, second: Player) -> None:
    served = await gateway(offered(provider, second))
    provider.script(cut)

    chunks = await ask(served)

    assert len({(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint) for chunk in chunks}) == 1
    assert [choice.delta.role for chunk in chunks for choice in chunk.choices if choice.delta.role] == ["assistant"]
    assert [one.finish_reason for chunk in chunks for one in chunk.choices if one.finish_reason] == ["stop"]
    assert (provider.requests_total, second.requests_total) == (1, 1)


async def test_a_stream_that_dies_before_its_text_is_begun_by_the_other(
    gateway: Serve, provider: Player, second: Player
) -> None:
    served = await gateway(offered(provider, second))
    provider.script(lambda step: step.cut(pieces=1))

    chunks = await ask(served)

    assert text(chunks) == WORDS
    assert second.last.json["messages"] == QUESTION
    assert len({chunk.id for chunk in chunks}) == 1


async def test_the_usage_is_that_of_one_answer(gateway: Serve, provider: Player) -> None:
    async with Player(OpenAIWire()) as other:
        served = await gateway(offered(provider, other, provider="openai", key="sk-upstream"))
        provider.script(cut)
        usage = {"prompt_tokens": 90, "completion_tokens": 7, "total_tokens": 97}
        other.script(goes_on(" four", usage=usage))

        chunks = await ask(served, stream_options={"include_usage": True})

    (seen,) = [chunk.usage for chunk in chunks if chunk.usage is not None]
    line = await served.logged("llm_request_complete")
    assert 0 < seen.prompt_tokens < 90 < line["prompt_tokens"]
    assert seen.completion_tokens == line["completion_tokens"] > 7
    assert seen.total_tokens == seen.prompt_tokens + seen.completion_tokens


async def test_vllm_is_told_to_go_on_with_the_final_message(gateway: Serve, provider: Player) -> None:
    async with Player(OpenAIWire()) as other:
        served = await gateway(offered(provider, other, provider="hosted_vllm", key="sk-upstream"))
        provider.script(cut)
        other.script(goes_on(" four", " five"))

        assert text(await ask(served, max_tokens=50)) == SAID + " four five"

        sent = other.last.json
        assert sent["messages"][1:] == [{"role": "assistant", "content": SAID}]
        assert (sent["continue_final_message"], sent["add_generation_prompt"]) == (True, False)
        assert sent["max_tokens"] == 50 - len(SAID) // 4


@pytest.mark.parametrize("model", ["claude-3-5-haiku-20241022", "claude-opus-4-6"])
async def test_claude_gets_a_prefix_without_blanks_at_its_end_where_it_takes_one(
    gateway: Serve, provider: Player, model: str
) -> None:
    async with Player(AnthropicWire()) as other:
        served = await gateway(offered(provider, other, provider="anthropic", key="sk-ant-upstream", upstream=model))
        provider.script(lambda step: step.first(4).then(*goes_on(" \n").pieces[1].content.splitlines(keepends=True)))
        usage = {"input_tokens": 9, "output_tokens": 1}
        start = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [], "usage": usage}
        other.script(
            stream_step(
                [
                    claude("message_start", message={**start, "stop_reason": None, "stop_sequence": None}),
                    claude("content_block_start", index=0, content_block={"type": "text", "text": ""}),
                    claude("content_block_delta", index=0, delta={"type": "text_delta", "text": " \nfour"}),
                    claude("content_block_stop", index=0),
                    claude("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=usage),
                    claude("message_stop"),
                ]
            )
        )

        chunks = await ask(served)

        assert text(chunks) == SAID + " \nfour"
        _, shown, *asked = other.last.json["messages"]
        assert shown == {"role": "assistant", "content": [{"type": "text", "text": SAID}]}
        assert [message["role"] for message in asked] == (["user"] if model == "claude-opus-4-6" else [])


async def test_a_translated_stream_that_dies_is_gone_on_with(gateway: Serve, second: Player) -> None:
    async with Player(AnthropicWire()) as first:
        catalog = json.loads(offered(first, second))
        catalog["providers"]["one"] |= {"provider": "anthropic", "api_key": "sk-ant-upstream"}
        served = await gateway(json.dumps(catalog))
        first.script(lambda step: step.cut(pieces=6))  # an announcement, a block, a ping, three words

        chunks = await ask(served)

    assert text(chunks) == WORDS
    assert second.last.json["messages"][-1]["content"] == SAID
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


async def test_an_answer_that_was_finished_needs_nobody(gateway: Serve, provider: Player, second: Player) -> None:
    served = await gateway(offered(provider, second))
    provider.script(lambda step: step.cut(pieces=len(step.pieces) - 2, reset=True))

    chunks = await ask(served, stream_options={"include_usage": True})

    assert text(chunks) == WORDS
    assert chunks[-1].usage.completion_tokens > 0
    assert second.requests_total == 0


async def test_when_all_die_the_client_gets_the_error_and_each_word_once(
    gateway: Serve, provider: Player, second: Player
) -> None:
    served = await gateway(offered(provider, second))
    provider.always(cut)
    second.always(lambda step: step.cut(pieces=6))
    stream = await served.openai.chat.completions.create(model="chat", stream=True, messages=QUESTION)

    seen: list[Any] = []

    async def read() -> None:
        async for chunk in stream:
            seen.append(chunk)  # noqa: PERF401  what came before the error counts

    with pytest.raises(openai.APIError):
        await read()
    assert text(seen) == "one two three four five"


async def test_pitfall_003_without_a_rescue_a_break_is_an_error(
    gateway: Serve, provider: Player, second: Player
) -> None:
    served = await gateway(offered(provider, second, rescue=False))
    provider.script(cut)

    with pytest.raises(openai.APIError):
        await ask(served)

    assert second.requests_total == 0


async def test_who_wants_no_fallbacks_gets_the_error(gateway: Serve, provider: Player, second: Player) -> None:
    served = await gateway(offered(provider, second))
    provider.script(cut)

    with pytest.raises(openai.APIError):
        await ask(served, headers={"X-Disable-Fallbacks": "true"})

    assert second.requests_total == 0


async def test_tool_calls_that_have_begun_are_not_gone_on_with(
    gateway: Serve, provider: Player, second: Player
) -> None:
    served = await gateway(offered(provider, second))
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    provider.script(lambda step: step.cut(pieces=3))

    with pytest.raises(openai.APIError):
        await ask(served, tools=[tool])

    assert second.requests_total == 0


async def test_what_two_models_said_is_not_kept(gateway: Serve, provider: Player, second: Player) -> None:
    served = await gateway(offered(provider, second))
    provider.script(cut)
    body = {"model": "chat", "stream": True, "messages": QUESTION, "temperature": 0}

    statuses = [
        (await served.client.post("/v1/chat/completions", json=body)).headers["x-cache-status"] for _ in range(3)
    ]

    assert statuses == ["MISS", "MISS", "HIT"]


async def test_no_client_notices_that_streams_die(gateway: Serve, provider: Player, second: Player) -> None:
    """Each answer is whole, whether its deployment died, was at rest by then, or was asked again."""
    served = await gateway(offered(provider, second))
    provider.always(
        lambda step: step.cut(pieces=2 + provider.requests_total % 8, reset=provider.requests_total % 2 == 0)
    )

    answers = await asyncio.gather(*(ask(served) for _ in range(24)))

    assert {text(chunks) for chunks in answers} == {WORDS}
    assert all(len({chunk.id for chunk in chunks}) == 1 for chunks in answers)
