"""The dry run through the front door: it says what the call would do, and does nothing."""

import json
import random
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from llmgateway.tokens import TokenCounter
from tests.api.ledger.books import ready
from tests.conftest import Serve
from tests.e2e.made_keys import ADMIN_KEY, make_key
from tests.running import Running
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player
from tests.upstreams.step import Step

TEXT = "How far away is the moon, and how do we know?"
CHAT: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": TEXT}], "temperature": 1}
DRY = {"X-Dry-Run": "true"}
DOCUMENT = Path(__file__).parents[2] / "docs" / "routing.md"


@pytest.fixture
async def second() -> AsyncIterator[Player]:
    async with Player(OpenAIWire()) as player:
        yield player


@pytest.fixture
async def third() -> AsyncIterator[Player]:
    async with Player(OpenAIWire()) as player:
        yield player


def at(provider: str, model: str = "gpt-4o", **fields: Any) -> dict[str, Any]:
    return {"provider": provider, "model": model, **fields}


def catalog_of(
    players: dict[str, Player], *models: dict[str, Any], levels: dict[str, str] | None = None, **more: Any
) -> str:
    """Give a catalog as JSON, of which YAML is a superset."""
    providers = {
        name: {
            "provider": "openai",
            "api_key": "sk-upstream",
            "api_base": player.base,
            "security_level": (levels or {}).get(name, "medium"),
        }
        for name, player in players.items()
    }
    return json.dumps({"providers": providers, "models": models, **more})


def several(provider: Player, second: Player, **more: Any) -> str:
    """A dear and a cheap deployment, what stands in for them, and something small."""
    dear, cheap = {"input": 10, "output": 30}, {"input": 1, "output": 2}
    chat = {
        "name": "chat",
        "strategy": "cheapest",
        "deployments": [
            at("one", prices_per_million=dear, context_length=100_000),
            at("two", prices_per_million=cheap, context_length=2000, capabilities=["streaming"]),
        ],
        "fallbacks": {"any": ["backup"], "context": ["long"]},
    }
    backup = {"name": "backup", "deployments": [at("two", "gpt-4o-mini", prices_per_million=cheap)]}
    long = {"name": "long", "deployments": [at("one", "gpt-4.1", prices_per_million=dear)]}
    small = {"name": "small", "deployments": [at("two", "our-own", prices_per_million={"input": 0.01, "output": 0.01})]}
    return catalog_of({"one": provider, "two": second}, chat, backup, long, small, **more)


async def plan(served: Running, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    answer = await served.client.post("/v1/route", json={**CHAT, **fields}, headers=headers)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def call(served: Running, headers: dict[str, str] | None = None, **fields: Any) -> httpx2.Response:
    return await served.client.post("/v1/chat/completions", json={**CHAT, **fields}, headers=headers)


def by_name(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["deployment"]: one for one in told["candidates"]}


async def test_the_plan_tells_everything_and_the_call_does_it(gateway: Serve, provider: Player, second: Player) -> None:
    served = await gateway(several(provider, second))

    told = await plan(served, max_tokens=100)

    assert (told["object"], told["model"], told["strategy"], told["error"]) == ("route", "chat", "cheapest", None)
    assert told["decision"]["deployment"] == "two/gpt-4o"
    tokens = await TokenCounter().count(TEXT, "gpt-4o") + 7  # and what frames a message
    assert told["estimate"] == {
        "prompt_tokens": tokens,
        "completion_tokens": 100,
        "tokenizer": "o200k_base",
        "exact": True,
    }
    costs = {name: one["estimated_cost_usd"] for name, one in by_name(told).items()}
    assert costs == {
        "two/gpt-4o": pytest.approx((tokens * 1 + 100 * 2) / 1e6),
        "one/gpt-4o": pytest.approx((tokens * 10 + 100 * 30) / 1e6),
    }
    assert [one["position"] for one in told["candidates"]] == [1, 2]
    assert [(one["model"], one["causes"]) for one in told["fallbacks"]] == [
        ("backup", ["any", "content_filter", "rate_limit"]),
        ("long", ["context"]),
    ]
    assert (await call(served, max_tokens=100)).headers["x-provider"] == "two"


async def test_a_dry_run_asks_nobody_and_leaves_no_trace(gateway: Serve, provider: Player, second: Player) -> None:
    served = await gateway(several(provider, second))
    await ready(served)

    answers = [
        await served.client.post("/v1/route", json=CHAT),
        await call(served, DRY),
        await call(served, DRY, stream=True),
        await call(served, DRY, model="nothing"),
        await call(served, DRY, messages=5),
        await served.client.post("/v1/completions", json={"model": "chat", "prompt": "Hi"}, headers=DRY),
        await served.client.post("/v1/embeddings", json={"model": "chat", "input": "Hi"}, headers=DRY),
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 404, 400, 200, 200]
    assert {answer.json().get("object", "error") for answer in answers} == {"route", "error"}
    assert (provider.requests_total, second.requests_total) == (0, 0)
    assert not any(name.startswith("x-provider") for answer in answers for name in answer.headers)
    metrics = (await served.client.get("/metrics")).text
    assert not re.search(r"^llm_requests_total\{", metrics, re.MULTILINE)
    assert (await served.client.get("/v1/usage")).json()["total"]["requests"] == 0


async def test_the_header_may_say_no_and_must_say_something_that_can_be_read(
    gateway: Serve, provider: Player, second: Player
) -> None:
    served = await gateway(several(provider, second))

    assert (await call(served, {"X-Dry-Run": "false"})).json()["object"] == "chat.completion"
    refused = await call(served, {"X-Dry-Run": "maybe"})

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "X-Dry-Run")
    assert (await served.client.get("/v1/route")).status_code == 405


