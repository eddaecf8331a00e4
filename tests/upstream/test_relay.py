"""The relay's addresses, headers and whole answers; its streams are in test_relay_streams.py."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.catalog.model import Account, Deployment
from llmgateway.catalog.providers import providers
from llmgateway.errors import (
    ContextLengthError,
    UpstreamAuthError,
    UpstreamError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from llmgateway.exchange import Call, Complete, Operation, Streamed, Usage
from llmgateway.upstream.relay import Relay, address, credentials
from llmgateway.upstream.transport import Transport
from tests.conftest import Serve
from tests.upstreams.azure_wire import AzureWire
from tests.upstreams.openai_wire import mistral
from tests.upstreams.server import Player
from tests.upstreams.step import Ending, Piece, Step, json_step, raw_step

# Names that mean something to whoever reads an address.
ODD_NAMES = [
    "a/b",
    "../x",
    "..%2fx",
    "a?b=c",
    "#top",
    "%2f",
    "%2e%2e",
    "...",
    "a b",
    "\\..\\",
    "//evil.example",
    "ü;x=1@",
]
CHAT = {"model": "chat", "messages": [{"role": "user", "content": "one two three"}]}
OK = json_step({"model": "m", "choices": []})


def call(operation: Operation = "chat", *, stream: bool = False, **fields: object) -> Call:
    return Call(operation, "chat", json.dumps({**CHAT, "stream": stream, **fields}).encode(), stream=stream)


def at(player: Player, model: str = "gpt-4o", **account: Any) -> Deployment:
    given: dict[str, Any] = {"provider": "openai", "wire": "openai", "api_key": "sk-upstream", **account}
    return Deployment(Account("main", api_base=player.base, **given), model)


def at_azure(player: Player, model: str = "gpt-4o") -> Deployment:
    return at(player, model, provider="azure", wire="azure", api_key="azure-upstream", api_version="2024-10-21")


@pytest.fixture
def relay(transport: Transport) -> Relay:
    return Relay(transport)


@pytest.fixture
async def azure() -> AsyncIterator[Player]:
    async with Player(AzureWire()) as player:
        yield player


async def complete(relay: Relay, deployment: Deployment, asked: Call) -> Complete:
    reply = await relay.send(deployment, asked)
    assert isinstance(reply, Complete)
    return reply


@pytest.mark.parametrize(
    ("operation", "path"),
    [("chat", "/v1/chat/completions"), ("completion", "/v1/completions"), ("embedding", "/v1/embeddings")],
)
@pytest.mark.parametrize("end", ["", "/"])
def test_an_operation_has_its_path(operation: Operation, path: str, end: str) -> None:
    url = address("openai", f"https://api.example/v1{end}", "any/model?", None, operation)

    assert str(url) == f"https://api.example{path}"


def test_azure_has_the_deployment_in_the_path_and_a_version() -> None:
    url = address("azure", "https://me.example/", "gpt-4o", "2024-10-21", "embedding")

    assert str(url) == "https://me.example/openai/deployments/gpt-4o/embeddings?api-version=2024-10-21"


@given(st.text(min_size=1, max_size=20) | st.text(alphabet="./\\?#%2fe:@ü ", min_size=1, max_size=8))
def test_no_name_leaves_its_place_in_azures_path(model: str) -> None:
    if model in {".", ".."}:
        return
    url = address("azure", "https://me.example", model, "v1", "chat")

    *before, place, chat, completions = url.raw_path.split("/")
    assert (before, chat, completions) == (["", "openai", "deployments"], "chat", "completions")
    assert (unquote(place), url.host, url.raw_query_string, url.raw_fragment) == (
        model,
        "me.example",
        "api-version=v1",
        "",
    )
    assert place not in {".", ".."}


@pytest.mark.parametrize("model", ODD_NAMES)
async def test_pitfall_131_what_azure_gets_is_one_segment(relay: Relay, azure: Player, model: str) -> None:
    azure.always(OK)

    await complete(relay, at_azure(azure, model), call())

    path, _, query = azure.last.target.partition("?")
    *before, place, chat, completions = path.split("/")
    assert (before, chat, completions, query) == (
        ["", "openai", "deployments"],
        "chat",
        "completions",
        "api-version=2024-10-21",
    )
    assert unquote(place) == model


async def test_each_key_and_address_of_an_account_is_asked_with_itself(relay: Relay, provider: Player) -> None:
    provider.always(OK)
    ours, theirs = at(provider), at(provider, api_key="sk-client")
    moved = replace(ours, account=replace(ours.account, api_base=f"{provider.base}/moved"))
    seen: list[tuple[str, str]] = []
    for deployment in (ours, theirs, ours, moved, theirs):
        await complete(relay, deployment, call())
        seen.append((provider.last.headers["authorization"], provider.last.target))

    path = "/v1/chat/completions"
    assert seen == [
        ("Bearer sk-upstream", path),
        ("Bearer sk-client", path),
        ("Bearer sk-upstream", path),
        ("Bearer sk-upstream", "/v1/moved/chat/completions"),
        ("Bearer sk-client", path),
    ]


@pytest.mark.parametrize("model", [".", ".."])
async def test_pitfall_131_a_step_in_the_path_is_no_deployment(relay: Relay, azure: Player, model: str) -> None:
    with pytest.raises(UpstreamRejectedError) as caught:
        await relay.send(at_azure(azure, model), call())

    assert (caught.value.status, caught.value.code, caught.value.param) == (404, "model_not_found", "model")
    assert azure.connections == 0


@pytest.mark.parametrize("model", [*ODD_NAMES, ".", ".."])
async def test_pitfall_131_elsewhere_the_name_is_in_the_body_alone(relay: Relay, provider: Player, model: str) -> None:
    provider.always(OK)

    await complete(relay, at(provider, model), call())

    assert provider.last.target == "/v1/chat/completions"
    assert provider.last.json["model"] == model


def test_each_wire_has_its_own_proof() -> None:
    assert dict(credentials("openai", "sk-1")) == {"Authorization": "Bearer sk-1"}
    assert dict(credentials("azure", "key-1")) == {"api-key": "key-1"}
    assert dict(credentials("openai", None)) == {}
    assert dict(credentials("openai", "")) == {}


async def test_azure_is_answered_for_its_key(relay: Relay, azure: Player) -> None:
    reply = await complete(relay, at_azure(azure), call())

    assert b"one two three" in reply.body
    assert "authorization" not in azure.last.headers


async def test_a_local_server_without_a_key_gets_none(relay: Relay, provider: Player) -> None:
    provider.always(OK)

    await complete(relay, at(provider, api_key=None), call())

    assert not {"authorization", "api-key"} & provider.last.headers.keys()


async def test_a_large_body_goes_out_as_a_small_one_does(relay: Relay, provider: Player) -> None:
    provider.always(OK)
    text = "word " * 100_000

    await complete(relay, at(provider), call(messages=[{"role": "user", "content": text}]))

    assert provider.last.json == {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": text}],
        "stream": False,
    }


async def test_only_the_models_name_and_its_defaults_are_set(relay: Relay, provider: Player) -> None:
    with_defaults = replace(at(provider), defaults={"temperature": 0.1, "seed": 7})

    await complete(relay, with_defaults, call(temperature=1.5, unknown={"a": [1.0, None]}))

    assert provider.last.json == {
        **CHAT,
        "model": "gpt-4o",
        "stream": False,
        "temperature": 1.5,
        "unknown": {"a": [1.0, None]},
        "seed": 7,
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_mistral_gets_its_own_names_and_no_stream_options(relay: Relay, stream: bool) -> None:
    row = providers()["mistral"]
    async with Player(mistral()) as player:
        there = at(
            player,
            provider="mistral",
            api_key="mistral-upstream",
            renames=row.renames,
            takes_stream_options=not row.refuses_stream_options,
        )

        reply = await relay.send(there, call(stream=stream, max_completion_tokens=2, stream_options={"x": 1}))
        if isinstance(reply, Streamed):
            assert b"[DONE]" in b"".join([chunk async for chunk in reply.chunks])

        assert player.last.json["max_tokens"] == 2
        assert not {"max_completion_tokens", "stream_options"} & player.last.json.keys()
        assert reply.usage is not None
        assert reply.usage.completion_tokens == 2


async def test_the_body_comes_back_as_it_was(relay: Relay, provider: Player) -> None:
    told = b'{ "model":"gpt-4o-2024", "choices":[],\n "x" : 1.0 }'
    provider.script(Step(headers={"content-type": "application/json"}, pieces=(Piece(told),)))

    reply = await complete(relay, at(provider), call())

    assert (reply.body, reply.model, reply.usage) == (told, "gpt-4o-2024", None)


@pytest.mark.parametrize(
    ("told", "whole"),
    [
        ({"choices": [{"finish_reason": "stop"}]}, True),
        ({"choices": [{"finish_reason": "length"}]}, False),
        ({"data": [{"embedding": [1]}]}, None),
    ],
)
async def test_one_look_at_an_answer_tells_whether_it_is_whole(
    relay: Relay, provider: Player, told: dict[str, Any], whole: bool | None
) -> None:
    provider.script(json_step(told))

    assert (await complete(relay, at(provider), call())).whole is whole


async def test_usage_tells_cached_and_reasoning_tokens(relay: Relay, provider: Player) -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }
    provider.script(json_step({"choices": [], "usage": usage}))

    assert (await complete(relay, at(provider), call())).usage == Usage(9, 8, 5, 4)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 9, "total_tokens": 9},
        {"prompt_tokens": 9, "completion_tokens": None, "prompt_tokens_details": None},
        {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": None}, "completion_tokens_details": {}},
    ],
)
async def test_what_the_usage_leaves_out_is_nothing(relay: Relay, provider: Player, usage: dict[str, object]) -> None:
    provider.script(json_step({"data": [], "usage": usage}))

    assert (await complete(relay, at(provider), call("embedding"))).usage == Usage(9)


async def test_the_providers_ids_and_limits_are_passed_on_renamed(relay: Relay, provider: Player) -> None:
    provider.script(
        OK.with_headers(
            X_Request_Id="req_up",
            X_RateLimit_Remaining_Requests="7",
            x_ratelimit_reset="1s",
            Retry_After="3",
            Set_Cookie="session=1",
            Server="secret",
            OpenAI_Organization="ours",
        )
    )

    reply = await complete(relay, at(provider), call())

    assert sorted(reply.headers) == [
        (b"x-upstream-ratelimit-remaining-requests", b"7"),
        (b"x-upstream-ratelimit-reset", b"1s"),
        (b"x-upstream-request-id", b"req_up"),
        (b"x-upstream-retry-after", b"3"),
    ]


@pytest.mark.parametrize(
    "value", [b"a\rset-cookie: x=1", b"a\n set-cookie: x=1", b"a\x00b", b"\xff\xfe", b"a\x7f\x01b"]
)
async def test_no_header_of_a_provider_becomes_another_one(
    gateway: Serve, provider: Player, catalog: str, value: bytes
) -> None:
    served = await gateway(catalog, retry__max_retries=0)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\nx-ratelimit-note: " + value + b"\r\n\r\n"
    provider.script(raw_step(head + b'{"choices":[]}'))

    answer = await served.client.post("/v1/chat/completions", json=CHAT)

    assert answer.status_code in {200, 502}
    assert "set-cookie" not in answer.headers
    assert all(32 <= ord(char) != 127 for char in answer.headers.get("x-upstream-ratelimit-note", ""))


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ({"message": "no", "type": "invalid_request_error", "code": "bad"}, UpstreamRejectedError),
        ({"message": "slow down", "type": "rate_limit_error"}, UpstreamRateLimitedError),
        ({"message": "who?", "code": "invalid_api_key"}, UpstreamAuthError),
        (
            {"message": "too long", "code": "context_length_exceeded", "type": "invalid_request_error"},
            ContextLengthError,
        ),
        ("something broke", UpstreamError),
        ([1], UpstreamError),
    ],
)
async def test_pitfall_019_an_error_that_came_as_a_200_is_an_error(
    relay: Relay, provider: Player, error: object, raised: type[Exception]
) -> None:
    provider.script(json_step({"error": error, "choices": []}))

    with pytest.raises(raised):
        await relay.send(at(provider), call())


async def test_no_error_is_no_error(relay: Relay, provider: Player) -> None:
    provider.script(json_step({"error": None, "choices": []}))

    assert (await complete(relay, at(provider), call())).body == b'{"error":null,"choices":[]}'


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[]", b'{"error":"\xff"}', b"[" * 100_000])
async def test_an_answer_that_is_no_json_may_be_asked_for_again(relay: Relay, provider: Player, body: bytes) -> None:
    provider.script(Step(pieces=(Piece(body),)))

    with pytest.raises(UpstreamError, match="not JSON") as caught:
        await relay.send(at(provider), call())

    assert caught.value.may_retry


@pytest.mark.parametrize("body", [b'{"error":{"message":"\xff"}}', b'{"error":{"message":"\\ud800"}}', b"\xff"])
async def test_a_refusal_in_broken_letters_is_a_refusal(relay: Relay, provider: Player, body: bytes) -> None:
    provider.script(Step(status=400, pieces=(Piece(body),)))

    with pytest.raises(UpstreamRejectedError) as caught:
        await relay.send(at(provider), call())

    assert caught.value.upstream_status == 400


@pytest.mark.parametrize("status", [201, 204, 304])
async def test_a_status_that_no_call_can_use_is_an_error(relay: Relay, provider: Player, status: int) -> None:
    provider.script(Step(status=status))

    with pytest.raises(UpstreamError):
        await relay.send(at(provider), call())


async def test_a_wait_beyond_all_bounds_is_still_an_answer(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    provider.always(provider.wire.error(429, "slow down", retry_after="1e308"))

    answer = await served.client.post("/v1/chat/completions", json=CHAT)

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "31536000")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ending", ["fin", "reset"])
async def test_a_connection_that_the_provider_gave_up_meanwhile_fails_no_call(
    gateway: Serve, provider: Player, catalog: str, stream: bool, ending: Ending
) -> None:
    """The keep-alive race: the request is written to a connection that the provider is just closing."""
    served = await gateway(catalog)
    provider.script(lambda step: step, Step(framing="raw", ending=ending))

    answers = [await served.client.post("/v1/chat/completions", json=CHAT | {"stream": stream}) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert [answer.headers["x-attempts"] for answer in answers] == ["1", "2", "1"]
    assert (provider.requests_total, provider.connections) == (4, 2)


async def test_a_provider_that_always_hangs_up_fails_no_call(gateway: Serve, provider: Player, catalog: str) -> None:
    served = await gateway(catalog)
    provider.always(lambda step: replace(step, ending="fin"))

    answers = [await served.client.post("/v1/chat/completions", json=CHAT) for _ in range(50)]

    assert {answer.status_code for answer in answers} == {200}
    assert provider.connections >= 50


async def test_closing_the_relay_leaves_the_connections_to_their_owner(relay: Relay, provider: Player) -> None:
    await relay.close()

    await complete(relay, at(provider), call())


async def test_trace_headers_go_out_as_lines_of_their_own(relay: Relay, provider: Player) -> None:
    """And nothing else does, by whatever name or with whatever in it."""
    provider.always(OK)
    given = (("traceparent", "00-1-2-01"), ("baggage", "k=v\r\nevil: 1"), ("authorization", "x"), ("tracestate", "é"))
    await relay.send(at(provider), msgspec.structs.replace(call(), trace_headers=given))
    await relay.send(at(provider), call())
    first, second = provider.requests

    assert first.headers["traceparent"] == "00-1-2-01"
    assert not {"evil", "baggage", "tracestate"} & first.headers.keys()
    assert first.headers["authorization"] == second.headers["authorization"] == "Bearer sk-upstream"
    assert "traceparent" not in second.headers


PROBED = Deployment(Account("main", "openai", "openai", "sk-upstream", "set below"), "gpt-4o")


def probed_at(player: Player, **account: Any) -> Deployment:
    return replace(PROBED, account=replace(PROBED.account, **{"api_base": player.base, **account}))


async def test_a_probe_asks_for_the_models_and_sends_nothing(relay: Relay, provider: Player) -> None:
    provider.script(json_step({"object": "list", "data": []}))

    assert await relay.probe(probed_at(provider))

    asked = provider.last
    assert (asked.method, asked.path, asked.bearer, asked.body) == ("GET", "/v1/models", "sk-upstream", b"")


async def test_azure_is_probed_at_its_own_address(relay: Relay) -> None:
    async with Player(AzureWire()) as player:
        player.script(json_step({"data": []}))
        account = {"wire": "azure", "api_key": "azure-upstream", "api_version": "2024-10-21"}

        assert await relay.probe(probed_at(player, **account))

        assert (player.last.path, player.last.query) == ("/openai/models", {"api-version": "2024-10-21"})
        assert player.last.headers["api-key"] == "azure-upstream"


@pytest.mark.parametrize("status", [400, 404, 405, 429])
async def test_who_answers_a_probe_lives_whatever_it_says(relay: Relay, provider: Player, status: int) -> None:
    provider.script(json_step({"error": {"message": "no such page"}}, status=status))

    assert not await relay.probe(probed_at(provider))


async def test_a_key_that_may_not_list_models_may_be_good_for_calls(relay: Relay, provider: Player) -> None:
    message = "You have insufficient permissions for this operation. Missing scopes: api.model.read."
    provider.script(json_step({"error": {"message": message}}, status=403))

    assert not await relay.probe(probed_at(provider))


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_told_by_a_probe_too(relay: Relay, provider: Player, status: int) -> None:
    provider.script(json_step({"error": {"message": "Incorrect API key provided"}}, status=status))

    with pytest.raises(UpstreamAuthError, match="main"):
        await relay.probe(probed_at(provider))


@pytest.mark.parametrize("status", [500, 502, 503, 529])
async def test_a_probe_that_fails_says_so(relay: Relay, provider: Player, status: int) -> None:
    provider.script(json_step({"error": {"message": "overloaded"}}, status=status))

    with pytest.raises(UpstreamError):
        await relay.probe(probed_at(provider))


async def test_a_probe_of_nobody_fails(relay: Relay) -> None:
    with pytest.raises(UpstreamError, match="no connection"):
        await relay.probe(replace(PROBED, account=replace(PROBED.account, api_base="http://127.0.0.1:1/v1")))
