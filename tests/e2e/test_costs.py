"""What a request cost, through the front door: priced, streamed, unpriced, and cut short."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.api.ledger.books import ready
from tests.conftest import Serve
from tests.running import Running
from tests.upstreams.server import Player
from tests.upstreams.step import json_step, stream_step

SAID: Any = [{"role": "user", "content": "one two three four"}]
PRICED = """
    providers: {{main: {{provider: openai, api_key: sk-upstream, api_base: "{base}"}}}}
    models:
      - name: chat
        prices_per_million: {{input: 100, output: 1000, cached: 10}}
        deployments: [{{provider: main, model: gpt-4o}}]
      - {{name: unpriced, deployments: [{{provider: main, model: our-own-model}}]}}
"""
WORDS = 40


@pytest.fixture
def priced(gateway: Serve, provider: Player) -> Callable[[], Awaitable[Running]]:
    async def serve() -> Running:
        return await gateway(PRICED.format(base=provider.base))

    return serve


async def test_a_whole_answer_says_what_it_cost_and_the_log_says_the_same(
    priced: Callable[[], Awaitable[Running]],
) -> None:
    served = await priced()

    answer = await served.client.post("/v1/chat/completions", json={"model": "chat", "messages": SAID})

    line = await served.logged("llm_request_complete")
    assert answer.headers["x-cost-usd"] == "0.0047"  # 7 tokens of the prompt and 4 of the answer
    assert (line["prompt_tokens"], line["completion_tokens"], line["cost_usd"]) == (7, 4, 0.0047)
    assert not line.get("usage_estimated")


async def test_pitfall_018_a_stream_without_usage_is_asked_for_it_counted_and_shown_none(
    priced: Callable[[], Awaitable[Running]], provider: Player
) -> None:
    served = await priced()

    stream = await served.openai.chat.completions.create(model="chat", messages=SAID, stream=True)
    chunks = [chunk async for chunk in stream]

    line = await served.logged("llm_request_complete")
    assert provider.last.json["stream_options"] == {"include_usage": True}
    assert [chunk.usage for chunk in chunks if chunk.usage is not None or not chunk.choices] == []
    assert (line["prompt_tokens"], line["completion_tokens"], line["cost_usd"]) == (7, 4, 0.0047)
    assert not line.get("usage_estimated")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_pitfall_043_a_model_without_a_price_has_a_usage_and_no_cost(
    priced: Callable[[], Awaitable[Running]], *, stream: bool
) -> None:
    served = await priced()

    body = {"model": "unpriced", "messages": SAID, "stream": stream}
    answer = await served.client.post("/v1/chat/completions", json=body)

    line = await served.logged("llm_request_complete")
    metrics = (await served.client.get("/metrics")).text
    assert "x-cost-usd" not in answer.headers
    assert (line["prompt_tokens"], line["completion_tokens"]) == (7, 4)
    assert line.get("cost_usd") is None
    counted = [row for row in metrics.splitlines() if row.startswith("llm_price_unknown_total{")]
    assert [row for row in counted if 'model="unpriced"' in row and row.endswith(" 1.0")]


async def test_the_built_in_models_cost_nothing(gateway: Serve) -> None:
    served = await gateway(None)

    answer = await served.client.post("/v1/chat/completions", json={"model": "demo/echo", "messages": SAID})

    assert answer.headers["x-cost-usd"] == "0"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("number", [10**305, -4])
async def test_a_usage_that_cannot_be_meant_is_counted_here(
    priced: Callable[[], Awaitable[Running]], provider: Player, number: int, *, stream: bool
) -> None:
    served = await priced()
    told = {"prompt_tokens": 1, "completion_tokens": number, "total_tokens": 2}
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    if stream:
        choice["delta"] = {"role": "assistant", "content": "hello world"}
        events = [json.dumps({"choices": [choice]}), json.dumps({"choices": [], "usage": told}), "[DONE]"]
        provider.always(stream_step(f"data: {event}\n\n".encode() for event in events))
    else:
        choice["message"] = {"role": "assistant", "content": "hello world"}
        provider.always(json_step({"choices": [choice], "usage": told}))

    await served.client.post("/v1/chat/completions", json={"model": "chat", "messages": SAID, "stream": stream})

    line = await served.logged("llm_request_complete")
    assert (line["prompt_tokens"], line["completion_tokens"], line["usage_estimated"]) == (11, 2, True)
    assert line["cost_usd"] == pytest.approx(0.0031)


async def test_an_answer_without_a_usage_is_counted_and_marked(
    priced: Callable[[], Awaitable[Running]], provider: Player
) -> None:
    served = await priced()
    message = {"role": "assistant", "content": "hello world"}
    provider.always(json_step({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))

    await served.client.post("/v1/chat/completions", json={"model": "chat", "messages": SAID})

    line = await served.logged("llm_request_complete")
    # Four words, and seven for the frame that OpenAI puts around one message.
    assert (line["prompt_tokens"], line["completion_tokens"], line["usage_estimated"]) == (11, 2, True)
    assert line["cost_usd"] == pytest.approx(0.0031)


def _word(number: int) -> bytes:
    chunk = {"choices": [{"index": 0, "delta": {"content": f" word{'' if number else ' '}"}, "finish_reason": None}]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


async def _heard(served: Running, words: int) -> None:
    """Read so many words of a stream that does not end, and hang up."""
    body = {"model": "chat", "messages": SAID, "stream": True}
    seen = b""
    async with served.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        async for chunk in answer.aiter_bytes():
            seen += chunk
            if seen.count(b" word") >= words:
                break


async def test_pitfalls_017_and_024_what_was_streamed_before_a_client_left_is_counted_and_marked(
    priced: Callable[[], Awaitable[Running]], provider: Player
) -> None:
    served = await priced()
    provider.always(stream_step([_word(number) for number in range(WORDS)]).silent(pieces=WORDS))

    await _heard(served, WORDS)

    line = await served.logged("llm_request_error")
    assert line["error_code"] == "client_closed_request"
    assert line["completion_tokens"] == pytest.approx(WORDS, rel=0.1)
    assert line["prompt_tokens"] == 11
    assert line["usage_estimated"] is True
    assert line["cost_usd"] == pytest.approx((11 * 100 + line["completion_tokens"] * 1000) / 1_000_000)


async def test_a_stream_that_breaks_off_costs_what_it_said(
    priced: Callable[[], Awaitable[Running]], provider: Player
) -> None:
    served = await priced()
    provider.always(stream_step([_word(number) for number in range(WORDS)]).cut(pieces=WORDS))

    async with served.client.stream(
        "POST", "/v1/chat/completions", json={"model": "chat", "messages": SAID, "stream": True}
    ) as answer:
        await answer.aread()

    line = await served.logged("llm_request_error")
    assert line["completion_tokens"] == pytest.approx(WORDS, rel=0.1)
    assert line["usage_estimated"] is True


COMPARED = """
    providers:
      main: {{provider: openai, api_key: sk-upstream, api_base: "{base}"}}
      second: {{provider: mistral, api_key: sk-other, api_base: "{base}"}}
    models:
      - name: large
        prices_per_million: {{input: 100, output: 1000}}
        context_length: 1000
        max_output_tokens: 500
        capabilities: [streaming, tools]
        deployments: [{{provider: main, model: large-one}}]
      - name: light
        prices_per_million: {{input: 10, output: {output}}}
        context_length: {window}
        max_output_tokens: 500
        capabilities: [{capabilities}]
        deployments: [{{provider: second, model: light-one}}]
    equivalents: [[openai/large-one, mistral/light-one]]