async def test_who_is_dropped_names_its_filter(gateway: Serve, provider: Player, second: Player) -> None:
    served = await gateway(several(provider, second))
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]

    unable = by_name(await plan(served, tools=tools))["two/gpt-4o"]
    short = by_name(await plan(served, messages=[{"role": "user", "content": "one two " * 2000}]))["two/gpt-4o"]
    dear = by_name(await plan(served, {"X-Max-Cost-USD": "0.002"}))["one/gpt-4o"]
    second.script(lambda _: second.wire.error(429, "slow down", retry_after="300"))
    await call(served)
    resting = by_name(await plan(served))["two/gpt-4o"]

    dropped = {one["filter"]: one["reason"] for one in (unable, short, dear, resting)}
    assert list(dropped) == ["capability", "context_window", "max_cost", "circuit"]
    assert dropped["capability"] == "dropped: cannot do tools"
    assert dropped["context_window"].startswith("dropped: its context window has 2000 tokens")
    assert "0.002" in dropped["max_cost"]
    assert "its provider limits us" in dropped["circuit"]
    assert resting["circuit"] == "open"


async def test_what_is_too_dear_is_refused_with_the_cheapest_that_would_do(
    gateway: Serve, provider: Player, second: Player
) -> None:
    served = await gateway(several(provider, second))
    most = {"X-Max-Cost-USD": "0.00001"}

    refused = await call(served, most)
    told = await plan(served, most)

    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (402, "max_cost_exceeded", "X-Max-Cost-USD")
    assert error["details"]["cheapest"]["model"] == "small"
    assert told["decision"] is None
    assert {**told["error"], "message": error["message"]} == told["error"]
    assert (told["error"]["code"], told["error"]["details"]) == (error["code"], error["details"])
    assert (provider.requests_total, second.requests_total) == (0, 0)
    cheapest = error["details"]["cheapest"]
    assert (await plan(served, most, model="small"))["decision"]["estimated_cost_usd"] <= 0.00001
    assert cheapest["estimated_cost_usd"] <= 0.00001
    assert (await call(served, most, model="small")).status_code == 200


async def test_where_a_prompt_is_too_long_for_a_model_its_fallback_is_the_decision(
    gateway: Serve, provider: Player, second: Player
) -> None:
    served = await gateway(several(provider, second))
    messages = [{"role": "user", "content": "one two " * 60_000}]

    told = await plan(served, messages=messages)

    assert told["decision"]["fallback"] == "long"
    assert told["decision"]["deployment"] == "one/gpt-4.1"
    assert told["decision"]["reason"].startswith("long, the fallback of chat after context_length_exceeded")
    assert (await call(served, messages=messages)).headers["x-model"].startswith("gpt-4.1")


