"""A corpus of calls, each made once by us and once by `litellm.acompletion`: the same requests, answers and streams.

Where they are not the same, `DIFFERENT` says how and why, and that it stays just so.
"""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from llmgateway.catalog.model import Deployment
from llmgateway.catalog.providers import account_of
from llmgateway.errors import GatewayError
from llmgateway.exchange import Call, Complete, Streamed
from llmgateway.upstream.base import Upstream
from llmgateway.upstream.litellm import LiteLLMUpstream
from llmgateway.upstream.litellm.errors import library_error
from llmgateway.upstream.litellm.library import library_arguments
from llmgateway.upstream.relay import Relay
from llmgateway.upstream.transport import Transport
from tests.upstream.translated import (
    ANTHROPIC,
    AS_JSON,
    BEDROCK,
    COHERE,
    GEMINI,
    HELLO,
    OLLAMA,
    PICTURE,
    TOOLS,
    Provider,
    counted,
)
from tests.upstreams.azure_wire import AzureWire
from tests.upstreams.openai_wire import mistral
from tests.upstreams.server import Player
from tests.upstreams.step import Step, Wire

pytestmark = [
    pytest.mark.timeout(60),
    # What pydantic says of LiteLLM's classes is for LiteLLM's authors.
    pytest.mark.filterwarnings("ignore:Items? '.*' on TypedDict class"),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_"),
]
MISTRAL = Provider("mistral", mistral, "mistral-large-latest", "mistral-upstream")
AZURE = Provider("azure", AzureWire, "gpt-4o", "azure-upstream")
RELAYED = (MISTRAL, AZURE)
# Ollama is asked as LiteLLM's `ollama_chat`: its `ollama` makes one prompt of the messages.
PROVIDERS = [
    ANTHROPIC, GEMINI, Provider("ollama_chat", OLLAMA.wire, OLLAMA.model), *RELAYED,
    Provider("cohere_chat", COHERE.wire, COHERE.model, COHERE.key), BEDROCK,
]  # fmt: skip
NAMES = {"type": "function", "function": {"name": "weather"}}
CALLED = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}}
ASKED: dict[str, dict[str, Any]] = {
    "plain": {},
    "counted": {},
    "text": {"temperature": 0.3, "top_p": 0.9, "stop": ["END"], "max_tokens": 100},
    "turns": {"messages": [*HELLO, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "and now?"}]},
    "developer": {"messages": [{"role": "developer", "content": "Echo."}, {"role": "user", "content": "hi"}]},
    "tool": {"tools": TOOLS[:1], "tool_choice": NAMES},
    "parallel": {"tools": TOOLS, "tool_choice": "auto"},
    "one_at_a_time": {"tools": TOOLS, "parallel_tool_calls": False},
    "result": {
        "messages": [
            *HELLO,
            {"role": "assistant", "content": None, "tool_calls": [CALLED]},
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        ],
        "tools": TOOLS,
    },
    "schema": {"response_format": AS_JSON},
    "picture": {"messages": [{"role": "user", "content": [{"type": "text", "text": "see"}, PICTURE]}]},
    "length": {"max_tokens": 2},
    "thinking": {"reasoning_effort": "low", "max_tokens": 4000},
}
FAILURES: dict[str, Callable[[Wire], Step]] = {
    "refused": lambda wire: wire.error(400, "no such thing"),
    "unknown key": lambda wire: wire.error(401, "who are you"),
    "busy": lambda wire: wire.error(429, "slow down"),
    "broken": lambda wire: wire.error(500, "something broke"),
    "too long": lambda wire: wire.too_long(),
}
ANSWERED = tuple(name for name in ASKED if name not in {"schema", "one_at_a_time", "thinking"})
COUNTED_ELSE = tuple(name for name in ANSWERED if name not in {"developer", "length"})
WHOLE, STREAM, BOTH = (False,), (True,), (False, True)
CALLS = ("tool", "parallel")
# Who, what, in which form; and for each place that differs ours and theirs, `...` where it is long or its own count.
DIFFERENT: list[tuple[tuple[str, ...], tuple[str, ...], tuple[bool, ...], dict[str, tuple[Any, Any]]]] = [
    # LiteLLM counts the tokens of thoughts itself, by another model's tokenizer; Anthropic did not say.
    (("anthropic",), ("thinking",), BOTH, {"usage.reasoning_tokens": (0, 4)}),
    # It numbers every streamed call 0, and clients would glue them together.
    (("ollama_chat",), CALLS, STREAM, {"said": (..., ...)}),
    # What is relayed goes on as it came: LiteLLM makes `system` of `developer`, leaves out what is null, knows of no
    # thoughts of these models, and drops the choice of one tool.
    (("mistral", "azure"), ("developer", "result"), BOTH, {"sent.messages": (..., ...)}),
    (("mistral", "azure"), ("thinking",), BOTH, {"refused": (None, "UnsupportedParameterError")}),
    (("mistral",), ("tool",), BOTH, {"sent.tool_choice": (NAMES, None), "usage.completion_tokens": (7, 14)}),
    (("mistral",), ("tool",), BOTH, {"usage.total_tokens": (14, 21)}),
    (("mistral",), ("tool",), WHOLE, {"said.tool_calls": (..., ...)}),
    (("mistral",), ("tool",), STREAM, {"said": (..., ...)}),
    # Of Cohere it reads neither why it stopped nor its plan, and in a stream neither calls nor usage: it counts itself.
    (("cohere_chat",), ("schema",), BOTH, {"refused": (None, "UnsupportedParameterError")}),
    (("cohere_chat",), ("length",), WHOLE, {"finish": ("length", "stop")}),
    (("cohere_chat",), ("length",), STREAM, {"finish": (["length"], ["stop"])}),
    (("cohere_chat",), CALLS, WHOLE, {"finish": ("tool_calls", "stop")}),
    (("cohere_chat",), CALLS, WHOLE, {"said.reasoning_content": ("I will use the tools.", None)}),
    (("cohere_chat",), CALLS, STREAM, {"finish": (["tool_calls"], ["stop"]), "said": (..., [])}),
    (("cohere_chat",), ANSWERED, STREAM, {"usage.prompt_tokens": (..., ...), "usage.total_tokens": (..., ...)}),
    (("cohere_chat",), COUNTED_ELSE, STREAM, {"usage.completion_tokens": (..., ...)}),
    (("cohere_chat",), ("counted",), BOTH, {"usage.cached_tokens": (2, 0)}),
    # It asks for JSON as for a tool's call, and says so.
    (("bedrock",), ("schema",), STREAM, {"finish": (["stop"], ["tool_calls"])}),
]
_NOTHING: tuple[Any, ...] = (None, "", [], {})


