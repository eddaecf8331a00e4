"""What goes wrong upstream and how the next deployment hides it, told by OpenAI's own SDK.

Pitfalls 3, 5, 6, 7, 11, 57, 58 and 61; the fourth is in `test_rescue.py`, the 63rd in `test_failover_load.py`.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import openai
import pytest

from tests.conftest import Serve
from tests.running import Running
from tests.upstreams.anthropic_wire import AnthropicWire, error_event
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player
from tests.upstreams.step import Play, json_step, stream_step

WORDS = "one two three four five six seven eight nine ten"
QUESTION: list[Any] = [{"role": "user", "content": WORDS}]
BODY: dict[str, Any] = {"model": "chat", "messages": QUESTION}


@pytest.fixture
async def second() -> AsyncIterator[Player]:
    async with Player(OpenAIWire()) as player:
        yield player


@pytest.fixture
async def claude() -> AsyncIterator[Player]:
    async with Player(AnthropicWire()) as player:
        yield player


def offered(*players: Player, **model: Any) -> str:
    """One model at several providers, the first always asked first; YAML, of which JSON is a part."""
    names = ("one", "two", "three")[: len(players)]
    providers = {name: account(player) for name, player in zip(names, players, strict=True)}
    deployments = [{"provider": name, "model": "large"} for name in names]
    chat = {"name": "chat", "strategy": "priority", "deployments": deployments, **model}
    return json.dumps({"providers": providers, "models": [chat]})


def account(player: Player) -> dict[str, str]:
    if isinstance(player.wire, AnthropicWire):
        return {"provider": "anthropic", "api_key": player.wire.key, "api_base": player.base}
    return {"provider": "openai", "api_key": "sk-upstream", "api_base": player.base}


async def stream(served: Running, **headers: str) -> list[Any]:
    """Every chunk of one answer."""
    answer = await served.openai.chat.completions.create(
        model="chat", stream=True, messages=QUESTION, extra_headers={"Cache-Control": "no-store", **headers}
    )
    return [chunk async for chunk in answer]


async def read(served: Running, seen: list[Any]) -> None:
    """Read a stream that will break, and keep what came before."""
    answer = await served.openai.chat.completions.create(model="chat", stream=True, messages=QUESTION)
    async for chunk in answer:
        seen.append(chunk)  # noqa: PERF401  what came before the error counts


async def whole(served: Running, **fields: Any) -> Any:
    """The raw answer to a call that is no stream."""
    headers = {"Cache-Control": "no-store", **fields.pop("headers", {})}
    return await served.openai.chat.completions.with_raw_response.create(
        model="chat", messages=QUESTION, extra_headers=headers, **fields
    )


async def circuit(served: Running, name: str) -> tuple[str, list[dict[str, Any]]]:
    """How an account's circuit is, and what rests there."""
    told = (await served.client.get("/health/detailed")).json()["providers"][name]
    return told["circuit"], told["resting"]


async def record(served: Running, request_id: str) -> dict[str, Any]:
    """What the ledger keeps of a call, once it is there."""
    with anyio.fail_after(5):
        while (answer := await served.client.get(f"/v1/requests/{request_id}")).status_code != 200:  # noqa: ASYNC110
            await anyio.sleep(0.02)
    kept: dict[str, Any] = answer.json()
    return kept


def text(chunks: list[Any]) -> str:
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def is_one_stream(chunks: list[Any]) -> bool:
    """Whether one model said all of it: one id, one role, one end."""
    choices = [choice for chunk in chunks for choice in chunk.choices]
    roles = [choice.delta.role for choice in choices if choice.delta.role]
    ends = [choice.finish_reason for choice in choices if choice.finish_reason]
    return len({chunk.id for chunk in chunks}) == 1 and roles == ["assistant"] and ends == ["stop"]