async def test_a_deployment_at_its_limit_is_passed_over(gateway: Serve, provider: Player, second: Player) -> None:
    limits = {"requests_per_day": 1}
    chat = {"name": "chat", "deployments": [at("one", limits=limits), at("two", limits=limits)]}
    served = await gateway(catalog_of({"one": provider, "two": second}, chat), cache__enabled=False)

    found = []
    for _ in range(2):
        told = await plan(served)
        answered = await call(served)
        assert told["decision"]["provider"] == answered.headers["x-provider"]
        found.append(told["decision"]["provider"])
    told, refused = await plan(served), await call(served)

    assert found == ["one", "two"]
    assert {one["filter"] for one in told["candidates"]} == {"deployment_limits"}
    assert (told["error"]["code"], refused.json()["error"]["code"]) == ("rate_limit_exceeded", "rate_limit_exceeded")
    assert told["error"]["details"]["rule"] == refused.json()["error"]["details"]["rule"]


@pytest.mark.parametrize(
    ("headers", "fields", "task", "model"),
    [
        ({"X-Task-Type": "code"}, {}, "code", "coder"),
        ({}, {"metadata": {"task_type": "code"}}, "code", "coder"),
        ({}, {"messages": [{"role": "user", "content": "Summarize this: …"}]}, "summarization", "long"),
        ({}, {}, "question_answering", "chat"),
        ({"X-Route-Strategy": "cheapest"}, {}, "question_answering", "cheap"),
    ],
)
async def test_auto_tells_its_task_and_its_model(
    gateway: Serve, provider: Player, headers: dict[str, str], fields: dict[str, Any], task: str, model: str
) -> None:
    prices = {"chat": 5, "coder": 5, "long": 5, "cheap": 1}
    models = [
        {"name": name, "deployments": [at("one", name, prices_per_million={"input": price, "output": price})]}
        for name, price in prices.items()
    ]
    auto = {"tasks": {"code": "coder", "summarization": "long"}, "strategy": "priority"}
    served = await gateway(catalog_of({"one": provider}, *models, auto=auto))

    told = await plan(served, headers, model="auto", **fields)
    answered = await call(served, headers, model="auto", **fields)

    assert (told["requested_model"], told["task"], told["model"]) == ("auto", task, model)
    assert provider.last.json["model"] == model
    assert answered.status_code == 200
    assert {one["model"] for one in told["fallbacks"]} == prices.keys() - {model}


async def test_a_key_sees_plans_of_its_models_only(gateway: Serve, provider: Player, second: Player) -> None:
    served = await gateway(several(provider, second, auto={}), auth__mode="client", admin_key=ADMIN_KEY)
    key = (await make_key(served.url, models=["chat", "long"], strategy="priority"))["key"]
    sent = {"Authorization": f"Bearer {key}"}

    nobody = await served.client.post("/v1/route", json=CHAT)
    foreign = await served.client.post("/v1/route", json={**CHAT, "model": "backup"}, headers=sent)
    told, auto = await plan(served, sent), await plan(served, sent, model="auto")

    assert (nobody.status_code, foreign.status_code) == (401, 403)
    assert [one["model"] for one in told["fallbacks"]] == ["long"]
    assert (told["strategy"], told["decision"]["provider"]) == ("priority", "one")
    assert {auto["model"], *(one["model"] for one in auto["fallbacks"])} == {"chat", "long"}


@pytest.mark.parametrize("action", ["reroute", "refuse", "redact"])
async def test_a_sensitive_text_is_planned_for_those_who_may_see_it(
    gateway: Serve, provider: Player, second: Player, action: str
) -> None:
    outside = {"name": "chat", "deployments": [at("one")]}
    house = {"name": "house", "deployments": [at("two")]}
    mixed = {"name": "mixed", "deployments": [at("one"), at("two")]}
    catalog = catalog_of(
        {"one": provider, "two": second}, outside, mixed, house, levels={"two": "high"}, auto={"strategy": "priority"}
    )
    served = await gateway(catalog, sensitivity__enabled=True, sensitivity__action=action, cache__enabled=False)
    said: dict[str, Any] = {"messages": [{"role": "user", "content": "My social security number is 536-22-8719."}]}

    for model in ("chat", "mixed", "auto"):
        dry = await served.client.post("/v1/route", json={**CHAT, **said, "model": model})
        real = await call(served, **said, model=model)

        assert dry.status_code == real.status_code
        if real.status_code == 200:
            told = dry.json()
            assert told["decision"]["provider"] == real.headers["x-provider"]
            assert told["requested_model"] == model
            assert told["sensitivity"]["action"] == ("redact" if action == "redact" else "reroute")
            assert told["sensitivity"]["score"] >= 0.7
        else:
            assert (action, model) == ("refuse", "chat")
            assert dry.json()["error"]["code"] == real.json()["error"]["code"] == "sensitive_content"
        assert "536-22-8719" not in dry.text
    if action != "redact":
        assert provider.requests_total == 0