@pytest.fixture
async def client(litellm: Any) -> AsyncIterator[None]:
    """Close the connections that LiteLLM opens by itself."""
    yield
    await litellm.close_litellm_async_clients()
    litellm.in_memory_llm_clients_cache.flush_cache()


def _upstream(provider: Provider, transport: Transport) -> Upstream:
    return Relay(transport) if provider in RELAYED else LiteLLMUpstream(transport)


def _deployment(provider: Provider, player: Player) -> Deployment:
    """Describe it as the catalog does: with what the table of providers knows of it."""
    known = account_of("main", provider.name, {})
    account = replace(known, api_key=provider.key, api_base=player.base, options=provider.options)
    return Deployment(account=account, model=provider.model)


def _said(message: dict[str, Any]) -> dict[str, Any]:
    """What a client sees of a message, without the ids that are made anew each time."""
    found = {name: message.get(name) for name in ("content", "reasoning_content", "thinking_blocks", "tool_calls")}
    if found["tool_calls"]:
        calls = [one["function"] for one in found["tool_calls"]]
        found["tool_calls"] = [{"name": one["name"], "arguments": json.loads(one["arguments"])} for one in calls]
    return {name: value for name, value in found.items() if value not in _NOTHING}


def _part(delta: dict[str, Any]) -> dict[str, Any]:
    """The same for a part of one: arguments as they come, each with its call's number."""
    found = {name: delta.get(name) for name in ("content", "reasoning_content", "thinking_blocks")}
    calls = [
        (one["index"], one["function"].get("name"), one["function"]["arguments"])
        for one in delta.get("tool_calls") or ()
    ]
    found["tool_calls"] = [one for one in calls if one[1] or one[2]]
    return {name: value for name, value in found.items() if value not in _NOTHING}


