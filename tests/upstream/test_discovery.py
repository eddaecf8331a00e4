from typing import Any

import pytest

from llmgateway.catalog.model import Account
from llmgateway.errors import UpstreamAuthError, UpstreamError
from llmgateway.upstream.discovery import models_of
from llmgateway.upstream.transport import Transport
from tests.upstreams.server import Player
from tests.upstreams.step import json_step


def account_at(player: Player) -> Account:
    return Account("main", "openai", "openai", "sk-upstream", player.base)


async def test_an_account_lists_its_models(provider: Player) -> None:
    transport = Transport()
    provider.script(json_step({"data": [{"id": "b"}, {"id": "a", "owned_by": "x"}, {}, {"id": "n\n"}]}))

    names = await models_of(transport, account_at(provider))
    await transport.close()

    assert names == ["a", "b"]
    assert (provider.last.method, provider.last.path, provider.last.bearer) == ("GET", "/v1/models", "sk-upstream")


@pytest.mark.parametrize("answer", [{"models": []}, {"data": "none"}, []])
async def test_what_is_no_list_is_a_failure_of_the_provider(provider: Player, answer: Any) -> None:
    transport = Transport()
    provider.script(json_step(answer))

    with pytest.raises(UpstreamError, match="no list of models"):
        await models_of(transport, account_at(provider))
    await transport.close()


async def test_a_refused_key_is_told(provider: Player) -> None:
    transport = Transport()
    provider.script(json_step({"error": {"message": "Incorrect API key provided"}}, status=401))

    with pytest.raises(UpstreamAuthError):
        await models_of(transport, account_at(provider))
    await transport.close()