"""


async def _advice(gateway: Serve, provider: Player, **facts: object) -> list[dict[str, Any]]:
    """Ask the dear model three times, and then what could have cost less."""
    given = {"output": 50, "window": 1000, "capabilities": "streaming, tools, vision"} | facts
    served = await gateway(COMPARED.format(base=provider.base, **given))
    await ready(served)
    for _ in range(3):
        await served.client.post("/v1/chat/completions", json={"model": "large", "messages": SAID})
    report = (await served.client.get("/metrics/costs?hours=1")).json()
    assert report["total_cost_usd"] == pytest.approx(0.0141)
    found: list[dict[str, Any]] = report["recommendations"]
    return found


async def test_the_costs_tell_what_an_equal_model_would_have_cost(gateway: Serve, provider: Player) -> None:
    [told] = await _advice(gateway, provider)

    assert (told["model"], told["provider"], told["upstream_model"]) == ("large", "main", "large-one")
    assert (told["alternative_model"], told["alternative_provider"]) == ("light", "second")
    # Three times 7 tokens of the prompt and 4 of the answer.
    assert (told["requests"], told["current_cost_usd"]) == (3, 0.0141)
    assert (told["alternative_cost_usd"], told["saving_usd"]) == (0.00081, 0.01329)
    assert told["saving_share"] == pytest.approx(0.942553)
    assert told["estimated"] is True


@pytest.mark.parametrize(
    "facts",
    [{"capabilities": "streaming"}, {"window": 6}, {"output": 1200}],
    ids=["cannot do as much", "window too small", "dearer"],
)
async def test_no_model_is_advised_that_is_not_equal_or_not_cheaper(
    gateway: Serve, provider: Player, facts: dict[str, object]
) -> None:
    assert await _advice(gateway, provider, **facts) == []