def _counted(usage: dict[str, Any] | None) -> dict[str, Any]:
    usage = usage or {}
    found = {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    found["cached_tokens"] = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    found["reasoning_tokens"] = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return found


def _answer(answer: dict[str, Any]) -> dict[str, Any]:
    [choice] = answer["choices"]
    return {"said": _said(choice["message"]), "finish": choice["finish_reason"], "usage": _counted(answer["usage"])}


def _stream(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return {
        "said": [part for choice in choices if (part := _part(choice["delta"]))],
        "finish": [choice["finish_reason"] for choice in choices if choice["finish_reason"]],
        "usage": _counted(next((chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage")), None)),
    }


def _chunks(events: bytes) -> list[dict[str, Any]]:
    found = [event.removeprefix(b"data: ") for event in events.split(b"\n\n") if event]
    assert found.pop() == b"[DONE]"
    return [json.loads(event) for event in found]


def _differences(ours: Any, theirs: Any, place: str = "") -> dict[str, Any]:
    """Where two outcomes differ, and how; of one that was refused and one that was not, that alone."""
    if not place and ours.get("refused") != theirs.get("refused"):
        return {"refused": (ours.get("refused"), theirs.get("refused"))}
    if isinstance(ours, dict) and isinstance(theirs, dict):
        names = sorted({*ours, *theirs})
        pairs = [(f"{place}.{name}".removeprefix("."), ours.get(name), theirs.get(name)) for name in names]
        return {at: two for where, one, other in pairs for at, two in _differences(one, other, where).items()}
    return {} if ours == theirs else {place: (ours, theirs)}


def _refused(error: GatewayError) -> dict[str, Any]:
    return {"refused": type(error).__name__, "status": getattr(error, "upstream_status", None)}


async def _ours(upstream: Upstream, deployment: Deployment, asked: dict[str, Any]) -> dict[str, Any]:
    stream = "stream" in asked
    body = json.dumps({"model": "m", **asked}).encode()
    try:
        reply = await upstream.send(deployment, Call("chat", "m", body, stream, include_usage=stream))
    except GatewayError as error:
        return _refused(error)
    if isinstance(reply, Complete):
        return _answer(json.loads(reply.body))
    assert isinstance(reply, Streamed)
    return _stream(_chunks(b"".join([chunk async for chunk in reply.chunks])))


async def _theirs(litellm: Any, deployment: Deployment, asked: dict[str, Any]) -> dict[str, Any]:
    account = deployment.account
    arguments = {**library_arguments(deployment), **json.loads(json.dumps(asked))}
    if account.provider == "cohere_chat":
        arguments["api_base"] += "/v2/chat"  # it wants the whole address
    try:
        answer = await litellm.acompletion(**arguments)
        if "stream" in asked:
            return _stream([chunk.model_dump() async for chunk in answer])
    except Exception as error:  # noqa: BLE001  LiteLLM raises whatever comes up
        return _refused(library_error(error, account))
    return _answer(answer.model_dump())


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", [*sorted(ASKED), *sorted(FAILURES)])
@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
async def test_a_call_is_that_of_litellm(
    litellm: Any, transport: Transport, provider: Provider, name: str, stream: bool
) -> None:
    asked = {"messages": HELLO, **ASKED.get(name, {})}
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    async with Player(provider.wire()) as player:
        if name == "counted":
            player.always(counted(provider))
        elif name in FAILURES:
            player.always(FAILURES[name](player.wire))
        deployment = _deployment(provider, player)
        ours = await _ours(_upstream(provider, transport), deployment, asked)
        ours |= _sent(player)
        player.requests.clear()
        theirs = await _theirs(litellm, deployment, asked)
        theirs |= _sent(player)

    found = _differences(ours, theirs)
    expected = _expected(provider.name, name, stream=stream)
    assert {place: _shortened(two, expected.get(place)) for place, two in found.items()} == expected


def _expected(provider: str, name: str, *, stream: bool) -> dict[str, tuple[Any, Any]]:
    rows = [
        places
        for providers, names, forms, places in DIFFERENT
        if provider in providers and name in names and stream in forms
    ]
    return {place: two for places in rows for place, two in places.items()}


def _shortened(two: tuple[Any, Any], expected: tuple[Any, Any] | None) -> tuple[Any, Any]:
    ours, theirs = expected or (None, None)
    return (... if ours is ... else two[0], ... if theirs is ... else two[1])


def _sent(player: Player) -> dict[str, Any]:
    """The request, if one was made; not to be streamed is what is meant where nothing is said of it."""
    return {"target": player.last.target, "sent": {"stream": False, **player.last.json}} if player.requests else {}