ERROR_EVENT = b'data: {"error":{"message":"overloaded","type":"server_error","code":null}}\n\n'
BEFORE: dict[str, Play] = {
    "the connection is closed": lambda step: step.cut(pieces=0),
    "the connection is reset": lambda step: step.cut(pieces=0, reset=True),
    "no event comes": stream_step([]),
    "an error event comes": stream_step([ERROR_EVENT]),
    "an error comes as JSON": json_step({"error": {"message": "overloaded", "type": "server_error"}}),
    "the first event is malformed": stream_step([b'data: {"id": "x", "choi\n\n']),
    "the connection is closed after the role": lambda step: step.cut(pieces=1),
    "an error event comes after the role": lambda step: step.first(1).then(ERROR_EVENT),
    "it ends after the role": lambda step: step.first(1),
    "status 500": OpenAIWire().error(500, "The server had an error"),
    "status 529": OpenAIWire().error(529, "Overloaded"),
}


@pytest.mark.parametrize("play", BEFORE.values(), ids=BEFORE.keys())
async def test_pitfall_003_what_breaks_before_its_first_word_is_answered_by_the_next(
    gateway: Serve, provider: Player, second: Player, play: Play
) -> None:
    served = await gateway(offered(provider, second))
    provider.script(play)

    chunks = await stream(served)

    assert text(chunks) == WORDS
    assert is_one_stream(chunks)
    assert (provider.requests_total, second.requests_total) == (1, 1)


CLAUDE_BEFORE: dict[str, Play] = {
    "closed after message_start": lambda step: step.cut(pieces=1),
    "an error after message_start": lambda step: step.first(1).then(error_event("overloaded_error", "Overloaded")),
    "closed after content_block_start": lambda step: step.cut(pieces=2),
    "closed after the ping": lambda step: step.cut(pieces=3),
}


@pytest.mark.parametrize("play", CLAUDE_BEFORE.values(), ids=CLAUDE_BEFORE.keys())
async def test_pitfall_011_the_start_of_an_attempt_that_failed_reaches_nobody(
    gateway: Serve, second: Player, claude: Player, play: Play
) -> None:
    served = await gateway(offered(claude, second))
    claude.script(play)

    chunks = await stream(served)

    assert text(chunks) == WORDS
    assert is_one_stream(chunks)
    assert {chunk.system_fingerprint for chunk in chunks} == {"fp_player"}, "the winner's, from its first event on"
    assert (claude.requests_total, second.requests_total) == (1, 1)


@pytest.mark.parametrize("streamed", [True, False])
async def test_pitfall_005_with_fallbacks_disabled_nobody_else_is_asked(
    gateway: Serve, provider: Player, second: Player, streamed: bool
) -> None:
    served = await gateway(offered(provider, second), retry__max_retries=0)
    provider.always(OpenAIWire().error(500, "The server had an error"))

    with pytest.raises(openai.InternalServerError):
        await served.openai.chat.completions.create(
            model="chat", stream=streamed, messages=QUESTION, extra_headers={"X-Disable-Fallbacks": "true"}
        )

    assert (provider.requests_total, second.requests_total) == (1, 0)


async def test_pitfall_006_a_provider_that_goes_silent_ends_the_stream_and_loses_its_connection(
    gateway: Serve, provider: Player, second: Player
) -> None:
    served = await gateway(offered(provider, second), stream_idle_timeout_s=0.2)
    provider.script(lambda step: step.silent(pieces=4))
    seen: list[Any] = []

    with pytest.raises(openai.APIError, match="silent"):
        await read(served, seen)

    assert text(seen) == "one two three"
    await provider.until(lambda: len(provider.cancels) == 1 and provider.open_connections == 0)
    assert second.requests_total == 0
    line = await served.logged("llm_request_error")
    assert line["error_code"] == "provider_timeout"