def fails(player: Player, chance: random.Random) -> Step | None:
    """How a provider answers now: mostly well; what makes it rest does so for longer than any test takes."""
    kind = chance.choice([*["well"] * 7, "limited", "refused", "wrong"])
    if kind == "limited":
        return player.wire.error(429, "slow down", retry_after="300")
    if kind == "refused":
        return player.wire.error(401, "no such key")
    return player.wire.error(400, "wrong") if kind == "wrong" else None


# Not least_busy, whose peaks fade as time goes on: tests/gateway/test_explain.py has it, where time stands still.
RANDOM = ("priority", "weighted", "round_robin", "fastest", "cheapest", "balanced")
WINDOWS: list[dict[str, Any]] = [{}, {"context_length": 60}, {"limits": {"requests_per_day": 6}}]


def any_model(chance: random.Random, strategy: str, fallbacks: tuple[str, ...]) -> dict[str, Any]:
    """A model at all three providers, in any order, at any price."""
    deployments = [
        at(
            name,
            f"{strategy}-{name}",
            weight=chance.choice([0.5, 1, 3]),
            prices_per_million={"input": chance.choice([1, 2, 3]), "output": chance.choice([1, 5])},
            **chance.choice(WINDOWS),
        )
        for name in chance.sample(["one", "two", "three"], 3)
    ]
    return {"name": strategy, "strategy": strategy, "deployments": deployments, "fallbacks": {"any": fallbacks}}


def any_call(chance: random.Random) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields of a call, and its headers."""
    content = "word " * chance.choice([5, 5, 60])
    headers = chance.choice([{}, {"X-Route-Strategy": chance.choice(RANDOM)}, {"X-Max-Cost-USD": "0.0021"}])
    fields = {"model": chance.choice([*RANDOM, "auto"]), "messages": [{"role": "user", "content": content}]}
    return {**fields, "stream": chance.random() < 0.3}, headers


@pytest.mark.parametrize("seed", range(4))
async def test_the_next_call_goes_where_the_plan_says_whatever_became_of_those_before(
    gateway: Serve, provider: Player, second: Player, third: Player, seed: int
) -> None:
    chance, asked = random.Random(seed), list[str]()
    players = {"one": provider, "two": second, "three": third}
    models = [any_model(chance, name, RANDOM[number + 1 : number + 2]) for number, name in enumerate(RANDOM)]
    catalog = catalog_of(players, *models, auto={"strategy": "cheapest"})
    served = await gateway(catalog, retry__max_retries=0, cache__enabled=False)

    def playing(name: str, player: Player) -> Callable[[Step], Step]:
        def play(step: Step) -> Step:
            asked.append(f"{name}/{player.last.json['model']}")
            return fails(player, chance) or step

        return play

    for name, player in players.items():
        player.always(playing(name, player))
    for _ in range(15):
        fields, headers = any_call(chance)
        asked.clear()
        told = (await served.client.post("/v1/route", json={**CHAT, **fields}, headers=headers)).json()
        again = (await call(served, {**headers, **DRY}, **fields)).json()
        assert again.get("decision") == told.get("decision")
        assert asked == []

        real = await call(served, headers, **fields)

        if told.get("decision"):
            assert asked[0] == told["decision"]["deployment"]
        else:
            assert (asked, real.json()["error"]["code"]) == ([], told["error"]["code"])


async def test_the_example_in_the_documents_is_what_is_answered(gateway: Serve) -> None:
    text = DOCUMENT.read_text()
    catalog, request, answer = (
        next(re.finditer(rf"<!-- dry run: {part} -->\n```\w+\n(.*?)\n```", text, re.DOTALL)).group(1)
        for part in ("catalog", "request", "answer")
    )
    served = await gateway(catalog, environ={"OPENAI_API_KEY": "sk-upstream", "GROQ_API_KEY": "gsk-upstream"})

    told = await served.client.post("/v1/route", json=json.loads(request))

    assert {**told.json(), "request_id": ""} == {**json.loads(answer), "request_id": ""}
