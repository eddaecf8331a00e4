"""Other models that answer when a model cannot, by what went wrong; told by OpenAI's own SDK."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from llmgateway.cli import main
from tests.conftest import Serve
from tests.running import Running
from tests.upstreams.azure_wire import content_filter_error
from tests.upstreams.openai_wire import OpenAIWire, mistral
from tests.upstreams.server import Player
from tests.upstreams.step import Step

QUESTION: list[Any] = [{"role": "user", "content": "one two three"}]
NAMES = ("chat", "any", "long", "safe", "spare")
CODE = {"X-Task-Type": "code_generation"}
BY_CAUSE = {"any": ["any"], "context": ["long"], "content_filter": ["safe"], "rate_limit": ["spare"]}


@pytest.fixture
async def players() -> AsyncIterator[dict[str, Player]]:
    """A provider for each of the models, of the same name."""
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(Player(OpenAIWire())) for name in NAMES}


def offered(players: dict[str, Player], fallbacks: dict[str, dict[str, Any]], **more: Any) -> str:
    """Each model at its provider; YAML, of which JSON is a part."""
    providers = {
        name: {"provider": "openai", "api_key": "sk-upstream", "api_base": player.base}
        for name, player in players.items()
    }
    models = [
        {"name": name, "deployments": [{"provider": name, "model": "large"}]}
        | ({"fallbacks": fallbacks[name]} if name in fallbacks else {})
        for name in players
    ]
    return json.dumps({"providers": providers, "models": models, **more})


async def ask(
    served: Running, model: str = "chat", *, streamed: bool = False, headers: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Ask, make sure that the answer is whole, and give its headers."""
    answer = await served.openai.chat.completions.with_raw_response.create(
        model=model, messages=QUESTION, stream=streamed, extra_headers={"Cache-Control": "no-store", **(headers or {})}
    )
    told: Any = answer.parse()
    if streamed:
        said = "".join([choice.delta.content or "" async for chunk in told for choice in chunk.choices])
    else:
        said = told.choices[0].message.content
    assert said == "one two three"
    return dict(answer.headers)


ERRORS: dict[str, tuple[Step, str]] = {
    "an error of the server": (OpenAIWire().error(500, "The server had an error"), "any"),
    "a refused key": (OpenAIWire().error(401, "Incorrect API key provided"), "any"),
    "a model that is not there": (OpenAIWire().error(404, "The model does not exist"), "any"),
    "a prompt that is too long": (OpenAIWire().too_long(), "long"),
    "a filtered prompt": (content_filter_error(), "safe"),
    "a rate limit": (OpenAIWire().error(429, "Rate limit reached", retry_after="30"), "spare"),
}


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(("error", "who"), ERRORS.values(), ids=ERRORS.keys())
async def test_each_cause_leads_to_the_model_that_is_named_for_it(
    gateway: Serve, players: dict[str, Player], error: Step, who: str, streamed: bool
) -> None:
    served = await gateway(offered(players, {"chat": BY_CAUSE}))
    players["chat"].always(error)

    headers = await ask(served, streamed=streamed)

    assert (headers["x-provider"], headers["x-attempts"]) == (who, "2")
    assert {name: one.requests_total for name, one in players.items() if one.requests_total} == {"chat": 1, who: 1}


async def test_a_request_that_is_wrong_is_wrong_for_all(gateway: Serve, players: dict[str, Player]) -> None:
    served = await gateway(offered(players, {"chat": BY_CAUSE}))
    players["chat"].always(OpenAIWire().error(400, "Unknown parameter", code="unknown_parameter"))

    with pytest.raises(openai.BadRequestError):
        await ask(served)

    assert sum(one.requests_total for one in players.values()) == 1


async def test_a_cause_with_an_empty_list_has_no_fallback(gateway: Serve, players: dict[str, Player]) -> None:
    served = await gateway(offered(players, {"chat": {"any": ["any"], "content_filter": []}}))
    players["chat"].always(content_filter_error())

    with pytest.raises(openai.BadRequestError) as raised:
        await ask(served)

    assert raised.value.code == "content_filter"
    assert sum(one.requests_total for one in players.values()) == 1


async def test_fallbacks_are_followed_from_one_to_the_next_and_told(gateway: Serve, players: dict[str, Player]) -> None:
    served = await gateway(offered(players, {"chat": {"any": ["any"]}, "any": {"any": ["spare"]}}))
    players["chat"].always(OpenAIWire().error(500, "no"))
    players["any"].always(OpenAIWire().error(503, "no"))

    headers = await ask(served)

    assert (headers["x-provider"], headers["x-model"], headers["x-attempts"]) == ("spare", "large", "3")
    line = await served.logged("llm_request_complete")
    assert (line["attempts"], line["provider"]) == (3, "spare")


async def test_pitfall_005_with_fallbacks_disabled_no_other_model_is_asked(
    gateway: Serve, players: dict[str, Player]
) -> None:
    served = await gateway(offered(players, {"chat": BY_CAUSE}), retry__max_retries=0)
    players["chat"].always(OpenAIWire().error(500, "no"))

    for streamed in (True, False):
        with pytest.raises(openai.InternalServerError):
            await ask(served, streamed=streamed, headers={"X-Disable-Fallbacks": "true"})

    assert {name for name, one in players.items() if one.requests_total} == {"chat"}


def test_check_refuses_models_that_fall_back_in_a_circle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fallbacks = {"a": {"any": ["b"]}, "b": {"context": ["c"]}, "c": {"rate_limit": ["a"]}}
    models = [
        {"name": name, "deployments": [{"provider": "demo", "model": "echo"}], "fallbacks": fallbacks[name]}
        for name in fallbacks
    ]
    path = tmp_path / "gateway.yaml"
    path.write_text(json.dumps({"models": models}))

    assert main(["check"], {"LLMGATEWAY_CATALOG": str(path)}) == 1

    told = capsys.readouterr()
    assert "fall back in a circle" in told.out + told.err


async def test_equivalents_of_the_catalog_stand_in_where_a_model_names_nobody(gateway: Serve, provider: Player) -> None:
    async with Player(mistral()) as other:
        catalog = {
            "providers": {
                "openai": {"provider": "openai", "api_key": "sk-upstream", "api_base": provider.base},
                "mistral": {"provider": "mistral", "api_key": "mistral-upstream", "api_base": other.base},
            },
            "models": [{"name": "chat", "deployments": [{"provider": "openai", "model": "gpt-4o"}]}],
            "equivalents": [["openai/gpt-4o", "mistral/medium"]],
        }
        served = await gateway(json.dumps(catalog))
        provider.always(OpenAIWire().error(500, "no"))

        headers = await ask(served)

        assert (headers["x-provider"], headers["x-model"], headers["x-attempts"]) == ("mistral", "medium", "2")
        assert other.last.json["model"] == "medium"


async def test_auto_goes_to_the_model_of_the_task_and_to_the_others_when_it_fails(
    gateway: Serve, players: dict[str, Player]
) -> None:
    auto = {"tasks": {"code_generation": "safe"}, "models": ["chat", "safe"], "strategy": "priority"}
    served = await gateway(offered(players, {}, auto=auto), retry__max_retries=0)

    assert (await ask(served, "auto"))["x-provider"] == "chat"
    assert (await ask(served, "auto", headers=CODE))["x-provider"] == "safe"
    players["safe"].always(OpenAIWire().error(500, "no"))
    headers = await ask(served, "auto", headers=CODE)

    assert (headers["x-provider"], headers["x-attempts"]) == ("chat", "2")
    assert sum(players[name].requests_total for name in ("any", "long", "spare")) == 0