async def test_pitfall_007_pauses_below_the_limit_pass_and_a_longer_one_is_an_error(
    gateway: Serve, provider: Player
) -> None:
    """Together the pauses are far longer than one may be: the limit is on each."""
    served = await gateway(offered(provider), stream_idle_timeout_s=0.5)
    provider.script(lambda step: step.paced(0.15))
    assert text(await stream(served)) == WORDS

    provider.script(lambda step: step.paced(0.75))
    seen: list[Any] = []
    with pytest.raises(openai.APIError, match="silent"):
        await read(served, seen)
    assert len(text(seen)) < len(WORDS)


HIDDEN = {"error": {"message": "Rate limit reached", "type": "rate_limit_error", "code": "rate_limit_exceeded"}}
SPOKEN = {"error": {"message": "429 Too Many Requests: rate limit", "type": "server_error", "code": None}}


async def test_pitfall_057_a_429_within_a_500_rests_only_where_the_provider_names_it(
    gateway: Serve, provider: Player, second: Player
) -> None:
    served = await gateway(offered(provider, second))
    provider.script(json_step(SPOKEN, status=500, headers={"retry-after": "0"}))
    assert (await whole(served)).headers["x-attempts"] == "2"
    assert await circuit(served, "one") == ("closed", [])

    provider.script(json_step(HIDDEN, status=500, headers={"retry-after": "30"}))
    assert (await whole(served)).headers["x-attempts"] == "2"

    state, (rest,) = await circuit(served, "one")
    assert (state, rest["cause"]) == ("open", "rate_limit")
    assert 25 < rest["until_s"] <= 30


async def test_pitfall_058_a_503_that_names_a_time_is_left_alone_for_so_long(
    gateway: Serve, provider: Player, second: Player
) -> None:
    served = await gateway(offered(provider, second))
    provider.script(OpenAIWire().error(503, "Overloaded", retry_after="2"))
    assert (await whole(served)).headers["x-attempts"] == "2"

    with anyio.fail_after(10):
        while provider.requests_total < 2:
            assert (await whole(served)).headers["x-attempts"] == "1"

    first, again = list(provider.requests)[:2]
    assert again.at - first.at >= 2.0
    assert await circuit(served, "one") == ("closed", [])


async def test_pitfall_061_the_error_and_the_ledger_tell_who_was_asked_and_no_secret(
    gateway: Serve, provider: Player, second: Player
) -> None:
    served = await gateway(offered(provider, second), retry__max_retries=1)
    told = f"The key sk-upstream at {provider.base} has had enough"
    provider.always(OpenAIWire().error(500, told))
    second.always(OpenAIWire().error(503, told))

    with pytest.raises(openai.InternalServerError) as raised:
        await served.openai.chat.completions.create(model="chat", messages=QUESTION)

    answer = raised.value.response
    body: Any = raised.value.body
    asked = [("one", 500), ("two", 503)] * 2
    assert answer.headers["x-attempts"] == "4"
    assert [(one["provider"], one["status"]) for one in body["details"]["attempts"]] == asked
    assert {one["outcome"] for one in body["details"]["attempts"]} == {"provider_unavailable"}
    kept = await record(served, answer.headers["x-gateway-request-id"])
    assert [(one["provider"], one["upstream_status"]) for one in kept["attempts"]] == asked
    assert all(one["outcome"] == "provider_unavailable" and one["duration_ms"] > 0 for one in kept["attempts"])
    for secret in ("sk-upstream", str(provider.port), "127.0.0.1"):
        assert secret not in answer.text
        assert secret not in json.dumps(kept)


async def test_pitfall_061_an_answer_that_took_two_says_why_the_first_failed(
    gateway: Serve, provider: Player, second: Player
) -> None:
    served = await gateway(offered(provider, second))
    provider.script(OpenAIWire().error(429, "slow down"))

    answer = await whole(served)

    assert (answer.headers["x-attempts"], answer.headers["x-provider"]) == ("2", "two")
    kept = await record(served, answer.headers["x-gateway-request-id"])
    assert [one["outcome"] for one in kept["attempts"]] == ["provider_rate_limited", "ok"]
    assert "one/large failed with provider_rate_limited" in kept["route"]["reason"]
